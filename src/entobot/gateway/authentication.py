"""Who opens a connection. The verifier of credentials is a port, filled by the composition root."""

from dataclasses import dataclass
from typing import Protocol

from entobot.core.principal import Principal
from entobot.gateway.wire import Auth, Close


@dataclass(frozen=True, slots=True)
class Authenticated:
    """`expires_at_ms` is the token's end, wall clock; None for credentials without one."""

    principal: Principal
    expires_at_ms: int | None


class Refused(Exception):  # noqa: N818  the protocol's word
    """Credentials that do not open a connection, with the close code that says why, and when to try again.

    `is_guess`: they were never ours, as far as anybody can tell.
    """

    def __init__(self, code: Close, reason: str, retry_after_s: float | None = None, *, is_guess: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.is_guess = is_guess


class ConnectionAuthenticator(Protocol):
    async def authenticate_connection(
        self, auth: Auth, *, nonce: str, origin: str | None, address: str
    ) -> Authenticated:
        """Verify the credentials of an `auth` frame against the connection's nonce.

        `origin` is the upgrade's Origin header, `address` the remote one. Raises Refused.
        """
        ...
