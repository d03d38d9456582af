"""One user's events on this node: read once, kept for a while, told to each of the user's connections."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.gateway import wire
from entobot.gateway.feed import EventsGone, Feed, LoggedEvent
from entobot.gateway.live import Live
from entobot.gateway.wire import Close
from entobot.storage.database import Database, StorageFailed

log = logging.getLogger(__name__)

RECENT_EVENTS = 512
RECENT_BYTES = 1024 * 1024
PAGE = 300
MAX_WAITING = 1024
"""Live events of a user that may wait for the store; more are dropped."""
EVERYTHING = 2**62
FAN_OUT = 256
"""Subscribers that are told in one turn of the loop; then others have theirs."""
SMALL = 32
"""Rows that may be read or written without leaving the loop."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A durable event, encoded once for every subscriber."""

    seq: int
    scope: Scope | None
    payload: bytes
    expires_at_ms: int | None = None
    at_ms: int = 0


class Subscriber(Protocol):
    """One connection as the hub sees it. Called on the loop's thread; must not block."""

    @property
    def principal(self) -> Principal: ...
    @property
    def last_heard_s(self) -> float: ...
    @property
    def transport(self) -> str: ...
    @property
    def address(self) -> str:
        """The other end's, "" over the Unix socket."""
        ...

    @property
    def joined_s(self) -> float: ...
    def news(self) -> None:
        """The channel has events after the subscriber's position."""
        ...

    def show(self, live: Live, payload: bytes) -> None:
        """A live event and its frame; to be dropped when the subscriber is not up to date."""
        ...

    def acknowledged(self, seq: int) -> None:
        """The device has everything up to `seq`, as it said by command."""
        ...

    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None: ...
    def drain(self, retry_after_s: float) -> None:
        """End as `Close.DRAINING`, once what the client waits for is answered; nothing new is begun."""
        ...


class Channel:
    """One user's events on this node, in order: durable ones from the log, live ones as they come.

    Both kinds are told in the order in which they were published: an event that was read early, because it was
    committed while an earlier one was being read, waits for its own doorbell and so for the live events before it.
    """

    def __init__(self, user_id: str, database: Database, feed: Feed, replays: asyncio.Semaphore) -> None:
        self.user_id = user_id
        self.subscribers: list[Subscriber] = []
        self.latest = -1
        """The highest `seq` that subscribers may have; -1 until the first of them has opened."""
        self._read_to = -1
        self._rung_early = -1
        self._rung_to = -1
        self._database = database
        self._feed = feed
        self._replays = replays
        self._recent: deque[Frame] = deque()
        self._recent_bytes = 0
        self._work: deque[Live | int] = deque()
        self._pump: asyncio.Task[None] | None = None

    def ring(self, seq: int = EVERYTHING) -> None:
        """The log grew to `seq`. Rings that follow one another are one."""
        if seq < EVERYTHING:
            self._rung_to = max(self._rung_to, seq)
        if self.latest < 0:
            self._rung_early = max(self._rung_early, seq)
            return
        if self._is_idle and seq <= self._read_to:
            self._tell_now(seq)
            return
        last = self._work[-1] if self._work else None
        if isinstance(last, int):
            self._work[-1] = max(last, seq)
        else:
            self._work.append(seq)
        self._start()

    def untold(self, seq: int) -> int:
        """How many of the events up to `seq` nobody has rung for, and were not read without."""
        known = max(self._rung_to, self._read_to, self.latest)
        return max(0, seq - known) if self.latest >= 0 else 0

    def show(self, live: Live) -> None:
        if self.latest < 0 or len(self._work) >= MAX_WAITING:
            return
        if self._is_idle:
            self._show_now(live)
            return
        self._work.append(live)
        self._start()

    def append(self, event: LoggedEvent) -> None:
        """This node committed the event: its ring need not read the log then. Only the next one is of use."""
        if event.seq == self._read_to + 1 and self.latest >= 0:
            self._remember([_frame(event)])

    def starts_at(self, seq: int) -> None:
        """A subscriber has opened at `seq`; what comes later has to be read."""
        if self.latest < 0:
            self.latest = self._read_to = seq
        seq, self._rung_early = max(seq, self._rung_early), -1
        if seq > self.latest:
            self.ring(seq)

    def next_after(self, seq: int) -> Frame | None:
        """The newest event, when it is the one after `seq` and may be sent."""
        recent = self._recent
        if not recent or recent[-1].seq != seq + 1 or self.latest != seq + 1:
            return None
        return recent[-1]

    def recent_after(self, seq: int) -> list[Frame] | None:
        """Events after `seq` from memory, or None when memory does not reach back so far."""
        if not self._recent or self._recent[0].seq > seq + 1:
            return None
        found: list[Frame] = []
        for frame in reversed(self._recent):  # most ask for the newest only
            if frame.seq <= seq:
                break
            if frame.seq <= self.latest:
                found.append(frame)
        found.reverse()
        return found

    async def replay_after(self, seq: int) -> list[Frame]:
        """The same for a subscriber that is behind: in turn with all others that are."""
        async with self._replays:
            return await self.page_after(seq)

    async def page_after(self, seq: int) -> list[Frame]:
        """Events after `seq` from the log, as many as fit a page; none at its end. Raises EventsGone."""
        is_small = 0 <= self.latest - seq <= SMALL
        rows = await self._database.read(lambda tx: self._feed.after(tx, self.user_id, seq, PAGE), is_small=is_small)
        return [_frame(row) for row in rows]

    @property
    def _is_idle(self) -> bool:
        """Nothing has to be read or waited for first, and few are told: it needs no task."""
        return self._pump is None and not self._work and len(self.subscribers) <= FAN_OUT

    def _start(self) -> None:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._work:
                item = self._work.popleft()
                if isinstance(item, int):
                    await self._tell_up_to(item)
                else:
                    await self._show(item)
        except StorageFailed:
            log.warning("events wait: the store does not answer")  # the sweep rings again
        except EventsGone:
            for subscriber in tuple(self.subscribers):
                subscriber.end(Close.DRAINING, "events went before this node had read them")
        finally:
            self._pump = None

    async def _tell_up_to(self, seq: int) -> None:
        while self._read_to < seq:
            page = await self.page_after(self._read_to)
            self._remember(page)
            await self._tell(min(seq, self._read_to))
            if not page:
                break
        await self._tell(min(seq, self._read_to))

    def _remember(self, page: list[Frame]) -> None:
        for frame in page:
            if frame.seq <= self._read_to:  # `append` was faster than the read
                continue
            self._recent.append(frame)
            self._recent_bytes += len(frame.payload)
            self._read_to = frame.seq
        while len(self._recent) > RECENT_EVENTS or self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft().payload)

    async def _tell(self, latest: int) -> None:
        if latest > self.latest:
            self.latest = latest
            await self._each(_news)

    def _tell_now(self, latest: int) -> None:
        if latest > self.latest:
            self.latest = latest
            _tell_some(tuple(self.subscribers), _news)

    async def _show(self, live: Live) -> None:
        payload = wire.event(at_ms=live.at_ms, topic=live.topic, event_json=live.event)
        await self._each(lambda subscriber: subscriber.show(live, payload))

    def _show_now(self, live: Live) -> None:
        payload = wire.event(at_ms=live.at_ms, topic=live.topic, event_json=live.event)
        _tell_some(tuple(self.subscribers), lambda subscriber: subscriber.show(live, payload))

    async def _each(self, tell: Callable[[Subscriber], None]) -> None:
        subscribers = tuple(self.subscribers)
        for start in range(0, len(subscribers), FAN_OUT):
            _tell_some(subscribers[start : start + FAN_OUT], tell)
            if start + FAN_OUT < len(subscribers):
                await asyncio.sleep(0)


def _news(subscriber: Subscriber) -> None:
    subscriber.news()


def _tell_some(subscribers: Sequence[Subscriber], tell: Callable[[Subscriber], None]) -> None:
    for subscriber in subscribers:
        try:
            tell(subscriber)
        except Exception:
            log.exception("a subscriber failed")
            _let_go(subscriber)


def _let_go(subscriber: Subscriber) -> None:
    """One subscriber's fault is not the others'; it comes back and starts clean."""
    subscriber.end(Close.DRAINING, "something went wrong here")


def _frame(row: LoggedEvent) -> Frame:
    payload = wire.event(at_ms=row.at_ms, topic=row.topic, event_json=row.event, seq=row.seq)
    return Frame(row.seq, row.scope, payload, row.expires_at_ms, row.at_ms)
