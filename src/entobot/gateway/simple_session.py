"""Drive one connection of the simple protocol: the same session, other frames, answers instead of events."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec import Struct

from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.ids import ulid
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.rates import Rate
from entobot.gateway import simple, wire
from entobot.gateway.authentication import Refused
from entobot.gateway.channel import Channel, Frame
from entobot.gateway.connection import Connection, Effect, Execute, Pair
from entobot.gateway.feed import EventsGone, Standing, standing_of
from entobot.gateway.link import Link
from entobot.gateway.live import Live
from entobot.gateway.session import Session, SessionParts
from entobot.gateway.simple import SimpleConnection
from entobot.gateway.wire import Close, Resume
from entobot.storage.database import RETRY_AFTER_S, StorageFailed, Transaction
from entobot.telemetry.log import bind

log = logging.getLogger(__name__)

MAX_BUFFERED_BYTES = 512 * 1024


class Greeting(Struct, frozen=True):
    """What a device of the simple protocol starts with. `conversation_id` None until it has said something."""

    device_name: str
    conversation_id: str | None
    seq: int


class SimpleDesk(Protocol):
    """The one conversation of each such device. Both are units of work; filled by the composition root."""

    def greet(self, tx: Transaction, principal: Principal) -> Greeting: ...

    def open(self, tx: Transaction, principal: Principal, now_ms: int) -> str:
        """The device's own conversation, found or created. Raises `forbidden`, and what the guard raises."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """An invite that a connection holds; the operator types `confirmation_code` within `expires_in_s`."""

    claim_id: str
    confirmation_code: str = field(repr=False)
    expires_in_s: float


class PairingDesk(Protocol):
    """Pairing without a key; filled by the composition root. Each raises Problem."""

    async def claim(self, pair: Pair, address: str) -> Claim: ...

    async def collect(self, claim_id: str) -> str:
        """Waits for the operator; the API key, once."""
        ...

    async def abandon(self, claim_id: str) -> None:
        """Nobody waits for it any more."""
        ...


class SimpleSession(Session):
    """Answers that come while the device is not connected are not sent later: they stay in its conversation."""

    __slots__ = ("_api_key", "_conversation_id", "_desk", "_pairing", "_pairing_desk", "_turn")

    def __init__(
        self, link: Link, parts: SessionParts, origin: str | None, desk: SimpleDesk, pairing: PairingDesk
    ) -> None:
        super().__init__(link, parts, origin)
        self._desk = desk
        self._pairing_desk = pairing
        self._pairing: asyncio.Task[None] | None = None
        self._api_key: str | None = None
        self._conversation_id: str | None = None
        self._turn = asyncio.Lock()  # first come, first served: messages are stored in the order in which they came

    def _greet(self, nonce: str) -> Connection:
        del nonce
        return SimpleConnection(now_s=self._parts.clock.monotonic(), pace=self._parts.pace)

    def _error(self, problem: Problem) -> bytes:
        return simple.problem_error(problem)

    async def _join(self, principal: Principal, resume: Resume | None) -> None:
        """Join first, then verify, as `Session` does."""
        del resume
        parts, connection = self._parts, self._connection
        assert connection is not None
        bind(connection_id=self._connection_id)
        self._release()
        if connection.is_closed:
            return
        if parts.hub.is_draining:
            self._carry_out(connection.end(Close.DRAINING, "the gateway stops"))
            return
        channel = parts.hub.join(self)
        answers = self._delivery = Answers(channel, self._link, principal, connection_end=self.end)

        def unit(tx: Transaction) -> Greeting | Standing:
            return standing_of(parts.feed, tx, principal) or self._desk.greet(tx, principal)

        try:
            greeting = await parts.hub.read_opening(unit, is_small=True)
        except StorageFailed:
            greeting = Standing(Close.DRAINING, "the store does not answer")
        except Exception:
            log.exception("a connection could not be opened")
            greeting = Standing(Close.DRAINING, "something went wrong here")
        if connection.is_closed:
            self._leave()
            return
        if isinstance(greeting, Standing):
            self._carry_out(connection.end(greeting.code, greeting.reason))
            return
        connection.joined()
        self._note_ready()
        self._link.set_max_message_bytes(wire.MAX_FRAME_BYTES)
        self._link.send(simple.auth_success(principal.device_id or "", greeting.device_name, self._api_key))
        self._api_key = None
        self._conversation_id = greeting.conversation_id
        answers.open(greeting.seq, greeting.conversation_id)
        self._schedule()

    # -- pairing

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Pair):
                self._parts.spawn(self._pair(effect))
                self._schedule()
            else:
                super()._carry_out([effect])

    def closed(self, code: int) -> None:
        super().closed(code)
        if self._pairing is not None:
            self._pairing.cancel()

    async def _pair(self, pair: Pair) -> None:
        parts, connection = self._parts, self._connection
        assert isinstance(connection, SimpleConnection)
        bind(connection_id=self._connection_id)
        try:
            parts.rates.check_address(Rate.PAIRING, self._link.peer)
            claim = await self._pairing_desk.claim(pair, self._link.peer)
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told something it can act on
            self._refuse(error)
            return
        self._release()  # it has shown a good secret: no stranger that waits
        self._carry_out(connection.claimed(claim.confirmation_code, claim.expires_in_s, parts.clock.monotonic()))
        self._schedule()
        self._pairing = asyncio.current_task()
        try:
            if not connection.is_closed:
                self._api_key = await self._pairing_desk.collect(claim.claim_id)
                self._carry_out(connection.paired(self._api_key))
                self._schedule()
        except Exception as error:  # noqa: BLE001  as above
            self._refuse(error)
        finally:
            self._pairing = None
            if self._api_key is None:
                parts.spawn(self._pairing_desk.abandon(claim.claim_id))

    def _refuse(self, error: Exception) -> None:
        """Say why, then close: 4004 and 4000 say "come back", 4500 that this invite is of no use any more."""
        assert self._connection is not None
        if isinstance(error, StorageFailed):
            problem = Problem(Code.DRAINING, "The store does not answer. Try again.")
        elif isinstance(error, Problem):
            problem = error
        else:
            log.error("pairing failed", exc_info=error)
            problem = Problem(Code.INTERNAL, "Something went wrong here. It is logged.", retry_after_s=RETRY_AFTER_S)
        close = Close.RATE_LIMITED if problem.code is Code.RATE_LIMITED else Close.BAD_CREDENTIALS
        close = Close.DRAINING if problem.code in (Code.DRAINING, Code.INTERNAL) else close
        if problem.code is Code.INVITE_NOT_FOUND:
            self._parts.on_refused(Refused(close, problem.code), self._link.peer)
        if not self._connection.is_closed:
            self._link.send(self._error(problem))
            self._has_named_time = True
        self._carry_out(self._connection.end(close, f"pairing: {problem.code}"))

    def _execute(self, effect: Execute) -> None:
        self._parts.spawn(self._execute_in_turn(effect))

    async def _execute_in_turn(self, effect: Execute) -> None:
        connection = self._connection
        assert connection is not None
        bind(**self._ids)
        async with self._turn:
            answer = await self._say(effect)
        self._carry_out(connection.executed(effect.frame, answer))

    async def _say(self, effect: Execute) -> bytes:
        """Store a message in the device's own conversation; the frame that says so, or why not."""
        parts, principal = self._parts, effect.principal
        try:
            if self._conversation_id is None:
                now_ms = parts.clock.now_ms()
                self._conversation_id = await parts.database.write(lambda tx: self._desk.open(tx, principal, now_ms))
                if isinstance(self._delivery, Answers):
                    self._delivery.follow(self._conversation_id)
            said: dict[str, str] = msgspec.json.decode(effect.frame.data)
            data = msgspec.json.encode(said | {"conversation_id": self._conversation_id})
            command_id = ulid(parts.clock.now_ms(), parts.entropy.bytes(10))
            stored = await parts.executor.execute(principal, command_id, effect.frame.name, data)
            return simple.ack(msgspec.json.decode(stored, type=_Stored).message_id)
        except Problem as problem:
            return simple.problem_error(problem)
        except StorageFailed as failure:
            log.exception("a message was not committed")
            return simple.problem_error(failure.as_problem())
        except Exception:
            log.exception("a message failed")
            return simple.error("Something went wrong here. It is logged.", Code.INTERNAL)


class _Stored(Struct):
    message_id: str


class _Data(Struct):
    role: str = ""
    content: str = ""


class _Outcome(Struct):
    type: str = ""


class _Event(Struct):
    type: str
    data: _Data | None = None
    code: str = ""
    message: str = ""
    outcome: _Outcome | None = None


class _EventFrame(Struct):
    topic: str
    event: _Event


_event_decoder = msgspec.json.Decoder(_EventFrame)


class Answers:
    """What the agent says in one conversation, from `open` on. A client that does not read is ended."""

    def __init__(
        self, channel: Channel, link: Link, principal: Principal, *, connection_end: Callable[[Close, str], None]
    ) -> None:
        self._channel = channel
        self._link = link
        self._may_chat = Scope.CHAT in principal.scopes
        self._end = connection_end
        self._cursor = -1
        self._topic: str | None = None
        self._reading: asyncio.Task[None] | None = None

    def open(self, seq: int, conversation_id: str | None) -> None:
        self._cursor = seq
        if conversation_id is not None:
            self.follow(conversation_id)
        self._channel.starts_at(seq)
        self.news()

    def follow(self, conversation_id: str) -> None:
        self._topic = topics.conversation(conversation_id)

    def news(self) -> None:
        is_new = 0 <= self._cursor < self._channel.latest
        if is_new and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def show(self, live: Live, payload: bytes) -> None:
        """Texts that are being written are not shown; the whole message follows."""

    def acknowledged(self, seq: int) -> bool:
        del seq
        return True

    def device_has(self, seq: int) -> None: ...

    def reauthenticated(self, principal: Principal) -> None: ...

    def writable(self) -> None: ...

    def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        try:
            while self._cursor < self._channel.latest:
                frames = self._channel.recent_after(self._cursor)
                if frames is None:
                    frames = await self._channel.replay_after(self._cursor)
                if not frames:
                    self._cursor = self._channel.latest
                for frame in frames:
                    self._cursor = frame.seq
                    self._tell(frame)
        except StorageFailed:
            self._end(Close.DRAINING, "the store does not answer")
        except EventsGone:
            self._end(Close.SLOW_CONSUMER, "answers that were not taken in time are kept no longer")
        finally:
            self._reading = None

    def _tell(self, frame: Frame) -> None:
        topic = self._topic
        if topic is None or not self._may_chat or topic.encode("ascii") not in frame.payload:
            return
        told = _event_decoder.decode(frame.payload)
        answer = _answer(told.event) if told.topic == topic else None
        if answer is None:
            return
        if self._link.buffered_bytes > MAX_BUFFERED_BYTES:
            self._end(Close.SLOW_CONSUMER, "answers are not read")
        else:
            self._link.send(answer)


def _answer(event: _Event) -> bytes | None:
    """The frame for an event of the device's conversation, or None when it means nothing in this protocol."""
    if event.type == "message.created" and event.data is not None and event.data.role == "assistant":
        return simple.message(event.data.content)
    if event.type == "RUN_ERROR":
        return simple.error(event.message, event.code)
    if event.type == "RUN_FINISHED" and event.outcome is not None and event.outcome.type == "cancelled":
        return simple.error("The answer was stopped.", "cancelled")
    return None
