"""How a person wants to be reached: which channels, in which order, when not, and what may be said. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.notifications.model import Channel, Kind, Priority

MAX_STEPS = 8
LONGEST_WAIT = timedelta(days=7)
MAX_MUTED = 32
_AT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Step:
    """From `least` on, use this channel when nobody has seen it for `after_ms` since the live connections were tried."""

    channel: Channel
    after_ms: int
    least: Priority


@dataclass(frozen=True, slots=True)
class Quiet:
    """Minutes of the day; over midnight where `to` is before `begin`."""

    begin: int
    to: int

    def holds(self, minute: int) -> bool:
        if self.begin <= self.to:
            return self.begin <= minute < self.to
        return minute >= self.begin or minute < self.to


@dataclass(frozen=True, slots=True)
class Rules:
    """`shows_content`: whether title and text may leave the gateway, as far as its operator allows that. `muted` kinds
    are kept and not sent. What is low is told once a day, at `digest_minute`.
    """

    steps: tuple[Step, ...]
    quiet: Quiet | None = None
    critical_breaks_quiet: bool = True
    time_zone: str = "UTC"
    shows_content: bool = False
    muted: frozenset[str] = frozenset()
    digest_minute: int = 8 * 60


_MINUTE = to_ms(timedelta(minutes=1))
DEFAULT = Rules(
    steps=(
        Step(Channel.PUSH, 0, Priority.NORMAL),
        Step(Channel.UNIFIEDPUSH, 0, Priority.NORMAL),
        Step(Channel.NTFY, 0, Priority.NORMAL),
        Step(Channel.EMAIL, 5 * _MINUTE, Priority.HIGH),
        Step(Channel.SMS, 10 * _MINUTE, Priority.CRITICAL),
    )
)


def quiet_until_ms(rules: Rules, zone: tzinfo, now_ms: int) -> int | None:
    """When the quiet hours that hold now are over; None when none hold."""
    if rules.quiet is None or rules.quiet.begin == rules.quiet.to:
        return None
    local = datetime.fromtimestamp(now_ms / 1000, zone)
    if not rules.quiet.holds(local.hour * 60 + local.minute):
        return None
    return next_time_ms(rules.quiet.to, zone, now_ms)


def next_time_ms(minute_of_day: int, zone: tzinfo, now_ms: int) -> int:
    """The next time that clocks there show this minute, later than now. Where clocks are put forward over it: the first
    moment after.
    """
    local = datetime.fromtimestamp(now_ms / 1000, zone)
    hour, minute = divmod(minute_of_day, 60)
    for days in range(3):
        day = (local + timedelta(days=days)).date()
        then = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
        at_ms = round(then.timestamp() * 1000)
        if at_ms > now_ms:
            return at_ms
    raise AssertionError("a day has this minute")


def to_json(rules: Rules) -> dict[str, Any]:
    """As it is stored and shown."""
    return {
        "steps": [
            {"channel": str(one.channel), "after_s": one.after_ms // 1000, "from": str(one.least)}
            for one in rules.steps
        ],
        "quiet_hours": None
        if rules.quiet is None
        else {"begin": _clock(rules.quiet.begin), "end": _clock(rules.quiet.to)},
        "critical_breaks_quiet": rules.critical_breaks_quiet,
        "time_zone": rules.time_zone,
        "shows_content": rules.shows_content,
        "muted": sorted(rules.muted),
        "digest_at": _clock(rules.digest_minute),
    }


def from_json(given: dict[str, Any]) -> Rules:
    """Inverse of `to_json`, types checked before; the time zone is not. Raises `invalid`."""
    steps = tuple(_step(one) for one in given["steps"])
    if len(steps) > MAX_STEPS:
        raise Problem(Code.INVALID, f"At most {MAX_STEPS} steps.")
    muted = frozenset(given["muted"])
    if len(muted) > MAX_MUTED or Kind.TEST in muted:
        raise Problem(Code.INVALID, f"At most {MAX_MUTED} kinds can be muted, and tests cannot.")
    quiet = given["quiet_hours"]
    return Rules(
        steps=steps,
        quiet=None if quiet is None else Quiet(_minute(quiet["begin"]), _minute(quiet["end"])),
        critical_breaks_quiet=given["critical_breaks_quiet"],
        time_zone=given["time_zone"],
        shows_content=given["shows_content"],
        muted=muted,
        digest_minute=_minute(given["digest_at"]),
    )


def _step(given: dict[str, Any]) -> Step:
    after_ms = int(given["after_s"]) * 1000
    if not 0 <= after_ms <= to_ms(LONGEST_WAIT):
        raise Problem(Code.INVALID, f"A step waits at most {LONGEST_WAIT.days} days.")
    channel = Channel(given["channel"])
    if channel is Channel.LIVE:
        raise Problem(Code.INVALID, "Live connections always come first; they are no step.")
    return Step(channel, after_ms, Priority(given["from"]))


def _minute(text: str) -> int:
    found = _AT.fullmatch(text)
    if found is None:
        raise Problem(Code.INVALID, "A time of day is written as in 22:30.")
    return int(found[1]) * 60 + int(found[2])


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
