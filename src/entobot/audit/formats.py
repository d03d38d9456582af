"""Entries as other systems read them: lines of JSON, syslog (RFC 5424), OCSF. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from entobot.audit.lines import entry_line
from entobot.audit.model import Entry, Personal, canonical
from entobot.core.clock import rfc3339
from entobot.core.secrets import b64u

AUDIT_FACILITY = 13
SEVERITY = {"success": 5, "denied": 4, "failure": 3}
"""RFC 5424: notice, warning, error."""
STRUCTURED = "entobot@32473"
MAX_MESSAGE_ID = 32


def jsonl(entry: Entry, values: Mapping[str, Personal] | None) -> str:
    """As in an export."""
    return entry_line(entry, values)


def syslog(entry: Entry, values: Mapping[str, Personal] | None, host: str) -> str:
    """RFC 5424: the event as MSGID, ids and place in the chain as structured data, facts as JSON in the text."""
    priority = AUDIT_FACILITY * 8 + SEVERITY.get(entry.outcome, 5)
    actor = entry.actor
    told = {
        "seq": str(entry.seq),
        "id": entry.audit_id,
        "outcome": entry.outcome,
        "user": "" if actor is None else actor.user_id,
        "device": "" if actor is None else actor.device_id or "",
        "subject": entry.subject,
        "hash": b64u(entry.hash),
    }
    data = "".join(f' {name}="{_escaped(value)}"' for name, value in told.items() if value)
    text = canonical(_facts(entry, values))
    return (
        f"<{priority}>1 {rfc3339(entry.at_ms)} {_printable(host, 255)} entobot - "
        f"{_printable(entry.event, MAX_MESSAGE_ID)} [{STRUCTURED}{data}] \ufeff{text}"
    )


def _facts(entry: Entry, values: Mapping[str, Personal] | None) -> dict[str, Any]:
    personal = {name: one.value for name, one in (values or {}).items()}
    return dict(entry.facts) | ({"personal": personal} if personal else {})


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _escaped(value: str) -> str:
    """A parameter's value (RFC 5424 §6.3.3); control characters would let somebody write lines of their own."""
    clean = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", value.replace("\\", "\\\\"))
    return clean.replace('"', '\\"').replace("]", "\\]")


def _printable(text: str, most: int) -> str:
    return "".join(c for c in text if "!" <= c <= "~")[:most] or "-"
