"""What one connection sends its client: numbered messages within its receive maximum, and those of QoS 0. Pure."""

from collections import deque

import msgspec

from entobot.mqtt import codec
from entobot.mqtt.effects import Effect, Fetch, Finished, Received, Rest, Send
from entobot.mqtt.layouts import OURS, Names
from entobot.mqtt.model import Delivery, Stage
from entobot.mqtt.packets import FAILURE, PubAck, PubComp, Publish, PubRec, PubRel, Reason, Version

PAGE = 32
"""Messages that are read at once, and about as many wait in memory; the others wait in the store."""
MAX_BURST_BYTES = 128 * 1024
"""After this the socket is asked whether it takes more."""


class Outgoing:
    """`last_seq` is the number of the session's newest message. Every method returns effects, in order."""

    __slots__ = ("_alias_maximum", "_aliases", "_fetching", "_in_flight", "_is_resting", "_is_stale", "_known", "_last", "_max_bytes", "_names", "_receive_maximum", "_version", "_waiting", "sent_seq")  # fmt: skip

    def __init__(
        self,
        *,
        version: Version,
        receive_maximum: int,
        max_packet_bytes: int | None,
        topic_alias_maximum: int,
        names: Names = OURS,
    ) -> None:
        self._version = version
        self._names = names
        self._receive_maximum = receive_maximum
        self._max_bytes = max_packet_bytes
        self._alias_maximum = topic_alias_maximum
        self._aliases: dict[str, int] = {}
        self._last = 0
        self._known = 0  # what is numbered up to here has been read
        self._waiting: deque[Delivery] = deque()
        self._in_flight: dict[int, Delivery] = {}
        self._fetching = False
        self._is_resting = False
        self._is_stale = False
        self.sent_seq = 0

    def start(self, *, is_present: bool) -> list[Effect]:
        """What the session holds from before, or was given since its row was read."""
        if not is_present:
            return []
        self._fetching = True
        return [Fetch(0)]

    # what the store says

    def told(self, delivery: Delivery, now_ms: int) -> list[Effect]:
        self._last = max(self._last, delivery.seq)
        if self._fetching or delivery.seq != self._known + 1 or len(self._waiting) >= PAGE:
            return self._want()
        self._known = delivery.seq
        self._waiting.append(delivery)
        return self._send(now_ms)

    def news(self, last_seq: int) -> list[Effect]:
        self._last = max(self._last, last_seq)
        return self._want()

    def fetched(self, found: list[Delivery], last_seq: int, now_ms: int, *, is_all: bool) -> list[Effect]:
        """What waits after the place that `Fetch` named, in order. `is_all`: it is everything up to `last_seq`."""
        self._fetching = False
        self._last = max(self._last, last_seq)
        if self._is_stale:
            self._is_stale = False
            return self._want()
        effects: list[Effect] = []
        for one in found:
            if one.stage is Stage.RELEASED:
                self._in_flight[one.packet_id] = one
                effects.append(Send(codec.encode(PubRel(one.packet_id), self._version)))
            else:
                self._waiting.append(one)
        self._known = last_seq if is_all or not found else found[-1].seq
        return [*effects, *self._send(now_ms)]

    def reread(self) -> list[Effect]:
        """What waits here, or is being read, was judged by rules that do not hold any more."""
        if self._waiting:
            self._known = self._waiting[0].seq - 1
            self._waiting.clear()
        self._is_stale = self._fetching
        return self._want()

    def _want(self) -> list[Effect]:
        if self._fetching or self._known >= self._last or len(self._waiting) >= PAGE:
            return []
        self._fetching = True
        return [Fetch(self._known)]

    # sending

    def show(self, delivery: Delivery, now_ms: int) -> list[Effect]:
        """Of QoS 0: nobody knows of it any more when it is sent, or does not fit."""
        data = self._encoded(delivery, now_ms)
        return [] if data is None else [Send(data)]

    def writable(self, now_ms: int) -> list[Effect]:
        self._is_resting = False
        return self._send(now_ms)

    def _send(self, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        burst = 0
        while self._waiting and not self._is_resting and len(self._in_flight) < self._receive_maximum:
            one = self._waiting[0]
            if one.qos and one.packet_id in self._in_flight:  # 65,535 later, and the first is still not acknowledged
                break
            self._waiting.popleft()
            self.sent_seq = max(self.sent_seq, one.seq)
            data = None if one.is_withdrawn or one.message.is_over(now_ms) else self._encoded(one, now_ms)
            if data is None:
                effects.append(Finished(one.seq, one.is_withdrawn))
                continue
            effects.append(Send(data))
            if one.qos:
                self._in_flight[one.packet_id] = one
            else:
                effects.append(Finished(one.seq))
            burst += len(data)
            if burst >= MAX_BURST_BYTES:
                self._is_resting = True
                effects.append(Rest())
        return [*effects, *self._want()]

    def _encoded(self, one: Delivery, now_ms: int) -> bytes | None:
        """None where the client takes no packet of that size: then it counts as delivered (MQTT 5 §3.1.2.11.4)."""
        message, found = one.message, one.message.properties
        topic = self._names.theirs(message.topic)
        if self._version is Version.V5:
            alias, is_new = self._alias_of(topic)
            left_s = None
            if message.expires_at_ms is not None:
                left_s = max(1, -(-(message.expires_at_ms - now_ms) // 1000))
            found = msgspec.structs.replace(
                found, topic_alias=alias, message_expiry_s=left_s, subscription_ids=one.identifiers
            )
            topic = topic if is_new or alias is None else ""
        packet = Publish(
            topic, message.payload, one.qos, one.retain, one.is_repeat and one.qos > 0, one.packet_id if one.qos else 0,
            found,
        )  # fmt: skip
        data = codec.encode(packet, self._version)
        if self._max_bytes is None or len(data) <= self._max_bytes:
            return data
        if found.topic_alias is not None and topic:
            del self._aliases[topic]  # the client never learns of it
        return None

    def _alias_of(self, topic: str) -> tuple[int | None, bool]:
        """The alias, and whether the client has to be told whose it is."""
        known = self._aliases.get(topic)
        if known is not None:
            return known, False
        if len(self._aliases) >= self._alias_maximum:
            return None, False
        self._aliases[topic] = alias = max(self._aliases.values(), default=0) + 1
        return alias, True

    # what the client answers

    def acknowledged(self, packet: PubAck, now_ms: int) -> list[Effect]:
        one = self._in_flight.get(packet.packet_id)
        if one is None or one.qos != 1:
            return []
        return self._finish(one, now_ms)

    def received(self, packet: PubRec, now_ms: int) -> list[Effect]:
        one = self._in_flight.get(packet.packet_id)
        if one is None or one.qos != 2:
            return [Send(codec.encode(PubRel(packet.packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND), self._version))]
        if packet.reason >= FAILURE:
            return self._finish(one, now_ms)
        if one.stage is Stage.RELEASED:
            return [Send(codec.encode(PubRel(one.packet_id), self._version))]
        return [Received(one.seq)]

    def released(self, seq: int) -> list[Effect]:
        for packet_id, one in self._in_flight.items():
            if one.seq == seq and one.stage is Stage.WAITING:
                self._in_flight[packet_id] = msgspec.structs.replace(one, stage=Stage.RELEASED)
                return [Send(codec.encode(PubRel(packet_id), self._version))]
        return []

    def completed(self, packet: PubComp, now_ms: int) -> list[Effect]:
        one = self._in_flight.get(packet.packet_id)
        if one is None or one.qos != 2:
            return []
        return self._finish(one, now_ms)

    def _finish(self, one: Delivery, now_ms: int) -> list[Effect]:
        del self._in_flight[one.packet_id]
        return [Finished(one.seq), *self._send(now_ms)]
