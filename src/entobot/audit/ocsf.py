"""Entries as events of the Open Cybersecurity Schema Framework, https://schema.ocsf.io. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from entobot.audit.model import Entry, Personal
from entobot.core.secrets import b64u

VERSION = "1.3.0"
SUCCESS, FAILURE = 1, 2
INFORMATIONAL, LOW, MEDIUM = 1, 2, 3
OTHER = 99


class Class(IntEnum):
    """Class ids; the first digit is the category."""

    ACCOUNT_CHANGE = 3001
    AUTHENTICATION = 3002
    ENTITY_MANAGEMENT = 3004
    APPLICATION_LIFECYCLE = 6002
    API_ACTIVITY = 6003


@dataclass(frozen=True, slots=True)
class Meaning:
    """An event's class and activity, by the ids and words of the schema."""

    kind: Class
    activity: int = OTHER
    word: str = "Other"


_CREATE, _READ, _UPDATE, _DELETE = (1, "Create"), (2, "Read"), (3, "Update"), (4, "Delete")
_ENTITY: dict[str, tuple[int, str]] = {
    "added": _CREATE, "burned": _DELETE, "cancelled": _DELETE, "changed": _UPDATE, "created": _CREATE,
    "exported": _READ, "labelled": _UPDATE, "paired": _CREATE, "reactivated": (OTHER, "Reactivate"), "removed": _DELETE,
    "renamed": _UPDATE,
    "revoked": _DELETE, "rotated": _UPDATE, "suspended": (OTHER, "Suspend"),
}  # fmt: skip
_CALL: dict[str, tuple[int, str]] = {
    "cancelled": _DELETE, "decided": _UPDATE, "expired": _UPDATE, "requested": _CREATE,
}  # fmt: skip
_EXACT: dict[str, Meaning] = {
    "auth.refused": Meaning(Class.AUTHENTICATION, 1, "Logon"),
    "gateway.started": Meaning(Class.APPLICATION_LIFECYCLE, 3, "Start"),
    "gateway.stopped": Meaning(Class.APPLICATION_LIFECYCLE, 4, "Stop"),
    "passkey.added": Meaning(Class.ACCOUNT_CHANGE, 10, "MFA Factor Enable"),
    "passkey.removed": Meaning(Class.ACCOUNT_CHANGE, 11, "MFA Factor Disable"),
    "session.ended": Meaning(Class.AUTHENTICATION, 2, "Logoff"),
    "session.opened": Meaning(Class.AUTHENTICATION, 1, "Logon"),
    "user.added": Meaning(Class.ACCOUNT_CHANGE, 1, "Create"),
    "user.disabled": Meaning(Class.ACCOUNT_CHANGE, 5, "Disable"),
    "user.enabled": Meaning(Class.ACCOUNT_CHANGE, 2, "Enable"),
}
_BY_SUBJECT: dict[str, Class] = {
    "approval": Class.API_ACTIVITY,
    "gateway": Class.APPLICATION_LIFECYCLE,
    "passkey": Class.ACCOUNT_CHANGE,
    "password": Class.ACCOUNT_CHANGE,
    "run": Class.API_ACTIVITY,
    "session": Class.AUTHENTICATION,
    "sign_in": Class.AUTHENTICATION,
    "token": Class.AUTHENTICATION,
    "tool": Class.API_ACTIVITY,
    "totp": Class.ACCOUNT_CHANGE,
    "user": Class.ACCOUNT_CHANGE,
}


def meaning(event: str) -> Meaning:
    """Every event has one: what nobody thought of is the management of an entity."""
    if event in _EXACT:
        return _EXACT[event]
    subject, _, verb = event.partition(".")
    kind = _BY_SUBJECT.get(subject, Class.ENTITY_MANAGEMENT)
    words = {Class.ENTITY_MANAGEMENT: _ENTITY, Class.API_ACTIVITY: _CALL}.get(kind, {})
    return Meaning(kind, *words.get(verb, (OTHER, verb.replace("_", " ").capitalize())))


def ocsf(entry: Entry, values: Mapping[str, Personal] | None, *, version: str, host: str) -> str:
    """One event as a line of JSON. `metadata.sequence` is the entry's number, `metadata.uid` its id."""
    found = meaning(entry.event)
    is_success = entry.outcome == "success"
    event: dict[str, Any] = {
        "activity_id": found.activity,
        "activity_name": found.word,
        "category_uid": found.kind // 1000,
        "class_uid": int(found.kind),
        "type_uid": found.kind * 100 + found.activity,
        "time": entry.at_ms,
        "severity_id": INFORMATIONAL if is_success else MEDIUM if entry.outcome == "denied" else LOW,
        "status_id": SUCCESS if is_success else FAILURE,
        "status_detail": entry.outcome,
        "message": entry.event,
        "actor": _actor(entry),
        "metadata": {
            "version": VERSION,
            "product": {"name": "Entobot", "vendor_name": "Entobot", "version": version},
            "log_name": "audit",
            "event_code": entry.event,
            "sequence": entry.seq,
            "uid": entry.audit_id,
        },
        "unmapped": {"hash": b64u(entry.hash), "facts": dict(entry.facts), "subject": entry.subject},
    }
    if values:
        event["unmapped"]["personal"] = {name: one.value for name, one in values.items()}
    event |= _of_class(found.kind, entry, version, host)
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _actor(entry: Entry) -> dict[str, Any]:
    if entry.actor is None:
        return {"app_name": "entobot"}
    actor: dict[str, Any] = {"user": {"uid": entry.actor.user_id}}
    if entry.actor.device_id is not None:
        actor["session"] = {"uid": entry.actor.device_id}
    return actor


def _of_class(kind: Class, entry: Entry, version: str, host: str) -> dict[str, Any]:
    """What the class requires besides."""
    about = entry.subject or (entry.actor.user_id if entry.actor else "entobot")
    if kind is Class.ACCOUNT_CHANGE or kind is Class.AUTHENTICATION:
        person = entry.subject if entry.subject.startswith("usr_") or entry.actor is None else entry.actor.user_id
        return {"user": {"uid": person or "unknown"}}
    if kind is Class.ENTITY_MANAGEMENT:
        return {"entity": {"uid": about, "type": entry.event.partition(".")[0]}}
    if kind is Class.APPLICATION_LIFECYCLE:
        return {"app": {"name": "Entobot", "vendor_name": "Entobot", "version": version}}
    where = entry.actor.device_id if entry.actor and entry.actor.device_id else host
    return {"api": {"operation": entry.event, "request": {"uid": about}}, "src_endpoint": {"uid": where}}
