"""Security headers on every answer, and HEAD for every GET."""

from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entobot.web.bodies import must_close

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'"
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

PHONE_FEATURES = "camera=(self), microphone=(self), geolocation=()"
"""The phone app scans codes and records; nothing else here does either."""

_SHARED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Sent unless the answer has its own value. Only the built pages say anything else about caching."""


class SecurityHeaders:
    """ASGI. `hsts` is for certificates that browsers trust by themselves: with a local CA it would lock people out."""

    def __init__(self, app: ASGIApp, hsts: timedelta | None) -> None:
        self._app = app
        shared = dict(_SHARED)
        if hsts is not None:
            shared["strict-transport-security"] = f"max-age={int(hsts.total_seconds())}"
        self._api = _encode(shared | {"content-security-policy": API_POLICY})
        page = shared | {"content-security-policy": PAGE_POLICY}
        self._page = _encode(page)
        self._phone = _encode(page | {"permissions-policy": PHONE_FEATURES})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        defaults = self._defaults(path)

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = list(message["headers"])
                given = {name.lower() for name, _ in headers}
                headers += [header for header in defaults if header[0] not in given]
                if must_close(scope):
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        if scope["method"] == "HEAD":
            await _answer_head(self._app, scope, receive, sender)
        else:
            await self._app(scope, receive, sender)

    def _defaults(self, path: str) -> list[tuple[bytes, bytes]]:
        if path.startswith(("/api", "/.well-known", "/metrics")):
            return self._api
        return self._page if path.startswith("/admin") else self._phone


def _encode(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """GET without its body (RFC 9110 §9.3.2)."""
    is_done = False

    async def sender(message: Message) -> None:
        nonlocal is_done
        if message["type"] == "http.response.start":
            await send(message)
            return
        if not is_done:
            is_done = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if message.get("more_body", False):
            raise ClientDisconnect  # an endless stream must stop sending what nobody gets

    try:
        await app({**scope, "method": "GET"}, receive, sender)
    except ClientDisconnect:
        if not is_done:
            raise
