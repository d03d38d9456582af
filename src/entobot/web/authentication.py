"""Who calls a route. The verifier of device credentials is a port, filled by the composition root."""

from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal

SESSION_COOKIE = "__Host-entobot_session"
"""RFC 6265bis §4.1.3.2: set by this very host, over TLS, for all of it; no subdomain can put another in its place."""
LOCAL_PEER = "entobot.local_peer"
"""Key in `scope["extensions"]`, set by the Unix-socket listener only, after it read the peer's uid."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request shows: `method`, `path` without query, and the raw headers. `proofs` holds every DPoP header."""

    method: str
    path: str
    authorization: str | None
    proofs: tuple[str, ...]
    has_cookie: bool
    address: str
    session: str | None = None
    """The session cookie's value, where there is exactly one."""
    origin: str | None = None
    fetch_site: str | None = None
    """`Sec-Fetch-Site` (W3C Fetch Metadata)."""


class Authenticator(Protocol):
    async def authenticate(self, presented: Presented) -> Principal:
        """The principal behind fresh, valid, unrevoked credentials.

        Raises Problem: `unauthenticated`, `proof_required`, `proof_stale`, `proof_invalid`, `device_suspended`.
        """
        ...

    async def local_owner(self) -> Principal:
        """The owner, for a caller whose uid the Unix socket has checked."""
        ...


def presented(request: Request) -> Presented:
    headers = request.headers
    return Presented(
        method=request.method,
        path=request.scope["path"],
        authorization=headers.get("authorization"),
        proofs=tuple(headers.getlist("dpop")),
        has_cookie="cookie" in headers,
        address=request.client.host if request.client else "",
        session=only_cookie(headers.getlist("cookie"), SESSION_COOKIE),
        origin=headers.get("origin"),
        fetch_site=headers.get("sec-fetch-site"),
    )


def only_cookie(lines: list[str], wanted: str) -> str | None:
    """Its value, where the `Cookie` headers hold exactly one of that name."""
    pairs = [pair.strip().partition("=") for line in lines for pair in line.split(";")]
    found = [value for name, _, value in pairs if name == wanted]
    return found[0] if len(found) == 1 else None


def is_local(request: Request) -> bool:
    return LOCAL_PEER in request.scope.get("extensions", {})


def caller(request: Request) -> Principal:
    """The authenticated principal; only routes that the access table protects have one."""
    found = getattr(request.state, "principal", None)
    if not isinstance(found, Principal):
        raise Problem(Code.UNAUTHENTICATED, "This address needs a device token or the local socket.")
    return found


Caller = Annotated[Principal, Depends(caller)]
