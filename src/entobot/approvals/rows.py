"""The wire shapes of approvals, shared by events, REST, commands and snapshots."""

from entobot.approvals.matching import words
from entobot.approvals.model import Approval
from entobot.approvals.rule_model import Rule
from entobot.core.clock import rfc3339, rfc3339_or_none


def requested_data(approval: Approval) -> dict[str, object]:
    return {
        "approval_id": approval.approval_id,
        "run_id": approval.run_id,
        "conversation_id": approval.conversation_id,
        "action": approval.action,
        "action_sha256": approval.action_sha256,
        "title": approval.title,
        "risk": approval.risk,
        "created_at": rfc3339(approval.created_at_ms),
        "expires_at": rfc3339(approval.expires_at_ms),
    }


def approval_row(approval: Approval) -> dict[str, object]:
    """`decision`, `decided_at` and `decided_by_device_id` are there once it is known what they are."""
    row = requested_data(approval) | {"state": approval.state}
    if approval.decision is not None and approval.decided_at_ms is not None:
        row |= {"decision": approval.decision, "decided_at": rfc3339(approval.decided_at_ms)}
    if approval.decided_by_device_id is not None:
        row["decided_by_device_id"] = approval.decided_by_device_id
    return row


def rule_row(rule: Rule, now_ms: int) -> dict[str, object]:
    return {
        "rule_id": rule.rule_id,
        "user_id": rule.user_id,
        "tool": rule.tool,
        "conditions": rule.conditions,
        "words": words(rule.tool, rule.conditions),
        "risk": rule.risk,
        "state": rule.state(now_ms),
        "approval_id": rule.approval_id,
        "made_by_user_id": rule.made_by_user_id,
        "made_by_device_id": rule.made_by_device_id,
        "created_at": rfc3339(rule.created_at_ms),
        "expires_at": rfc3339(rule.expires_at_ms),
        "uses": rule.uses,
        "last_used_at": rfc3339_or_none(rule.last_used_at_ms),
        "ended_at": rfc3339_or_none(rule.ended_at_ms),
        "ended_by": rule.ended_by,
        "ended_because": rule.ended_because,
    }
