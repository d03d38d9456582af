"""Who changed which setting: written to the audit log, and read from it."""

import json
from dataclasses import dataclass
from typing import Any

from entobot.audit.events import AuditEvent
from entobot.audit.model import Entry, Fact
from entobot.audit.service import Audit, Filters
from entobot.core.principal import Principal
from entobot.settings.model import Difference
from entobot.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Happened:
    """One change of one key, as the audit log tells it; see `record`."""

    seq: int
    at_ms: int
    key: str
    by: str | None
    device_id: str | None
    before: Any
    after: Any


def record(tx: Transaction, audit: Audit, one: Difference, now_ms: int, principal: Principal | None) -> None:
    """Values as JSON texts. People's words are left out: that they changed is told, not what they are."""
    facts: dict[str, Fact] = {}
    if one.is_told:
        facts = {"from": json.dumps(one.before), "to": json.dumps(one.after)}
    audit.record(tx, AuditEvent.SETTINGS_CHANGED, now_ms=now_ms, actor=principal, subject=one.key, facts=facts)


def find(tx: Transaction, audit: Audit, before: int | None, limit: int) -> tuple[list[Happened], int | None]:
    """Changes, newest first, below the entry `before`; and the cursor of the next page."""
    page = audit.find(tx, Filters(event=AuditEvent.SETTINGS_CHANGED), before=before, limit=limit)
    return [_happened(found.entry) for found in page.entries], page.next


def _happened(entry: Entry) -> Happened:
    actor = entry.actor
    return Happened(
        seq=entry.seq,
        at_ms=entry.at_ms,
        key=entry.subject,
        by=None if actor is None else actor.user_id,
        device_id=None if actor is None else actor.device_id,
        before=_told(entry.facts.get("from")),
        after=_told(entry.facts.get("to")),
    )


def _told(fact: Fact) -> Any:
    """The value that `record` wrote; a text that was cut is shown as it stands."""
    try:
        return None if fact is None else json.loads(str(fact))
    except ValueError:
        return fact
