"""Drive one MQTT connection: carry out what its state machine decides, over any transport that offers a Wire."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from entobot.core.principal import Principal
from entobot.core.rates import Rate
from entobot.gateway.authentication import Refused
from entobot.gateway.limits import Seat
from entobot.gateway.link import Timer
from entobot.gateway.wire import Close
from entobot.mqtt.codec import Frame, Framer
from entobot.mqtt.connection import Connection, State
from entobot.mqtt.effects import (
    Effect,
    End,
    Fetch,
    Finished,
    Join,
    Open,
    Part,
    Received,
    Release,
    Rest,
    Send,
    Store,
)
from entobot.mqtt.holding import CutOff, Held, Owner, Superseded
from entobot.mqtt.model import Action, Delivery
from entobot.mqtt.opening import Refusal, authenticate, in_our_names, open_session, opened_as, refusal_of
from entobot.mqtt.outgoing import PAGE
from entobot.mqtt.packets import Malformed, PubComp, Reason, SubAck, UnsubAck, Version
from entobot.mqtt.parts import (
    CLOSES,
    CONNACKS,
    CUT_OFF,
    DRAINED_WILL_S,
    EXPIRES_NEVER_MS,
    LOOK_S,
    MAX_BUFFERED_BYTES,
    MAX_CONNECT_BYTES,
    MAX_EARLY_BYTES,
    MAX_SHOWN_BYTES,
    REASONS,
    HearsNoEvents,
    MqttParts,
    Wire,
)
from entobot.storage.database import Chain, StorageFailed, Transaction
from entobot.telemetry.log import bind
from entobot.web.addresses import address_key

log = logging.getLogger(__name__)

T = TypeVar("T")


class MqttSession(HearsNoEvents):
    """`hub.Subscriber` and `service.LiveSession`; the transport calls `opened`, `received`, `writable`, `closed`."""

    __slots__ = ("_chain", "_close_code", "_connection", "_early", "_expires_at_ms", "_finished", "_framer", "_frames", "_held", "_is_paused", "_joined_s", "_number", "_opened_s", "_parts", "_principal", "_resume", "_seat", "_timer", "_will_after_s", "_wire")  # fmt: skip

    def __init__(self, wire: Wire, parts: MqttParts) -> None:
        self._wire = wire
        self._parts = parts
        self._number = parts.next_number()
        self._chain = Chain()
        self._connection: Connection | None = None
        self._framer = Framer(MAX_CONNECT_BYTES)
        self._frames: deque[Frame] = deque()
        self._early = b""
        self._finished: list[Finished] = []
        self._held: Held | None = None
        self._principal: Principal | None = None
        self._expires_at_ms = EXPIRES_NEVER_MS
        self._seat: Seat | None = None
        self._timer: Timer | None = None
        self._resume: Timer | None = None
        self._is_paused = False
        self._opened_s: float | None = None
        self._joined_s = 0.0
        self._close_code = 1006
        self._will_after_s = 0

    # -- the transport

    def opened(self) -> None:
        parts = self._parts
        self._opened_s = parts.clock.monotonic()
        parts.meters.opened()
        if parts.rates.wait_of_address(Rate.CONNECTIONS, self._wire.peer) > 0:
            self._wire.close()
            return
        self._seat = parts.waiting.enter(address_key(self._wire.peer), self._crowded_out)
        if self._seat is None:
            self._wire.close()
            return
        self._connection = Connection(terms=parts.terms, now_s=self._opened_s)
        self._schedule()

    def _crowded_out(self) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.end(Reason.SERVER_BUSY, "too many wait to be let in"))

    def received(self, data: bytes) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        if connection.state is State.OPENING:
            self._early += data
            if len(self._early) > MAX_EARLY_BYTES:
                self._carry_out(connection.end(Reason.QUOTA_EXCEEDED, "too much before CONNACK"))
            return
        try:
            self._frames += self._framer.feed(data)
        except Malformed as error:
            self._pump()
            self._carry_out(connection.malformed(error))
            return
        self._pump()

    def writable(self) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.writable(self._parts.clock.now_ms()))

    def closed(self) -> None:
        """The connection is gone, whoever ended it. Exactly once, last."""
        if self._connection is not None:
            self._carry_out(self._connection.lost())
        self._leave()
        self._parts.meters.closed(self._close_code, was_ready=self._opened_s is None)
        for timer in (self._timer, self._resume):
            if timer is not None:
                timer.cancel()

    def _pump(self) -> None:
        """Take packets as long as they may be taken; then read no more, so that the client waits."""
        connection, parts = self._connection, self._parts
        assert connection is not None
        while self._frames and not connection.is_closed and connection.state is not State.OPENING:
            if self._resume is not None or connection.is_full:
                self._pause()
                return
            if self._principal is not None:
                wait_s = parts.wait_s(self._principal, self._frames[0])
                if wait_s > 0:
                    self._resume = parts.timers.after(wait_s, self._go_on)
                    self._pause()
                    return
            frame = self._frames.popleft()
            self._carry_out(connection.frame(frame, parts.clock.monotonic(), parts.clock.now_ms()))
        if self._is_paused and connection.state is not State.OPENING:
            self._is_paused = False
            self._wire.pause(is_paused=False)

    def _go_on(self) -> None:
        self._resume = None
        self._pump()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._wire.pause(is_paused=True)

    # -- hub.Subscriber

    @property
    def principal(self) -> Principal:
        assert self._principal is not None
        return self._principal

    @property
    def last_heard_s(self) -> float:
        return 0.0 if self._connection is None else self._connection.last_heard_s

    @property
    def address(self) -> str:
        return self._wire.peer

    @property
    def joined_s(self) -> float:
        return self._joined_s

    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None:
        del retry_after_s
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        self._close_code = code
        if code is Close.DRAINING:
            self._will_after_s = DRAINED_WILL_S
        reasons = REASONS if connection.is_ready else REASONS | CONNACKS
        self._carry_out(connection.end(reasons[code], reason, keeps_will=code not in CUT_OFF))

    def drain(self, retry_after_s: float = 0.0) -> None:
        """Also where the listener stops."""
        self.end(Close.DRAINING, "the gateway stops", retry_after_s)

    # -- service.LiveSession

    @property
    def connection(self) -> int:
        return 0 if self._held is None else self._held.connection

    @property
    def device_id(self) -> str:
        return self.principal.device_id or ""

    def told(self, delivery: Delivery) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.told(delivery, self._parts.clock.now_ms()))

    def show_message(self, delivery: Delivery) -> None:
        if self._connection is not None and self._wire.buffered_bytes < MAX_SHOWN_BYTES:
            self._carry_out(self._connection.show(delivery, self._parts.clock.now_ms()))

    def has_news(self, last_seq: int) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.news(last_seq))

    def taken_over(self) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.end(Reason.SESSION_TAKEN_OVER, "connected again", keeps_will=False))

    def rules_changed(self) -> None:
        if self._connection is not None:
            self._carry_out(self._connection.reread())

    # -- effects

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(data):
                    self._send(data)
                case Store() | Release() | Join() | Part():
                    self._work(effect)
                case Finished():
                    self._finish(effect)
                case Received(seq):
                    self._ask(
                        lambda tx, held, seq=seq: self._parts.broker.mark_released(tx, held, seq),
                        lambda connection, _, seq=seq: connection.released(seq),
                    )
                case Fetch(after):
                    self._parts.spawn(self._fetch(after))
                case Rest():
                    self._rest()
                case Open():
                    self._pause()
                    self._parts.spawn(self._open(effect))
                case End():
                    self._ended(effect)

    def _send(self, data: bytes) -> None:
        self._wire.send(data)
        if self._wire.buffered_bytes > MAX_BUFFERED_BYTES + self._parts.terms.max_packet_bytes:
            log.info("connection cut: the client does not read", extra=self._ids)
            self._wire.abort()

    def _rest(self) -> None:
        if self._wire.is_writable:
            asyncio.get_running_loop().call_soon(self.writable)

    def _ended(self, effect: End) -> None:
        if self._close_code == 1006:
            self._close_code = int(CLOSES.get(effect.reason, Close.PROTOCOL_ERROR if effect.text else 1006))
        if effect.text == "the connection broke":
            self._close_code = 1006
        if log.isEnabledFor(logging.DEBUG):
            log.debug("connection.ended", extra={**self._ids, "reason": effect.reason.name.lower(), "why": effect.text})
        held, parts = self._held, self._parts
        if held is not None:
            now_ms = parts.clock.now_ms()
            close = partial(
                parts.broker.close,
                held=held,
                now_ms=now_ms,
                sent_seq=0 if self._connection is None else self._connection.sent_seq,
                expiry_s=effect.expiry_s,
                will_after_s=self._will_after_s,
            )
            self._flush_finished()
            without = partial(close, keeps_will=False)
            parts.submit_close(partial(close, keeps_will=effect.keeps_will), held.owner.device_id, without)
        self._leave()
        self._wire.close()

    # -- CONNECT

    async def _open(self, effect: Open) -> None:
        connection, parts = self._connection, self._parts
        assert connection is not None
        bind(connection_id=self._number)
        try:
            refusal = await self._try_to_open(effect)
        except Refused as refused:
            parts.on_refused(refused, self._wire.peer)
            parts.meters.refused(refused.code)
            self._close_code = refused.code
            refusal = CONNACKS.get(refused.code, Reason.BAD_USER_NAME_OR_PASSWORD), refused.reason
        except StorageFailed:
            refusal = Reason.SERVER_UNAVAILABLE, "the store does not answer"
        except Exception:
            log.exception("a connection could not be opened")
            refusal = Reason.UNSPECIFIED_ERROR, "something went wrong here"
        if refusal is not None:
            self._leave()
            self._carry_out(connection.refused(*refusal))

    async def _try_to_open(self, effect: Open) -> Refusal | None:
        """Why not, or None. Join first, then verify: a revoke is seen by the read, or told to whoever has joined."""
        connect, parts, connection = effect.connect, self._parts, self._connection
        assert connection is not None
        found = await authenticate(parts, connect, self._wire)
        device_id, effect = found.principal.device_id or "", in_our_names(parts, effect, found.principal)
        refusal = refusal_of(parts, effect.connect, device_id)
        if refusal is not None:
            return refusal
        self._release()
        if connection.is_closed:
            return None
        if parts.hub.is_draining:
            return Reason.SERVER_UNAVAILABLE, "the gateway stops"
        self._principal = found.principal
        if found.expires_at_ms is not None:
            self._expires_at_ms = found.expires_at_ms
        self._joined_s = parts.clock.monotonic()
        parts.hub.join(self)
        principal = found.principal
        owner = Owner(device_id, principal.user_id, principal.epoch, principal.credential_id)
        return await self._open_session(effect, owner, principal)

    async def _open_session(self, effect: Open, owner: Owner, principal: Principal) -> Refusal | None:
        parts, connection, connect = self._parts, self._connection, effect.connect
        assert connection is not None
        held = await open_session(parts, effect, owner, principal)
        if isinstance(held, tuple):
            return held
        self._held = held
        if connection.is_closed:  # meanwhile; what it holds is let go as if it had been open
            self._ended(End(Reason.UNSPECIFIED_ERROR, effect.expiry_s, keeps_will=False))
            return None
        parts.broker.live.attach(held, self)
        self._note_ready()
        self._framer.max_bytes = parts.terms.max_packet_bytes
        self._wire.let_in()
        found, early, self._early = opened_as(parts, connect, principal, held), self._early, b""
        self._carry_out(connection.opened(found, parts.clock.monotonic()))
        self.received(early)
        self._schedule()
        return None

    def _note_ready(self) -> None:
        if self._opened_s is not None:
            self._parts.meters.ready(self._parts.clock.monotonic() - self._opened_s)
            self._opened_s = None

    @property
    def _ids(self) -> dict[str, object]:
        device_id = None if self._principal is None else self._principal.device_id
        return {"connection_id": self._number, "device_id": device_id or ""}

    # -- the store

    def _failed(self, error: BaseException) -> None:
        connection = self._connection
        assert connection is not None
        if isinstance(error, Superseded):
            self.taken_over()
        elif isinstance(error, CutOff):
            self._carry_out(connection.end(Reason.NOT_AUTHORIZED, "this device may not go on", keeps_will=False))
        elif isinstance(error, StorageFailed):
            self._carry_out(connection.end(Reason.SERVER_BUSY, "the store does not answer"))
        else:
            log.error("a connection failed", exc_info=error, extra=self._ids)
            self._carry_out(connection.end(Reason.UNSPECIFIED_ERROR, "something went wrong here"))

    def _work(self, effect: Store | Release | Join | Part) -> None:
        match effect:
            case Store():
                self._store(effect)
            case Release(number, packet_id):
                self._ask(
                    lambda tx, held: self._parts.broker.release(tx, held, packet_id),
                    lambda connection, _: connection.done(number, PubComp),
                )
            case Join():
                self._join(effect)
            case Part(number, packet):
                self._ask(
                    lambda tx, held: self._parts.broker.unsubscribe(tx, held, packet),
                    lambda connection, reasons: connection.done(number, UnsubAck, reasons),
                )

    def _ask(self, unit: Callable[[Transaction, Held], T], answer: Callable[[Connection, T], list[Effect]]) -> None:
        """A small unit of this session, in its order, and what the state machine makes of its result.

        What the store does not take ends the connection: the client repeats what was not acknowledged.
        """
        held, connection = self._held, self._connection
        assert held is not None
        assert connection is not None

        def settle(result: T | None, error: BaseException | None) -> None:
            if error is not None:
                self._failed(error)
            else:
                self._carry_out(answer(connection, cast("T", result)))
                if self._is_paused:
                    self._pump()

        self._parts.database.submit_write(lambda tx: unit(tx, held), settle, held.owner.device_id, self._chain)

    def _store(self, effect: Store) -> None:
        number, packet, now_ms = effect.number, effect.publish, self._parts.clock.now_ms()

        def answer(connection: Connection, found: tuple[Reason, str]) -> list[Effect]:
            reason, why = found
            if reason is Reason.NOT_AUTHORIZED:
                self._parts.on_denied(self.principal.device_id or "", Action.PUBLISH, packet.topic, why)
            # 3.1.1 has no word for "no": what is not stored is acknowledged, counted and logged
            return connection.stored(number, reason if connection.version is Version.V5 else Reason.SUCCESS, why)

        self._ask(lambda tx, held: self._parts.broker.publish(tx, held, packet, now_ms), answer)

    def _join(self, effect: Join) -> None:
        number, packet, now_ms = effect.number, effect.subscribe, self._parts.clock.now_ms()

        def answer(connection: Connection, found: tuple[tuple[Reason, ...], tuple[str, ...]]) -> list[Effect]:
            reasons, whys = found
            for one, reason, why in zip(packet.subscriptions, reasons, whys, strict=True):
                if reason is Reason.NOT_AUTHORIZED:
                    self._parts.on_denied(self.principal.device_id or "", Action.SUBSCRIBE, one.filter, why)
            return connection.done(number, SubAck, reasons, next(filter(None, reversed(whys)), ""))

        self._ask(lambda tx, held: self._parts.broker.subscribe(tx, held, packet, now_ms), answer)

    def _finish(self, one: Finished) -> None:
        """Those of one turn of the loop are written together."""
        if not self._finished:
            asyncio.get_running_loop().call_soon(self._flush_finished)
        self._finished.append(one)

    def _flush_finished(self) -> None:
        done, self._finished = self._finished, []
        if done:
            self._ask(lambda tx, held: self._parts.broker.finish(tx, held, done), lambda _connection, _result: [])

    async def _fetch(self, after: int) -> None:
        held, connection, parts = self._held, self._connection, self._parts
        assert held is not None
        assert connection is not None
        try:
            found, newest = await parts.hub.read_opening(
                lambda tx: parts.broker.fetch(tx, held, after, PAGE), is_small=False
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the connection ends and says so
            self._failed(error)
            return
        now_ms = parts.clock.now_ms()
        self._carry_out(connection.fetched(found, newest, now_ms, is_all=len(found) < PAGE))

    # -- time and the end

    def _schedule(self) -> None:
        connection, parts = self._connection, self._parts
        if connection is None or connection.is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        now_s = parts.clock.monotonic()
        delay_s = min(connection.next_check_s() - now_s, (self._expires_at_ms - parts.clock.now_ms()) / 1000, LOOK_S)
        self._timer = parts.timers.after(max(0.0, delay_s), self._tick)

    def _tick(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        if self._parts.clock.now_ms() >= self._expires_at_ms:
            self.end(Close.TOKEN_EXPIRED, "its key or certificate has run out")
        self._carry_out(connection.tick(self._parts.clock.monotonic()))
        self._schedule()

    def _release(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()

    def _leave(self) -> None:
        self._release()
        held = self._held
        if held is not None:
            self._parts.broker.live.detach(held, self)
        if self._principal is not None:
            self._parts.hub.leave(self)
