"""Who is asking, after authentication. Built from verified credentials only, never from a body, topic or header."""

from dataclasses import dataclass, field

from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """A user acting through a device, through a browser that is signed in (`session_id`), by SMS, or the owner at the
    Unix socket.

    `epoch` is the device's epoch at authentication; a unit that acts compares it with the row.
    `address` is where the request or connection comes from, as the gateway sees it; it says nothing of who it is.
    `key_thumbprint` is the RFC 7638 thumbprint of the device key. `expires_at_ms` is when the credentials end, wall
    clock; None when they do not. `fresh_until_ms` is until when a session counts as freshly signed in. `is_by_sms` is a
    person known by the number alone, which can be forged: whoever holds no key and proves nothing. `credential_id` is
    the API key or certificate that was shown, where it can end before its device does.
    """

    user_id: str
    scopes: frozenset[Scope]
    device_id: str | None = None
    epoch: int = 0
    key_thumbprint: str | None = None
    expires_at_ms: int | None = None
    session_id: str | None = None
    fresh_until_ms: int | None = None
    is_by_sms: bool = False
    credential_id: str = ""
    address: str = field(default="", compare=False)

    @property
    def is_local(self) -> bool:
        return self.device_id is None and self.session_id is None and not self.is_by_sms

    def require(self, scope: Scope) -> None:
        """Raise `forbidden` unless the principal holds `scope`."""
        if scope not in self.scopes:
            raise Problem(Code.FORBIDDEN, f"This needs the scope '{scope}', which was not granted to this device.")

    def require_fresh(self, now_ms: int) -> None:
        """Raise `step_up_required` for a session that was opened a while ago. A device proves its key each time."""
        if self.session_id is not None and now_ms >= (self.fresh_until_ms or 0):
            raise Problem(Code.STEP_UP_REQUIRED, "This needs a fresh sign-in. Sign in again, then repeat it.")
