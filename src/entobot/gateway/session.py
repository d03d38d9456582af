"""Drive one connection: carry out what its state machine decides, for any transport that offers a Link."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.core.rates import Rate
from entobot.core.secrets import Entropy, random_secret
from entobot.gateway import wire
from entobot.gateway.authentication import ConnectionAuthenticator, Refused
from entobot.gateway.connection import (
    Acknowledge,
    Authenticate,
    Connection,
    Effect,
    End,
    Execute,
    Join,
    Pace,
    Pair,
    Send,
    SendPing,
)
from entobot.gateway.delivery import Delivery
from entobot.gateway.executor import Executor
from entobot.gateway.feed import Feed, Opening, Standing, standing_of
from entobot.gateway.hub import Hub
from entobot.gateway.limits import Seat, WaitingRoom
from entobot.gateway.link import Link, Timer, Timers
from entobot.gateway.live import Live
from entobot.gateway.meters import ConnectionMeters
from entobot.gateway.rates import Rates, rate_limited
from entobot.gateway.wire import Close, Resume
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.log import bind
from entobot.telemetry.meters import Meters
from entobot.web.addresses import address_key

log = logging.getLogger(__name__)

NONCE_BYTES = 16
MAX_REFUSED_FRAMES = 50
"""Frames over the limit, in a row, after which the connection is ended instead of told again."""
EXPIRES_NEVER_S = 10.0 * 365 * 24 * 3600
_BROKEN = "something went wrong here"
_NOT_NOW = {Close.DRAINING: Code.DRAINING, Close.RATE_LIMITED: Code.RATE_LIMITED}
"""Ends that name a time to come back, and the code of the frame that does."""


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What every session of a node shares."""

    database: Database
    clock: Clock
    entropy: Entropy
    hub: Hub
    executor: Executor
    feed: Feed
    authenticator: ConnectionAuthenticator
    timers: Timers
    pace: Pace
    waiting: WaitingRoom
    """Connections that are not authenticated, by address."""
    rates: Rates
    """Connections by address and frames by device, refused before they are parsed."""
    server: str
    spawn: Callable[[Coroutine[None, None, None]], None]
    on_refused: Callable[[Refused, str], None]
    """Told (why, address) when credentials were refused. Called where log lines have the connection's id."""
    next_number: Callable[[], int] = field(default_factory=lambda: count(1).__next__)
    """Ids of connections in log lines, from 1 when the process starts."""
    meters: ConnectionMeters = field(default_factory=lambda: ConnectionMeters(Meters(), "websocket"))


class Feeding(Protocol):
    """What brings a user's events to one link; see `delivery.Delivery`."""

    def news(self) -> None: ...
    def show(self, live: Live, payload: bytes) -> None: ...
    def acknowledged(self, seq: int) -> bool: ...
    def device_has(self, seq: int) -> None: ...
    def reauthenticated(self, principal: Principal) -> None: ...
    def writable(self) -> None: ...
    def stop(self) -> None: ...


class Session:
    """`LinkHandler` and `hub.Subscriber` in one: a link that speaks `entobot.v1`."""

    __slots__ = ("_address", "_connection", "_connection_id", "_delivery", "_has_named_time", "_heard_bytes", "_joined_s", "_link", "_opened_s", "_origin", "_over", "_parts", "_seat", "_timer")  # fmt: skip

    def __init__(self, link: Link, parts: SessionParts, origin: str | None) -> None:
        self._link = link
        self._parts = parts
        self._origin = origin
        self._address = address_key(link.peer)
        self._connection_id = parts.next_number()
        self._connection: Connection | None = None
        self._delivery: Feeding | None = None
        self._timer: Timer | None = None
        self._seat: Seat | None = None
        self._over = 0
        self._heard_bytes = 0
        self._opened_s: float | None = None  # while the handshake lasts
        self._joined_s = 0.0
        self._has_named_time = False

    # -- LinkHandler

    def opened(self) -> None:
        parts = self._parts
        self._opened_s = parts.clock.monotonic()
        parts.meters.opened()
        wait_s = parts.rates.wait_of_address(Rate.CONNECTIONS, self._link.peer)
        if wait_s > 0:
            self._turn_away("too many connections from this address", wait_s)
            return
        self._seat = parts.waiting.enter(self._address, self._crowded_out)
        if self._seat is None:
            self._crowded_out()
            return
        self._connection = self._greet(random_secret(parts.entropy, NONCE_BYTES))
        self._schedule()

    def _crowded_out(self) -> None:
        """No place among those that are not authenticated, or it was given to somebody who came later."""
        self._turn_away("too many connections wait for authentication", self._parts.waiting.come_back_s())

    def _turn_away(self, reason: str, wait_s: float) -> None:
        self._link.send(self._error(rate_limited(f"{reason.capitalize()}. Wait, then come back.", wait_s)))
        self._has_named_time = True
        if self._connection is None:
            self._link.close(Close.RATE_LIMITED, reason)
        else:
            self._carry_out(self._connection.end(Close.RATE_LIMITED, reason))

    def _greet(self, nonce: str) -> Connection:
        parts = self._parts
        hello = wire.hello(
            nonce=nonce,
            server=parts.server,
            now_ms=parts.clock.now_ms(),
            heartbeat_s=int(parts.pace.heartbeat_s),
        )
        self._link.send(hello)
        return Connection(nonce=nonce, now_s=parts.clock.monotonic(), pace=parts.pace)

    def text(self, payload: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        now_s = self._parts.clock.monotonic()
        self._heard_bytes = self._link.received_bytes
        if connection.principal is not None and not connection.is_closed and self._is_over_limit():
            connection.heard(now_s)
            return
        self._carry_out(connection.text(payload, now_s))

    def binary(self) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.binary())

    def too_large(self) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.too_large())

    def pong(self) -> None:
        self._heard_bytes = self._link.received_bytes
        if self._connection is not None:
            self._connection.heard(self._parts.clock.monotonic())

    def over_limit(self, wait_s: float) -> None:
        self._parts.rates.note(Rate.PINGS)
        if self._connection is None:
            self._link.close(Close.RATE_LIMITED, "too many pings")
        else:
            self.end(Close.RATE_LIMITED, "too many pings", wait_s)

    def writable(self) -> None:
        if self._delivery is not None:
            self._delivery.writable()

    def closed(self, code: int) -> None:
        self._parts.meters.closed(code, was_ready=self._opened_s is None)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("connection.closed", extra={**self._ids, "code": code})
        self._release()
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.lost()
        self._leave()

    # -- hub.Subscriber

    @property
    def principal(self) -> Principal:
        assert self._connection is not None
        assert self._connection.principal is not None
        return self._connection.principal

    @property
    def last_heard_s(self) -> float:
        return 0.0 if self._connection is None else self._connection.last_heard_s

    @property
    def transport(self) -> str:
        return "websocket"

    @property
    def address(self) -> str:
        return self._link.peer

    @property
    def joined_s(self) -> float:
        return self._joined_s

    def news(self) -> None:
        if self._delivery is not None:
            self._delivery.news()

    def show(self, live: Live, payload: bytes) -> None:
        if self._delivery is not None:
            self._delivery.show(live, payload)

    def acknowledged(self, seq: int) -> None:
        if self._delivery is not None:
            self._delivery.device_has(seq)

    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None:
        if self._connection is None:
            return
        self._carry_out(self._connection.end(code, reason, retry_after_s))

    def drain(self, retry_after_s: float) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        self._carry_out(connection.drain("the gateway stops", retry_after_s))

    # -- effects

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(payload):
                    self._link.send(payload)
                case Execute():  # the most frequent first: each is looked for in turn
                    self._execute(effect)
                case Acknowledge(seq):
                    self._acknowledge(seq)
                case SendPing():
                    self._link.ping()
                case End(code, reason, retry_after_s):
                    self._name_time(code, reason, retry_after_s)
                    self._leave()
                    self._link.close(code, reason)
                case Authenticate():
                    self._parts.spawn(self._authenticate(effect))
                case Join(principal, auth):
                    self._parts.spawn(self._join(principal, auth.resume))
                case Pair():
                    raise AssertionError("only the simple protocol pairs")

    def _name_time(self, code: Close, reason: str, retry_after_s: float | None) -> None:
        """Who is sent away to come back is told when: a time of its own, so that they do not come all at once."""
        if code in _NOT_NOW and not self._has_named_time:
            wait_s = self._parts.waiting.come_back_s() if retry_after_s is None else retry_after_s
            self._link.send(self._error(Problem(_NOT_NOW[code], reason, retry_after_s=_told(wait_s))))

    async def _authenticate(self, effect: Authenticate) -> None:
        connection, parts = self._connection, self._parts
        assert connection is not None
        bind(connection_id=self._connection_id)
        try:
            found = await parts.authenticator.authenticate_connection(
                effect.frame, nonce=effect.nonce, origin=self._origin, address=self._link.peer
            )
        except Refused as refusal:
            parts.on_refused(refusal, self._link.peer)
            parts.meters.refused(refusal.code)
            self._carry_out(connection.refused(refusal.code, refusal.reason, refusal.retry_after_s))
            return
        except StorageFailed:
            self._carry_out(connection.refused(Close.DRAINING, "the store does not answer"))
            return
        except Exception:
            log.exception("credentials could not be checked")
            self._carry_out(connection.refused(Close.DRAINING, _BROKEN))
            return
        lasts_s = EXPIRES_NEVER_S
        if found.expires_at_ms is not None:
            lasts_s = max(0.0, (found.expires_at_ms - parts.clock.now_ms()) / 1000)
        self._carry_out(connection.authenticated(found.principal, lasts_s, parts.clock.monotonic()))
        if self._delivery is not None:
            self._delivery.reauthenticated(found.principal)
        self._schedule()

    async def _join(self, principal: Principal, resume: Resume | None) -> None:
        """Join first, then verify: a revoke is either seen by the read, or told by the bus to whoever has joined."""
        parts, connection = self._parts, self._connection
        assert connection is not None
        bind(connection_id=self._connection_id)
        self._release()
        if connection.is_closed:
            return
        if parts.hub.is_draining:
            self._carry_out(connection.end(Close.DRAINING, "the gateway stops"))
            return
        delivery = Delivery(
            database=parts.database,
            feed=parts.feed,
            principal=principal,
            outlet=self._link,
            end=lambda code, reason: self._carry_out(connection.end(code, reason)),
            clock=parts.clock,
            timers=parts.timers,
            meters=parts.meters.delivery,
            connection_id=self._connection_id,
        )
        channel = parts.hub.join(self)
        self._delivery = delivery

        def unit(tx: Transaction) -> Opening | Standing:
            return standing_of(parts.feed, tx, principal) or parts.feed.open(tx, principal, resume)

        try:
            opening = await parts.hub.read_opening(unit, is_small=resume is not None)
        except StorageFailed:
            opening = Standing(Close.DRAINING, "the store does not answer")
        except Exception:
            log.exception("a connection could not be opened")
            opening = Standing(Close.DRAINING, _BROKEN)
        if connection.is_closed:
            self._leave()
            return
        if isinstance(opening, Standing):
            self._carry_out(connection.end(opening.code, opening.reason))
            return
        connection.joined()
        self._note_ready()
        self._link.set_max_message_bytes(wire.MAX_FRAME_BYTES)
        self._link.send(
            wire.ready(
                device_id=principal.device_id or "",
                user_id=principal.user_id,
                scopes=principal.scopes,
                stream=opening.stream_id,
                seq=opening.seq,
                expires_in_s=connection.expires_in_s(parts.clock.monotonic()),
            )
        )
        parts.hub.opened(principal, opening)
        delivery.open(opening, channel)
        self._schedule()  # credentials that are nearly over are asked for at once

    def _note_ready(self) -> None:
        if self._opened_s is not None:
            self._joined_s = self._parts.clock.monotonic()
            self._parts.meters.ready(self._joined_s - self._opened_s)
            self._opened_s = None
            if log.isEnabledFor(logging.DEBUG):
                log.debug("connection.ready", extra=self._ids)

    @property
    def _ids(self) -> dict[str, object]:
        """What a log line of this connection bears, outside the tasks that are its own."""
        principal = None if self._connection is None else self._connection.principal
        device_id = None if principal is None else principal.device_id
        found: dict[str, object] = {"connection_id": self._connection_id}
        return found if device_id is None else found | {"device_id": device_id}

    def _execute(self, effect: Execute) -> None:
        frame = effect.frame

        def settle(data: bytes | None, error: BaseException | None) -> None:
            connection = self._connection
            assert connection is not None
            self._carry_out(connection.executed(frame, self._answer(frame.id, data, error)))

        self._parts.executor.submit(effect.principal, frame.id, frame.name, frame.data, settle)

    def _answer(self, command_id: str, data: bytes | None, error: BaseException | None) -> bytes:
        if isinstance(error, Problem):
            answer = wire.error(error, command_id)
        elif error is not None:
            log.error("a command failed", exc_info=error, extra=self._ids)
            answer = wire.error(Problem(Code.INTERNAL, "Something went wrong here. It is logged."), command_id)
        else:
            answer = wire.result(command_id, data or b"null")
        if len(answer) > wire.MAX_FRAME_BYTES:
            answer = wire.error(Problem(Code.TOO_LARGE, "The result does not fit a frame. Ask for less."), command_id)
        return answer

    def _acknowledge(self, seq: int) -> None:
        delivery, connection = self._delivery, self._connection
        assert connection is not None
        if delivery is None or not delivery.acknowledged(seq):
            self._carry_out(connection.end(Close.PROTOCOL_ERROR, "acknowledged what was never sent"))
            return
        principal = self.principal
        if principal.device_id is not None:
            self._parts.hub.seen(principal.device_id, principal.user_id, seq)

    # -- limits and time

    def _is_over_limit(self) -> bool:
        wait_s = self._parts.rates.wait_of_principal(Rate.FRAMES, self.principal)
        if wait_s <= 0:
            self._over = max(0, self._over - 1)  # not to nothing: a flood has one admitted every few
            return False
        self._over += 1
        if self._over > MAX_REFUSED_FRAMES:
            self.end(Close.RATE_LIMITED, "frames go on coming over the limit", wait_s)
        else:
            self._link.send(self._error(rate_limited("Too many frames. Wait, then send it again.", wait_s)))
        return True

    def _error(self, problem: Problem) -> bytes:
        return wire.error(problem)

    def _schedule(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, connection.next_check_s() - self._parts.clock.monotonic())
        self._timer = self._parts.timers.after(delay_s, self._tick)

    def _tick(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        now_s = self._parts.clock.monotonic()
        if self._link.received_bytes != self._heard_bytes:  # a ping, or part of a large frame
            self._heard_bytes = self._link.received_bytes
            connection.heard(now_s)
        fresh_nonce = random_secret(self._parts.entropy, NONCE_BYTES)
        self._carry_out(connection.tick(now_s, fresh_nonce))
        self._schedule()

    def _release(self) -> None:
        if self._seat is not None:
            self._seat.leave()
            self._seat = None

    def _leave(self) -> None:
        if self._delivery is not None:
            self._delivery.stop()
            self._delivery = None
            self._parts.hub.leave(self)


def _told(retry_after_s: float) -> float:
    return round(retry_after_s, 3)


def spawner() -> tuple[Callable[[Coroutine[None, None, None]], None], set[asyncio.Task[None]]]:
    """A way to start tasks that are kept until they end, and the set of those that have not."""
    running: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        running.add(task)
        task.add_done_callback(running.discard)

    return spawn, running
