"""One MQTT connection as a state machine: packets, answers and time in, effects out. Pure. 3.1.1 and 5.

waiting for CONNECT → opening → ready → closed

What was asked of the store is answered in the order in which it came (`_work`), whatever order the answers take. Times
are seconds on a monotonic clock (`now_s`), but for `now_ms` (wall clock).
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from entobot.mqtt import codec
from entobot.mqtt.effects import Effect, End, Join, Open, Part, Release, Send, Store
from entobot.mqtt.layouts import OURS, Names
from entobot.mqtt.model import NEVER_EXPIRES, Delivery
from entobot.mqtt.outgoing import Outgoing
from entobot.mqtt.packets import (
    FAILURE,
    NOTHING,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Reason,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Version,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What this gateway grants every connection."""

    max_packet_bytes: int = 128 * 1024
    receive_maximum: int = 64
    topic_alias_maximum: int = 16
    max_session_expiry_s: int = 7 * 24 * 3600
    max_keep_alive_s: int = 3600
    """Asked of version 5 where it wants longer ones, or none."""
    connect_within_s: float = 5.0
    max_work: int = 64
    """Packets that wait for the store; then nothing more is read."""


class State(Enum):
    WAITING = auto()
    OPENING = auto()
    READY = auto()
    CLOSED = auto()


class _Work:
    """A packet whose answer waits for the store, or for the answers before it."""

    __slots__ = ("answer", "packet_id", "qos")

    def __init__(self, packet_id: int, qos: int) -> None:
        self.packet_id = packet_id
        self.qos = qos
        self.answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What the store knows of the session. `received` are identifiers of QoS 2 that were not released, `names` how this
    connection names topics.
    """

    session_present: bool
    received: frozenset[int] = frozenset()
    names: Names = OURS


class Connection:
    """Every method returns the effects to carry out, in order. After an `End` nothing follows."""

    __slots__ = ("_aliases", "_connect", "_deadline_s", "_expiry_s", "_heard_s", "_keep_alive_s", "_names", "_next", "_out", "_received", "_terms", "_unfinished", "_version", "_work", "_work_by", "state")  # fmt: skip

    def __init__(self, *, terms: Terms, now_s: float) -> None:
        self.state = State.WAITING
        self._terms = terms
        self._version = Version.V5
        self._connect: Connect | None = None
        self._heard_s = now_s
        self._deadline_s = now_s + terms.connect_within_s
        self._keep_alive_s = 0
        self._names = OURS
        self._expiry_s = 0
        self._received: set[int] = set()
        self._unfinished: set[int] = set()
        self._aliases: dict[int, str] = {}
        self._work: deque[_Work] = deque()
        self._work_by: dict[int, _Work] = {}
        self._next = 0
        self._out: Outgoing | None = None

    # what others may know

    @property
    def version(self) -> Version:
        return self._version

    @property
    def is_ready(self) -> bool:
        return self.state is State.READY

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def is_full(self) -> bool:
        """As much waits for the store as may: read no more until it does not."""
        return len(self._work) >= self._terms.max_work

    @property
    def last_heard_s(self) -> float:
        return self._heard_s

    @property
    def sent_seq(self) -> int:
        """Deliveries up to here may have been sent."""
        return 0 if self._out is None else self._out.sent_seq

    # time

    def next_check_s(self) -> float:
        if self.state in (State.WAITING, State.OPENING):
            return self._deadline_s
        return self._heard_s + 1.5 * self._keep_alive_s if self._keep_alive_s else float("inf")

    def tick(self, now_s: float) -> list[Effect]:
        if self.is_closed or now_s < self.next_check_s():
            return []
        if self.state is not State.READY:
            return self._end(Reason.UNSPECIFIED_ERROR, "no CONNECT came in time", says_so=False)
        return self._end(Reason.KEEP_ALIVE_TIMEOUT, "nothing was heard for one and a half keep-alives")

    # packets

    def frame(self, frame: codec.Frame, now_s: float, now_ms: int) -> list[Effect]:
        """One packet as it came."""
        if self.is_closed:
            return []
        self._heard_s = now_s
        try:
            packet = codec.decode(frame, self._version)
            return self._take(packet, now_ms)
        except Malformed as error:
            return self.malformed(error, frame)

    def malformed(self, error: Malformed, frame: codec.Frame | None = None) -> list[Effect]:
        """Bytes that cannot be read, or a packet that may not come."""
        if self.state is State.WAITING:
            answers = error.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION
            if frame is not None and answers and _level_of(frame[1]) < Version.V5:
                self._version = Version.V3
            answer = [Send(codec.encode(ConnAck(error.reason), self._version))] if answers else []
            self.state = State.CLOSED
            return [*answer, End(error.reason, 0, keeps_will=False, text=str(error))]
        return self._end(error.reason, str(error))

    def _take(self, packet: Packet, now_ms: int) -> list[Effect]:  # noqa: C901, PLR0911, PLR0912  one line a packet
        if self.state is State.WAITING:
            if not isinstance(packet, Connect):
                raise Malformed(Reason.PROTOCOL_ERROR, "the first packet is CONNECT")
            return self._open(packet)
        if self.state is State.OPENING:  # the driver holds back what comes before CONNACK
            raise Malformed(Reason.PROTOCOL_ERROR, "a packet before CONNACK")
        match packet:
            case Publish():
                return self._publish(packet)
            case PubRec():
                return self._out_of.received(packet, now_ms)
            case PubRel():
                return self._release(packet)
            case PubComp():
                return self._out_of.completed(packet, now_ms)
            case PubAck():
                return self._out_of.acknowledged(packet, now_ms)
            case PingReq():
                return [Send(codec.encode(PingResp(), self._version))]
            case Subscribe():
                return self._ask(packet.packet_id, Join(self._next, self._names.subscribe(packet)))
            case Unsubscribe():
                return self._ask(packet.packet_id, Part(self._next, self._names.unsubscribe(packet)))
            case Disconnect():
                return self._disconnected(packet)
            case Auth():
                raise Malformed(Reason.PROTOCOL_ERROR, "no authentication by AUTH was agreed")
            case _:
                raise Malformed(Reason.PROTOCOL_ERROR, "this packet does not come from a client")

    @property
    def _out_of(self) -> Outgoing:
        assert self._out is not None
        return self._out

    # CONNECT

    def _open(self, packet: Connect) -> list[Effect]:
        self._version, self._connect = packet.version, packet
        found = packet.properties
        if found.authentication_method is not None:
            return self.refused(Reason.BAD_AUTHENTICATION_METHOD, "only a user name and a password are taken")
        if packet.version is Version.V3 and not packet.client_id and not packet.clean:
            return self.refused(Reason.CLIENT_IDENTIFIER_NOT_VALID)
        asked = 0 if packet.clean else NEVER_EXPIRES
        if packet.version is Version.V5:
            asked = found.session_expiry_s or 0
        self._expiry_s = min(asked, self._terms.max_session_expiry_s)
        self.state = State.OPENING
        return [Open(packet, self._expiry_s)]

    def refused(self, reason: Reason, text: str = "", retry_after_s: float | None = None) -> list[Effect]:
        """In place of CONNACK 0: why not."""
        del retry_after_s
        if self.is_closed:
            return []
        self.state = State.CLOSED
        answer = ConnAck(reason, properties=self._said(text))
        return [Send(codec.encode(answer, self._version)), End(reason, 0, keeps_will=False, text=text)]

    def opened(self, found: Opened, now_s: float) -> list[Effect]:
        """The session is open: CONNACK, then what waits for it."""
        if self.state is not State.OPENING:
            return []
        connect, terms = self._connect, self._terms
        assert connect is not None
        self.state = State.READY
        self._heard_s = now_s
        self._received = set(found.received)
        self._names = found.names
        self._keep_alive_s = connect.keep_alive_s
        asked = connect.properties
        said = NOTHING
        if self._version is Version.V5:
            if not connect.keep_alive_s or connect.keep_alive_s > terms.max_keep_alive_s:
                self._keep_alive_s = terms.max_keep_alive_s
            said = self._granted(connect)
        self._out = Outgoing(
            version=self._version,
            receive_maximum=min(asked.receive_maximum or 0xFFFF, terms.receive_maximum),
            max_packet_bytes=asked.max_packet_bytes,
            topic_alias_maximum=min(asked.topic_alias_maximum or 0, terms.topic_alias_maximum),
            names=found.names,
        )
        answer = ConnAck(Reason.SUCCESS, found.session_present, said)
        return [Send(codec.encode(answer, self._version)), *self._out.start(is_present=found.session_present)]

    def _granted(self, connect: Connect) -> Properties:
        terms, asked = self._terms, connect.properties
        is_other_life = (asked.session_expiry_s or 0) != self._expiry_s
        is_other_pace = connect.keep_alive_s != self._keep_alive_s
        return Properties(
            receive_maximum=terms.receive_maximum,
            max_packet_bytes=terms.max_packet_bytes,
            topic_alias_maximum=terms.topic_alias_maximum,
            session_expiry_s=self._expiry_s if is_other_life else None,
            server_keep_alive_s=self._keep_alive_s if is_other_pace else None,
        )

    # what the client publishes

    def _publish(self, packet: Publish) -> list[Effect]:
        packet = self._names.publish(self._resolved(packet))
        if packet.qos:
            # what this connection sent and has not finished: a quota begins anew with each (MQTT 5 §4.9)
            is_repeat = packet.packet_id in self._unfinished
            is_full = len(self._unfinished) >= self._terms.receive_maximum
            if self._version is Version.V5 and is_full and not is_repeat:
                raise Malformed(Reason.RECEIVE_MAXIMUM_EXCEEDED, "more messages at once than the receive maximum")
            self._unfinished.add(packet.packet_id)
        if packet.qos == 2:
            self._received.add(packet.packet_id)
        return self._ask(packet.packet_id, Store(self._next, packet), qos=packet.qos)

    def _resolved(self, packet: Publish) -> Publish:
        """With its topic, and without what says nothing to a receiver."""
        found = packet.properties
        if found.subscription_ids:
            raise Malformed(Reason.PROTOCOL_ERROR, "a client sends no subscription identifier")
        alias = found.topic_alias
        if alias is None:
            return packet
        if alias > self._terms.topic_alias_maximum:
            raise Malformed(Reason.TOPIC_ALIAS_INVALID, "no such topic alias was granted")
        if packet.topic:
            self._aliases[alias] = packet.topic
        topic = self._aliases.get(alias)
        if topic is None:
            raise Malformed(Reason.PROTOCOL_ERROR, "a topic alias that was never given a topic")
        return Publish(topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.packet_id, found)

    def stored(self, number: int, reason: Reason, text: str = "") -> list[Effect]:
        """A message is committed, or will not be. Version 5 hears why not; 3.1.1 has no word for it."""
        work = self._work_by.pop(number, None)
        if work is None or self.is_closed:
            return []
        if work.qos == 1 or reason >= FAILURE:
            self._unfinished.discard(work.packet_id)
        if work.qos == 2 and reason >= FAILURE:
            self._received.discard(work.packet_id)
        if work.qos == 0:
            work.answer = b""
        else:
            make = PubAck if work.qos == 1 else PubRec
            said = self._said(text) if reason >= FAILURE else NOTHING
            work.answer = codec.encode(make(work.packet_id, reason, said), self._version)
        return self._answered()

    def _release(self, packet: PubRel) -> list[Effect]:
        return self._ask(packet.packet_id, Release(self._next, packet.packet_id))

    # the store's answers

    def _ask(self, packet_id: int, effect: Store | Release | Join | Part, qos: int = 0) -> list[Effect]:
        work = _Work(packet_id, qos)
        self._work.append(work)
        self._work_by[self._next] = work
        self._next += 1
        return [effect]

    def done(
        self, number: int, kind: type[PubComp | SubAck | UnsubAck], reasons: tuple[Reason, ...] = (), text: str = ""
    ) -> list[Effect]:
        """What `Release`, `Join` or `Part` asked for is committed."""
        work = self._work_by.pop(number, None)
        if work is None or self.is_closed:
            return []
        if kind is PubComp:
            was_there = work.packet_id in self._received
            self._received.discard(work.packet_id)
            self._unfinished.discard(work.packet_id)
            reason = Reason.SUCCESS if was_there else Reason.PACKET_IDENTIFIER_NOT_FOUND
            work.answer = codec.encode(PubComp(work.packet_id, reason), self._version)
        else:
            said = self._said(text) if any(one >= FAILURE for one in reasons) else NOTHING
            make = SubAck if kind is SubAck else UnsubAck
            work.answer = codec.encode(make(work.packet_id, reasons, said), self._version)
        return self._answered()

    def _answered(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._work and self._work[0].answer is not None:
            work = self._work.popleft()
            if work.answer:
                effects.append(Send(work.answer))
        return effects

    # what the client is sent

    def show(self, delivery: Delivery, now_ms: int) -> list[Effect]:
        """A message of QoS 0, now or never."""
        return self._out_of.show(delivery, now_ms) if self.is_ready else []

    def told(self, delivery: Delivery, now_ms: int) -> list[Effect]:
        """A message that was committed for this session."""
        return self._out_of.told(delivery, now_ms) if self.is_ready else []

    def news(self, last_seq: int) -> list[Effect]:
        """Somebody says that the session has messages up to `last_seq`."""
        return self._out_of.news(last_seq) if self.is_ready else []

    def fetched(self, found: list[Delivery], last_seq: int, now_ms: int, *, is_all: bool) -> list[Effect]:
        return self._out_of.fetched(found, last_seq, now_ms, is_all=is_all) if self.is_ready else []

    def reread(self) -> list[Effect]:
        """The rules have changed: what was read and is not sent yet is read again."""
        return self._out_of.reread() if self.is_ready else []

    def released(self, seq: int) -> list[Effect]:
        """QoS 2: that the receiver has it is committed."""
        return self._out_of.released(seq) if self.is_ready else []

    def writable(self, now_ms: int) -> list[Effect]:
        """After `Rest`."""
        return self._out_of.writable(now_ms) if self.is_ready else []

    # the end

    def _disconnected(self, packet: Disconnect) -> list[Effect]:
        expiry_s = packet.properties.session_expiry_s
        if expiry_s is not None:
            if expiry_s and not self._expiry_s:
                raise Malformed(Reason.PROTOCOL_ERROR, "a session that was to end cannot be kept at the end")
            self._expiry_s = min(expiry_s, self._terms.max_session_expiry_s)
        self.state = State.CLOSED
        keeps_will = packet.reason is Reason.DISCONNECT_WITH_WILL
        return [End(Reason.SUCCESS, self._expiry_s, keeps_will=keeps_will)]

    def lost(self) -> list[Effect]:
        """The connection broke."""
        if self.is_closed:
            return []
        was_ready, self.state = self.is_ready, State.CLOSED
        return [End(Reason.UNSPECIFIED_ERROR, self._expiry_s, keeps_will=was_ready, text="the connection broke")]

    def end(self, reason: Reason, text: str, *, keeps_will: bool = True) -> list[Effect]:
        """We end it: version 5 is told why."""
        if self.is_closed:
            return []
        if self.state is not State.READY:
            return self.refused(reason, text)
        return self._end(reason, text, keeps_will=keeps_will)

    def _end(self, reason: Reason, text: str, *, keeps_will: bool = True, says_so: bool = True) -> list[Effect]:
        was_ready, self.state = self.is_ready, State.CLOSED
        effects: list[Effect] = []
        if was_ready and says_so and self._version is Version.V5:
            effects.append(Send(codec.encode(Disconnect(reason, self._said(text)), self._version)))
        return [*effects, End(reason, self._expiry_s, keeps_will=keeps_will and was_ready, text=text)]

    def _said(self, text: str) -> Properties:
        connect = self._connect
        if not text or self._version is not Version.V5 or connect is None or connect.properties.request_problem == 0:
            return NOTHING
        limit = connect.properties.max_packet_bytes
        return Properties(reason_string=text[:256]) if limit is None or limit >= 1024 else NOTHING


def _level_of(body: bytes) -> int:
    """The protocol level in the body of a CONNECT, whatever protocol it names; 0 where it is cut."""
    at = 2 + int.from_bytes(body[:2], "big")
    return body[at] if at < len(body) else 0
