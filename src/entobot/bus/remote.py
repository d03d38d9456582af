"""A bus over a server that nodes share: rings here at once, elsewhere soon, and goes on without it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from entobot.bus.bus import HERE, BusHealth, Listener
from entobot.bus.listeners import Listeners
from entobot.bus.outbox import Outbox
from entobot.bus.sealing import OVERHEAD_BYTES, Batch, Numbers, Seal
from entobot.core.secrets import Entropy
from entobot.telemetry.log import get_logger

FIRST_TRY_S = 2.0
"""How long a start waits for the server; it goes on without it."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0
FAREWELL_S = 0.5

log = get_logger("bus")


class TransportFailed(Exception):  # noqa: N818  reads as what happened
    """The server cannot be reached or does not take what is sent. Its text holds no secret."""


class Transport(Protocol):
    """One connection after another to a server that tells every node what any of them sends."""

    @property
    def kind(self) -> str: ...
    @property
    def place(self) -> str:
        """Host and port, for people."""
        ...

    @property
    def max_bytes(self) -> int:
        """Of one batch, sealed."""
        ...

    @property
    def pace_s(self) -> float:
        """The least time between two batches."""
        ...

    async def open(self, heard: Callable[[bytes], None]) -> None:
        """Connect and call `heard` on the loop with what any node sends from then on. Raises TransportFailed."""
        ...

    async def send(self, sealed: bytes) -> None:
        """Raises TransportFailed."""
        ...

    async def lost(self) -> None:
        """Return when the connection is over."""
        ...

    async def close(self) -> None:
        """Idempotent; does not raise."""
        ...


class RemoteBus:
    """See `Bus`. `node_id` must be new with every start of a process."""

    def __init__(self, transport: Transport, node_id: str, seal: Seal, entropy: Entropy) -> None:
        self._transport = transport
        self._entropy = entropy
        self._node_id = node_id
        self._seal = seal
        self._all = Listeners()
        self._others = Listeners()
        self._outbox = Outbox(transport.max_bytes - OVERHEAD_BYTES)
        self._numbers = Numbers()
        self._sent = 0
        self._connects = 0
        self._now_s: Callable[[], float] = _never
        self._away_since_s = 0.0
        self._waiting = asyncio.Event()
        self._connected = asyncio.Event()
        self._problem = "not connected yet"
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    # -- Bus

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._now_s, self._away_since_s = loop.time, loop.time()
        self._task = loop.create_task(self._run(), name="bus")
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TRY_S):
                await self._connected.wait()

    async def stop(self) -> None:
        """What waits is sent if it goes quickly."""
        self._is_stopping = True
        if self._task is not None:
            if self._connected.is_set():
                with suppress(TimeoutError, TransportFailed):
                    async with asyncio.timeout(FAREWELL_S):
                        await self._send_all()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._all.clear()
        self._others.clear()

    def publish(self, topic: str, payload: bytes = b"", *, replaces: bool = False, may_drop: bool = False) -> None:
        self._all.tell_soon(topic, payload)
        if topic.startswith(HERE) or self._is_stopping:
            return
        if may_drop and not self._connected.is_set():
            return
        self._outbox.add(topic, payload, replaces=replaces, may_drop=may_drop, now_s=self._now_s())
        self._waiting.set()

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        return self._all.add(topic, listener)

    def subscribe_others(self, topic: str, listener: Listener) -> Callable[[], None]:
        return self._others.add(topic, listener)

    def health(self) -> BusHealth:
        transport = self._transport
        is_connected = self._connected.is_set()
        now_s, oldest_since_s = self._now_s(), self._outbox.oldest_since_s
        return BusHealth(
            kind=transport.kind,
            is_connected=is_connected,
            detail=f"{transport.kind} at {transport.place}" if is_connected else self._problem,
            waiting=len(self._outbox),
            sent=self._sent,
            dropped=self._outbox.dropped,
            missed=self._numbers.missed,
            oldest_s=0.0 if oldest_since_s is None else now_s - oldest_since_s,
            away_s=0.0 if is_connected else now_s - self._away_since_s,
            reconnects=max(0, self._connects - 1),
        )

    # -- the connection

    async def _run(self) -> None:
        pause_s = MIN_PAUSE_S
        while True:
            try:
                await self._serve()
                pause_s = MIN_PAUSE_S
                reason = "the connection was lost"
            except TransportFailed as failure:
                reason = str(failure)
            finally:
                was_connected = self._connected.is_set()
                if was_connected:
                    self._away_since_s = self._now_s()
                self._connected.clear()
                self._outbox.drop_what_may_be()
                await self._transport.close()
            self._problem = f"{self._transport.kind} at {self._transport.place}: {reason}"
            if was_connected:
                pause_s = MIN_PAUSE_S
            if was_connected or pause_s == MIN_PAUSE_S:
                log.warning("bus.away", why=self._problem, todo="Nodes hear from one another by polling meanwhile.")
            await asyncio.sleep((1 + self._entropy.bytes(1)[0] / 255) / 2 * pause_s)  # nodes do not come back together
            pause_s = min(MAX_PAUSE_S, pause_s * 2)

    async def _serve(self) -> None:
        """One connection, from its beginning to its end. Raises TransportFailed."""
        await self._transport.open(self._heard)
        self._connects += 1
        self._connected.set()
        log.info("bus.connected", kind=self._transport.kind, place=self._transport.place)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send_forever())
            watching = tasks.create_task(self._transport.lost())
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            watching.cancel()

    async def _send_forever(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            try:
                await self._send_all()
            except TransportFailed:
                return

    async def _send_all(self) -> None:
        while batch := self._outbox.take():
            self._sent += 1
            await self._transport.send(self._seal.close(Batch(self._node_id, self._sent, batch)))
            await asyncio.sleep(self._transport.pace_s)

    def _heard(self, sealed: bytes) -> None:
        batch = self._seal.open(sealed)
        if batch is None or batch.node_id == self._node_id or not self._numbers.is_news(batch):
            return
        for topic, payload in batch.messages:
            if not topic.startswith(HERE):
                self._all.tell(topic, payload)
                self._others.tell(topic, payload)


def _never() -> float:
    """The time before there is a loop that tells it: nothing waits yet."""
    return 0.0
