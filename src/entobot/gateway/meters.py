"""What the gateway kit counts, bound once."""

from collections.abc import Iterable
from functools import cached_property
from typing import Protocol

from entobot.gateway.frames import CloseCode
from entobot.gateway.wire import Close
from entobot.telemetry.meters import OTHER, Counter, Meters
from entobot.telemetry.metrics import Metric

CLOSE_CODES = frozenset(map(int, Close)) | frozenset(map(int, CloseCode))
_CLOSE_NAMES = {int(code): code.name.lower() for code in Close}
OK = "ok"
LOST = "lost"
"""Ended by a peer that gave no reason of ours."""
_UNKNOWN = "unknown"


class Behind(Protocol):
    """A connection that has not been sent everything yet."""

    @property
    def waiting_events(self) -> int: ...


class DeliveryMeters:
    """Events on their way to devices. What is sent is not delivered: that is what the acknowledgement says."""

    def __init__(self, meters: Meters, transport: str) -> None:
        self.sent = meters.counter(Metric.EVENTS_SENT)
        self.unacknowledged = meters.gauge(Metric.DELIVERY_UNACKNOWLEDGED, transport=transport)
        self.behind: set[Behind] = set()
        meters.gauge(Metric.CONNECTIONS_BEHIND, transport=transport).follow(lambda: len(self.behind))
        waiting = meters.gauge(Metric.DELIVERY_WAITING, transport=transport)
        waiting.follow(lambda: sum(one.waiting_events for one in tuple(self.behind)))
        self._live = meters.histogram(Metric.DELIVERY_SECONDS, path="live")
        self._replayed = meters.histogram(Metric.DELIVERY_SECONDS, path="replay")

    def arrived(self, seconds: float, *, is_replayed: bool) -> None:
        (self._replayed if is_replayed else self._live).observe(max(0.0, seconds))


class ConnectionMeters:
    """Connections of one transport."""

    def __init__(self, meters: Meters, transport: str) -> None:
        self._meters = meters
        self._transport = transport
        self._opened = meters.counter(Metric.CONNECTIONS_OPENED, transport=transport)
        self._live = meters.gauge(Metric.CONNECTIONS, transport=transport)
        self._ready = meters.counter(Metric.HANDSHAKES, transport=transport, outcome=OK)
        self._seconds = meters.histogram(Metric.HANDSHAKE_SECONDS, transport=transport)

    @cached_property
    def delivery(self) -> DeliveryMeters:
        """Of a transport that delivers events; the simple protocol does not."""
        return DeliveryMeters(self._meters, self._transport)

    def opened(self) -> None:
        self._opened.value += 1

    def refused(self, code: int) -> None:
        """Credentials that did not stand."""
        reason = _CLOSE_NAMES.get(code, OTHER)
        self._meters.counter(Metric.AUTH_FAILURES, transport=self._transport, reason=reason).add()

    def ready(self, seconds: float) -> None:
        self._ready.value += 1
        self._live.value += 1
        self._seconds.observe(seconds)

    def closed(self, code: int, *, was_ready: bool) -> None:
        """`code` is whatever the peer or we said; what is not in the protocol is `other`."""
        shown = code if code in CLOSE_CODES else OTHER
        self._meters.counter(Metric.CONNECTIONS_CLOSED, transport=self._transport, code=shown).add()
        if was_ready:
            self._live.value -= 1
        else:
            outcome = _CLOSE_NAMES.get(code, LOST)
            self._meters.counter(Metric.HANDSHAKES, transport=self._transport, outcome=outcome).add()


class CommandMeters:
    """Commands of every transport, by name. Names that no table lists are one."""

    def __init__(self, meters: Meters, commands: Iterable[str]) -> None:
        self._meters = meters
        self._seconds = {name: meters.histogram(Metric.COMMAND_SECONDS, command=name) for name in commands}
        self._done = {name: meters.counter(Metric.COMMANDS, command=name, outcome=OK) for name in self._seconds}

    def done(self, command: str, seconds: float) -> None:
        self._done[command].value += 1
        self._seconds[command].observe(seconds)

    def refused(self, command: str, code: str) -> None:
        name = command if command in self._done else _UNKNOWN
        self._counter(name, code).add()

    def _counter(self, command: str, outcome: str) -> Counter:
        return self._meters.counter(Metric.COMMANDS, command=command, outcome=outcome)
