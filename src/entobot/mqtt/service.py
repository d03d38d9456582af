"""Use cases of MQTT: open and close sessions, store what is published, bring it to whoever subscribed.

Methods that take `tx` are units, or parts of units of other features; none of them waits. What connections of this
node must hear is told after the commit, those of other nodes by a bell; whoever misses one reads the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from entobot.bus.bus import Bus
from entobot.mqtt import session_store, store
from entobot.mqtt.effects import Finished
from entobot.mqtt.holding import (
    Bounds,
    CutOff,
    Forbidden,
    Held,
    IsStanding,
    Owner,
    Rules,
    Superseded,
    TooManySessions,
)
from entobot.mqtt.live import LiveSessions
from entobot.mqtt.model import (
    Action,
    Delivery,
    Head,
    Message,
    RetainedMessage,
    Stage,
    StoredSession,
    StoredSubscription,
    Withheld,
    ends_at_ms,
)
from entobot.mqtt.packets import NOTHING, Properties, Publish, Reason, Subscribe, Subscription, Unsubscribe, Will
from entobot.mqtt.routing import Target, targets
from entobot.mqtt.topics import matches, scope_of, split_share
from entobot.storage.database import Transaction, Unit

AT_ONCE = 200
TOO_MANY = "name fewer filters in one packet"
GONE_NODE_GRACE_S = 10
"""A will of somebody whose node went waits so long at least: they come back to another one."""


def _nothing(_tx: Transaction, _message: Message) -> None: ...


@dataclass(frozen=True, slots=True)
class Step:
    """What time asks for, of one session. `otherwise`: where an error of one keeps `unit` from its end, for ever."""

    unit: Unit[None]
    otherwise: Unit[None] | None = None


class Broker:
    """`arrived` is called in the unit that stores a device's message, so that a feature can make something of it in the
    same commit; `subscribed(tx, device_id, filter, now_ms)` in the one that makes a subscription that was not there.
    `is_called_off` is asked of what the gateway itself said and waits, before it is sent. `on_dropped` hears how many
    messages a full queue did not take, `on_withheld` how many a session may not read.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        node: str,
        is_standing: IsStanding,
        bounds: Bounds | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.live = LiveSessions(bus, node)
        self._node = node
        self._is_standing = is_standing
        self._bounds = bounds or Bounds()
        self.rules = rules or Rules()
        self.arrived: Callable[[Transaction, Message], None] = _nothing
        self.subscribed: Callable[[Transaction, str, str, int], None] = lambda _tx, _device, _filter, _now: None
        self.is_called_off: Callable[[Transaction, Message], bool] = lambda _tx, _message: False
        self.on_dropped: Callable[[int], None] = lambda _: None
        self.on_withheld: Callable[[Withheld, int], None] = lambda _why, _count: None

    # -- sessions

    def open(
        self, tx: Transaction, owner: Owner, client_id: str, will: Will | None, now_ms: int, *, is_clean: bool,
        expiry_s: int,
    ) -> Held:  # fmt: skip
        """The session of this client id, taken from whoever held it, or a new one. Raises Forbidden, TooManySessions."""
        if will is not None:
            decision = self.rules.judge(tx, owner.device_id, owner.credential_id, Action.PUBLISH, will.topic)
            if not decision.is_allowed:
                raise Forbidden(decision.rule)
        found = session_store.find_session(tx, owner.device_id, client_id)
        was_elsewhere = None if found is None else found.node
        connections = max(now_ms, 0 if found is None else found.connection)
        if found is not None:
            self._settle_will(tx, found, now_ms, ends=is_clean)
            if is_clean or found.epoch != owner.epoch or _is_over(found, now_ms):
                session_store.delete_session(tx, found.session)
                self._tell_taken(tx, found)
                found = None
        if found is None:
            if len(session_store.sessions_of(tx, owner.device_id)) >= self._bounds.max_sessions:
                raise TooManySessions
            session = session_store.insert_session(
                tx, owner.device_id, client_id, owner.user_id, owner.epoch, connections
            )
        else:
            session = found.session
            self._tell_taken(tx, found)
        connection = session_store.take_session(tx, session, self._node, owner.credential_id, expiry_s, will)
        if found is None:
            return Held(session, connection, owner, is_present=False, sent_seq=0, received=frozenset())
        sent_seq = found.sent_seq
        if was_elsewhere is not None:  # it did not say how far it came
            sent_seq = max(sent_seq, (store.first_seq(tx, session) or 0) + AT_ONCE)
        received = store.received_by(tx, session)
        return Held(session, connection, owner, is_present=True, sent_seq=sent_seq, received=received)

    def close(
        self, tx: Transaction, held: Held, now_ms: int, *, sent_seq: int, expiry_s: int, keeps_will: bool,
        will_after_s: int = 0,
    ) -> None:  # fmt: skip
        """The connection is over. Its will is published now, later, or never; nothing happens where it was superseded."""
        row = session_store.get_session(tx, held.session)
        if row is None or row.connection != held.connection:
            return
        will = row.will if keeps_will and self._is_standing(tx, row.device_id, row.epoch) else None
        delay_s = max(will_after_s, will.properties.will_delay_s or 0) if will is not None else 0
        if not expiry_s:
            session_store.delete_session(tx, row.session)
        if will is not None and (not delay_s or not expiry_s):
            self._publish_will(tx, row, will, now_ms)
            will = None
        if expiry_s:
            session_store.let_go(
                tx,
                row.session,
                row.connection,
                sent_seq=max(sent_seq, row.sent_seq),
                expiry_s=expiry_s,
                ends_at_ms=ends_at_ms(expiry_s, now_ms),
                will=will,
                will_at_ms=None if will is None else now_ms + min(delay_s, expiry_s) * 1000,
            )

    def _tell_taken(self, tx: Transaction, row: StoredSession) -> None:
        """Whoever holds it: another one does now."""
        if row.node is not None:
            tx.after_commit(partial(self.live.end_at, row.node, row.session, row.connection))

    # -- wills

    def _settle_will(self, tx: Transaction, row: StoredSession, now_ms: int, *, ends: bool) -> None:
        """Somebody connects anew: a will that waits is dropped, one of a connection that is cut so is published."""
        will = row.will
        if will is None:
            return
        waits = row.node is None or bool(will.properties.will_delay_s)
        if (not waits or ends) and self._is_standing(tx, row.device_id, row.epoch):
            self._publish_will(tx, row, will, now_ms)

    def _publish_will(self, tx: Transaction, row: StoredSession, will: Will, now_ms: int) -> None:
        """Not that of a key that was revoked meanwhile, or has run out: whoever had it says nothing days later.

        Not retained where the device has as many as it may: each connection could bring another topic.
        """
        owner = Owner(row.device_id, row.user_id, row.epoch)
        if not self.rules.holds(tx, row.credential_id, now_ms):
            return
        if not self.rules.judge(tx, row.device_id, row.credential_id, Action.PUBLISH, will.topic).is_allowed:
            return
        said = _message(will.topic, will.payload, will.qos, will.properties, owner, now_ms, retain=will.retain)
        if will.retain and self._has_retained_enough(tx, said):
            said = msgspec.structs.replace(said, retain=False)
        self._post(tx, said)

    # -- messages

    def publish(self, tx: Transaction, held: Held, packet: Publish, now_ms: int) -> tuple[Reason, str]:
        """Store a message and queue it for its receivers. QoS 2: once, however often it comes.

        A reason, and in words why not. Raises CutOff, Superseded.
        """
        owner = held.owner
        if not self._is_standing(tx, owner.device_id, owner.epoch):
            raise CutOff
        decision = self.rules.judge(tx, owner.device_id, owner.credential_id, Action.PUBLISH, packet.topic)
        if not decision.is_allowed:
            return Reason.NOT_AUTHORIZED, decision.rule
        message = _message(
            packet.topic, packet.payload, packet.qos, packet.properties, owner, now_ms, retain=packet.retain
        )
        if packet.retain and self._has_retained_enough(tx, message):
            return Reason.QUOTA_EXCEEDED, f"a device has at most {self._bounds.max_retained} retained messages"
        if packet.qos == 2 and not store.receive(tx, held.session, held.connection, packet.packet_id):
            self._check_mine(tx, held)
            return Reason.SUCCESS, ""
        self._post(tx, message, held)
        return Reason.SUCCESS, ""

    def release(self, tx: Transaction, held: Held, packet_id: int) -> None:
        """Raises Superseded: whoever is told that it was released uses the number for another message."""
        store.forget_received(tx, held.session, held.connection, packet_id)
        self._check_mine(tx, held)

    def _check_mine(self, tx: Transaction, held: Held) -> None:
        if not session_store.is_mine(tx, held.session, held.connection):
            raise Superseded

    def send(
        self, tx: Transaction, topic: str, payload: bytes, *, user_id: str, now_ms: int, qos: int = 1,
        retain: bool = False, properties: Properties = NOTHING,
    ) -> None:  # fmt: skip
        """Something that the gateway itself says, in the caller's unit. It waits for sessions that are away."""
        self._post(tx, _message(topic, payload, qos, properties, Owner("", user_id, 0), now_ms, retain=retain))

    def bring(
        self, tx: Transaction, device_id: str, user_id: str, what: str, payload: bytes, now_ms: int
    ) -> bool:  # fmt: skip
        """What a board is taken to have said over a bridge. False where it may not act, or not say that here."""
        topic = f"devices/{device_id}/{what}"
        if not self._is_standing(tx, device_id, None):
            return False
        if not self.rules.decide(tx, device_id, Action.PUBLISH, topic).is_allowed:
            return False
        self._post(tx, _message(topic, payload, 1, NOTHING, Owner(device_id, user_id, 0), now_ms, retain=False))
        return True

    def _has_retained_enough(self, tx: Transaction, message: Message) -> bool:
        if not message.payload or store.is_retained(tx, message.topic):
            return False
        return store.count_retained(tx, message.device_id) >= self._bounds.max_retained

    def _post(self, tx: Transaction, message: Message, by: Held | None = None) -> None:
        """Raises Superseded where another connection has the session `by`: what waited at a node that it left."""
        if by is None:
            number = store.insert_message(tx, message)
        else:
            number = store.insert_of(tx, by.session, by.connection, message)
        if number is None:
            raise Superseded
        if message.retain:
            if message.payload:
                store.retain(tx, message.topic, message.scope, message.device_id, number)
            else:
                store.unretain(tx, message.topic)
        if message.device_id:
            self.arrived(tx, message)
        wanted = [one for one in session_store.reaching(tx, message.scope) if matches(one.filter, message.topic)]
        found = [one for one in wanted if self.rules.may_bring(tx, one.device_id, one.credential_id, message.topic)]
        self._withhold(tx, Withheld.ARRIVED, len(wanted) - len(found))
        for one in targets(found, message, 0 if by is None else by.session, number):
            self._queue(tx, one, message, number)

    def _queue(self, tx: Transaction, to: Target, message: Message, number: int) -> None:
        is_here = to.node == self._node
        if not to.qos and (is_here or to.node is None):
            if is_here:
                shown = Delivery(0, message, 0, to.retain, to.identifiers)
                tx.after_commit(lambda: self.live.show(to.session, shown))
            return
        seq = self._enqueue(tx, to.session, to.last_seq, number, to.qos, to.identifiers, retain=to.retain)
        if seq:
            told = Delivery(seq, message, to.qos, to.retain, to.identifiers)
            tx.after_commit(lambda: self.live.tell(to.session, to.node, told))

    def _enqueue(
        self, tx: Transaction, session: int, last_seq: int, number: int, qos: int, identifiers: tuple[int, ...], *,
        retain: bool,
    ) -> int:  # fmt: skip
        """The number in the queue; 0 where it is full."""
        if not self._room(tx, session, last_seq):
            tx.after_commit(lambda: self.on_dropped(1))
            return 0
        seq = session_store.next_seq(tx, session)
        store.enqueue(tx, session, seq, number, qos=qos, retain=retain, identifiers=identifiers)
        return seq

    def _room(self, tx: Transaction, session: int, last_seq: int) -> int:
        """How many more messages the session's queue takes."""
        first = store.first_seq(tx, session)
        return max(0, self._bounds.max_queued - (0 if first is None else last_seq + 1 - first))

    def fetch(self, tx: Transaction, held: Held, after: int, count: int) -> tuple[list[Delivery], int]:
        """What waits after `after`, and the number of the newest. Raises Superseded."""
        newest = session_store.last_seq(tx, held.session)
        if newest is None:
            raise Superseded
        found = store.deliveries(tx, held.session, after, held.sent_seq, count)
        return [self._as_of_now(tx, held, one) for one in found], newest

    def _as_of_now(self, tx: Transaction, held: Held, one: Delivery) -> Delivery:
        """It may have waited for long: the rules have changed since, or nobody wants any more what it asks for."""
        owner, message = held.owner, one.message
        if one.stage is Stage.RELEASED:
            return one
        if not self.rules.may_bring(tx, owner.device_id, owner.credential_id, message.topic):
            return withdrawn(one)
        return ended(one) if not message.device_id and self.is_called_off(tx, message) else one

    def finish(self, tx: Transaction, held: Held, done: Sequence[Finished]) -> None:
        for one in done:
            store.finish(tx, held.session, one.seq)
        self._withhold(tx, Withheld.WAITED, sum(one.is_withheld for one in done))

    def _withhold(self, tx: Transaction, why: Withheld, many: int) -> None:
        if many:
            tx.after_commit(lambda: self.on_withheld(why, many))

    def mark_released(self, tx: Transaction, held: Held, seq: int) -> None:
        store.release(tx, held.session, seq)

    # -- subscriptions

    def subscribe(
        self, tx: Transaction, held: Held, packet: Subscribe, now_ms: int
    ) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
        """A reason each, and in words why not, "" of those that were taken. Raises Superseded."""
        self._check_mine(tx, held)
        if len(packet.subscriptions) > self._bounds.max_subscriptions:
            many = len(packet.subscriptions)
            return (Reason.QUOTA_EXCEEDED,) * many, (TOO_MANY,) * many
        there = session_store.filters_of(tx, held.session)
        identifiers = packet.properties.subscription_ids
        identifier = identifiers[0] if identifiers else None
        found = [self._subscribe_one(tx, held, one, there, identifier, now_ms) for one in packet.subscriptions]
        return tuple(reason for reason, _ in found), tuple(why for _, why in found)

    def _subscribe_one(
        self, tx: Transaction, held: Held, one: Subscription, there: set[tuple[str, str]], identifier: int | None,
        now_ms: int,
    ) -> tuple[Reason, str]:  # fmt: skip
        share, text = split_share(one.filter)
        owner = held.owner
        decision = self.rules.judge(tx, owner.device_id, owner.credential_id, Action.SUBSCRIBE, text)
        if not decision.is_allowed:
            return Reason.NOT_AUTHORIZED, decision.rule
        is_new = (share, text) not in there
        if is_new and len(there) >= self._bounds.max_subscriptions:
            return Reason.QUOTA_EXCEEDED, f"a session has at most {self._bounds.max_subscriptions} subscriptions"
        there.add((share, text))
        row = StoredSubscription(
            session=held.session,
            device_id=owner.device_id,
            credential_id=owner.credential_id,
            node=self._node,
            last_seq=0,
            share=share,
            filter=text,
            qos=one.qos,
            no_local=one.no_local,
            retain_as_published=one.retain_as_published,
            identifier=identifier,
        )
        session_store.subscribe(tx, row, scope_of(text))
        if not share and (one.retain_handling == 0 or (one.retain_handling == 1 and is_new)):
            self._queue_retained(tx, row, now_ms)
        if is_new and not share:
            self.subscribed(tx, owner.device_id, text, now_ms)
        return Reason(one.qos), ""

    def _queue_retained(self, tx: Transaction, row: StoredSubscription, now_ms: int) -> None:
        """Without reading them: they are fetched page by page."""
        identifiers = () if row.identifier is None else (row.identifier,)
        newest = session_store.last_seq(tx, row.session) or 0
        room = self._room(tx, row.session, newest)
        before = newest
        for found in store.retained_for(tx, row.filter):
            if not matches(row.filter, found.topic) or _is_over(found, now_ms):
                continue
            if not self.rules.may_bring(tx, row.device_id, row.credential_id, found.topic):
                self._withhold(tx, Withheld.RETAINED, 1)
                continue
            if newest - before == room:
                tx.after_commit(lambda: self.on_dropped(1))
                break
            newest = session_store.next_seq(tx, row.session)
            qos = min(found.qos, row.qos)
            store.enqueue(tx, row.session, newest, found.message, qos=qos, retain=True, identifiers=identifiers)
        if newest > before:
            tx.after_commit(lambda: self.live.ring(row.session, newest))

    def unsubscribe(self, tx: Transaction, held: Held, packet: Unsubscribe) -> tuple[Reason, ...]:
        """Raises Superseded."""
        self._check_mine(tx, held)
        if len(packet.filters) > self._bounds.max_subscriptions:
            return (Reason.IMPLEMENTATION_SPECIFIC_ERROR,) * len(packet.filters)
        return tuple(
            Reason.SUCCESS
            if session_store.unsubscribe(tx, held.session, *split_share(text))
            else Reason.NO_SUBSCRIPTION_EXISTED
            for text in packet.filters
        )

    # -- what time and others do to sessions

    def steps(self, tx: Transaction, alive: frozenset[str], now_ms: int) -> list[Step]:
        """Wills that are due, sessions that are over, and those whose node is gone; more may be left."""
        wills, over = session_store.due_wills(tx, now_ms, AT_ONCE), session_store.over(tx, now_ms, AT_ONCE)
        dead = [node for node in session_store.nodes(tx) if node not in alive]
        lost = [row for node in dead for row in session_store.at_node(tx, node, AT_ONCE)]
        return [
            *(Step(partial(self._tell_due, row=row, now_ms=now_ms), partial(_drop_will, row=row)) for row in wills),
            *(Step(partial(self._end_over, row=row, now_ms=now_ms)) for row in over),
            *(
                Step(*(partial(self._let_go, row=row, now_ms=now_ms, keeps_will=it) for it in (True, False)))
                for row in lost
            ),
        ]

    def _tell_due(self, tx: Transaction, row: StoredSession, now_ms: int) -> None:
        now = session_store.get_session(tx, row.session)
        if now is None or now.will is None or now.will_at_ms != row.will_at_ms:
            return
        session_store.drop_will(tx, now.session)
        if self._is_standing(tx, now.device_id, now.epoch):
            self._publish_will(tx, now, now.will, now_ms)

    def _end_over(self, tx: Transaction, row: StoredSession, now_ms: int) -> None:
        now = session_store.get_session(tx, row.session)
        if now is not None and _is_over(now, now_ms):
            session_store.delete_session(tx, now.session)

    def _let_go(self, tx: Transaction, row: StoredSession, now_ms: int, *, keeps_will: bool) -> None:
        """As if it had broken off; a session that was to end with its connection ends with the grace."""
        owner = Owner(row.device_id, row.user_id, row.epoch, row.credential_id)
        held = Held(row.session, row.connection, owner, is_present=True, sent_seq=row.last_seq, received=frozenset())
        self.close(
            tx, held, now_ms, sent_seq=row.last_seq, expiry_s=row.expiry_s or GONE_NODE_GRACE_S,
            keeps_will=keeps_will, will_after_s=GONE_NODE_GRACE_S,
        )  # fmt: skip

    def forget(self, tx: Transaction, device_id: str) -> None:
        """A device changed: what its earlier credentials left is dropped, and all of it where it may not act any more."""
        for row in session_store.sessions_of(tx, device_id):
            if not self._is_standing(tx, device_id, row.epoch):
                session_store.delete_session(tx, row.session)
        if not self._is_standing(tx, device_id, None):
            store.unretain_device(tx, device_id)

    def heads(self, tx: Transaction, after: int, count: int) -> list[Head]:
        """The next sessions of this node, for `LiveSessions.catch_up`."""
        return session_store.heads(tx, self._node, after, count)

    def fallen(self, tx: Transaction, after: int) -> tuple[list[str], int]:
        """Devices of the next sessions for whom `forget` has something to do; where to go on, 0 at the end."""
        rows = session_store.sessions_after(tx, after, AT_ONCE)
        found = {row.device_id for row in rows if not self._is_standing(tx, row.device_id, row.epoch)}
        return sorted(found), rows[-1].session if len(rows) == AT_ONCE else 0


def _drop_will(tx: Transaction, row: StoredSession) -> None:
    session_store.drop_will(tx, row.session)


def withdrawn(one: Delivery) -> Delivery:
    return msgspec.structs.replace(one, is_withdrawn=True)


def ended(one: Delivery) -> Delivery:
    """As if it had expired."""
    return msgspec.structs.replace(one, message=msgspec.structs.replace(one.message, expires_at_ms=0))


def _is_over(row: StoredSession | RetainedMessage, now_ms: int) -> bool:
    return row.expires_at_ms is not None and row.expires_at_ms <= now_ms


def _message(
    topic: str, payload: bytes, qos: int, said: Properties, owner: Owner, now_ms: int, *, retain: bool
) -> Message:
    """With what of its properties goes on to receivers."""
    kept = Properties(
        payload_format=said.payload_format,
        content_type=said.content_type,
        response_topic=said.response_topic,
        correlation=said.correlation,
        user=said.user,
    )
    ends = None if said.message_expiry_s is None else now_ms + said.message_expiry_s * 1000
    return Message(topic, payload, qos, retain, owner.device_id, owner.user_id, now_ms, ends, kept)
