"""A gateway without sockets: a real database, stream, hub and sessions; links, timers and standing in hand."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from entobot.bus.bus_local import LocalBus
from entobot.core.ids import RandomIds
from entobot.core.permissions import ALL_SCOPES, DEFAULT_DEVICE_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.gateway.authentication import Authenticated, Refused
from entobot.gateway.channel import Channel
from entobot.gateway.commands import Command
from entobot.gateway.connection import Pace
from entobot.gateway.delivery import Delivery
from entobot.gateway.executor import Executor
from entobot.gateway.feed import Feed, Opening, Standing
from entobot.gateway.hub import Hub
from entobot.gateway.limits import WaitingRoom
from entobot.gateway.live import Live
from entobot.gateway.rates import Rates
from entobot.gateway.session import Session, SessionParts, spawner
from entobot.gateway.wire import Auth, Close, Resume
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.model import Position, reset_reason
from entobot.stream.service import Stream
from tests.support.stores import is_any_busy, standing_tasks
from tests.support.time import ManualClock, SeededEntropy

USER = "usr_1"
TOPIC = "conversation:cnv_1"


async def quiet() -> None:
    """Wait until no other task and no unit has anything left to do, and no callback is due."""
    calm = 0
    while calm < 5:
        others = asyncio.all_tasks() - {asyncio.current_task()} - standing_tasks()
        if others:
            calm = 0
            await asyncio.wait(others)
        elif is_any_busy():
            calm = 0
            await asyncio.sleep(0.001)
        else:
            calm += 1
            await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until `condition` holds; fails after a generous time."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the state of parts that have no event to wait for
            await asyncio.sleep(0)


class DeafBus(LocalBus):
    """Loses what is published while `is_deaf`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_deaf = False

    def publish(self, topic: str, payload: bytes = b"", *, replaces: bool = False, may_drop: bool = False) -> None:
        if not self.is_deaf:
            super().publish(topic, payload, replaces=replaces, may_drop=may_drop)


@dataclass
class ManualTimer:
    due_s: float
    callback: Callable[[], None] | None

    def cancel(self) -> None:
        self.callback = None


class ManualTimers:
    """`link.Timers` under the test's clock: calls exactly at the asked time."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.pending: list[ManualTimer] = []

    def after(self, delay_s: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(self.clock.monotonic() + delay_s, callback)
        self.pending.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move time, stopping at every timer on the way."""
        end_s = self.clock.monotonic() + seconds
        while due := [timer for timer in self.pending if timer.callback and timer.due_s <= end_s]:
            timer = min(due, key=lambda one: one.due_s)
            self.clock.advance(max(0.0, timer.due_s - self.clock.monotonic()))
            self.pending = [one for one in self.pending if one is not timer and one.callback]
            callback, timer.callback = timer.callback, None
            assert callback is not None
            callback()
        self.clock.advance(max(0.0, end_s - self.clock.monotonic()))


@dataclass
class ManualLink:
    """`link.Link` and `delivery.Outlet`. Unless `is_reading`, the kernel takes nothing.

    With `is_coalescing` it takes everything once a loop tick.
    """

    peer: str = "192.0.2.1"
    subprotocol: str | None = "entobot.v1"
    is_reading: bool = True
    is_coalescing: bool = False
    received_bytes: int = 0
    is_writable: bool = True
    buffered_bytes: int = 0
    max_buffered: int = 0
    max_message_bytes: int = 8192
    pings: int = 0
    closed: tuple[int, str] | None = None
    sent: list[bytes] = field(default_factory=list[bytes])
    waiting: list[bytes] = field(default_factory=list[bytes])

    def send(self, payload: bytes) -> None:
        if self.closed is not None:
            return
        self.waiting.append(payload)
        self.buffered_bytes += len(payload)
        self.max_buffered = max(self.max_buffered, self.buffered_bytes)
        if self.is_coalescing:
            asyncio.get_running_loop().call_soon(self.flush)
        elif self.is_reading:
            self.flush()

    def send_frame(self, frame: bytes) -> None:
        raise NotImplementedError

    def flush(self, max_bytes: int = 1 << 40) -> None:
        while self.waiting and max_bytes > 0:
            payload = self.waiting.pop(0)
            max_bytes -= len(payload)
            self.buffered_bytes -= len(payload)
            self.sent.append(payload)

    def close(self, code: int, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)

    def ping(self) -> None:
        self.pings += 1

    def set_max_message_bytes(self, limit: int) -> None:
        self.max_message_bytes = limit

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.sent]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def seqs(self) -> list[int]:
        """Of the durable events that arrived."""
        return [frame["seq"] for frame in self.of_type("event") if "seq" in frame]

    @property
    def live(self) -> list[dict[str, Any]]:
        return [frame["event"] for frame in self.of_type("event") if "seq" not in frame]

    @property
    def close_code(self) -> int | None:
        return None if self.closed is None else self.closed[0]


class Door:
    """`ConnectionAuthenticator`: knows principals by API key, tokens with an end, and waits when it is told to."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Principal, int | None]] = {}
        self.refusals: dict[str, Exception] = {}
        self.gate: asyncio.Event | None = None
        self.nonces: list[str] = []
        self.just_before_answering: Callable[[], object] = lambda: None

    def admit(self, key: str, principal: Principal, expires_at_ms: int | None = None) -> None:
        self.known[key] = (principal, expires_at_ms)

    async def authenticate_connection(
        self, auth: Auth, *, nonce: str, origin: str | None, address: str
    ) -> Authenticated:
        self.nonces.append(nonce)
        if self.gate is not None:
            await self.gate.wait()
        self.just_before_answering()
        key = auth.api_key or auth.token or ""
        if key in self.refusals:
            raise self.refusals[key]
        if key not in self.known:
            raise Refused(Close.BAD_CREDENTIALS, "unknown")
        return Authenticated(*self.known[key])


class World:
    """One node of a gateway with one user, whose device standings and snapshot are the test's."""

    def __init__(self, database: SqliteDatabase, clock: ManualClock, commands: list[Command] | None = None) -> None:
        self.database = database
        self.clock = clock
        self.entropy = SeededEntropy("world")
        self.bus = DeafBus()
        self.stream = Stream(self.bus, RandomIds(clock, self.entropy))
        self.standings: dict[str, Standing] = {}
        self.standing_fault: Exception | None = None
        self.snapshot: dict[str, list[object] | int] = {"conversations": [], "unread": 0}
        self.feed = Feed(
            open=self._open,
            after=self.stream.after,
            standing=self._standing,
            acknowledge=self.stream.acknowledge,
            writing=self.stream.writing,
        )
        self.hub = Hub(database, self.bus, clock, self.feed)
        self.timers = ManualTimers(clock)
        self.door = Door()
        self.waiting = WaitingRoom(per_key=10, total=200, clock=clock)
        self.refused: list[tuple[str, str]] = []
        spawn, self.running = spawner()
        table = {command.name: command for command in commands or []}
        self.parts = SessionParts(
            database=database,
            clock=clock,
            entropy=self.entropy,
            hub=self.hub,
            executor=Executor(database, clock, table, self._guard),
            feed=self.feed,
            authenticator=self.door,
            timers=self.timers,
            pace=Pace(),
            waiting=self.waiting,
            rates=Rates({}, monotonic=clock.monotonic),
            server="entobot/test",
            spawn=spawn,
            on_refused=lambda refusal, address: self.refused.append((refusal.reason, address)),
        )

    async def start(self) -> "World":
        await self.database.write(lambda tx: self.stream.open(tx, USER))
        return self

    def _guard(self, tx: Transaction, principal: Principal) -> None:
        """Tests of the executor bring their own."""

    def _open(self, tx: Transaction, principal: Principal, resume: Resume | None) -> Opening:
        head = self.stream.head(tx, principal.user_id)
        position = None if resume is None else Position(resume.stream, resume.after)
        reason = reset_reason(position, head)
        seen = self.stream.seen(tx, principal.user_id, principal.device_id or "")
        if reason is None and resume is not None:
            return Opening(head.stream_id, head.seq, resume.after, None, None, seen)
        return Opening(head.stream_id, head.seq, head.seq, reason, self.snapshot, seen)

    def _standing(self, tx: Transaction, principal: Principal) -> Standing | None:
        if self.standing_fault is not None and principal.device_id == "dev_gone":
            raise self.standing_fault
        return self.standings.get(principal.device_id or "")

    # -- what happens

    async def append(
        self,
        count: int = 1,
        *,
        scope: Scope | None = Scope.CHAT,
        size: int = 0,
        expires_at_ms: int | None = None,
        **event: Any,
    ) -> int:
        """Add events in one unit and return the last `seq`."""
        body = {"type": "note", "pad": "x" * size} | event

        def unit(tx: Transaction) -> int:
            seq = 0
            for _ in range(count):
                seq = self.stream.append(
                    tx,
                    USER,
                    body,
                    topic=TOPIC,
                    scope=scope,
                    now_ms=self.clock.now_ms(),
                    expires_at_ms=expires_at_ms,
                )
            return seq

        return await self.database.write(unit)

    def show(self, kind: str, message_id: str = "msg_1", *, scope: Scope | None = Scope.CHAT, **more: Any) -> None:
        event = {"type": kind, "messageId": message_id} | more
        self.stream.show(USER, event, topic=TOPIC, scope=scope, now_ms=self.clock.now_ms())

    def write_text(self, message_id: str, *deltas: str) -> None:
        for delta in deltas:
            self.show("TEXT_MESSAGE_CONTENT", message_id, delta=delta)

    async def stream_id(self) -> str:
        return (await self.database.read(lambda tx: self.stream.head(tx, USER))).stream_id

    # -- who listens

    def session(self, link: ManualLink | None = None) -> tuple[ManualLink, Session]:
        link = link or ManualLink()
        return link, Session(link, self.parts, None)

    async def connect(
        self,
        device_id: str = "dev_1",
        *,
        scopes: frozenset[Scope] = DEFAULT_DEVICE_SCOPES,
        after: int | None = None,
        link: ManualLink | None = None,
        epoch: int = 0,
    ) -> tuple[ManualLink, Session]:
        """A session that has said `auth` and got its answer."""
        link, session = self.session(link)
        self.door.admit(device_id, device(device_id, scopes, epoch))
        session.opened()
        resume = None if after is None else {"stream": await self.stream_id(), "after": after}
        session.text(frame("auth", api_key=device_id, resume=resume))
        await quiet()
        return link, session


def device(
    device_id: str = "dev_1", scopes: frozenset[Scope] = ALL_SCOPES, epoch: int = 0, user_id: str = USER
) -> Principal:
    return Principal(user_id, scopes, device_id=device_id, epoch=epoch, key_thumbprint=f"jkt-{device_id}")


def frame(kind: str, **members: Any) -> bytes:
    return json.dumps({"type": kind} | members).encode()


class Reader:
    """A bare `hub.Subscriber` over a `Delivery`, for tests below the session."""

    transport = "websocket"
    address = ""
    joined_s = 0.0

    def __init__(self, world: World, principal: Principal, link: ManualLink | None = None) -> None:
        self.world = world
        self.principal = principal
        self.link = link or ManualLink()
        self.last_heard_s = 0.0
        self.ended: list[tuple[Close, str, float | None]] = []
        self.delivery = Delivery(
            database=world.database,
            feed=world.feed,
            principal=principal,
            outlet=self.link,
            end=self.end,
            clock=world.clock,
            timers=world.timers,
        )
        self.channel: Channel | None = None

    def news(self) -> None:
        self.delivery.news()

    def show(self, live: Live, payload: bytes) -> None:
        self.delivery.show(live, payload)

    def acknowledged(self, seq: int) -> None:
        self.delivery.device_has(seq)

    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None:
        self.ended.append((code, reason, retry_after_s))
        self.delivery.stop()
        self.world.hub.leave(self)

    def drain(self, retry_after_s: float) -> None:
        self.end(Close.DRAINING, "the gateway stops", retry_after_s)

    async def read_opening(self, after: int | None = None) -> Opening:
        """Join and ask where to start, without starting yet."""
        self.channel = self.world.hub.join(self)
        stream_id = await self.world.stream_id()
        resume = None if after is None else Resume(stream_id, after)
        return await self.world.database.read(lambda tx: self.world.feed.open(tx, self.principal, resume))

    async def open(self, after: int | None = None) -> "Reader":
        opening = await self.read_opening(after)
        assert self.channel is not None
        self.delivery.open(opening, self.channel)
        await quiet()
        return self
