"""What is stored or shown in the place of secrets. Pure.

Secrets have 256 bits: a plain digest is enough. Codes have 40 and six digits have 20: whoever reads the database could
try them all, so what is stored of a code is keyed, and the digits are derived again whenever they are needed.
"""

from entobot.core.secrets import b64u, keyed_digest, sha256_b64u
from entobot.pairing.model import CONFIRMATION_DIGITS


class PairingKeys:
    """Keys for each purpose, derived from the gateway's own key."""

    def __init__(self, server_key: bytes) -> None:
        self._code = keyed_digest(server_key, b"entobot pairing: code")
        self._mark = keyed_digest(server_key, b"entobot pairing: mark of a code")
        self._confirmation = keyed_digest(server_key, b"entobot pairing: confirmation")

    def digest_of_secret(self, secret: str) -> str:
        return sha256_b64u(secret)

    def digest_of_code(self, code: str) -> str:
        """What an open invite is compared with; erased when it is claimed."""
        return b64u(keyed_digest(self._code, code.encode("utf-8")))

    def mark_of_code(self, code: str) -> str:
        """How the invite of a code is found again, also after it is claimed. Opens nothing."""
        return b64u(keyed_digest(self._mark, code.encode("utf-8")))

    def confirmation_code(self, claim_id: str, thumbprint: str) -> str:
        """The six digits that the phone shows: always the same for a claim, stored nowhere."""
        digest = keyed_digest(self._confirmation, f"{claim_id}\0{thumbprint}".encode("ascii"))
        return str(int.from_bytes(digest, "big") % 10**CONFIRMATION_DIGITS).zfill(CONFIRMATION_DIGITS)
