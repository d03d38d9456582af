"""The port behind which the key stands that signs heads of the log."""

from typing import Protocol


class HeadSigner(Protocol):
    """Signs as compact JWS (RFC 7515), ES256, `typ` `entobot-audit-head+jwt`. Called off the event loop.

    Heads stay verifiable for as long as the log lives, through every rotation of the key.
    """

    def sign_head(self, payload: bytes) -> str: ...

    def verify_head(self, jws: str) -> bytes:
        """The payload. Raises ValueError for a bad signature, another `typ` or `alg`, or an unknown key."""
        ...
