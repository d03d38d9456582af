"""Runner adapter for an agent that speaks A2A 1.0 over JSON-RPC: its card says where, and what it can.

What it asks ends the answer, and what the person writes next goes to the same task. It is told to cancel a task whose
answer nobody waits for any more. Nothing waits in this process: context and task stand in the run's state.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any, cast

import msgspec

from entobot.agents.a2a_words import (
    VERSION,
    VERSION_HEADER,
    Card,
    Door,
    Hearing,
    Kept,
    TaskState,
    card_url,
    door_of,
    message,
    told_of,
)
from entobot.agents.acp_prompt import NO_TEXT
from entobot.agents.remote import EVENT_STREAM, JSON, Json, Remote
from entobot.agents.runner import RunErrorCode, RunFailed, TextDelta, TurnEnd, TurnEvent, TurnRequest
from entobot.telemetry.log import get_logger

VERSIONED = {VERSION_HEADER: VERSION}
POLL_EVERY = timedelta(seconds=2)
CANCEL_WITHIN_S = 5.0
AUTH = (
    "It cannot go on before you have signed in somewhere. Do that in its own place, give nobody a password or code here, "
    "and write again afterwards. It says:"
)

log = get_logger("agents")


class _Refused(RunFailed):
    """It did not take what it was sent."""


class A2aRunner:
    """See `Runner`."""

    def __init__(self, url: str, remote: Remote, *, poll_every: timedelta = POLL_EVERY) -> None:
        self.name = remote.name
        self._url = card_url(url)
        self._remote = remote
        self._poll_every = poll_every
        self._cancelling: set[asyncio.Task[None]] = set()

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        kept = msgspec.json.decode(request.before, type=Kept) if request.before else Kept()
        door = await self._door()
        hearing = Hearing()
        try:
            async with aclosing(self._heard(door, hearing, request, kept)) as events:
                async for event in events:
                    yield event
        finally:
            if hearing.task_id and not hearing.is_settled:
                self._cancel(door, hearing.task_id)
        for event in self._end(hearing):
            yield event

    async def close(self) -> None:
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=CANCEL_WITHIN_S)

    # -- one answer

    async def _heard(self, door: Door, hearing: Hearing, request: TurnRequest, kept: Kept) -> AsyncGenerator[TurnEvent]:
        try:
            async with aclosing(self._sent(door, hearing, request, kept)) as events:
                async for event in events:
                    yield event
        except _Refused:
            if not kept.context_id or hearing.state is not None:  # what has begun is not begun again
                raise
            # It knows nothing of the conversation, or of the task, any more.
            async with aclosing(self._sent(door, hearing, request, Kept())) as events:
                async for event in events:
                    yield event
        while hearing.task_id and not hearing.is_settled:
            # Its stream ended, or its answer is a task that still works.
            for event in self._taken(hearing, {"task": await self._call(door, "GetTask", {"id": hearing.task_id})}):
                yield event
            if not hearing.is_settled:
                await asyncio.sleep(self._poll_every.total_seconds())

    async def _sent(self, door: Door, hearing: Hearing, request: TurnRequest, kept: Kept) -> AsyncGenerator[TurnEvent]:
        sent = {
            "message": message(request.transcript, request.run_id, kept),
            "configuration": {"acceptedOutputModes": ["text/plain", "text/markdown", "application/json"]},
        }
        if not door.streams:
            for event in self._taken(hearing, await self._call(door, "SendMessage", sent)):
                yield event
            return
        body = _rpc("SendStreamingMessage", _with_tenant(door, sent))
        try:
            async with (
                self._remote.ask("POST", door.url, body, f"{EVENT_STREAM}, {JSON}", VERSIONED) as opened,
                aclosing(self._remote.answers(opened)) as answers,
            ):
                async for answer in answers:
                    for event in self._taken(hearing, self._result(answer)):
                        yield event
                    if hearing.is_settled:
                        return
        except RunFailed as failure:
            if failure.code is not RunErrorCode.PROVIDER_UNREACHABLE or not hearing.task_id:
                raise
            # The task is known, and may go on without the stream: it is asked for.

    def _taken(self, hearing: Hearing, result: object) -> list[TurnEvent]:
        try:
            return hearing.heard(told_of(result))
        except ValueError:
            raise self._remote.junk() from None

    def _end(self, hearing: Hearing) -> list[TurnEvent]:
        state = hearing.state
        if state is TaskState.REJECTED:
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, f"{self.name} refused to answer this.")
        if state is TaskState.FAILED:
            raise RunFailed(RunErrorCode.PROVIDER_ERROR, f"{self.name} failed while it answered.")
        if state is None or not hearing.is_settled or state is TaskState.CANCELED:
            raise RunFailed(RunErrorCode.PROVIDER_ERROR, f"{self.name} broke its answer off.")
        is_asking = state in (TaskState.AUTH_REQUIRED, TaskState.INPUT_REQUIRED)
        kept = Kept(hearing.context_id, hearing.task_id if is_asking else "")
        text, more = hearing.text, ""
        if not text.strip():
            more = hearing.last_words() or (NO_TEXT if hearing.task_id else "")
        if state is TaskState.AUTH_REQUIRED:
            text, more = "", f"{AUTH}\n\n{text}" if text else AUTH
        end = TurnEnd(text + more, (), msgspec.json.encode(kept).decode())
        return [TextDelta(more), end] if more else [end]

    # -- its protocol

    async def _door(self) -> Door:
        async with self._remote.ask("GET", self._url, None, JSON) as opened:
            found = await self._remote.whole(opened)
        try:
            door = door_of(msgspec.convert(found, Card), self._url)
        except msgspec.ValidationError:
            raise self._remote.junk() from None
        if isinstance(door, str):
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, f"{self.name} cannot be asked: {door}.")
        return door

    async def _call(self, door: Door, method: str, params: Json) -> object:
        body = _rpc(method, _with_tenant(door, params))
        async with self._remote.ask("POST", door.url, body, JSON, VERSIONED) as opened:
            return self._result(await self._remote.whole(opened))

    def _result(self, answer: Json) -> object:
        """Raises RunFailed; nothing of what an error says is shown."""
        if "result" in answer:
            return answer["result"]
        error = answer.get("error")
        code = cast("Json", error).get("code") if isinstance(error, dict) else None
        if not isinstance(code, int):
            raise self._remote.junk()
        log.info("agent.refused", agent=self.name, code=code)
        is_final = -32099 <= code <= -32001 or code in (-32600, -32601, -32602)
        text = f"{self.name} answered with error {code}."
        if is_final:
            raise _Refused(RunErrorCode.PROVIDER_REJECTED, text)
        raise RunFailed(RunErrorCode.PROVIDER_ERROR, text)

    def _cancel(self, door: Door, task_id: str) -> None:
        """Nobody waits for the answer, and nobody for this."""
        task = asyncio.create_task(self._cancelled(door, task_id), context=contextvars.Context())
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancelled(self, door: Door, task_id: str) -> None:
        try:
            async with asyncio.timeout(CANCEL_WITHIN_S):
                await self._call(door, "CancelTask", {"id": task_id})
        except (RunFailed, TimeoutError) as failure:
            log.info("agent.not_cancelled", agent=self.name, why=str(failure))


def _rpc(method: str, params: Json) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _with_tenant(door: Door, params: Json) -> Json:
    return {**params, "tenant": door.tenant} if door.tenant else params
