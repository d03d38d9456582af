"""The answer to one message as it comes, for one reader: read from the log, woken by the bus, with live pieces between."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from entobot.agents import store
from entobot.agents.ag_ui import Event, Pending, Translation
from entobot.agents.model import RunState
from entobot.approvals.model import Approval
from entobot.approvals.service import Approvals
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Problem
from entobot.core.principal import Principal
from entobot.gateway.feed import EventsGone
from entobot.gateway.live import Live
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.stream.service import Stream

LOOK_EVERY_S = 1.0
"""In case a bell was lost; and a credential that has ended, or a gateway that stops, is felt by then."""
COMMENT_EVERY_S = 15.0
MAX_LIFE_S = 3600.0
MAX_LIVE = 2000
"""Live events that wait for a slow reader; more are left out, and the stored message makes up for texts."""
COMMENT = b":\n\n"


@dataclass(frozen=True, slots=True)
class Parts:
    database: Database
    bus: Bus
    clock: Clock
    stream: Stream
    approvals: Approvals
    guard: Callable[[Transaction, Principal], None]
    """Raises Problem for a caller whose credentials have ended."""


@dataclass(frozen=True, slots=True)
class Place:
    """The message that is answered, and where it stands in the log."""

    conversation_id: str
    message_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class _Seen:
    events: list[tuple[int, str, Any]]
    run_id: str | None
    pending: tuple[Approval, ...]
    is_last: bool


class Following:
    """One reader. `stop` ends it soon; the run goes on, whoever reads."""

    def __init__(self, parts: Parts, principal: Principal, place: Place, translation: Translation) -> None:
        self._parts = parts
        self._principal = principal
        self._place = place
        self._translation = translation
        self._topic = topics.conversation(place.conversation_id)
        self._live: deque[tuple[Event, int | None]] = deque(maxlen=MAX_LIVE)
        self._wake = asyncio.Event()
        self._position = place.seq
        self._is_ours = False
        self._is_stopping = False

    def stop(self) -> None:
        self._is_stopping = True
        self._wake.set()

    async def body(self) -> AsyncIterator[bytes]:
        begun_s = told_s = self._parts.clock.monotonic()
        unsubscribe = self._parts.bus.subscribe(topics.user(self._principal.user_id), self._hear)
        try:
            while not self._translation.is_over:
                self._wake.clear()
                told = await self._look()
                now_s = self._parts.clock.monotonic()
                if not self._translation.is_over and now_s - begun_s >= MAX_LIFE_S:
                    told += self._translation.fails("still_running", "It still works. Ask again to go on listening.")
                if told:
                    told_s = now_s
                    yield b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told)
                elif now_s - told_s >= COMMENT_EVERY_S:
                    told_s = now_s
                    yield COMMENT
                if not self._translation.is_over:
                    await self._pause()
        finally:
            unsubscribe()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            return

    def _hear(self, _topic: str, payload: bytes) -> None:
        """A live event of this user, or the bell that the log grew."""
        if payload.startswith(b"{"):
            live = msgspec.json.decode(payload, type=Live)
            if live.topic != self._topic:
                return
            self._live.append((json.loads(live.event), None if live.piece is None else live.piece.offset))
        self._wake.set()

    async def _look(self) -> list[Event]:
        if self._is_stopping:
            return self._translation.fails("draining", "The gateway stops. Ask again in a moment to go on listening.")
        expires_at_ms = self._principal.expires_at_ms
        if expires_at_ms is not None and expires_at_ms <= self._parts.clock.now_ms():
            return self._translation.fails("unauthenticated", "The token has expired. Ask again with a fresh one.")
        fresh = [self._live.popleft() for _ in range(len(self._live))]
        try:
            seen = await self._parts.database.read(self._read)
        except Problem as problem:
            return self._translation.fails(problem.code, problem.detail)
        except EventsGone:
            return self._translation.fails("not_found", "This is too long ago. Read the conversation instead.")
        except StorageFailed:
            return []
        return self._told(seen, fresh)

    def _read(self, tx: Transaction) -> _Seen:
        self._parts.guard(tx, self._principal)
        found = self._parts.stream.after(tx, self._principal.user_id, self._position)
        run = store.find_run_of(tx, self._place.message_id)
        waits = run is not None and run.state is RunState.WAITING
        pending = self._parts.approvals.pending_of_run(tx, run.run_id) if run is not None and waits else []
        return _Seen(
            [(one.seq, one.topic, one.event) for one in found],
            None if run is None else run.run_id,
            tuple(pending),
            is_last=not found,
        )

    def _told(self, seen: _Seen, fresh: list[tuple[Event, int | None]]) -> list[Event]:
        told: list[Event] = []
        for seq, topic, text in seen.events:
            self._position = seq
            if topic != self._topic:
                continue
            event = json.loads(text)
            if event["type"] == "RUN_STARTED" and event["runId"] == seen.run_id:
                self._is_ours = True
                told += self._translation.durable(event)
                told += self._shown(fresh)
                fresh = []
            elif self._is_ours and self._belongs(event, seen.run_id):
                told += self._shown(fresh)
                fresh = []
                told += self._translation.durable(event)
                if self._translation.is_over:
                    return told
        if self._is_ours:
            told += self._shown(fresh)
        if seen.events:
            self._wake.set()  # there may be more
        elif self._is_ours and seen.pending:
            told += self._translation.waits([_pending(one) for one in seen.pending])
        return told

    def _shown(self, fresh: list[tuple[Event, int | None]]) -> list[Event]:
        return [told for event, offset in fresh for told in self._translation.live(event, offset)]

    @staticmethod
    def _belongs(event: Event, run_id: str | None) -> bool:
        if event["type"] == "message.created":
            return event["data"]["role"] == "assistant"
        return event.get("runId") == run_id


def _pending(approval: Approval) -> Pending:
    return Pending(
        approval.approval_id,
        approval.tool_call_id,
        approval.title,
        approval.action,
        approval.action_sha256,
        approval.risk.value,
        rfc3339(approval.expires_at_ms),
    )
