"""Who is asking, after authentication. Built from verified credentials only, never from a body, topic or header."""

from dataclasses import dataclass

from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """A user acting through a device, or (device_id None) the owner at the Unix socket.

    `epoch` is the device's epoch at authentication; a unit that acts compares it with the row.
    `key_thumbprint` is the RFC 7638 thumbprint of the device key. `expires_at_ms` is when the credentials end, wall
    clock; None when they do not.
    """

    user_id: str
    scopes: frozenset[Scope]
    device_id: str | None = None
    epoch: int = 0
    key_thumbprint: str | None = None
    expires_at_ms: int | None = None

    @property
    def is_local(self) -> bool:
        return self.device_id is None

    def require(self, scope: Scope) -> None:
        """Raise `forbidden` unless the principal holds `scope`."""
        if scope not in self.scopes:
            raise Problem(Code.FORBIDDEN, f"This needs the scope '{scope}', which was not granted to this device.")
