"""This node among those of its database: what it shares with them, and what it looks for when no bell rings."""

import asyncio
import hashlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from entobot import __version__
from entobot.agents.worker import Worker
from entobot.app.ground import Ground
from entobot.devices.service import Devices
from entobot.devices.shared_ring import SharedRing
from entobot.gateway.hub import MAX_CONNECTIONS_PER_DEVICE, Hub
from entobot.gateway.rates import Rates
from entobot.home import Home, Purpose
from entobot.nodes.identity import Identity, agree
from entobot.nodes.marks import Mark, read_marks
from entobot.nodes.membership import BEAT_EVERY, DEAD_AFTER, Membership, alive
from entobot.nodes.presence import Presence
from entobot.settings.service import StoredSettings
from entobot.signin.attempts import Attempts
from entobot.storage.database import StorageFailed, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.metrics import Metric

log = logging.getLogger("entobot.nodes")

LOOK_S = 0.25
"""Between two looks at the marks: a revoke is seen by then on every node, bell or no bell."""
HEADS_S = 0.5
HEADS_S_PER_USER = 0.0001
MAX_HEADS_S = 2.0
"""Between two looks at the streams of everybody who is connected here; many are looked at less often."""
TEXTS_S = 5.0
DEVICES_PAGE = 500


@dataclass(frozen=True, slots=True)
class Parts:
    """What hears of changes that other nodes made."""

    hub: Hub
    stream: Stream
    devices: Devices
    settings: StoredSettings
    worker: Worker
    rates: Rates
    attempts: Attempts


@dataclass(frozen=True, slots=True)
class _Seen:
    marks: dict[str, int]
    changed: list[tuple[int, str]]
    too_many: list[int]
    heads: list[tuple[str, int]]


class Cluster:
    """Built for a database that nodes share; a node that is alone needs none of it."""

    def __init__(self, ground: Ground, parts: Parts) -> None:
        self._ground = ground
        self._parts = parts
        self._place = _place(ground.home)
        self._marks: dict[str, int] = {}
        self._devices_seen = 0
        self._has_joined = False
        self._behind = ground.meters.gauge(Metric.BUS_BEHIND)
        self._made_good = ground.meters.counter(Metric.BUS_MADE_GOOD)
        self._next_heads_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.membership = Membership(
            database=ground.database,
            clock=ground.clock,
            node_id=ground.node_id,
            place=self._place,
            version=__version__,
        )
        self.presence = Presence(
            database=ground.database,
            bus=ground.bus,
            node_id=ground.node_id,
            most=MAX_CONNECTIONS_PER_DEVICE,
            end=parts.hub.end_one_too_many,
        )
        self.membership.on_removed = self.presence.write_anew
        parts.hub.presence = self.presence
        parts.devices.directory.find_online = self.presence.online
        ring_key = ground.keys.key(Purpose.SIGNING_KEYS)
        self._ring = SharedRing(ground.database, ground.signing, ring_key, ground.entropy)
        parts.devices.shared_ring = self._ring

    # -- life

    async def join(self) -> None:
        """Before anybody is served: make sure that this node is like the others. Raises StartupRefused."""
        ground = self._ground
        identity = Identity(
            server_key=ground.keys.key(Purpose.IDENTITY).hex()[:32],
            audit_key=ground.head_signer.fingerprint,
            origin=ground.origin,
            name=ground.name,
        )
        refusal = await ground.database.write(lambda tx: agree(tx, identity, self._place))
        if refusal is not None:
            await self._bury()
            refusal = await ground.database.write(lambda tx: agree(tx, identity, self._place))
        if refusal is not None:
            await ground.database.write(self.membership.leave)
            raise refusal
        await self._ring.join()
        await self.membership.start()
        self._has_joined = True
        self._marks = await ground.database.read(read_marks)
        self._devices_seen = self._marks.get(Mark.DEVICES, 0)
        self._share_limits()

    async def _bury(self) -> None:
        """Wait long enough to see which of the others are dead. Only where a start would be refused for their sake."""
        await self.membership.start()
        for _ in range(DEAD_AFTER // BEAT_EVERY + 2):
            await asyncio.sleep(BEAT_EVERY.total_seconds())
            await self.membership.beat()

    def start(self) -> None:
        self.presence.start()
        loop = asyncio.get_running_loop()
        for every_s, work in (
            (LOOK_S, self.look),
            (BEAT_EVERY.total_seconds(), self._beat),
            (TEXTS_S, self._forget_texts),
        ):
            self._tasks.append(loop.create_task(_again_and_again(every_s, work)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.presence.stop()
        if self._has_joined:
            await self.membership.stop()

    # -- looking

    async def _beat(self) -> None:
        dead = await self.membership.beat()
        self._share_limits()
        if dead:
            await self._parts.worker.sweep()

    def _share_limits(self) -> None:
        """Each node gives its part of every limit that is counted in memory."""
        self._parts.rates.scale(self.membership.count)
        self._parts.devices.scale(self.membership.count)
        self._parts.attempts.scale(self.membership.count)

    async def _forget_texts(self) -> None:
        self._parts.stream.forget_silent_texts()

    async def look(self) -> None:
        """Make up for every bell that may have been lost since the last look."""
        now_s = self._ground.clock.monotonic()
        users: list[str] = []
        if now_s >= self._next_heads_s:
            users = self._parts.hub.user_ids
            self._next_heads_s = now_s + min(MAX_HEADS_S, max(HEADS_S, HEADS_S_PER_USER * len(users)))
        seen = await self._ground.database.read(lambda tx: self._read(tx, users))
        untold = sum(self._parts.hub.ring(user_id, seq) for user_id, seq in seen.heads)
        if users:
            self._behind.set(untold)
            self._made_good.add(untold)
        self.presence.end_marked(seen.too_many)
        if seen.changed:
            await self._parts.hub.check_devices({device_id for _, device_id in seen.changed})
            self._devices_seen = seen.changed[-1][0]
        await self._follow(Mark.SETTINGS, seen.marks, self._parts.settings.renew)
        await self._follow(Mark.KEYS, seen.marks, self._ring.renew)

    def _read(self, tx: Transaction, users: list[str]) -> _Seen:
        marks = read_marks(tx)
        changed: list[tuple[int, str]] = []
        if marks.get(Mark.DEVICES, 0) > self._devices_seen:
            changed = self._parts.devices.changed_after(tx, self._devices_seen, DEVICES_PAGE)
        return _Seen(marks, changed, self.presence.marked(tx), self._parts.stream.heads(tx, users))

    async def _follow(self, mark: Mark, marks: dict[str, int], work: Callable[[], Awaitable[None]]) -> None:
        value = marks.get(mark, 0)
        if value != self._marks.get(mark, 0):
            await work()
            self._marks[mark] = value


def who_lives(ground: Ground) -> Callable[[Transaction], frozenset[str]]:
    """The nodes that may hold a run: all that live, or this one alone where the database is its own."""
    return alive if ground.is_shared else lambda _: frozenset({ground.node_id})


def _place(home: Home) -> str:
    """The same for every start from this folder on this machine, another for a copy of the folder."""
    lock = os.stat(home.lock_file)  # noqa: PTH116  the file is there: this process holds it
    text = f"{socket.gethostname()}\n{home.path}\n{lock.st_dev}\n{lock.st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


async def _again_and_again(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await work()
        except StorageFailed as failure:
            log.warning("this node does not hear of the others: %s", failure)
        except Exception:
            log.exception("looking for what other nodes did failed; it is tried again")
