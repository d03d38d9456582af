"""The same frames over plain HTTP: events as Server-Sent Events, commands one POST each. See docs/protocol.md §6."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
import msgspec

from entobot.client.journal import Position
from entobot.client.link import CannotOpen, OnEnd, OnFrame
from entobot.client.requests import Requests
from entobot.client.returning import NEVER_OPENED, Ended
from entobot.core.errors import Code, Problem

READ_TIMEOUT_S = 40.0
"""A comment comes every 15 s."""
POSTS_AT_ONCE = 8
_END = re.compile(r": (\d{4}) ?(.*)")


class HttpLink:
    """`Link`."""

    is_http = True

    def __init__(self, requests: Requests, on_frame: OnFrame, on_end: OnEnd) -> None:
        self._requests = requests
        self._on_frame = on_frame
        self._on_end: OnEnd | None = on_end
        self._free = asyncio.Semaphore(POSTS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._is_open = False
        self._acked: int | None = None
        self._is_acking = False

    async def open(self, resume: Position | None) -> None:
        """Returns once the gateway has begun to answer. Raises CannotOpen, Problem."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = self._start(self._read(resume, opened))
        try:
            await opened
        except BaseException:
            self.abort()
            raise
        self._is_open = True

    def send(self, frame: dict[str, Any]) -> None:
        if self._on_end is None:
            return
        if frame["type"] == "command":
            self._start(self._post(frame))
        elif frame["type"] == "ack":
            self._acked = frame["seq"]
            if not self._is_acking:
                self._is_acking = True
                self._start(self._acknowledge())

    async def close(self) -> None:
        self.abort()
        for task in self._tasks:
            task.cancel()

    def abort(self) -> None:
        """Requests on their way come to their end, unheard: httpcore forgets what is cut off while it connects, and
        with it a place of its pool.
        """
        self._on_end = None
        if self._is_open and self._reading is not None:
            self._reading.cancel()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- events

    async def _read(self, resume: Position | None, opened: asyncio.Future[None]) -> None:
        position = {} if resume is None else {"stream": resume.stream, "after": str(resume.after)}
        ended = Ended(NEVER_OPENED, "the event stream broke")
        try:
            timeout = httpx.Timeout(10, read=READ_TIMEOUT_S)
            async with self._requests.stream("/api/v1/events", params=position, timeout=timeout) as response:
                if opened.done():  # nobody waits for it any more
                    return
                opened.set_result(None)
                ended = await self._lines(response.aiter_lines())
        except (OSError, httpx.TransportError) as error:
            failure = CannotOpen(str(error) or type(error).__name__)
            failure.__cause__ = error
            _fail(opened, failure)
        except Problem as problem:
            _fail(opened, problem)
        on_end, self._on_end = self._on_end, None
        if on_end is not None and not opened.cancelled() and opened.exception() is None:
            on_end(ended)

    async def _lines(self, lines: AsyncIterator[str]) -> Ended:
        retry_after_s: float | None = None
        ended = Ended(NEVER_OPENED, "the event stream broke")
        async for line in lines:
            if line.startswith("data: ") and self._on_end is not None:
                self._on_frame(line[6:].encode())
            elif line.startswith("retry: "):
                retry_after_s = int(line[7:]) / 1000
            elif found := _END.fullmatch(line):
                ended = Ended(int(found[1]), found[2], retry_after_s)
        return ended

    # -- commands

    async def _post(self, frame: dict[str, Any]) -> None:
        body = {name: frame[name] for name in ("id", "name", "data")}
        async with self._free:
            told = await self._run(body)
        if self._on_end is not None:
            self._on_frame(msgspec.json.encode(told))

    async def _run(self, body: dict[str, Any]) -> dict[str, Any]:
        """The frame that a WebSocket would have brought. Whether an unanswered command was executed shows its repeat."""
        content = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        try:
            done = await self._requests.send("POST", "/api/v1/commands", content=content, extra_headers=headers)
        except Problem as problem:
            told: dict[str, Any] = {"type": "error", "id": body["id"], "code": problem.code}
            told |= {"message": problem.detail, "retry": problem.retry}
            return told if problem.retry_after_s is None else told | {"retry_after_s": problem.retry_after_s}
        except (OSError, httpx.TransportError):
            return {
                "type": "error",
                "id": body["id"],
                "code": Code.INTERNAL,
                "message": "Nobody answered.",
                "retry": True,
            }
        return {"type": "result", "id": body["id"], "data": done["data"]}

    async def _acknowledge(self) -> None:
        """One request at a time, each with the latest."""
        sent: int | None = None
        while self._acked != sent and self._on_end is not None:
            sent = self._acked
            await self._run({"id": self._requests.new_id(), "name": "events.ack", "data": {"seq": sent}})
        self._is_acking = False


def _fail(opened: asyncio.Future[None], error: Exception) -> None:
    if not opened.done():
        opened.set_exception(error)
