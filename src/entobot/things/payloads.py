"""What boards say, read from bytes: docs/protocol.md §9. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec

from entobot.core.unreadable import UNREADABLE
from entobot.things.model import (
    AHEAD_MS,
    MAX_NUMBER,
    CommandState,
    Happening,
    Reading,
    Refusal,
    ThingStatus,
    Unfit,
    Value,
)

MAX_PAYLOAD_BYTES = 16 * 1024
MAX_BATCH_BYTES = 64 * 1024
MAX_TEXT_CHARACTERS = 256
MAX_BATCH = 500
MAX_RESULT_BYTES = 4 * 1024
MAX_ERROR_CHARACTERS = 300
MAX_FIRMWARE_CHARACTERS = 64
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MARK = re.compile(r"[!-~]{1,64}")
"""A name that somebody else gave: of a batch, of a command."""
_FIRMWARE = re.compile(r"[!-~]{0,64}")
_BARE = {b"online": ThingStatus.ONLINE, b"offline": ThingStatus.OFFLINE}


@dataclass(frozen=True, slots=True)
class Window:
    """Now, and the oldest time that is still taken."""

    now_ms: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """`unfit` are those of its readings that do not fit by themselves."""

    batch: str
    readings: list[Reading]
    unfit: list[Unfit]


@dataclass(frozen=True, slots=True)
class Said:
    """A board's own word on its status; None of `every_s` and `firmware`: it said nothing of that."""

    status: ThingStatus
    firmware: str | None = None
    every_s: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    command_id: str
    state: CommandState
    result: str | None
    error: str


def read_reading(name: str, payload: bytes, window: Window) -> Reading:
    """One reading, bare or as an object. Raises Unfit."""
    found = _decoded(payload, MAX_PAYLOAD_BYTES)
    if not isinstance(found, dict):
        return Reading(_name(name), _value(found), window.now_ms)
    return _reading(name, cast("dict[str, Any]", found), window, {"at", "age_ms", "value"})


def read_batch(payload: bytes, window: Window) -> Batch:
    """Raises Unfit for what is no batch at all."""
    found = _object(_decoded(payload, MAX_BATCH_BYTES), {"batch", "readings"})
    batch, rows = found.get("batch"), found.get("readings")
    if not isinstance(batch, str) or not _MARK.fullmatch(batch):
        raise Unfit(Refusal.PAYLOAD, "A batch has a name of 1 to 64 visible ASCII characters in 'batch'.")
    if not isinstance(rows, list) or not 0 < len(cast("list[Any]", rows)) <= MAX_BATCH:
        raise Unfit(Refusal.PAYLOAD, f"A batch has 1 to {MAX_BATCH} 'readings'.")
    readings: list[Reading] = []
    unfit: list[Unfit] = []
    for row in cast("list[Any]", rows):
        try:
            one = _object(row, {"at", "age_ms", "name", "value"})
            readings.append(_reading(str(one.get("name", "")), one, window, {"at", "age_ms", "name", "value"}))
        except Unfit as error:
            unfit.append(error)
    return Batch(batch, readings, unfit)


def read_status(payload: bytes) -> Said:
    """Raises Unfit."""
    if (bare := _BARE.get(payload.strip(b'" \r\n'))) is not None:
        return Said(bare)
    found = _object(_decoded(payload, MAX_PAYLOAD_BYTES), {"status", "firmware", "every_s"})
    if found.get("status") not in (ThingStatus.ONLINE, ThingStatus.OFFLINE):
        raise Unfit(Refusal.PAYLOAD, "'status' is online or offline.")
    firmware, every_s = found.get("firmware"), found.get("every_s")
    if firmware is not None and not (isinstance(firmware, str) and _FIRMWARE.fullmatch(firmware)):
        raise Unfit(Refusal.PAYLOAD, f"'firmware' has at most {MAX_FIRMWARE_CHARACTERS} visible ASCII characters.")
    if every_s is not None and not (_is_whole(every_s) and 1 <= every_s <= 7 * 24 * 3600):
        raise Unfit(Refusal.PAYLOAD, "'every_s' is a number of seconds, a week at most.")
    return Said(ThingStatus(found["status"]), firmware, None if every_s is None else int(every_s))


def read_event(payload: bytes, window: Window) -> Happening:
    """Raises Unfit."""
    found = _object(_decoded(payload, MAX_PAYLOAD_BYTES), {"at", "age_ms", "data", "event"})
    data = found.get("data")
    if data is not None and not isinstance(data, dict):
        raise Unfit(Refusal.PAYLOAD, "'data' of an event is an object.")
    text = "{}" if data is None else _text(data)
    at_ms, _ = _time(found, window)
    return Happening(_name(str(found.get("event", ""))), text, at_ms)


def read_result(payload: bytes) -> Result:
    """Raises Unfit."""
    found = _object(_decoded(payload, MAX_PAYLOAD_BYTES), {"command_id", "error", "result", "state"})
    command_id, error = found.get("command_id"), found.get("error", "")
    if not isinstance(command_id, str) or not _MARK.fullmatch(command_id) or not isinstance(error, str):
        raise Unfit(Refusal.PAYLOAD, "A result has 'command_id' and 'state', and 'error' is a string.")
    if found.get("state") not in (CommandState.ACCEPTED, CommandState.DONE, CommandState.FAILED):
        raise Unfit(Refusal.PAYLOAD, "'state' of a result is accepted, done or failed.")
    result = _text(found["result"]) if "result" in found else None
    said = "".join(c if c.isprintable() else " " for c in error)[:MAX_ERROR_CHARACTERS]
    return Result(command_id, CommandState(found["state"]), result, said)


# -- parts


def _decoded(payload: bytes, limit: int) -> Any:
    if len(payload) > limit:
        raise Unfit(Refusal.PAYLOAD, f"A payload has at most {limit // 1024} KiB.")
    try:
        return msgspec.json.decode(payload)
    except UNREADABLE:
        raise Unfit(Refusal.PAYLOAD, "The payload is no JSON.") from None


def _object(found: Any, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise Unfit(Refusal.PAYLOAD, f"The payload is an object of {', '.join(sorted(known))}.")
    members = cast("dict[str, Any]", found)
    if not known.issuperset(members):
        raise Unfit(Refusal.PAYLOAD, f"Only {', '.join(sorted(known))} are known here.")
    return members


def _reading(name: str, found: Mapping[str, Any], window: Window, known: set[str]) -> Reading:
    _object(found, known)
    if "value" not in found:
        raise Unfit(Refusal.PAYLOAD, "A reading has a 'value'.")
    at_ms, is_own = _time(found, window)
    return Reading(_name(name), _value(found["value"]), at_ms, is_own)


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Unfit(Refusal.NAME, "A name has 1 to 32 of a to z, 0 to 9 and _, and begins with a letter.")
    return name


def _value(value: Any) -> Value:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if abs(number) > MAX_NUMBER:
            raise Unfit(Refusal.RANGE, f"A number is at most {MAX_NUMBER:g}, above or below nought.")
        if not math.isnan(number):
            return number
    if isinstance(value, str) and len(value) <= MAX_TEXT_CHARACTERS and "\0" not in value and _is_unicode(value):
        return value
    raise Unfit(Refusal.KIND, f"A value is a number, true, false, or text of at most {MAX_TEXT_CHARACTERS} characters.")


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _time(found: Mapping[str, Any], window: Window) -> tuple[int, bool]:
    """When it was, and whether the board said so."""
    at, age = found.get("at"), found.get("age_ms")
    if at is None and age is None:
        return window.now_ms, False
    if at is not None and age is not None:
        raise Unfit(Refusal.TIME, "A reading has 'at' or 'age_ms', not both.")
    at_ms = window.now_ms - age if age is not None and _is_whole(age) and age >= 0 else _moment(at)
    if not window.oldest_ms <= at_ms <= window.now_ms + AHEAD_MS:
        raise Unfit(Refusal.TIME, "The time is more than five minutes ahead, or before what is kept. Set its clock.")
    return at_ms, True


def _moment(at: Any) -> int:
    if _is_whole(at):
        return at
    if isinstance(at, str) and len(at) <= 40:
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return round(moment.timestamp() * 1000)
    raise Unfit(Refusal.TIME, "'at' is RFC 3339 or whole milliseconds since 1970, 'age_ms' whole milliseconds.")


def _text(value: Any) -> str:
    data = msgspec.json.encode(value)
    if len(data) > MAX_RESULT_BYTES:
        raise Unfit(Refusal.PAYLOAD, f"'data' and 'result' have at most {MAX_RESULT_BYTES // 1024} KiB.")
    return data.decode()
