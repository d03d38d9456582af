"""Where another broker is, the files by which both know each other, and what it means when it cannot be reached."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from entobot.mqtt.bridge_client import Ended
from entobot.mqtt.packets import Reason


@dataclass(frozen=True, slots=True)
class Place:
    """Where the other broker is, and the files by which both know each other."""

    host: str
    port: int
    has_tls: bool
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    alpn: str = ""
    password_file: Path | None = None

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """Blocks. Raises OSError, ssl.SSLError."""
        if not self.has_tls:
            return None
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None and self.key_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        if self.alpn:
            context.set_alpn_protocols([self.alpn])
        return context

    def password(self) -> bytes | None:
        """Blocks. Raises OSError."""
        return None if self.password_file is None else self.password_file.read_bytes().strip()


_ENDED = {
    Reason.BAD_USER_NAME_OR_PASSWORD: "refuses the user name or the password. Look at username and password_file.",
    Reason.NOT_AUTHORIZED: "does not let this user in. Look at username, password_file and what it is allowed there.",
    Reason.CLIENT_IDENTIFIER_NOT_VALID: "does not take the client id. Set client_id to one that it allows.",
    Reason.UNSUPPORTED_PROTOCOL_VERSION: 'does not speak this version. Set protocol = "3.1.1".',
    Reason.SESSION_TAKEN_OVER: "gave the session to another client with the same client_id. Give each its own.",
    Reason.SERVER_UNAVAILABLE: "is not available now. It is tried again.",
    Reason.SERVER_BUSY: "is busy. It is tried again.",
    Reason.QOS_NOT_SUPPORTED: "takes QoS 0 only, and this bridge promises more. Use another one.",
    Reason.PACKET_TOO_LARGE: "finds a message too large. Look at what it allows.",
}


def ended(error: Ended, place: Place) -> str:
    if error.reason is None:
        return f"{place.shown}: {error}. It is tried again."
    said = _ENDED.get(error.reason)
    if said is None:
        name = error.reason.name.lower().replace("_", " ")
        said = f"ended the connection ({name}). Look into its log."
    return f"{place.shown} {said}"


def unreachable(error: Exception, place: Place) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            why = f"shows a certificate that is not trusted ({error.verify_message}). Name its authority in ca_file."
        case ssl.SSLError():
            why = f"does not agree on TLS ({error.reason}). Look at url, and at certificate_file and key_file."
        case socket.gaierror():
            return f"The name {place.host} is not known. Look at url, and at this machine's DNS."
        case TimeoutError():
            why = "does not answer. Look at url, and at firewalls between."
        case ConnectionRefusedError():
            why = "refuses connections. Look whether the broker runs, and at url."
        case OSError() if error.filename is not None:
            return f"{error.filename} cannot be read ({error.strerror}). Look at its path and its owner."
        case _:
            why = f"cannot be reached ({getattr(error, 'strerror', None) or type(error).__name__})."
    return f"{place.shown} {why}"
