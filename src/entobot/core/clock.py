"""Time as a parameter. All instants are integer milliseconds since the Unix epoch (UTC)."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

MS = timedelta(milliseconds=1)


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; may step backwards."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes backwards. For deadlines within one process."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000  # noqa: TID251  the one place that reads the system clock

    def monotonic(self) -> float:
        return time.monotonic()


def to_ms(duration: timedelta) -> int:
    return duration // MS


@lru_cache(maxsize=64)
def rfc3339(at_ms: int) -> str:
    """RFC 3339 UTC with milliseconds, e.g. `2026-11-20T09:30:00.000Z`."""
    seconds, milliseconds = divmod(at_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC) + milliseconds * MS
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
