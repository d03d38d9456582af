"""One MQTT connection: what came is told to `heard` and `taken`, silence ends it. It polls and never waits."""

from . import packets

MAX_PACKET = 8192
"""Of what the gateway says: a command has 4 KiB of arguments at most."""
ANSWER_MS = 15000
"""So long may the gateway take for an acknowledgement or an answer to a ping."""


class Refused(Exception):  # noqa: N818  it says what happened
    """The gateway does not want these credentials. `code` is that of CONNACK."""

    def __init__(self, code: int) -> None:
        super().__init__("the gateway refuses this board, code " + str(code))
        self.code = code


class Mqtt:
    """`heard(topic, payload)` before the message is acknowledged; `taken(packet_id)` when one of ours was.

    All methods raise OSError when the connection is of no use any more, `packets.Malformed` and Refused included in
    what `step` raises.
    """

    def __init__(self, link, clock, heard, taken) -> None:
        self._link = link
        self._clock = clock
        self._heard = heard
        self._taken = taken
        self._framer = packets.Framer(MAX_PACKET)
        self._waiting = {}  # packet identifier: until when
        self._last_id = 0
        self._keep_alive_ms = 0
        self._pinged_ms = None
        self._said_ms = self._opened_ms = clock.ms()
        self.is_ready = False

    def open(self, device_id: str, key: str, keep_alive_s: int, will_topic: str, will: bytes) -> None:
        self._keep_alive_ms = keep_alive_s * 1000
        self._write(packets.connect(device_id, key, keep_alive_s, will_topic, will))

    def subscribe(self, filters: "list[str]") -> None:
        self._write(packets.subscribe(self._next_id(), filters))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """The packet identifier that `taken` will be told."""
        packet_id = self._next_id()
        self._waiting[packet_id] = self._clock.ms() + ANSWER_MS
        self._write(packets.publish(topic, len(payload), packet_id, retain=retain))
        self._write(payload)
        return packet_id

    def step(self) -> None:
        """Take what has come, ping when it is time, notice silence."""
        data = self._link.read()
        if data:
            for first, body in self._framer.feed(data):
                self._take(first, body)
        now = self._clock.ms()
        if not self.is_ready:
            if now - self._opened_ms > ANSWER_MS:
                raise OSError("no answer to CONNECT")
            return
        if self._pinged_ms is None:
            if now - self._said_ms >= self._keep_alive_ms // 2:
                self._write(packets.PING)
                self._pinged_ms = now
        elif now - self._pinged_ms > ANSWER_MS:
            raise OSError("no answer to a ping")
        for until in self._waiting.values():
            if now > until:
                raise OSError("a message was not acknowledged")

    def close(self) -> None:
        """Cleanly: the will is not published."""
        try:
            self._link.write(packets.DISCONNECT)
        except OSError:
            pass
        self._link.close()

    def drop(self) -> None:
        self._link.close()

    def _take(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if not self.is_ready:
            self._take_answer(kind, body)
        elif kind == packets.PUBACK and len(body) == 2:
            packet_id = int.from_bytes(body, "big")
            if self._waiting.pop(packet_id, None) is not None:
                self._taken(packet_id)
        elif kind == packets.PUBLISH:
            topic, payload, packet_id = packets.read_publish(first, body)
            self._heard(topic, payload)
            if packet_id:
                self._write(packets.puback(packet_id))
        elif kind == packets.SUBACK and len(body) > 2:
            if max(body[2:]) > 2:
                raise OSError("the gateway refuses a subscription")
        elif kind == packets.PINGRESP:
            self._pinged_ms = None
        else:
            raise packets.Malformed("a packet that a board is not sent")

    def _take_answer(self, kind: int, body: bytes) -> None:
        if kind != packets.CONNACK or len(body) != 2:
            raise packets.Malformed("something else than CONNACK came first")
        if body[1]:
            raise Refused(body[1])
        self.is_ready = True

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 65535 + 1
            if self._last_id not in self._waiting:
                return self._last_id

    def _write(self, data: bytes) -> None:
        self._link.write(data)
        self._said_ms = self._clock.ms()
