"""Which requests may come in at all: the per-address limit, the Fetch-Metadata and Origin rule, and CORS."""

import re
from collections.abc import Callable, Iterable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entobot.core.errors import Code, Problem, StartupRefused
from entobot.web.authentication import LOCAL_PEER
from entobot.web.problems import problem_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PREFLIGHT = {
    "access-control-allow-methods": "DELETE, GET, PATCH, POST, PUT",
    "access-control-allow-headers": "authorization, content-type, dpop, idempotency-key, last-event-id",
    "access-control-max-age": "600",
}
EXPOSED = b"idempotency-replayed, retry-after, www-authenticate, x-request-id"

Admit = Callable[[str], float | None]
"""Seconds until an address may ask again, or None when it may now. Called before anything else of a request."""

_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_origin(text: str) -> str:
    """`text` if it is one exact origin as browsers write it. Raises StartupRefused, also for `*` and `null`."""
    match = _ORIGIN.fullmatch(text)
    if match is None or match[3] == _DEFAULT_PORTS[match[1]]:
        raise StartupRefused(
            f"'{text}' is not an origin. Write scheme, lower-case host and a port unless it is the default one, "
            "for example https://entobot.example:18790. Wildcards are not allowed."
        )
    return text


class Admission:
    """ASGI: refuses before the body is read. `origin` is the gateway's own, `allowed` are further exact ones."""

    def __init__(self, app: ASGIApp, origin: str, allowed: Iterable[str], admit: Admit | None) -> None:
        self._app = app
        self._foreign = frozenset(allowed) - {origin}
        self._allowed = self._foreign | {origin}
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._over_limit(scope) or self._foreign_write(scope["method"], headers)
        if refusal is not None:
            await problem_response(refusal)(scope, receive, send)
            return
        origin = headers.get("origin")
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(origin)(scope, receive, send)
        elif self._foreign:
            await self._app(scope, receive, _with_cors(send, origin if origin in self._foreign else None))
        else:
            await self._app(scope, receive, send)

    def _over_limit(self, scope: Scope) -> Problem | None:
        if self._admit is None or LOCAL_PEER in scope.get("extensions", {}):
            return None
        client = scope.get("client")
        retry_after_s = self._admit(client[0] if client else "")
        if retry_after_s is None:
            return None
        return Problem(
            Code.RATE_LIMITED, "Too many requests from this address. Wait a moment.", retry_after_s=retry_after_s
        )

    def _foreign_write(self, method: str, headers: Headers) -> Problem | None:
        """A page of another site must not write, whatever credentials it may have got hold of."""
        if method in SAFE_METHODS:
            return None
        origins = headers.getlist("origin")
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        allowed = self._foreign if is_foreign else self._allowed
        if (is_foreign and not origins) or len(origins) > 1 or any(origin not in allowed for origin in origins):
            return Problem(
                Code.FORBIDDEN,
                "This page may not write here. Open the gateway under its own address, or add the page's origin to "
                "gateway.allowed_origins.",
            )
        return None

    def _preflight(self, origin: str | None) -> Response:
        if origin is None or origin not in self._allowed:
            return problem_response(
                Problem(Code.FORBIDDEN, "This origin is not one of gateway.allowed_origins."),
                headers={"vary": "Origin"},
            )
        return Response(status_code=204, headers=PREFLIGHT | {"access-control-allow-origin": origin, "vary": "Origin"})


def _with_cors(send: Send, origin: str | None) -> Send:
    """Credentials are never allowed: device tokens travel in headers, and cookies belong to the own origin alone."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], (b"vary", b"Origin")]
            if origin is not None:
                headers.append((b"access-control-allow-origin", origin.encode()))
                headers.append((b"access-control-expose-headers", EXPOSED))
            message = {**message, "headers": headers}
        await send(message)

    return sender
