"""What the port for plain HTTP says: answers for a certificate authority, and the way to HTTPS. Nothing else."""

from collections.abc import Mapping
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

CHALLENGES = "/.well-known/acme-challenge/"
_PATH_CHARACTERS = "/%:@!$&'()*+,;=-._~"


class PlainHttp:
    """ASGI. `answers` are key authorizations by token (RFC 8555 §8.3). Browsers are sent to `origin` and to no other
    place, whatever they name in `Host`. Only reading is sent on: what else was sent has been read by others already.
    """

    def __init__(self, origin: str, answers: Mapping[str, str]) -> None:
        self._origin = origin
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        path: str = scope["path"]
        is_reading = scope["method"] in ("GET", "HEAD")
        headers: list[tuple[bytes, bytes]] = []
        if is_reading and path.startswith(CHALLENGES):
            answer = self._answers.get(path.removeprefix(CHALLENGES))
            status, text = (404, "Nobody asked for this.\n") if answer is None else (200, answer)
        elif is_reading:
            target = self._target(scope)
            status, text = 308, f"{target}\n"
            headers.append((b"location", target.encode("ascii")))
        else:
            status, text = 403, f"This port only reads. Use {self._origin}\n"
        body = text.encode()
        headers += [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _target(self, scope: Scope) -> str:
        raw: bytes = scope.get("raw_path") or b"/"
        path = quote(raw, safe=_PATH_CHARACTERS) if raw.startswith(b"/") else "/"
        query = quote(scope["query_string"], safe=_PATH_CHARACTERS + "?")
        return f"{self._origin}{path}" + (f"?{query}" if query else "")
