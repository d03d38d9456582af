"""The wire shapes of approvals, shared by events, REST, commands and snapshots."""

from entobot.approvals.matching import words
from entobot.approvals.model import Approval, Asking, View, Vote
from entobot.approvals.policy import read_terms
from entobot.approvals.rule_model import Rule
from entobot.core.clock import rfc3339, rfc3339_or_none


def requested_data(approval: Approval, asking: Asking, for_name: str) -> dict[str, object]:
    """As one person is asked."""
    terms = read_terms(approval.terms_json)
    return {
        "approval_id": approval.approval_id,
        "run_id": approval.run_id,
        "conversation_id": approval.conversation_id or None,
        "action": approval.action,
        "action_sha256": approval.action_sha256,
        "title": approval.title,
        "risk": approval.risk,
        "created_at": rfc3339(approval.created_at_ms),
        "expires_at": rfc3339(approval.expires_at_ms),
        "for_user_id": approval.user_id,
        "for_name": for_name,
        "quorum": terms.quorum,
        "two_person": terms.two_person,
        "needs_number": terms.needs_number,
        "needs_verification": terms.needs_verification,
        "may_decide": asking.may_decide,
        "may_edit": asking.may_decide and terms.is_editable,
        "queued": asking.is_queued,
        "escalates_at": rfc3339_or_none(approval.escalate_at_ms),
    }


def approval_row(view: View) -> dict[str, object]:
    """`decision`, `decided_at`, `decided_by_device_id` and what was edited are there once it is known what they are."""
    approval = view.approval
    row = requested_data(approval, view.asking, view.names.get(approval.user_id, "")) | {
        "state": approval.state,
        "votes": [vote_row(vote, view.names.get(vote.user_id, "")) for vote in view.votes],
        "escalated_at": rfc3339_or_none(approval.escalated_at_ms),
    }
    if approval.decision is not None and approval.decided_at_ms is not None:
        row |= {
            "decision": approval.decision,
            "decided_at": rfc3339(approval.decided_at_ms),
            "delivered_at": rfc3339_or_none(approval.delivered_at_ms),
            "consumed_at": rfc3339_or_none(approval.consumed_at_ms),
            "dropped_at": rfc3339_or_none(approval.dropped_at_ms),
        }
    if approval.decided_by_device_id is not None:
        row["decided_by_device_id"] = approval.decided_by_device_id
    if approval.edited_action is not None:
        row["edited_action"] = approval.edited_action
    return row


def vote_row(vote: Vote, name: str) -> dict[str, object]:
    return {
        "user_id": vote.user_id,
        "name": name,
        "decision": vote.decision,
        "device_id": vote.device_id,
        "address": vote.address,
        "verified": vote.verified,
        "reason": vote.reason,
        "at": rfc3339(vote.at_ms),
    }


def rule_row(rule: Rule, now_ms: int) -> dict[str, object]:
    return {
        "rule_id": rule.rule_id,
        "user_id": rule.user_id,
        "tool": rule.tool,
        "for_device_id": rule.for_device_id,
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
