"""An agent behind a URL, asked in JSON: what it may answer, how much of it, and what its refusals are called."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from entobot.agents import sse
from entobot.agents.runner import RunErrorCode, RunFailed
from entobot.core.unreadable import UNREADABLE
from entobot.outgoing.guarded_http import AddressRefused, GuardedHttp, Opened, Unreachable

MAX_EVENT_BYTES = 512 * 1024
"""Of one event. An event is parsed at once, on the loop."""
MAX_STREAM_BYTES = 16 * 1024 * 1024
"""Of all that an agent tells in one answer."""
MAX_KEY_CHARACTERS = 8192
EVENT_STREAM = "text/event-stream"
JSON = "application/json"
_CODES = {
    HTTPStatus.UNAUTHORIZED: RunErrorCode.PROVIDER_UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: RunErrorCode.PROVIDER_UNAUTHORIZED,
    HTTPStatus.TOO_MANY_REQUESTS: RunErrorCode.PROVIDER_RATE_LIMITED,
}

Json = Mapping[str, Any]


class Remote:
    """`key_file` is read for each request, so that it can be replaced. `http` says how long the agent may be silent.

    Nothing of what an agent answers instead of an answer goes into a text for people.
    """

    def __init__(self, name: str, http: GuardedHttp, key_file: Path | None, key_header: str) -> None:
        self.name = name
        self._http = http
        self._key_file = key_file
        self._key_header = key_header

    @asynccontextmanager
    async def ask(
        self, method: str, url: str, body: Json | None, accept: str, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Opened]:
        """Its answer with status 200, to be read as it comes. Raises RunFailed."""
        content = b"" if body is None else msgspec.json.encode(body)
        sent = {"accept": accept, **(headers or {}), **await self._key()}
        if body is not None:
            sent["content-type"] = JSON
        try:
            async with self._http.open(method, url, content, sent) as opened:
                self._check(opened.status)
                yield opened
        except AddressRefused as refusal:
            text = f"{self.name} cannot be asked: {refusal}."
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, text) from None
        except Unreachable as failure:
            raise RunFailed(RunErrorCode.PROVIDER_UNREACHABLE, f"{self.name} did not answer: {failure}.") from None

    async def whole(self, opened: Opened) -> Json:
        """An answer that is one object. Raises RunFailed."""
        if media_type(opened) != JSON:
            raise self.junk()
        body = bytearray()
        async for piece in opened.pieces:
            body += piece
            if len(body) > MAX_EVENT_BYTES:
                raise self.too_large(MAX_EVENT_BYTES)
        return self.parsed(bytes(body))

    async def events(self, opened: Opened) -> AsyncGenerator[Json]:
        """The objects of an event stream, until it ends. Raises RunFailed."""
        if media_type(opened) != EVENT_STREAM:
            raise self.junk()
        reading, told = sse.Reading(MAX_EVENT_BYTES), 0
        async for piece in opened.pieces:
            told += len(piece)
            if told > MAX_STREAM_BYTES:
                raise self.too_large(MAX_STREAM_BYTES)
            try:
                found = reading.feed(piece)
            except sse.TooLarge:
                raise self.too_large(MAX_EVENT_BYTES) from None
            for data in found:
                yield self.parsed(data)

    async def answers(self, opened: Opened) -> AsyncGenerator[Json]:
        """The same, from a server that answers with one object where it has nothing to stream: an error, for one."""
        if media_type(opened) == JSON:
            yield await self.whole(opened)
            return
        async for found in self.events(opened):
            yield found

    def parsed(self, data: bytes) -> Json:
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except UNREADABLE:
            raise self.junk() from None

    def junk(self) -> RunFailed:
        return RunFailed(RunErrorCode.PROVIDER_ERROR, f"{self.name} answered with something that is no answer.")

    def too_large(self, most: int) -> RunFailed:
        return RunFailed(RunErrorCode.ANSWER_TOO_LARGE, f"{self.name} told more than {most} bytes at once.")

    def _check(self, status: int) -> None:
        if status == HTTPStatus.OK:
            return
        is_final = 300 <= status < 500
        found = _CODES.get(HTTPStatus(status)) if status in set(HTTPStatus) else None
        code = found or (RunErrorCode.PROVIDER_REJECTED if is_final else RunErrorCode.PROVIDER_ERROR)
        raise RunFailed(code, f"{self.name} answered with HTTP {status}.")

    async def _key(self) -> dict[str, str]:
        if self._key_file is None:
            return {}
        try:
            key = (await asyncio.to_thread(self._key_file.read_text, "ascii")).strip()
        except (OSError, ValueError):
            key = ""
        if not key or len(key) > MAX_KEY_CHARACTERS or not key.isprintable():
            text = f"{self.name} cannot be asked: its key_file cannot be used. Whoever runs this gateway must look."
            raise RunFailed(RunErrorCode.AGENT_NOT_READY, text)
        is_bearer = self._key_header.lower() == "authorization"
        return {self._key_header: f"Bearer {key}" if is_bearer else key}


def media_type(opened: Opened) -> str:
    return opened.headers.get("content-type", "").partition(";")[0].strip().lower()
