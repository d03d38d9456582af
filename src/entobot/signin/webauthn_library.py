"""What is used of py_webauthn, in one place: whoever imports this loads it."""

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import bytes_to_base64url, options_to_json_dict, structs
from webauthn.helpers.exceptions import WebAuthnException

__all__ = [
    "WebAuthnException",
    "bytes_to_base64url",
    "generate_authentication_options",
    "generate_registration_options",
    "options_to_json_dict",
    "structs",
    "verify_authentication_response",
    "verify_registration_response",
]
