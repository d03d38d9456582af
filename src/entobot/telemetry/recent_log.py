"""The last log lines of this process, for people who look at them in the dashboard."""

from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Any

MAX_LINES = 1000
MAX_CHARACTERS = 512 * 1024
"""Of all lines together: what is said at once, and often, must not fill the memory."""
LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Line:
    """`fields` are what the line holds beside its event, cleaned of secrets as everywhere."""

    number: int
    at: str
    level: str
    logger: str
    event: str
    fields: dict[str, Any]
    size: int


class RecentLog:
    """Takes what `telemetry.log` has cleaned. Any thread may add and read."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self._numbers = count(1)
        self._size = 0
        self._lock = Lock()

    def __call__(self, _logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """As a processor of structlog: keeps the line and hands it on."""
        with self._lock:
            self._add(fields)
        return fields

    def _add(self, fields: MutableMapping[str, Any]) -> None:
        rest = {name: value for name, value in fields.items() if not name.startswith("_")}
        at, level = str(rest.pop("at", "")), str(rest.pop("level", "info"))
        logger, event = str(rest.pop("logger", "")), str(rest.pop("event", ""))
        size = len(event) + len(str(rest))
        if len(self._lines) == MAX_LINES:
            self._size -= self._lines[0].size
        self._lines.append(Line(next(self._numbers), at, level, logger, event, rest, size))
        self._size += size
        while self._size > MAX_CHARACTERS and len(self._lines) > 1:
            self._size -= self._lines.popleft().size

    def find(self, *, after: int = 0, level: str = "debug", text: str = "", limit: int = 200) -> list[Line]:
        """The newest that come behind `after`, are at least of this level and hold the text, in order."""
        wanted = LEVELS[LEVELS.index(level) :]
        needle = text.lower()
        found: list[Line] = []
        with self._lock:
            lines = list(self._lines)
        for line in reversed(lines):
            if line.number <= after or len(found) >= limit:
                break
            if line.level in wanted and (not needle or needle in f"{line.logger} {line.event} {line.fields}".lower()):
                found.append(line)
        return found[::-1]
