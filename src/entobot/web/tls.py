"""TLS as Mozilla's "intermediate" guideline has it: 1.2 and 1.3, forward secrecy, authenticated ciphers only."""

import ssl
from dataclasses import dataclass
from pathlib import Path

_TLS_1_2_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the chain, leaf first, and its key."""

    certificate: Path
    key: Path


def server_context(files: TlsFiles, client_authority: str = "") -> ssl.SSLContext:
    """`client_authority` (PEM): clients may show a certificate of that one, and of no other; they need not. Raises OSError or ssl.SSLError when the files cannot be read or do not belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1  # OpenSSL makes two; a device that comes back uses one, and each is 8 % of a handshake
    context.load_cert_chain(files.certificate, files.key)
    if client_authority:
        context.load_verify_locations(cadata=client_authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
