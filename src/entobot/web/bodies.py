"""Request bodies: capped while they arrive, JSON only, and only JSON that has one meaning (I-JSON, RFC 7493)."""

import asyncio
import json
from datetime import timedelta
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from entobot.core.errors import Code, Problem

JSON = "application/json"
DEFAULT_MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
ARRIVAL = timedelta(seconds=20)
"""How long a body may take to arrive."""

BODY_READ = "entobot.body_read"
"""Scope key, set once the body has arrived whole. Without it the rest may be endless: see `must_close`."""


class BoundedRequest(Request):
    """A request whose `body()` holds at most `max_bytes`, and whose `json()` is strict.

    Both raise Problem: `too_large`, `invalid`.
    """

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int) -> None:
        super().__init__(scope, receive)
        self._max_bytes = max_bytes
        self._whole: bytes | None = None
        self._parsed: tuple[Any] | None = None

    async def body(self) -> bytes:
        if self._whole is None:
            self._check_length()
            try:
                async with asyncio.timeout(ARRIVAL.total_seconds()):
                    self._whole = await self._read()
            except TimeoutError:
                raise Problem(Code.INVALID, "The body did not arrive in time. Send it again.") from None
            self.scope[BODY_READ] = True
            self._body = self._whole  # where Starlette's own readers look
        return self._whole

    async def json(self) -> Any:
        if self._parsed is None:
            self._parsed = (parse(await self.body()),)
        return self._parsed[0]

    def _check_length(self) -> None:
        declared = self.headers.get("content-length")
        if declared is None:
            return
        if not (declared.isascii() and declared.isdigit()):
            raise Problem(Code.INVALID, "The Content-Length header is not a number.")
        if len(declared) > 15 or int(declared) > self._max_bytes:
            raise self._too_large()

    async def _read(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._max_bytes:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> Problem:
        return Problem(Code.TOO_LARGE, f"The body is larger than {self._max_bytes} bytes.")


def has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def must_close(scope: Scope) -> bool:
    """Whether the answer leaves while more body than anyone may send can still come."""
    if BODY_READ in scope:
        return False
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return True
        if name == b"content-length":
            return not value.isdigit() or len(value) > 15 or int(value) > DEFAULT_MAX_BYTES
    return False


def check_media_type(request: Request, wanted: str = JSON) -> None:
    """Raise `invalid` unless the body is declared as `wanted` in UTF-8 and not compressed."""
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if media_type.strip() != wanted or parameters.strip().replace('"', "") not in ("", "charset=utf-8"):
        what = "as JSON " if wanted == JSON else ""
        raise Problem(Code.INVALID, f"Send the body {what}with the header 'Content-Type: {wanted}'.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.INVALID, "Send the body without a Content-Encoding.")


def parse(body: bytes) -> Any:
    """The JSON value of `body`.

    Raises Problem `invalid` for anything two readers could understand differently: another encoding, duplicate
    names, NaN, integers beyond 2^53-1, lone surrogates, NUL, or nesting deeper than MAX_DEPTH.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise Problem(Code.INVALID, "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        text = f"The body is not JSON: line {error.lineno}, column {error.colno}."
        raise Problem(Code.INVALID, text) from None
    except RecursionError:
        raise Problem(Code.INVALID, _TOO_DEEP) from None
    _check(value)
    return value


_TOO_DEEP = f"The JSON is nested deeper than {MAX_DEPTH} levels."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem(Code.INVALID, "The JSON names a member twice.")
    return found


def _no_constant(_: str) -> Any:
    raise Problem(Code.INVALID, "NaN and Infinity are not JSON.")


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(number := int(digits)) > MAX_INTEGER:
        raise Problem(Code.INVALID, "The JSON holds an integer beyond 2^53-1.")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Problem(Code.INVALID, "The JSON holds a number that is too large.")
    return number


def _check(root: Any) -> None:
    """Depth and text of every value, without recursion of our own."""
    level: list[Any] = [root]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                below.extend(value)  # pyright: ignore[reportUnknownArgumentType]  parsed JSON has no static type
                below.extend(value.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]  parsed JSON has no static type
            elif isinstance(value, list):
                below.extend(value)  # pyright: ignore[reportUnknownArgumentType]  parsed JSON has no static type
        if not below:
            return
        level = below
    raise Problem(Code.INVALID, _TOO_DEEP)


def _check_text(text: str) -> None:
    has_surrogate = not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
    if has_surrogate or "\0" in text:
        raise Problem(Code.INVALID, "The JSON holds text with a lone surrogate or NUL.")
