"""A board: readings out, commands in, over a connection that comes and goes. `run` never returns."""

import json

from .clock import Backoff
from .memory import collect_in_time
from .mqtt import Mqtt, Refused
from .packets import Malformed

IN_FLIGHT = 8
"""Messages that were sent and not acknowledged; more readings wait on flash."""
STEADY_MS = 60000
"""A connection that held so long makes the next pause short again."""
TIME_HOLDS_MS = 6 * 3600 * 1000
TIME_LASTS_MS = 4 * TIME_HOLDS_MS
"""A connection that holds so long is opened anew to ask for the time: there is no memory for two."""
TIME_RETRY_MS = 300000
"""Where nobody knows the time yet; then twice as long each time, up to an hour."""
IDLE_MS = 20
EVENTS = 16
STARVED = 3
"""So often in a row for want of memory: only another start makes room."""


class Board:
    """Everything outside is handed in: `open_link(host, port, pin)`, `ask_time()` for milliseconds since 1970,
    `is_online()` that brings the network up, and `feed()` for the watchdog. A `step` is short, but where it connects.
    """

    def __init__(
        self,
        settings,
        clock,
        buffer,
        commands,
        *,
        open_link,
        ask_time,
        is_online,
        feed,
        random_byte,
        updates=None,
        log=print,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.commands = commands
        self.firmware = ""
        """The version of what runs here; it is told with the status."""
        self._updates = updates
        self._buffer = buffer
        self._open_link = open_link
        self._ask_time = ask_time
        self._is_online = is_online
        self._feed = feed
        self._log = log
        self._backoff = Backoff(random_byte)
        self._sensors = []  # [when it is due, every so many milliseconds, name, function]
        self._mqtt = None
        self._is_introduced = False
        self._flying = {}  # packet identifier: (kind, what it is)
        self._events = []
        self._next_try_ms = 0
        self._connected_ms = 0
        self._time_asked_ms = None
        self._time_pause_ms = TIME_RETRY_MS
        self._lost_told = 0
        self._starved = 0
        self._root = "devices/" + settings.device_id

    def reading(self, name: str, every_s: float):
        """Decorates a function whose value is told as `name`; None is no reading."""

        def keep(function):
            self._sensors.append([self.clock.ms(), int(every_s * 1000), name, function])
            return function

        return keep

    def command(self, name: str, *, is_slow: bool = False):
        """Decorates a function of the arguments of a command; what it returns is the result, what it raises the error.

        `is_slow`: that it was accepted is told before it is carried out.
        """

        def keep(function):
            self.commands.handlers[name] = function
            if is_slow:
                self.commands.slow.add(name)
            return function

        return keep

    def tell(self, name: str, value) -> None:
        """A reading of now: at once where there is a connection with room, else from flash, later."""
        if isinstance(value, float) and value - value != 0:
            self._log(name + ": no number")  # JSON has none for it: the gateway would refuse the whole batch
            return
        reading = (name, value, self.clock.day_ms(), self.clock.ms())
        if not self.is_connected or len(self._flying) >= IN_FLIGHT:
            self._buffer.add(*reading)
            return
        said = {"value": value}
        if reading[2] is not None:
            said["at"] = reading[2]
        try:
            self._send("/telemetry/" + name, said, "reading", reading)
        except OSError as error:
            self._buffer.add(*reading)
            self._lose(error)

    def event(self, name: str, data: dict) -> None:
        """Something that happened. The last 16 wait in memory for a connection."""
        self._events.append((name, data, self.clock.ms()))
        if len(self._events) > EVENTS:
            self._events.pop(0)

    @property
    def is_connected(self) -> bool:
        return self._mqtt is not None and self._is_introduced

    def run(self) -> None:
        """Raises MemoryError where there is no room for a connection any more; the watchdog starts the board again."""
        collect_in_time()
        while True:
            self.step()
            self.clock.sleep(IDLE_MS)

    def step(self) -> None:
        self._feed()
        self._sample()
        self.commands.step()
        if self._updates is not None:
            self._updates.look(is_connected=self.is_connected)
        if self._mqtt is None:
            if self.clock.ms() >= self._next_try_ms and self._is_online():
                self._connect()
            return
        try:
            self._mqtt.step()
            if self._mqtt.is_ready:
                self._converse()
                if not self._flying:
                    self._leave_where_due()
        except (OSError, Malformed, Refused, MemoryError) as error:  # what a connection holds is free after it
            self._lose(error)

    def close(self) -> None:
        """Say that it leaves, and leave."""
        if self._mqtt is not None:
            try:
                self._send("/status", {"status": "offline"}, "status", None, retain=True)
            except OSError:
                pass
            self._mqtt.close()
        self._forget()

    def _leave_where_due(self) -> None:
        if self._updates is not None and self._updates.is_due():
            self.close()
            self._updates.begin()
        now, asked = self.clock.ms(), self._time_asked_ms
        if now - self._connected_ms > self._time_pause_ms and (asked is None or now - asked > TIME_LASTS_MS):
            self._time_pause_ms = min(3600000, self._time_pause_ms * 2)
            self._mqtt.close()  # without a word that it is away: it comes back at once
            self._forget()
            self._next_try_ms = now + self._backoff.pause_ms()

    def _sample(self) -> None:
        now = self.clock.ms()
        for sensor in self._sensors:
            if now < sensor[0]:
                continue
            sensor[0] += sensor[1]
            if sensor[0] <= now:  # after a long pause once, and not as often as it was due
                sensor[0] = now + sensor[1]
            try:
                value = sensor[3]()
            except Exception as error:  # noqa: BLE001  a broken sensor is told and does not stop the others
                self._log(sensor[2] + ": " + str(error))
                continue
            if value is not None:
                self.tell(sensor[2], value)

    def _connect(self) -> None:
        settings = self.settings
        try:
            self._learn_time()
            link = self._open_link(settings.mqtt_host, settings.mqtt_port, settings.mqtt_pin)
            self._mqtt = Mqtt(link, self.clock, self._heard, self._taken)
            will = json.dumps({"status": "offline"}).encode()
            self._mqtt.open(settings.device_id, settings.key, settings.keep_alive_s, self._root + "/status", will)
        except (OSError, MemoryError) as error:
            self._lose(error)

    def _learn_time(self) -> None:
        asked = self._time_asked_ms
        if asked is not None and self.clock.ms() - asked < TIME_HOLDS_MS:
            return
        try:
            self.clock.set_day(self._ask_time())
            self._time_asked_ms = self.clock.ms()
            self._time_pause_ms = TIME_RETRY_MS
        except (OSError, ValueError) as error:
            self._log("time: " + str(error))

    def _converse(self) -> None:
        if not self._is_introduced:
            self._introduce()
        if self.clock.ms() - self._connected_ms > STEADY_MS:
            self._backoff.begin_again()
        flying = [kind for kind, _ in self._flying.values()]
        result = self.commands.unsaid()
        if result is not None and "result" not in flying:
            self._send("/result", result[1], "result", result)
        if self._updates is not None and "update" not in flying:
            self._tell_update()
        if self._events and "event" not in flying:
            name, data, up_ms = self._events[0]
            said = {"event": name, "data": data, "age_ms": self.clock.ms() - up_ms}
            self._send("/event", said, "event", self._events[0])
        if "batch" not in flying:
            batch = self._buffer.first()
            if batch is not None:
                self._publish("/telemetry", batch[1], "batch", batch[0])

    def _tell_update(self) -> None:
        said = self._updates.unsaid()
        if said is not None:
            self._send("/event", {"event": "update", "data": said}, "update", said)

    def _introduce(self) -> None:
        self._log("connected to " + self.settings.mqtt_host)
        filters = [self._root + "/command"]
        said = {"status": "online"}
        firmware = self.firmware
        if self._updates is not None:
            filters.append(self._root + "/update")
            firmware = self._updates.running.get("version") or firmware
            self._tell_update()
        self._mqtt.subscribe(filters)
        if firmware:
            said["firmware"] = firmware
        if self._sensors:
            said["every_s"] = max(1, min([sensor[1] for sensor in self._sensors]) // 1000)
        self._send("/status", said, "status", None, retain=True)
        self._is_introduced = True
        self._starved = 0
        self._connected_ms = self.clock.ms()
        if self._buffer.lost > self._lost_told:
            self.event("buffer_full", {"batches_lost": self._buffer.lost - self._lost_told})
            self._lost_told = self._buffer.lost

    def _send(self, topic: str, said: dict, kind: str, what, *, retain: bool = False) -> None:
        self._publish(topic, json.dumps(said).encode(), kind, what, retain=retain)

    def _publish(self, topic: str, payload: bytes, kind: str, what, *, retain: bool = False) -> None:
        packet_id = self._mqtt.publish(self._root + topic, payload, retain=retain)
        self._flying[packet_id] = (kind, what)

    def _taken(self, packet_id: int) -> None:
        kind, what = self._flying.pop(packet_id, ("", None))
        if kind == "batch":
            self._buffer.drop(what)
        elif kind == "result":
            self.commands.was_said(what)
        elif kind == "update":
            self._updates.was_said(what)
        elif kind == "event" and what in self._events:
            self._events.remove(what)

    def _heard(self, topic: str, payload: bytes) -> None:
        if topic == self._root + "/command":
            self.commands.take(payload)
        elif topic == self._root + "/update" and self._updates is not None:
            self._updates.take(payload)

    def _lose(self, error: Exception) -> None:
        is_refused = isinstance(error, Refused)
        pause_ms = self._backoff.longest_ms() if is_refused else self._backoff.pause_ms()
        self._log("{}; again in {} s".format(error, pause_ms // 1000))
        self._next_try_ms = self.clock.ms() + pause_ms
        if self._mqtt is not None:
            self._mqtt.drop()
        self._forget()
        self._starved = self._starved + 1 if isinstance(error, MemoryError) else 0
        if self._starved >= STARVED:
            raise error

    def _forget(self) -> None:
        """What was under way is not known to be there: readings go to flash."""
        self._mqtt = None
        self._is_introduced = False
        for kind, what in self._flying.values():
            if kind == "reading":
                self._buffer.add(*what)
        self._flying = {}
