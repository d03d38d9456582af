"""Entries of the audit log and the hash chain that binds them. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from entobot.core.secrets import b64u, keyed_digest, same, sha256, unb64u

Fact = str | int | bool | None

MAX_TEXT_CHARACTERS = 16_384
MAX_FIELDS = 32
MAX_SAFE_INTEGER = 2**53 - 1
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Actor:
    user_id: str
    device_id: str | None


@dataclass(frozen=True, slots=True)
class Personal:
    """One personal value with the salt of its commitment."""

    value: str
    salt: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. `seq` starts at 1 without gaps.

    `commitments` maps the names of personal fields to `commitment(...)`; `hash` and `previous` are 32-byte digests.
    """

    seq: int
    audit_id: str
    at_ms: int
    event: str
    outcome: str
    actor: Actor | None
    subject: str
    facts: Mapping[str, Fact]
    commitments: Mapping[str, str]
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as shown. `personal` is None once its personal values were erased, `{}` where it never had any.

    `salted` are the same values with the salts of their commitments.
    """

    entry: Entry
    personal: Mapping[str, str] | None
    salted: Mapping[str, Personal] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in the order asked for; `next` is the cursor of the following page, None at the end."""

    entries: list[Found]
    next: int | None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stands. `log_id` names the log, so that a head of another database is not taken for this one's."""

    log_id: str
    seq: int
    hash: bytes


class Defect(StrEnum):
    CUT_TAIL = "cut_tail"
    EDITED = "edited"
    HEAD_MISSING = "head_missing"
    HEAD_SIGNATURE_INVALID = "head_signature_invalid"
    MISSING = "missing"
    PERSONAL_ALTERED = "personal_altered"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong: `seq` is the first entry that cannot be trusted."""

    kind: Defect
    seq: int
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over the log found.

    `checked` counts entries that stand in an unbroken chain; `signed_seq` is the newest of them under a valid
    signature (None: nothing is signed, so a cut tail could not be told); `erased` counts entries whose personal
    values were erased.
    """

    finding: Finding | None
    checked: int
    signed_seq: int | None
    erased: int

    @property
    def is_intact(self) -> bool:
        return self.finding is None


def genesis(log_id: str) -> bytes:
    """What stands before the first entry."""
    return sha256(b"entobot-audit-v1\n" + log_id.encode("ascii"))


def commitment(name: str, personal: Personal) -> str:
    """Binds a personal value without telling it: HMAC-SHA-256 under a random salt that is erased with the value."""
    return b64u(keyed_digest(personal.salt, name.encode("ascii") + b"\0" + personal.value.encode("utf-8")))


def content(entry: Entry) -> dict[str, Any]:
    """Everything in an entry but its place in the chain."""
    actor = entry.actor
    return {
        "actor": None if actor is None else {"device_id": actor.device_id, "user_id": actor.user_id},
        "at_ms": entry.at_ms,
        "audit_id": entry.audit_id,
        "event": entry.event,
        "facts": entry.facts,
        "outcome": entry.outcome,
        "personal": entry.commitments,
        "seq": entry.seq,
        "subject": entry.subject,
    }


def chain_hash(entry: Entry) -> bytes:
    """SHA-256(previous ‖ RFC 8785 text of everything else in the entry)."""
    return sha256(entry.previous + canonical(content(entry)).encode("utf-8"))


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def canonical(value: Mapping[str, Any]) -> str:
    """RFC 8785 text, eight times faster than a general encoder.

    Right only for what an entry holds: ASCII keys, text that is valid UTF-8, safe integers, booleans, null, objects.
    """
    return _encode(value)


def checked_facts(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Facts as the chain can hold them. Raises ValueError for a bad name or an integer beyond ±(2**53 - 1)."""
    _check_names(facts)
    kept: dict[str, Fact] = {}
    for name, fact in facts.items():
        if isinstance(fact, str):
            kept[name] = bounded(fact)
        elif isinstance(fact, bool) or fact is None:
            kept[name] = fact
        elif -MAX_SAFE_INTEGER <= fact <= MAX_SAFE_INTEGER:
            kept[name] = int(fact)
        else:
            raise ValueError(f"the fact '{name}' is no safe integer")
    return kept


def salted(values: Mapping[str, str], salts: bytes) -> dict[str, Personal]:
    """Personal values with their salts, `SALT_BYTES` of `salts` each. Raises ValueError for a bad name."""
    _check_names(values)
    return {
        name: Personal(bounded(value), salts[n * SALT_BYTES : (n + 1) * SALT_BYTES])
        for n, (name, value) in enumerate(values.items())
    }


def bounded(text: str) -> str:
    """Text that every database can hold. What is too long is cut and ends in the SHA-256 of the whole."""
    if text.isascii() and len(text) <= MAX_TEXT_CHARACTERS and "\0" not in text:
        return str(text)
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    if len(clean) <= MAX_TEXT_CHARACTERS:
        return clean
    return f"{clean[: MAX_TEXT_CHARACTERS - 64]}… [cut; sha256 {b64u(sha256(clean.encode('utf-8')))}]"


def _check_names(fields: Mapping[str, object]) -> None:
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"more than {MAX_FIELDS} fields in one audit entry")
    for name in fields:
        # Names are ours, never a caller's: sorting ASCII by code point is sorting it as RFC 8785 asks.
        if not (name.isascii() and name.isidentifier() and len(name) <= 64):
            raise ValueError(f"'{name[:64]}' is no name for an audit field")


def personal_fault(entry: Entry, personal: Mapping[str, Personal] | None) -> str | None:
    """What is wrong with an entry's personal values, None when nothing is. Erased values are in order."""
    if personal is None:
        return None
    if personal.keys() != entry.commitments.keys():
        return "Personal fields were added to the entry or taken from it."
    for name, field in personal.items():
        if not same(commitment(name, field), entry.commitments[name]):
            return f"The personal field '{name}' is not what was recorded."
    return None


def head_payload(head: Head, at_ms: int) -> bytes:
    """What a signed head says, as RFC 8785 text."""
    text = canonical({"at_ms": at_ms, "hash": b64u(head.hash), "log": head.log_id, "seq": head.seq, "v": 1})
    return text.encode("utf-8")


def parse_head(payload: bytes) -> Head:
    """Inverse of `head_payload`. Raises ValueError."""
    fields: object = json.loads(payload)
    if not isinstance(fields, dict):
        raise ValueError("a head is an object")  # noqa: TRY004  whatever is wrong with it, it is a wrong value
    told = cast("dict[str, object]", fields)
    log_id, seq, digest = told.get("log"), told.get("seq"), told.get("hash")
    if told.get("v") != 1 or not isinstance(log_id, str) or not isinstance(seq, int) or not isinstance(digest, str):
        raise ValueError("not a head of version 1")
    return Head(log_id, seq, unb64u(digest))


def personal_fields(personal: Mapping[str, Personal]) -> dict[str, dict[str, str]]:
    return {name: {"salt": b64u(field.salt), "value": field.value} for name, field in personal.items()}


def personal_text(personal: Mapping[str, Personal]) -> str:
    return canonical(personal_fields(personal))


def parse_personal(text: str) -> dict[str, Personal]:
    """Inverse of `personal_text`. Raises ValueError for anything else."""
    try:
        fields: dict[str, dict[str, str]] = json.loads(text)
        return {name: Personal(field["value"], unb64u(field["salt"])) for name, field in fields.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not personal fields") from error
