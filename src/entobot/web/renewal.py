"""When a certificate is renewed, and when a failed try is repeated. Pure: times are milliseconds since 1970."""

from dataclasses import dataclass
from datetime import timedelta

from entobot.core.clock import to_ms

FIRST_RETRY = timedelta(minutes=5)
LAST_RETRY = timedelta(hours=6)
"""Authorities count failed tries by the hour; a certificate is renewed weeks before it ends."""
JITTER = 0.2
RESERVE = 0.1
"""Part of a certificate's life that no wish of the authority can spend."""


@dataclass(frozen=True, slots=True)
class Life:
    not_before_ms: int
    not_after_ms: int

    @property
    def length_ms(self) -> int:
        return self.not_after_ms - self.not_before_ms


@dataclass(frozen=True, slots=True)
class Wish:
    """The window in which the authority wants the renewal (RFC 9773)."""

    start_ms: int
    end_ms: int


def renewal_ms(life: Life, wish: Wish | None, chance: float) -> int:
    """At a random place of the authority's window, else when a third of the life is left, up to a twentieth earlier.

    `chance` is 0 ≤ chance < 1, drawn once for each certificate. Never later than with a tenth of the life left.
    """
    latest_ms = life.not_after_ms - round(life.length_ms * RESERVE)
    if wish is not None and wish.start_ms <= wish.end_ms:
        return min(latest_ms, wish.start_ms + round((wish.end_ms - wish.start_ms) * chance))
    return life.not_after_ms - life.length_ms // 3 - round(life.length_ms * chance / 20)


def retry_ms(failures: int, failed_at_ms: int, chance: float, retry_after_s: float | None = None) -> int:
    """After the `failures`-th failure in a row: 5 minutes, then twice as long each time, at most 6 hours, ± a fifth.

    Not before the authority said to come back.
    """
    doubled = min(to_ms(LAST_RETRY), to_ms(FIRST_RETRY) << min(max(0, failures - 1), 20))
    pause_ms = round(doubled * (1 - JITTER + 2 * JITTER * chance))
    return failed_at_ms + max(pause_ms, round((retry_after_s or 0) * 1000))
