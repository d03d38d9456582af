"""What is said of alerts, to people and to programs. Pure."""

from collections.abc import Sequence

from entobot.alerts.channel import Notice
from entobot.alerts.model import Alert, Message, MessageKind
from entobot.core.alert_rules import RULES
from entobot.core.clock import rfc3339

SHOWN_IN_DIGEST = 20


def plain(text: str) -> str:
    """One line without control characters, whatever it was made of."""
    return "".join(one if one.isprintable() else " " for one in text).strip()


def seen_text(alert: Alert) -> str:
    """What was seen, on one line; empty where the title says it all."""
    facts = dict(alert.facts)
    facts.pop("subject", None)
    parts = [f"{alert.count} times"] if alert.count > 1 else []
    value, within, window_s = facts.pop("value", None), facts.pop("in_window", 1), facts.pop("window_s", None)
    if value is not None:
        parts.append(f"{value} {RULES[alert.rule].unit}".strip())
    if within != 1:
        parts.append(f"{within} within {window_s} s")
    return plain(", ".join([*parts, *(f"{name.replace('_', ' ')} {value}" for name, value in sorted(facts.items()))]))


def as_data(alert: Alert) -> dict[str, object]:
    return {
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "title": alert.title,
        "severity": alert.severity,
        "state": alert.state,
        "subject": alert.subject,
        "node": alert.node,
        "count": alert.count,
        "first_at": rfc3339(alert.first_at_ms),
        "last_at": rfc3339(alert.last_at_ms),
        "facts": dict(alert.facts),
        "fix": RULES[alert.rule].fix,
        "docs": RULES[alert.rule].docs,
    }


def single(message: Message, alert: Alert, gateway: str, origin: str) -> Notice:
    rule, is_over = RULES[alert.rule], message.kind is MessageKind.CLEARED
    word = "over" if is_over else str(alert.severity)
    seen = seen_text(alert)
    lines = [
        f"Gateway: {gateway} ({origin})",
        *([f"Node: {alert.node}"] if alert.node else []),
        *([f"About: {alert.subject}"] if alert.subject else []),
        f"Since: {rfc3339(alert.first_at_ms)}",
        *([f"Over since: {rfc3339(alert.cleared_at_ms)}"] if alert.cleared_at_ms is not None else []),
        *([f"Seen: {seen}"] if seen else []),
        *([] if is_over else ["", "What to do:", rule.fix, f"See {rule.docs}."]),
        "",
        f"Alert {alert.alert_id}, rule {alert.rule}: {origin}/admin/alerts",
    ]
    return Notice(
        message_id=message.message_id,
        kind=message.kind,
        at_ms=message.made_at_ms,
        headline=plain(f"[{gateway}] {word}: {alert.title}"),
        lines=tuple(plain(line) for line in lines),
        data={"gateway": origin, "alert": as_data(alert)},
    )


def digest(message: Message, told: Sequence[tuple[Message, Alert]], gateway: str, origin: str) -> Notice:
    """Of several that came faster than the channel may be told."""
    rows = [
        f"{rfc3339(one.made_at_ms)}  {'over' if one.kind is MessageKind.CLEARED else alert.severity}: {alert.title}"
        f" ({alert.alert_id})"
        for one, alert in told[:SHOWN_IN_DIGEST]
    ]
    more = len(told) - len(rows)
    lines = [
        f"Gateway: {gateway} ({origin})",
        "More happened than this channel is told one by one (per_hour):",
        "",
        *rows,
        *([f"and {more} more"] if more else []),
        "",
        f"All of them: {origin}/admin/alerts",
    ]
    return Notice(
        message_id=message.message_id,
        kind=MessageKind.DIGEST,
        at_ms=message.made_at_ms,
        headline=plain(f"[{gateway}] and {len(told)} more"),
        lines=tuple(plain(line) for line in lines),
        data={"gateway": origin, "count": len(told), "alerts": [as_data(alert) for _, alert in told[:SHOWN_IN_DIGEST]]},
    )


def trial(message: Message, gateway: str, origin: str) -> Notice:
    return Notice(
        message_id=message.message_id,
        kind=MessageKind.TEST,
        at_ms=message.made_at_ms,
        headline=plain(f"[{gateway}] test of the channel {message.channel}"),
        lines=(plain(f"Gateway: {gateway} ({origin})"), "Somebody sent this to see whether it arrives. It did."),
        data={"gateway": origin},
    )
