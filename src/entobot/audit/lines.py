"""The log as a file of JSON lines, for keeping and verifying away from the gateway. Pure.

First a head, `{"entobot_audit":1,…}`, then an entry each, `{"actor":…,"seq":…}`, now and then `{"checkpoint":…}` with a
signed note over all entries up to there, and last `{"end":<seq>}`. Everything but `hash`, `previous` and `values` is the
text that is hashed; `values` are personal values with the salts of their commitments, left out where they were erased.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from entobot.audit.model import Actor, Entry, Personal, canonical, content, parse_personal, personal_fields
from entobot.audit.tree import Frontier
from entobot.core.secrets import b64u, unb64u

VERSION = 1
_LOG_ID = re.compile(r"[A-Za-z0-9_]{1,64}")
"""It is printed where the file is verified."""
MAX_LINE_CHARACTERS = 4 * 1024 * 1024
ENTRY_FIELDS = frozenset(
    {"actor", "at_ms", "audit_id", "event", "facts", "hash", "outcome", "personal", "previous", "seq", "subject"}
)


@dataclass(frozen=True, slots=True)
class FileHead:
    """Entries of the log `log_id` from `first` on. `previous` and `tree` are what stood before it.

    Of a selection (`filters` is what was asked for) nothing stands before an entry: both are None.
    """

    log_id: str
    first: int
    previous: bytes | None
    tree: Frontier | None
    filters: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class EntryLine:
    entry: Entry
    values: Mapping[str, Personal] | None


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    note: str


@dataclass(frozen=True, slots=True)
class EndLine:
    last: int


Line = FileHead | EntryLine | CheckpointLine | EndLine


def head_line(head: FileHead) -> str:
    fields: dict[str, object] = {"entobot_audit": VERSION, "first": head.first, "log": head.log_id}
    if head.previous is not None and head.tree is not None:
        fields |= {"previous": b64u(head.previous), "tree": [b64u(one) for one in head.tree.hashes]}
    else:
        fields["filters"] = dict(head.filters or {})
    return canonical(fields)


def entry_line(entry: Entry, values: Mapping[str, Personal] | None = None) -> str:
    fields = content(entry) | {"hash": b64u(entry.hash), "previous": b64u(entry.previous)}
    if values:
        fields["values"] = personal_fields(values)
    return canonical(fields)


def checkpoint_line(note: str) -> str:
    return canonical({"checkpoint": note})


def end_line(last: int) -> str:
    return canonical({"end": last})


def parse_line(text: str) -> Line:
    """Raises ValueError for what is none of these lines as they are written here, to the letter."""
    if len(text) > MAX_LINE_CHARACTERS:
        raise ValueError("the line is too long")
    fields: object = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("a line is an object")  # noqa: TRY004  whatever is wrong with it, it is a wrong value
    told = cast("dict[str, Any]", fields)
    if canonical(told) != text:
        raise ValueError("not in canonical form")
    try:
        if "entobot_audit" in told:
            return _head(told)
        if told.keys() == {"checkpoint"} and isinstance(told["checkpoint"], str):
            return CheckpointLine(told["checkpoint"])
        if told.keys() == {"end"}:
            return EndLine(_number(told["end"]))
        return _entry(told)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a line of an audit log") from error


def _head(told: dict[str, Any]) -> FileHead:
    if told["entobot_audit"] != VERSION:
        raise ValueError("written by a version that this one does not know")
    first, log_id = _number(told["first"]), _text(told["log"])
    if not _LOG_ID.fullmatch(log_id):
        raise ValueError("its head names no log")
    if told.keys() == {"entobot_audit", "filters", "first", "log"}:
        return FileHead(log_id, first, None, None, dict(told["filters"]))
    if told.keys() != {"entobot_audit", "first", "log", "previous", "tree"} or first < 1:
        raise ValueError("not the head of an audit log")
    tree = Frontier(first - 1, tuple(unb64u(one) for one in told["tree"]))
    return FileHead(log_id, first, _digest(told["previous"]), tree)


def _entry(told: dict[str, Any]) -> EntryLine:
    if frozenset(told) - {"values"} != ENTRY_FIELDS:
        raise ValueError("not an entry of an audit log")
    actor: dict[str, Any] | None = told["actor"]
    if actor is not None and actor.keys() != {"device_id", "user_id"}:
        raise ValueError("not an actor")
    entry = Entry(
        seq=_number(told["seq"]),
        audit_id=_text(told["audit_id"]),
        at_ms=_number(told["at_ms"]),
        event=_text(told["event"]),
        outcome=_text(told["outcome"]),
        actor=None if actor is None else Actor(_text(actor["user_id"]), actor["device_id"]),
        subject=_text(told["subject"]),
        facts=dict(told["facts"]),
        commitments=dict(told["personal"]),
        previous=_digest(told["previous"]),
        hash=_digest(told["hash"]),
    )
    return EntryLine(entry, parse_personal(json.dumps(told["values"])) if "values" in told else None)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("not a whole number")  # noqa: TRY004  as above
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004  as above
    return value


def _digest(value: str) -> bytes:
    data = unb64u(value)
    if len(data) != 32:
        raise ValueError("no SHA-256 digest")
    return data
