"""The built pages, held in memory and found by exact path: no request ever becomes a file name."""

import asyncio
import gzip
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from entobot.core.errors import RETRYABLE, STATUS, Code, Problem
from entobot.core.secrets import b64u, sha256
from entobot.web.problems import problem_response

BUILT_PAGES = Path(__file__).parent / "pages"
"""Where the build puts them; part of the wheel, absent in a fresh checkout."""

APP_PATHS = (
    "/",
    "/approvals",
    "/automations",
    "/certificate",
    "/chat",
    "/device",
    "/memos",
    "/notifications",
    "/pair",
    "/questions",
    "/search",
    "/share",
    "/things",
)
"""Addresses inside the phone app; all are its one page."""
ADMIN_PATH = re.compile(r"/admin(?:/[A-Za-z0-9_-]{1,64}){1,2}/?")
"""Addresses inside the dashboard, which is one page as well."""
APP_OBJECT = re.compile(r"/(?:approvals|automations|chat|notifications|questions|things)/[A-Za-z0-9_-]{1,64}")

DOCS_PATH = "/api/docs"
SWAGGER_FILES = ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js")
"""Most of the built bytes, and hardly ever looked at: read when they are asked for."""

REVALIDATE = "no-cache"
FOR_EVER = "public, max-age=31536000, immutable"
"""For files whose name holds a hash of their content."""

MAX_FILE_BYTES = 8 * 1024 * 1024
_MIN_COMPRESSED_BYTES = 512
_COMPRESSED_TYPES = ("text/", "application/json", "application/manifest+json", "image/svg+xml")
_TYPES = {".js": "text/javascript", ".webmanifest": "application/manifest+json", ".map": "application/json"}


@dataclass(frozen=True, slots=True)
class Page:
    """One file ready to be sent; `zipped` is None where compression does not pay."""

    body: bytes
    zipped: bytes | None
    media_type: str
    cache: str
    etag: str
    status: int = 200


class Pages:
    """Answers GET for every path that no route has; everything else is a problem.

    `unread` files become pages when they are first asked for.
    """

    def __init__(self, files: Mapping[str, Page], unread: Mapping[str, Path] | None = None) -> None:
        self._files = dict(files)
        self._unread = dict(unread or {})
        self._reading = asyncio.Lock()

    def find(self, path: str) -> Page | None:
        found = self._files.get(path)
        if found is None and APP_OBJECT.fullmatch(path):
            return self._files["/"]
        if found is None and ADMIN_PATH.fullmatch(path):
            return self._files["/admin"]
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, for HTTP scopes."""
        if scope["path"] in self._unread:
            await self._read(scope["path"])
        await self._answer(scope)(scope, receive, send)

    async def _read(self, path: str) -> None:
        """Once, however many strangers ask at the same time: compressing takes a core longer than all the rest."""
        async with self._reading:
            if path not in self._unread:
                return
            try:
                self._files[path] = await asyncio.to_thread(_read, self._unread[path], path)
            except OSError:  # removed since the start
                return
            del self._unread[path]

    def _answer(self, scope: Scope) -> Response:
        page = self.find(scope["path"])
        if page is None:
            return problem_response(Problem(Code.NOT_FOUND, "There is nothing at this address."))
        if scope["method"] == "GET":
            return page_response(page, Headers(scope=scope))
        allow = {"allow": "GET, HEAD, OPTIONS"}
        if scope["method"] == "OPTIONS":
            return Response(status_code=204, headers=allow)
        text = "This address is a page: it can only be read."
        return problem_response(Problem(Code.INVALID, text), status=405, headers=allow)


def page_response(page: Page, asked: Headers) -> Response:
    """`page` as an answer: compressed where the browser takes it, 304 where it has it already."""
    is_zipped = page.zipped is not None and "gzip" in asked.get("accept-encoding", "")
    etag = f'"{page.etag}-gz"' if is_zipped else f'"{page.etag}"'
    headers = {"cache-control": page.cache, "etag": etag}
    if page.zipped is not None:
        headers["vary"] = "Accept-Encoding"
    if page.status == 200 and etag in (part.strip().removeprefix("W/") for part in _known(asked)):
        return Response(status_code=304, headers=headers)
    if is_zipped:
        headers["content-encoding"] = "gzip"
    content = page.zipped if is_zipped and page.zipped is not None else page.body
    return Response(content, page.status, headers | {"content-type": page.media_type})


def _known(asked: Headers) -> list[str]:
    return asked.get("if-none-match", "").split(",")[:16]


def load_pages(folder: Path = BUILT_PAGES) -> Pages:
    """Read and compress the built pages. Blocking: call it in a thread."""
    found = dict(_built(folder))
    unread = {name: found.pop(name) for name in SWAGGER_FILES if name in found}
    files = {name: _read(path, name) for name, path in found.items()}
    is_built = "/index.html" in files
    files["/docs/errors"] = _page(_errors_page().encode(), "text/html; charset=utf-8")
    files["/docs/docs-init.js"] = _page(_DOCS_INIT.encode(), "text/javascript; charset=utf-8")
    has_swagger = len(unread) == len(SWAGGER_FILES)
    files["/docs/"] = _page((_DOCS if has_swagger else _DOCS_NOT_BUILT).encode(), "text/html; charset=utf-8")
    not_built = _page(_NOT_BUILT.encode(), "text/html; charset=utf-8", status=503)
    files["/admin"] = files.pop("/admin.html", not_built)
    app = files.pop("/index.html") if is_built else not_built
    return Pages(files | dict.fromkeys(APP_PATHS, app), unread)


def _built(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or any(part.startswith(".") for part in name.split("/")):
            continue
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"{name} is larger than {MAX_FILE_BYTES} bytes and is no page")
        yield f"/{name}", path


def _read(path: Path, name: str) -> Page:
    return _page(path.read_bytes(), _media_type(path), cache=_cache(name))


def _media_type(path: Path) -> str:
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _cache(name: str) -> str:
    return FOR_EVER if name.startswith("/assets/") else REVALIDATE


def _page(body: bytes, media_type: str, *, cache: str = REVALIDATE, status: int = 200) -> Page:
    zipped = None
    if len(body) >= _MIN_COMPRESSED_BYTES and media_type.startswith(_COMPRESSED_TYPES):
        smaller = gzip.compress(body, 9, mtime=0)
        zipped = smaller if len(smaller) < len(body) else None
    return Page(body, zipped, media_type, cache, b64u(sha256(body))[:22], status)


def _document(title: str, content: str, head: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>' + escape(title) + "</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">' + head + "</head>\n"
        "<body>" + content + "</body>\n</html>\n"
    )


def _errors_page() -> str:
    """The page that every problem's `type` links to."""
    rows = "".join(
        f'<tr id="{code}"><td><code>{code}</code></td><td>{STATUS[code]}</td>'
        f"<td>{'yes' if code in RETRYABLE else 'no'}</td></tr>"
        for code in Code
    )
    return _document(
        "Errors",
        "<h1>Errors</h1><p>Every error carries one of these codes. <em>Retry</em> says whether the same request may "
        "succeed later.</p><table><thead><tr><th>Code</th><th>HTTP status</th><th>Retry</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>",
    )


_NOT_BUILT = _document(
    "Entobot",
    "<h1>The gateway runs, its pages are not built</h1><p>This is a source checkout. Build them once with "
    "<code>make setup</code> and start the gateway again. Installed packages bring them along.</p>",
)
_DOCS = _document(
    "Entobot API",
    '<div id="swagger-ui"></div><script src="/docs/swagger-ui-bundle.js"></script>'
    '<script src="/docs/docs-init.js"></script>',
    '<link rel="stylesheet" href="/docs/swagger-ui.css">',
)
_DOCS_NOT_BUILT = _document(
    "Entobot API",
    '<h1>Entobot API</h1><p>The description is <a href="/api/openapi.json">/api/openapi.json</a>. '
    "Its browsable pages are built together with the phone app: <code>make setup</code>.</p>",
)
_DOCS_INIT = """\
"use strict";
// The viewer writes HTML it made from our own description, through its own sanitiser. Scripts stay refused.
if (window.trustedTypes) window.trustedTypes.createPolicy("default", { createHTML: (html) => html });
window.SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  supportedSubmitMethods: [],
});
"""
