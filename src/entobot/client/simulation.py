"""Many devices against a gateway: they send, follow, approve, lose their connections, and are held against the contract."""

import asyncio
import math
import random  # noqa: TID251  a seed repeats a run
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from entobot.client.client import Client
from entobot.client.events import ApprovalRequested, Event, MessageCreated
from entobot.client.history import Recorder, Violation, check, report
from entobot.client.identity import Identity, IdentityStore, MemoryIdentity
from entobot.client.link_websocket import WebSocketLink
from entobot.client.returning import Backoff
from entobot.client.states import NoAnswer, State, Stopped
from entobot.core.clock import SystemClock
from entobot.core.errors import Problem
from entobot.core.secrets import Entropy, b64u

SETTLE_S = 60.0
"""How long is waited at the end until everything has arrived."""
HALF_OPEN_S = 5.0
SLOW_S = 0.2
"""Of a slow reader, for each event."""
ADMIT_S = 0.02
"""Between two devices that connect for the first time, at least: a gateway lets few strangers in at once."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Rates are per second for all devices together; shares are between 0 and 1."""

    rate: float = 5.0
    duration_s: float = 30.0
    ramp_s: float = 0.0
    drops: float = 0.0
    """Connections lost, without a close frame; every second one stays half open for a while first."""
    storm_every_s: float = 0.0
    """All devices lose their connections at once; 0 for never."""
    approvals: float = 0.0
    """Messages that make the built-in echo agent ask before it acts."""
    slow: float = 0.0
    """Devices that take their time for each event."""


@dataclass(slots=True)
class Summary:
    devices: int = 0
    sent: int = 0
    acknowledged: int = 0
    answered: int = 0
    decided: int = 0
    dropped: int = 0
    reconnects: int = 0
    events: int = 0
    refusals: dict[str, int] = field(default_factory=dict[str, int])
    closes: dict[str, int] = field(default_factory=dict[str, int])
    acknowledged_ms: dict[str, float] = field(default_factory=dict[str, float])
    answered_ms: dict[str, float] = field(default_factory=dict[str, float])
    unsettled: list[str] = field(default_factory=list[str])
    """Devices that had not caught up at the end."""
    violations: list[str] = field(default_factory=list[str])
    """Of the delivery contract; see `entobot.client.history`."""

    @property
    def is_good(self) -> bool:
        return not self.violations and not self.unsettled and self.acknowledged > 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.is_good}


@dataclass(slots=True)
class Tally:
    """Figures while it runs."""

    sent: int = 0
    acknowledged: int = 0
    answered: int = 0
    decided: int = 0
    dropped: int = 0
    refusals: Counter[str] = field(default_factory=Counter[str])
    acknowledged_s: list[float] = field(default_factory=list[float])
    answered_s: list[float] = field(default_factory=list[float])


class SimulatedDevice:
    def __init__(self, name: str, client: Client, recorder: Recorder, tally: Tally, *, is_slow: bool) -> None:
        self.name = name
        self.client = client
        self.recorder = recorder
        self._tally = tally
        self.is_slow = is_slow
        self._conversation_id: str | None = None
        self._waiting: deque[float] = deque()
        self._count = 0

    async def send(self, *, asks: bool) -> None:
        """One message, until it is acknowledged."""
        tally, loop = self._tally, asyncio.get_running_loop()
        self._count += 1
        text = f"{'!note ' if asks else ''}{self.name} says {self._count}"
        begun_s = loop.time()
        self._waiting.append(begun_s)
        tally.sent += 1
        try:
            sent = await self.client.send_message(text, self._conversation_id)
        except (Problem, NoAnswer) as error:
            tally.refusals[str(getattr(error, "code", "no_answer"))] += 1
            self._waiting.pop()
            return
        self._conversation_id = sent["conversation_id"]
        tally.acknowledged += 1
        tally.acknowledged_s.append(loop.time() - begun_s)

    async def follow(self) -> None:
        async for item in self.client.events():
            match item:
                case Event(body=MessageCreated(data=message)):
                    if message.role == "assistant" and message.conversation_id == self._conversation_id:
                        self._is_answered()
                case Event(body=ApprovalRequested(data=approval)) if approval.conversation_id == self._conversation_id:
                    try:
                        await self.client.decide(approval, "approve")
                        self._tally.decided += 1
                    except Problem as problem:
                        self._tally.refusals[str(problem.code)] += 1
                case _:
                    pass
            if self.is_slow:
                await asyncio.sleep(SLOW_S)

    def _is_answered(self) -> None:
        if self._waiting:
            self._tally.answered += 1
            self._tally.answered_s.append(asyncio.get_running_loop().time() - self._waiting.popleft())

    async def lose_connection(self, *, half_open_first: bool) -> None:
        self._tally.dropped += 1
        link = self.client.connector.link
        if half_open_first and isinstance(link, WebSocketLink):
            link.pause_reading()
            await asyncio.sleep(HALF_OPEN_S)
        self.client.reconnect()


class Simulation:
    """`run` once. `identities` are paired devices; two simulations never share one."""

    def __init__(self, identities: dict[str, Identity], plan: Plan, dice: random.Random) -> None:
        self.tally = Tally()
        self._plan = plan
        self._dice = dice
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False
        slow = round(plan.slow * len(identities))
        self._devices = [
            self._device(name, identity, is_slow=number < slow)
            for number, (name, identity) in enumerate(identities.items())
        ]

    def _device(self, name: str, identity: Identity, *, is_slow: bool) -> SimulatedDevice:
        recorder = Recorder(name)
        store: IdentityStore = MemoryIdentity(identity)
        backoff = Backoff(_Seeded(self._dice), first_s=0.2, most_s=10.0)
        client = Client(identity, store, clock=SystemClock(), backoff=backoff, observer=recorder)
        return SimulatedDevice(name, client, recorder, self.tally, is_slow=is_slow)

    @property
    def connected(self) -> int:
        return sum(device.client.state is State.READY for device in self._devices)

    async def run(self, progress: Callable[[float], None]) -> Summary:
        """`progress` is told how much of the time is over, between 0 and 1, several times a second."""
        try:
            await self._connect()
            sending = [self._start(self._send(device)) for device in self._devices]
            faults = [self._start(work) for work in (self._drops(), self._storms())]
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            while (over := (loop.time() - begun_s) / self._plan.duration_s) < 1:
                progress(over)
                await asyncio.sleep(0.2)
            self._is_over = True
            for fault in faults:
                fault.cancel()
            progress(1.0)
            await asyncio.wait(sending, timeout=SETTLE_S)
            unsettled = await self._settle()
            return self._summary(unsettled)
        finally:
            self._is_over = True
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*(device.client.close() for device in self._devices))

    async def _connect(self) -> None:
        pause_s = max(ADMIT_S, self._plan.ramp_s / max(1, len(self._devices)))
        for device in self._devices:
            await device.client.__aenter__()
            self._start(device.follow())
            await asyncio.sleep(pause_s)
        await asyncio.gather(*(device.client.connected() for device in self._devices))

    async def _send(self, device: SimulatedDevice) -> None:
        every_s = len(self._devices) / self._plan.rate if self._plan.rate else math.inf
        if every_s == math.inf:
            return
        while not self._is_over:
            await asyncio.sleep(self._dice.expovariate(1 / every_s) if every_s else 0)
            if not self._is_over:
                await device.send(asks=self._dice.random() < self._plan.approvals)

    async def _drops(self) -> None:
        while self._plan.drops:
            await asyncio.sleep(self._dice.expovariate(self._plan.drops))
            device = self._dice.choice(self._devices)
            self._start(device.lose_connection(half_open_first=self._dice.random() < 0.5))

    async def _storms(self) -> None:
        while self._plan.storm_every_s:
            await asyncio.sleep(self._plan.storm_every_s)
            for device in self._devices:
                self._start(device.lose_connection(half_open_first=False))

    async def _settle(self) -> list[str]:
        """Names of devices that are not where all of their user's devices are, when time is over."""
        for device in self._devices:
            device.is_slow = False
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + SETTLE_S
        while (late := self._late()) and loop.time() < ends_s:  # noqa: ASYNC110  many clients, looked at as one
            await asyncio.sleep(0.1)
        return late

    def _late(self) -> list[str]:
        last: dict[tuple[str, str], int] = {}
        for device in self._devices:
            position = device.client.connector.position
            if position is not None:
                key = (device.client.identity.user_id, position.stream)
                last[key] = max(last.get(key, 0), position.after)
        return [device.name for device in self._devices if not _has_all(device.client, last)]

    def _summary(self, unsettled: list[str]) -> Summary:
        tally = self.tally
        records = [record for device in self._devices for record in device.recorder.records]
        kinds = Counter(record.kind for record in records)
        closes = Counter(str(record.what["code"]) for record in records if record.kind == "ended")
        resets = frozenset({"expired"})
        violations: list[Violation] = check(records, allowed_resets=resets, is_contiguous=False)
        return Summary(
            devices=len(self._devices),
            sent=tally.sent,
            acknowledged=tally.acknowledged,
            answered=tally.answered,
            decided=tally.decided,
            dropped=tally.dropped,
            reconnects=kinds["ready"] - len(self._devices),
            events=kinds["event"],
            refusals=dict(tally.refusals),
            closes=dict(closes),
            acknowledged_ms=_percentiles(tally.acknowledged_s),
            answered_ms=_percentiles(tally.answered_s),
            unsettled=unsettled,
            violations=[report([one]) for one in violations],
        )

    def _start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_until_stopped(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Seeded:
    """`Entropy` for pauses only, so that a seed repeats a run."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)


async def _until_stopped(work: Any) -> None:
    try:
        await work
    except (Stopped, asyncio.CancelledError):
        return


def _has_all(client: Client, last: dict[tuple[str, str], int]) -> bool:
    position = client.connector.position
    if len(client.connector.outbox) or position is None:
        return False
    return position.after >= last[client.identity.user_id, position.stream]


def _percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds; empty when nothing was measured."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }


def new_seed(entropy: Entropy) -> str:
    return b64u(entropy.bytes(6))
