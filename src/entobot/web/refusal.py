"""Refusals made below the application: whole HTTP/1.1 responses with an RFC 9457 body, after which we hang up."""

import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

App = Callable[[Any, Any, Any], Any]
"""An ASGI application."""


def refusal_body(status: int, code: str, detail: str, *, retry_after_s: int | None = None) -> bytes:
    """problem+json, the members of `core.errors.Problem.to_json`; for statuses that its vocabulary does not have."""
    title = HTTPStatus(status).phrase
    body: dict[str, object] = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "retry": retry_after_s is not None,
    }
    if retry_after_s is not None:
        body["retry_after_s"] = retry_after_s
    return json.dumps(body, separators=(",", ":")).encode("utf-8")


def refusal_response(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    retry_after_s: int | None = None,
) -> bytes:
    body = refusal_body(status, code, detail, retry_after_s=retry_after_s)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode("ascii")]
    lines += [name + b": " + value for name, value in headers]
    if retry_after_s is not None:
        lines.append(b"retry-after: %d" % retry_after_s)
    lines += [
        b"content-type: application/problem+json",
        b"content-length: " + str(len(body)).encode("ascii"),
        b"cache-control: no-store",
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def with_upgrade_hint(app: App, path: str) -> App:
    """A plain request to the WebSocket's path is told what to do; the application never sees it."""
    hint = refusing(
        426,
        "invalid",
        "This address speaks WebSocket only.",
        headers=((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
    )

    async def hinted(scope: Any, receive: Any, send: Any) -> None:
        chosen = hint if scope["type"] == "http" and scope["path"] == path else app
        await chosen(scope, receive, send)

    return hinted


def websocket_only(path: str) -> App:
    """The application of a port that serves nothing but the WebSocket at `path`."""
    return with_upgrade_hint(refusing(404, "not_found", f"This port serves the WebSocket at {path} only."), path)


def refusing(status: int, code: str, detail: str, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> App:
    """An application that answers every request with the same refusal."""
    body = refusal_body(status, code, detail)
    fields = [
        *headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"cache-control", b"no-store"),
    ]

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        del receive
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return refuse
