"""This node's live connections: who is here, which events they get, and who must go.

Per user one channel reads new rows of the durable log once, whatever the number of devices, and keeps the latest in
memory. Each subscriber pulls from there at its own speed: a slow one waits or goes, and delays nobody.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TypeVar

import msgspec

from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import Clock
from entobot.core.principal import Principal
from entobot.gateway.channel import EVERYTHING, SMALL, Channel, Subscriber
from entobot.gateway.feed import Feed, LoggedEvent, Opening, standing_of
from entobot.gateway.live import Live
from entobot.gateway.wire import Close
from entobot.nodes.presence import Presence
from entobot.storage.database import Database, StorageFailed, Transaction, Unit

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CONNECTIONS_PER_DEVICE = 4
MAX_REPLAYS = 8
"""Pages of the log that are read at once for connections that are behind. First come, first served, page by page."""
MAX_OPENINGS = 32
"""Positions and snapshots that are read at once for connections that open."""
SEEN_CHUNK = 256
STANDING_CHUNK = 200
SEEN_FLUSH_S = 0.25
DRAIN_S = 3.0
DRAIN_SLICES = 60
DRAIN_SLICE = 250
"""The least that a slice has."""
ANSWERED_WITHIN_S = 1.0
ANSWER_LOOKS = 20
RETURNS_PER_S = 500
"""How many are asked to come back in a second, at most."""
SOONEST_RETURN_S = 0.5
LEAST_SPREAD_S = 5.0


class Hub:
    def __init__(self, database: Database, bus: Bus, clock: Clock, feed: Feed) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self.feed = feed
        self.is_draining = False
        self._replays = asyncio.Semaphore(MAX_REPLAYS)
        self._openings = asyncio.Semaphore(MAX_OPENINGS)
        self._channels: dict[str, Channel] = {}
        self._by_device: dict[str, list[Subscriber]] = {}
        self._unsubscribe = [
            bus.subscribe("user.*", self._on_user),
            bus.subscribe(topics.CONTROL_DEVICES, self._on_device_changed),
        ]
        self.presence: Presence | None = None
        """Tells the other nodes who is connected here; None where there are none."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: dict[str, tuple[str, int]] = {}
        self._flush: asyncio.TimerHandle | None = None

    # -- who is here

    @property
    def connection_count(self) -> int:
        return sum(len(subscribers) for subscribers in self._by_device.values())

    def is_online(self, device_id: str) -> bool:
        return device_id in self._by_device

    async def online(self, device_ids: Sequence[str]) -> frozenset[str]:
        """Which of these devices are connected here."""
        return frozenset(device_id for device_id in device_ids if device_id in self._by_device)

    def connections_of(self, device_id: str) -> list[Subscriber]:
        """Those of this node."""
        return list(self._by_device.get(device_id, ()))

    def join(self, subscriber: Subscriber) -> Channel:
        """From now on the subscriber hears of changes to its device and its user's events.

        It must verify the device's standing after this, so that no revoke falls between. A device's fifth connection
        ends the one that was silent longest.
        """
        principal = subscriber.principal
        mine = self._by_device.setdefault(_key(principal), [])
        mine.append(subscriber)
        if len(mine) > MAX_CONNECTIONS_PER_DEVICE:
            self.end_one_too_many(min(mine[:-1], key=lambda one: one.last_heard_s))
        channel = self._channels.get(principal.user_id)
        if channel is None:
            channel = Channel(principal.user_id, self._database, self.feed, self._replays)
            self._channels[principal.user_id] = channel
        channel.subscribers.append(subscriber)
        if self.presence is not None and principal.device_id is not None:
            self.presence.joined(subscriber, principal.device_id)
        return channel

    def end_one_too_many(self, subscriber: Subscriber) -> None:
        """The device has more connections than it may."""
        self.leave(subscriber)  # here and now, however long its end takes
        subscriber.end(Close.TOO_MANY_CONNECTIONS, "the device opened more connections")

    async def read_opening(self, unit: Unit[T], *, is_small: bool) -> T:
        """Read where a connection starts. When thousands come at once they wait here, not all in the store's queue."""
        async with self._openings:
            return await self._database.read(unit, is_small=is_small)

    def opened(self, principal: Principal, opening: Opening) -> None:
        """A device that comes back with a position says that it has everything up to there."""
        if principal.device_id is not None and opening.reset is None and opening.after > opening.seen:
            self.seen(principal.device_id, principal.user_id, opening.after)

    def leave(self, subscriber: Subscriber) -> None:
        """Idempotent."""
        if self.presence is not None:
            self.presence.left(subscriber)
        principal = subscriber.principal
        mine = self._by_device.get(_key(principal), [])
        if subscriber in mine:
            mine.remove(subscriber)
            if not mine:
                del self._by_device[_key(principal)]
        channel = self._channels.get(principal.user_id)
        if channel is not None and subscriber in channel.subscribers:
            channel.subscribers.remove(subscriber)
            if not channel.subscribers:
                del self._channels[principal.user_id]

    @property
    def user_ids(self) -> list[str]:
        """Whose events are followed here."""
        return list(self._channels)

    def ring(self, user_id: str, seq: int) -> int:
        """The user's log has been seen to hold events up to `seq`; how many of them no bell had told of."""
        channel = self._channels.get(user_id)
        if channel is None:
            return 0
        untold = channel.untold(seq)
        channel.ring(seq)
        return untold

    async def check_devices(self, device_ids: Iterable[str]) -> None:
        """Re-read the standing of these devices, where they are connected here."""
        await self.check_standing([one for device_id in device_ids for one in self._by_device.get(device_id, ())])

    def subscribers(self) -> list[Subscriber]:
        return [one for mine in self._by_device.values() for one in mine]

    def seen(self, device_id: str, user_id: str, seq: int) -> None:
        """Note that a device has everything up to `seq`; written with the next flush."""
        known = self._seen.get(device_id)
        if known is None or known[1] < seq:
            self._seen[device_id] = (user_id, seq)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(SEEN_FLUSH_S, self._write_seen)

    def acknowledged(self, device_id: str, seq: int) -> None:
        """A device acknowledged by the command `events.ack`, which has noted it already."""
        for subscriber in tuple(self._by_device.get(device_id, ())):
            subscriber.acknowledged(seq)

    def _write_seen(self) -> None:
        self._flush = None
        seen, self._seen = list(self._seen.items()), {}
        now_ms = self._clock.now_ms()

        def note(tx: Transaction, some: list[tuple[str, tuple[str, int]]]) -> None:
            for device_id, (user_id, seq) in some:
                self.feed.acknowledge(tx, device_id, user_id, seq, now_ms)

        async def write() -> None:
            try:
                for start in range(0, len(seen), SEEN_CHUNK):  # the writer is everybody's
                    some = seen[start : start + SEEN_CHUNK]
                    await self._database.write(lambda tx, some=some: note(tx, some), is_small=len(some) <= SMALL)
            except StorageFailed:
                log.warning("what devices have seen was not noted; they will acknowledge again")

        self._spawn(write())

    # -- doorbells

    def _on_user(self, topic: str, payload: bytes) -> None:
        channel = self._channels.get(topic.removeprefix("user."))
        if channel is None:
            return
        if payload.startswith(b"{"):
            channel.show(msgspec.json.decode(payload, type=Live))
        else:
            channel.ring(int(payload) if payload else EVERYTHING)

    def appended(self, user_id: str, event: LoggedEvent) -> None:
        """An event that this node has committed, before its ring. In commit order; loop thread only."""
        channel = self._channels.get(user_id)
        if channel is not None:
            channel.append(event)

    def _on_device_changed(self, topic: str, payload: bytes) -> None:
        del topic
        mine = self._by_device.get(payload.decode("ascii", "replace"))
        if mine:
            self._spawn(self._check_now(tuple(mine)))

    async def _check_now(self, subscribers: tuple[Subscriber, ...]) -> None:
        try:
            await self.check_standing(subscribers)
        except StorageFailed:
            log.warning("a device's standing was not checked; the sweep checks it again")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def check_standing(self, subscribers: Iterable[Subscriber]) -> None:
        """End the connections whose device was suspended, revoked or given a new epoch."""
        waiting = list(subscribers)
        while waiting:
            chunk, waiting = waiting[:STANDING_CHUNK], waiting[STANDING_CHUNK:]
            found = await self._database.read(
                lambda tx, chunk=chunk: [standing_of(self.feed, tx, one.principal) for one in chunk],
                is_small=len(chunk) <= SMALL,
            )
            for subscriber, standing in zip(chunk, found, strict=True):
                if standing is not None:
                    subscriber.end(standing.code, standing.reason)

    async def sweep(self) -> None:
        """What missed doorbells would leave undone: re-check every device, re-read every log."""
        await self.check_standing(self.subscribers())
        for channel in tuple(self._channels.values()):
            channel.ring()

    # -- the end

    async def drain(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Take nobody in any more, ask everybody to come back, and wait a moment for those who wait for an answer.

        Connections end a slice at a time, within DRAIN_S, and each is told a time of its own to come back, so that
        neither this node nor the one that takes over meets them all at once.
        """
        self.is_draining = True
        waiting = self.subscribers()
        slice_ = max(DRAIN_SLICE, -(-len(waiting) // DRAIN_SLICES))
        apart_s = max(LEAST_SPREAD_S / max(1, len(waiting)), 1 / RETURNS_PER_S)
        for number, subscriber in enumerate(waiting, 1):
            subscriber.drain(SOONEST_RETURN_S + number * apart_s)
            if number % slice_ == 0:
                await sleep(DRAIN_S / DRAIN_SLICES)
        for _ in range(ANSWER_LOOKS):
            if not self._by_device:
                return
            await sleep(ANSWERED_WITHIN_S / ANSWER_LOOKS)
        for subscriber in self.subscribers():
            subscriber.end(Close.DRAINING, "the gateway stops", SOONEST_RETURN_S)

    async def stop(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        if self._flush is not None:
            self._flush.cancel()
            self._write_seen()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)


def _key(principal: Principal) -> str:
    return principal.device_id or principal.user_id
