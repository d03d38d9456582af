"""A bad network in injected time, and a broker behind it that holds a board against the protocol (docs/protocol.md §9).

The broker reads with the gateway's own codec. It answers in the moment it is asked; what the network does to that is
the `Weather`.
"""

import json
import random
import re
from collections.abc import Callable
from typing import Any

from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    Version,
)

EPOCH_MS = 1_795_300_000_000
DEVICE, KEY, PIN = "dev_1", "ent_key_1", "pin"
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Time:
    """Milliseconds of the world. A board's ticks begin anew, and wrap."""

    WRAP = 1 << 30

    def __init__(self) -> None:
        self.ms = 0

    def ticks(self) -> int:
        return (self.ms + self.WRAP - 5_000_000) % self.WRAP

    def difference(self, later: int, earlier: int) -> int:
        return (later - earlier) % self.WRAP

    def sleep(self, ms: int) -> None:
        self.ms += ms

    @property
    def day_ms(self) -> int:
        return EPOCH_MS + self.ms


class Broker:
    """One account. `readings` are what counts: by name and millisecond, a batch once."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.readings: dict[tuple[str, int], Any] = {}
        self.batches: set[str] = set()
        self.repeated_batches = 0
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.commands: dict[str, dict[str, Any]] = {}
        """Not acknowledged yet."""
        self.refuses = False

    def command(self, command_id: str, name: str, expires_at: str, **args: Any) -> None:
        self.commands[command_id] = {"command_id": command_id, "name": name, "args": args, "expires_at": expires_at}

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        kind, _, name = topic.removeprefix(f"devices/{DEVICE}/").partition("/")
        said = json.loads(payload)
        assert topic.startswith(f"devices/{DEVICE}/")
        assert len(payload) <= (16 if (kind, name) != ("telemetry", "") else 64) * 1024
        assert retain == (kind == "status")
        match kind:
            case "telemetry" if name:
                self._reading({"name": name, **said})
            case "telemetry":
                assert set(said) == {"batch", "readings"}
                assert re.fullmatch(r"[!-~]{1,64}", said["batch"])
                assert 1 <= len(said["readings"]) <= 500
                if said["batch"] in self.batches:
                    self.repeated_batches += 1
                    return
                self.batches.add(said["batch"])
                for one in said["readings"]:
                    self._reading(one)
            case "status":
                self.statuses.append(said)
            case "event":
                self.events.append(said)
            case "result":
                self.results.setdefault(said["command_id"], []).append(said)
            case _:
                raise AssertionError(topic)

    def _reading(self, said: dict[str, Any]) -> None:
        assert NAME.fullmatch(said["name"])
        assert not ("at" in said and "age_ms" in said)
        at = said.get("at", self.time.day_ms - said.get("age_ms", 0))
        assert at <= self.time.day_ms
        self.readings[said["name"], at] = said["value"]


class Weather:
    """What the network does next, from a seed. `chances` are of a second."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.is_up = True
        self.silence_ms: tuple[int, ...] = (1, 5, 10_000)
        """How long a try to connect takes until it is known to be vain."""
        self.breaks = 0.0
        """A connection ends at once."""
        self.freezes = 0.0
        """It stays open, and nothing comes through any more, in one direction or both."""


class Connection:
    """The board's `Link`: what it writes the broker has, unless the weather took it; answers wait until they are read."""

    def __init__(self, broker: Broker, weather: Weather) -> None:
        self._broker = broker
        self._weather = weather
        self._framer = Framer(128 * 1024)
        self._answers = b""
        self._packet_id = 0
        self._sent: dict[int, str] = {}
        self.is_subscribed = False
        self.is_open = True
        self.loses_sent = False
        self.loses_answers = False

    def write(self, data: bytes) -> None:
        if not self.is_open:
            raise OSError("broken")
        if self.loses_sent:
            return
        for frame in self._framer.feed(bytes(data)):
            self._take(decode(frame, Version.V3))

    def read(self) -> bytes | None:
        if not self.is_open:
            raise OSError("broken")
        self._deliver()
        if self.loses_answers or not self._answers:
            return None
        size = self._weather.dice.randint(1, len(self._answers))  # cut anywhere
        answers, self._answers = self._answers[:size], self._answers[size:]
        return answers

    def close(self) -> None:
        self.is_open = False

    def _say(self, packet: Packet) -> None:
        self._answers += encode(packet, Version.V3)

    def _deliver(self) -> None:
        if not self.is_subscribed or self.loses_sent:
            return
        for command_id, command in self._broker.commands.items():
            if command_id not in self._sent.values():
                self._packet_id += 1
                self._sent[self._packet_id] = command_id
                payload = json.dumps(command).encode()
                self._say(Publish(f"devices/{DEVICE}/command", payload, 1, packet_id=self._packet_id))

    def _take(self, packet: Packet) -> None:
        match packet:
            case Connect():
                assert (packet.client_id, packet.username, packet.password) == (DEVICE, DEVICE, KEY.encode())
                assert packet.will is not None
                assert (packet.will.retain, packet.will.qos, packet.clean) == (True, 1, False)
                assert json.loads(packet.will.payload) == {"status": "offline"}
                self._say(ConnAck(Reason.NOT_AUTHORIZED if self._broker.refuses else Reason.SUCCESS))
            case Publish():
                self._broker.take(packet.topic, packet.payload, retain=packet.retain)
                assert packet.qos == 1
                self._say(PubAck(packet.packet_id))
            case Subscribe():
                assert [one.filter for one in packet.subscriptions] == [f"devices/{DEVICE}/command"]
                self._say(SubAck(packet.packet_id, (Reason.GRANTED_QOS_1,)))
                self.is_subscribed = True
            case PubAck():
                self._broker.commands.pop(self._sent.pop(packet.packet_id), None)
            case PingReq():
                self._say(PingResp())
            case Disconnect():
                self.is_open = False
            case _:
                raise AssertionError(packet)


class Network:
    def __init__(self, broker: Broker, weather: Weather) -> None:
        self.broker = broker
        self.weather = weather
        self.connection: Connection | None = None
        self.tries_ms: list[int] = []
        self.opened = 0

    def open(self, host: str, port: int, pin: str) -> Connection:
        assert (host, port, pin) == ("gateway", 8883, PIN)
        self.tries_ms.append(self.broker.time.ms)
        if not self.weather.is_up:
            self.broker.time.sleep(self.weather.dice.choice(self.weather.silence_ms))  # refused, or silence
            raise OSError("no way there")
        self.opened += 1
        self.connection = Connection(self.broker, self.weather)
        return self.connection

    def ask_time(self) -> int:
        if not self.weather.is_up or self.weather.dice.random() < 0.3:
            raise OSError("no answer")
        return self.broker.time.day_ms

    def blow(self, seconds: float, flip: Callable[[bool], float]) -> None:
        """What the weather does in this time. `flip(is_up)` is the chance of a second that it changes."""
        dice, weather = self.weather.dice, self.weather
        if dice.random() < flip(weather.is_up) * seconds:
            weather.is_up = not weather.is_up
            if not weather.is_up and self.connection is not None:
                self._hurt(dice.random() < 0.5)
        if self.connection is not None and dice.random() < weather.breaks * seconds:
            self._hurt(False)
        if self.connection is not None and dice.random() < weather.freezes * seconds:
            self._hurt(True)

    def _hurt(self, is_silent: bool) -> None:
        assert self.connection is not None
        if not is_silent:
            self.connection.is_open = False
            return
        self.connection.loses_answers = True
        self.connection.loses_sent = self.weather.dice.random() < 0.5
