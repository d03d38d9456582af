"""Codes of authenticator apps: RFC 6238 by pyotp, with what every app understands (SHA-1, 30 s, six digits).

These block for moments (the library is loaded with the first code): not for the loop.
"""

import base64

from entobot.core.secrets import same

SECRET_BYTES = 20
STEP_MS = 30_000
DIGITS = 6
TOLERANCE = 1
"""Steps before and after the present one whose codes are taken: clocks differ, and people type slowly."""


def uri(secret: bytes, *, login: str, gateway_name: str) -> str:
    """What an authenticator app reads from a picture."""
    from pyotp.totp import TOTP

    return TOTP(shown(secret)).provisioning_uri(name=login, issuer_name=gateway_name.replace(":", " "))


def shown(secret: bytes) -> str:
    """Base32, as people type it into an app that has no camera."""
    return base64.b32encode(secret).decode("ascii")


def code_at(secret: bytes, step: int) -> str:
    from pyotp.totp import TOTP

    return TOTP(shown(secret), digits=DIGITS).generate_otp(step)


def step_of(secret: bytes, code: str, now_ms: int) -> int | None:
    """The step that this is the code of, None when it is of none near the present one."""
    now, found = now_ms // STEP_MS, None
    for step in range(now - TOLERANCE, now + TOLERANCE + 1):
        if same(code_at(secret, step), code):
            found = step
    return found
