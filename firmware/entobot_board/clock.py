"""Time: a clock that only goes forward, and the time of day as the gateway tells it."""

_DAY_MS = 86400000


class Clock:
    """`ticks` counts milliseconds and may wrap; `difference(later, earlier)` knows how. `sleep(ms)` waits."""

    def __init__(self, ticks, difference, sleep) -> None:
        self._ticks = ticks
        self._difference = difference
        self._last = ticks()
        self._ms = 0
        self._day_offset = None
        self.sleep = sleep

    def ms(self) -> int:
        """Since this clock was made. Call it more often than the ticks wrap: on boards within 149 hours."""
        now = self._ticks()
        self._ms += self._difference(now, self._last)
        self._last = now
        return self._ms

    def day_ms(self) -> "int | None":
        """Since 1970; None until the gateway was asked."""
        return None if self._day_offset is None else self.ms() + self._day_offset

    def set_day(self, day_ms: int) -> None:
        self._day_offset = day_ms - self.ms()


def day_ms_of(text: str) -> int:
    """Of RFC 3339 in UTC, as the gateway writes it: 2026-11-20T09:30:00.000Z. Raises ValueError."""
    if len(text) < 20 or text[10] != "T" or text[-1] != "Z":
        raise ValueError("no time: " + text)
    year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
    seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    thousandths = int((text[20:-1] + "000")[:3]) if text[19] == "." else 0
    years = year - 1 if month < 3 else year  # they begin in March, so that a leap day comes last
    era_day = years * 365 + years // 4 - years // 100 + years // 400
    days = era_day + (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719468
    return days * _DAY_MS + seconds * 1000 + thousandths


class Backoff:
    """Pauses between tries: 1 s, doubled up to 60 s, each up to 30 % shorter or longer, so that boards spread out."""

    def __init__(self, random_byte) -> None:
        self._random_byte = random_byte
        self._failures = 0

    def pause_ms(self) -> int:
        """The next one."""
        whole = min(60000, 1000 << min(self._failures, 6))
        self._failures += 1
        return whole * (700 + 600 * self._random_byte() // 255) // 1000

    def longest_ms(self) -> int:
        """Where another try soon would change nothing."""
        self._failures = 6
        return self.pause_ms()

    def begin_again(self) -> None:
        self._failures = 0
