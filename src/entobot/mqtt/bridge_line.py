"""One connection of a bridge, driven: bytes to and from the socket, units to the store."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from entobot.core.clock import Clock
from entobot.gateway.limits import Gcra
from entobot.mqtt.bridge import Bridge, Outcome
from entobot.mqtt.bridge_client import Arrived, Client, Delivered, Ended, Event, Opened, Subscribed, Terms
from entobot.mqtt.bridge_place import Place
from entobot.mqtt.bridge_store import Outgoing, State
from entobot.mqtt.packets import FAILURE, Publish
from entobot.storage.database import Database

ANSWER_S = 15.0
READ_BYTES = 64 * 1024
AT_ONCE = 64
"""Messages of one unit."""
LAST_ID = 65_533
"""Those above it are for subscriptions."""
COUNTED_BYTES = 4 * 1024

MakeTerms = Callable[[bytes | None], Terms]


@dataclass(slots=True)
class Parts:
    """What the connections of one bridge share. `on_state` hears whether it is up, the others how many."""

    bridge: Bridge
    place: Place
    make_terms: MakeTerms
    database: Database
    clock: Clock
    rate: Gcra
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    on_state: Callable[[bool], None] = lambda _: None
    on_taken: Callable[[Outcome], None] = lambda _: None
    on_told: Callable[[int], None] = lambda _: None
    on_dropped: Callable[[int], None] = lambda _: None

    async def note(self, state: State, error: str) -> None:
        now_ms = self.clock.now_ms()
        await self.database.write(lambda tx: self.bridge.note(tx, state, error, now_ms))


class Line:
    """One connection. `known` are the filters that the other broker keeps for us, as far as is known here."""

    def __init__(self, parts: Parts, known: tuple[str, ...]) -> None:
        self._parts = parts
        self._bridge = parts.bridge
        self._database = parts.database
        self._clock = parts.clock
        self.known = known
        self.is_up = False
        self._is_busy = False
        self._opened: Opened | None = None
        self._flying: dict[int, int] = {}
        """Packet identifiers, and the numbers of what is on its way."""
        self._outbox = asyncio.Lock()
        """Reading it and taking from it: what is acknowledged between a look and its use would be sent once more."""

    async def live(self) -> None:
        """Raises what ended it."""
        place = self._parts.place
        context, password = await asyncio.to_thread(lambda: (place.context(), place.password()))
        self._terms = self._parts.make_terms(password)
        async with asyncio.timeout(ANSWER_S):
            opened = await asyncio.open_connection(
                place.host, place.port, ssl=context, server_hostname=place.host if context else None, limit=READ_BYTES
            )
        self._reader, self._writer = opened
        try:
            self._client = Client(self._terms, self._clock.monotonic())
            self._send(self._client.opening())
            async with asyncio.timeout(ANSWER_S):
                while self._opened is None:
                    await self._read_some()
            await _first_of(self._reading(), self._telling(), self._ticking())
        finally:
            self._writer.transport.abort()

    def _send(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            self._client.sent(self._clock.monotonic())

    # -- what comes

    async def _reading(self) -> None:
        while True:
            await self._read_some()

    async def _read_some(self) -> None:
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise Ended(None, "it closed the connection")
        self._is_busy = True
        try:
            await self._take(self._client.received(data, self._clock.monotonic()))
        finally:
            self._is_busy = False
            self._client.listening(self._clock.monotonic())

    async def _take(self, events: Iterable[Event]) -> None:
        arrived: list[Arrived] = []
        delivered: list[Delivered] = []
        for event in events:
            match event:
                case Opened():
                    await self._begin(event)
                case Subscribed(refused):
                    await self._subscribed(refused)
                case Arrived():
                    arrived.append(event)
                case Delivered():
                    delivered.append(event)
        if delivered:
            async with self._outbox:
                await self._settle(delivered)
            self._parts.bell.set()
        await self._admit(arrived)
        await self._writer.drain()

    async def _begin(self, opened: Opened) -> None:
        self._opened = opened
        wanted = self._terms.filters
        if not opened.has_session:
            self.known = ()
        gone = tuple(sorted(set(self.known) - set(wanted)))
        if gone:
            self._send(self._client.unsubscribing(gone))
        if wanted and wanted != self.known:
            self._send(self._client.subscribing())
        else:
            await self._connected("")

    async def _subscribed(self, refused: tuple[str, ...]) -> None:
        filters = tuple(one for one in self._terms.filters if one not in refused)
        self.known = filters
        await self._database.write(lambda tx: self._bridge.subscribed(tx, filters))
        names = ", ".join(refused)
        await self._connected(f"It refuses subscriptions to {names}. Allow them to this user there." if refused else "")

    async def _connected(self, error: str) -> None:
        self.is_up = True
        self._parts.on_state(True)
        await self._parts.note(State.CONNECTED, error)
        self._parts.bell.set()

    async def _admit(self, arrived: list[Arrived]) -> None:
        """What is too much at once waits in the socket; what may be taken does not wait for it."""
        rate, clock = self._parts.rate, self._clock
        admitted: list[Arrived] = []
        for one in arrived:
            cost = 1 + (0 if one.publish is None else len(one.publish.payload) // COUNTED_BYTES)
            while wait_s := rate.try_take("", clock.monotonic(), cost):
                if not await self._bring(admitted):
                    await self._parts.sleep(wait_s)
            admitted.append(one)
            if len(admitted) == AT_ONCE:
                await self._bring(admitted)
        await self._bring(admitted)

    async def _bring(self, arrived: list[Arrived]) -> bool:
        """Acknowledged when it is committed, and gone from the list. False where there was none."""
        if not arrived:
            return False
        came: list[Publish | None] = [one.publish for one in arrived]
        now_ms = self._clock.now_ms()
        outcome = await self._database.write(lambda tx: self._bridge.take(tx, came, now_ms))
        self._parts.on_taken(outcome)
        self._send(self._client.acknowledge([one.packet_id for one in arrived]))
        arrived.clear()
        return True

    # -- what goes

    async def _telling(self) -> None:
        opened = self._opened
        assert opened is not None
        while True:
            self._parts.bell.clear()
            async with self._outbox:
                for one in await self._database.read(lambda tx: self._bridge.waiting(tx, opened.window)):
                    if len(self._flying) < opened.window:
                        await self._tell(one, opened)
            await self._writer.drain()
            await self._parts.bell.wait()

    async def _tell(self, one: Outgoing, opened: Opened) -> None:
        """Under the identifier that it had before, should it have been sent before."""
        packet_id = (one.number - 1) % LAST_ID + 1
        if packet_id in self._flying:
            return
        retain = one.retain and opened.can_retain
        data = self._client.publish(packet_id, one.topic, one.payload, retain=retain, dup=opened.has_session)
        is_over = one.expires_at_ms is not None and one.expires_at_ms <= self._clock.now_ms()
        if is_over or (opened.max_packet_bytes is not None and len(data) > opened.max_packet_bytes):
            await self._give_up([one.number])
            return
        self._flying[packet_id] = one.number
        self._send(data)

    async def _give_up(self, numbers: list[int]) -> None:
        gone = await self._database.write(lambda tx: self._bridge.finish(tx, numbers, is_told=False))
        self._parts.on_dropped(gone)

    async def _settle(self, delivered: list[Delivered]) -> None:
        told: list[int] = []
        refused: list[int] = []
        for one in delivered:
            number = self._flying.get(one.packet_id)
            if number is not None:
                (refused if one.reason >= FAILURE else told).append(number)
        if told:
            self._parts.on_told(await self._database.write(lambda tx: self._bridge.finish(tx, told, is_told=True)))
        if refused:
            await self._give_up(refused)
            await self._parts.note(State.CONNECTED, "It refuses to be told some topics. Allow them to this user there.")
        for one in delivered:
            self._flying.pop(one.packet_id, None)

    # -- time

    async def _ticking(self) -> None:
        while True:
            now_s = self._clock.monotonic()
            self._send(self._client.tick(now_s, listens=not self._is_busy))
            await self._parts.sleep(max(0.5, self._client.next_check_s() - now_s))


async def _first_of(*work: Awaitable[None]) -> None:
    """Until one of them ends; raises what ended it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
