"""Many things against a gateway by MQTT: they tell readings, answer commands, lose their connections, and some mean ill.

They speak the protocol as documented (docs/protocol.md §9), with the gateway's codec.
"""

import asyncio
import json
import random  # noqa: TID251  a seed repeats a run
import ssl
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from entobot.core.clock import Clock
from entobot.mqtt import malice
from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import (
    FAILURE,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    Version,
    Will,
)

ADMIT_S = 0.02
"""Between two that connect for the first time: a gateway lets few strangers in at once."""
ANSWER_S = 15.0
SETTLE_S = 60.0
BATCH = 100
KEEP_ALIVE_S = 60

KINDS: dict[str, Callable[[random.Random, float], tuple[str, float | bool]]] = {
    "thermometer": lambda dice, last: ("temperature", round((last or 20.0) + dice.uniform(-0.2, 0.2), 2)),
    "meter": lambda dice, last: ("power_w", round(abs((last or 400.0) + dice.uniform(-50, 50)), 1)),
    "motion": lambda dice, _: ("motion", dice.random() < 0.1),
    "lock": lambda _, last: ("is_open", bool(last)),
}
"""What each kind of thing tells next, after what it told last. A lock answers `open` and `lock`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway takes boards."""

    host: str
    port: int
    trust: ssl.SSLContext
    max_retained: int = 256
    """The gateway's setting `mqtt.max_retained`."""


@dataclass(frozen=True, slots=True)
class Account:
    device_id: str
    api_key: str
    kind: str


@dataclass(frozen=True, slots=True)
class Plan:
    every_s: float = 5.0
    """Between two readings of one thing."""
    duration_s: float = 30.0
    drops: float = 0.0
    """Connections lost a second, of all together."""
    malice: float = 0.0
    """Share of things that try what they may not."""


@dataclass(slots=True)
class Summary:
    things: int = 0
    malicious: int = 0
    readings: int = 0
    acknowledged: int = 0
    """Readings, single and in batches."""
    batches: int = 0
    commands: int = 0
    dropped: int = 0
    reconnects: int = 0
    acknowledged_ms: dict[str, float] = field(default_factory=dict[str, float])
    refused: dict[str, int] = field(default_factory=dict[str, int])
    """What was tried and refused, by kind of malice."""
    unsettled: list[str] = field(default_factory=list[str])
    """Things with readings that were not acknowledged at the end."""
    violations: list[str] = field(default_factory=list[str])
    """What malice achieved, or what a thing was sent that is none of its."""

    @property
    def is_good(self) -> bool:
        return not self.violations and not self.unsettled and self.acknowledged > 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.is_good}


class Line:
    """One MQTT connection, plain in what it does: packets out, packets in. Raises OSError when it is over."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: Version) -> None:
        self._reader = reader
        self.writer = writer
        self._version = version
        self._framer = Framer(1 << 20)
        self._found: deque[Packet] = deque()

    @classmethod
    async def open(cls, place: Place, version: Version = Version.V3) -> "Line":
        async with asyncio.timeout(ANSWER_S):
            opened = await asyncio.open_connection(place.host, place.port, ssl=place.trust, server_hostname=place.host)
        return cls(*opened, version)

    def send(self, packet: Packet) -> None:
        self.writer.write(encode(packet, self._version))

    async def receive(self) -> Packet:
        while not self._found:
            data = await self._reader.read(4096)
            if not data:
                raise OSError("the gateway ended the connection")
            self._found += [decode(frame, self._version) for frame in self._framer.feed(data)]
        return self._found.popleft()

    async def answer(self) -> Packet:
        async with asyncio.timeout(ANSWER_S):
            return await self.receive()

    def cut(self) -> None:
        self.writer.transport.abort()


class Thing:
    """Tells a reading every so often; what was not acknowledged is told again, as a batch."""

    def __init__(self, account: Account, place: Place, clock: Clock, dice: random.Random, summary: Summary) -> None:
        self.account = account
        self.root = f"devices/{account.device_id}"
        self.is_connected = False
        self._place = place
        self._clock = clock
        self._dice = dice
        self._summary = summary
        self._last: float | bool = 0.0
        self._flying: dict[int, tuple[float, list[dict[str, Any]]]] = {}
        self._kept: list[dict[str, Any]] = []
        self._packet_id = 0
        self._batch = 0
        self._line: Line | None = None
        self.times_s: list[float] = []

    @property
    def waiting(self) -> int:
        """Readings that were not acknowledged."""
        return len(self._kept) + sum(len(readings) for _, readings in self._flying.values())

    def measure(self) -> None:
        name, self._last = KINDS[self.account.kind](self._dice, self._last)
        reading = {"name": name, "value": self._last, "at": self._clock.now_ms()}
        self._summary.readings += 1
        if self._line is None or not self.is_connected:
            self._kept.append(reading)
            return
        said = {key: value for key, value in reading.items() if key != "name"}
        self._publish(f"/telemetry/{name}", said, [reading])

    def lose_connection(self) -> None:
        if self._line is not None:
            self._summary.dropped += 1
            self._line.cut()

    async def live(self) -> None:
        """Until it is cancelled."""
        tries = 0
        while True:
            try:
                self._line = await Line.open(self._place)
                await self._introduce(self._line)
                self._summary.reconnects += tries > 0
                while True:
                    self._take(await self._line.receive(), self._line)
            except (OSError, TimeoutError, ssl.SSLError):
                pass
            finally:
                self._forget()
            tries += 1
            await asyncio.sleep(self._dice.uniform(0.2, 1.0))

    async def leave(self) -> None:
        if self._line is not None and self.is_connected:
            self._publish("/status", {"status": "offline"}, [], retain=True)
            self._line.send(Disconnect())
            self._line.writer.close()

    async def _introduce(self, line: Line) -> None:
        account = self.account
        will = Will(f"{self.root}/status", b'{"status":"offline"}', 1, retain=True)
        line.send(
            Connect(
                Version.V3,
                account.device_id,
                False,
                KEEP_ALIVE_S,
                account.device_id,
                account.api_key.encode(),
                will,
            )
        )
        answer = await line.answer()
        if not isinstance(answer, ConnAck) or answer.reason is not Reason.SUCCESS:
            raise OSError("it was refused")
        self.is_connected = True
        line.send(Subscribe(self._next_id(), (Subscription(f"{self.root}/command", 1),)))
        self._publish("/status", {"status": "online", "firmware": "simulated"}, [], retain=True)
        while self._kept:
            readings, self._kept = self._kept[:BATCH], self._kept[BATCH:]
            self._batch += 1
            self._summary.batches += 1
            batch = f"{self._clock.now_ms()}-{self._batch}"
            self._publish("/telemetry", {"batch": batch, "readings": readings}, readings)

    def _take(self, packet: Packet, line: Line) -> None:
        match packet:
            case PubAck():
                began_s, readings = self._flying.pop(packet.packet_id, (0.0, []))
                self._summary.acknowledged += len(readings)
                if readings:
                    self.times_s.append(asyncio.get_running_loop().time() - began_s)
            case Publish():
                if packet.qos:
                    line.send(PubAck(packet.packet_id))
                self._obey(packet)
            case SubAck():
                if any(reason >= FAILURE for reason in packet.reasons):
                    self._summary.violations.append(f"{self.account.device_id} may not hear its own commands")
            case _:
                pass

    def _obey(self, packet: Publish) -> None:
        try:
            said = json.loads(packet.payload)
            command_id, name = said["command_id"], said["name"]
        except (ValueError, KeyError, TypeError):
            self._summary.violations.append(
                f"{self.account.device_id} was sent {packet.topic}: {packet.payload[:80]!r}"
            )
            return
        self._summary.commands += 1
        result: dict[str, Any] = {"command_id": command_id, "state": "failed", "error": "it is no such thing"}
        if self.account.kind == "lock" and name in ("open", "lock"):
            self._last = name == "open"
            result = {"command_id": command_id, "state": "done", "result": {"is_open": self._last}}
        self._publish("/result", result, [])
        self.measure()

    def _publish(self, topic: str, said: Any, readings: list[dict[str, Any]], *, retain: bool = False) -> None:
        assert self._line is not None
        packet_id = self._next_id()
        self._flying[packet_id] = (asyncio.get_running_loop().time(), readings)
        payload = json.dumps(said).encode()
        self._line.send(Publish(self.root + topic, payload, 1, retain=retain, packet_id=packet_id))

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def _forget(self) -> None:
        self.is_connected = False
        if self._line is not None:
            self._line.cut()
            self._line = None
        for _, readings in self._flying.values():
            self._kept += readings
        self._flying = {}


class Simulation:
    """`run` once. Each account belongs to nobody else."""

    def __init__(self, accounts: list[Account], place: Place, plan: Plan, clock: Clock, dice: random.Random) -> None:
        self.summary = Summary(things=len(accounts))
        self._place = place
        self._plan = plan
        self._dice = dice
        count = round(plan.malice * len(accounts))
        self._rogues = accounts[:count]
        self._untried = set(malice.ATTEMPTS) - malice.SLOW if count else set[str]()
        self._things = [Thing(account, place, clock, dice, self.summary) for account in accounts[count:]]
        self._tasks: set[asyncio.Task[None]] = set()
        self.summary.malicious = count

    @property
    def connected(self) -> int:
        return sum(thing.is_connected for thing in self._things)

    async def run(self, progress: Callable[[float], None]) -> Summary:
        """`progress` is told how much of the time is over, between 0 and 1, several times a second."""
        loop = asyncio.get_running_loop()
        try:
            for thing in self._things:
                self._start(thing.live())
                await asyncio.sleep(ADMIT_S)
            sending = [self._start(self._measure(thing)) for thing in self._things]
            faults = [self._start(self._drops()), *(self._start(self._misbehave(rogue)) for rogue in self._rogues)]
            begun_s = loop.time()
            while (over := (loop.time() - begun_s) / self._plan.duration_s) < 1:
                progress(over)
                await asyncio.sleep(0.2)
            await self._until(lambda: not self._untried)
            for task in (*sending, *faults):
                task.cancel()
            progress(1.0)
            await self._settle()
            return self._closed()
        finally:
            for thing in self._things:
                await thing.leave()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _measure(self, thing: Thing) -> None:
        await asyncio.sleep(self._dice.uniform(0, self._plan.every_s))
        while True:
            thing.measure()
            await asyncio.sleep(self._plan.every_s)

    async def _drops(self) -> None:
        while self._plan.drops and self._things:
            await asyncio.sleep(self._dice.expovariate(self._plan.drops))
            self._dice.choice(self._things).lose_connection()

    async def _misbehave(self, rogue: Account) -> None:
        victims = [thing.root for thing in self._things] or ["devices/dev_0"]
        while True:
            for name, attempt in malice.ATTEMPTS.items():
                try:
                    async with asyncio.timeout(ANSWER_S):
                        got_through = await attempt(self._place, rogue, self._dice.choice(victims))
                except (OSError, TimeoutError):
                    got_through = None
                if got_through is None:
                    self.summary.refused[name] = self.summary.refused.get(name, 0) + 1
                else:
                    self.summary.violations.append(f"{name}: {got_through}")
                self._untried.discard(name)
                await asyncio.sleep(0.2)

    async def _settle(self) -> None:
        await self._until(lambda: not any(thing.waiting for thing in self._things))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """For a minute at most."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + SETTLE_S
        while not is_so() and loop.time() < ends_s:  # noqa: ASYNC110  many, looked at as one
            await asyncio.sleep(0.1)

    def _closed(self) -> Summary:
        times = sorted(seconds for thing in self._things for seconds in thing.times_s)
        shares = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        if times:
            self.summary.acknowledged_ms = {
                name: round(times[min(len(times) - 1, int(share * len(times)))] * 1000, 2) for name, share in shares
            }
        self.summary.unsettled = [thing.account.device_id for thing in self._things if thing.waiting]
        self.summary.violations = [
            f"{text} ({count} x)" if count > 1 else text for text, count in Counter(self.summary.violations).items()
        ]
        return self.summary
