"""Device commands: `approval.check_edit`, `approval.decide`, `approval.list`, `approval.number`, `approval_rule.end`, `approval_rule.list`."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from entobot.approvals.action import MAX_ACTION_BYTES
from entobot.approvals.matching import MAX_RULE_BYTES
from entobot.approvals.model import MAX_REASON_CHARACTERS, MAX_SIGNATURE_BYTES, Answer, ApprovalState, Decision
from entobot.approvals.rows import approval_row, rule_row
from entobot.approvals.service import Approvals
from entobot.core.errors import Problem
from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.storage.database import Transaction

PENDING = {"pending": ApprovalState.PENDING}
Id = Annotated[str, Meta(max_length=64)]


class Decide(Struct, forbid_unknown_fields=True):
    approval_id: Id
    decision: Literal["approve", "deny"]
    action_sha256: Id
    signature: Annotated[str, Meta(max_length=MAX_SIGNATURE_BYTES)]
    edited_action: Annotated[str, Meta(max_length=MAX_ACTION_BYTES)] | None = None
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARACTERS)] | None = None
    number: Annotated[str, Meta(pattern="^[0-9]{2}$")] | None = None
    assertion: dict[str, Any] | None = None
    rule: Annotated[str, Meta(max_length=MAX_RULE_BYTES)] | None = None


class CheckEdit(Struct, forbid_unknown_fields=True):
    approval_id: Id
    edited_action: Annotated[str, Meta(max_length=MAX_ACTION_BYTES)]


class OneApproval(Struct, forbid_unknown_fields=True):
    approval_id: Id


class ListApprovals(Struct, forbid_unknown_fields=True):
    state: Literal["pending", "all"] = "pending"
    cursor: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class ListRules(Struct, forbid_unknown_fields=True):
    cursor: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class EndRule(Struct, forbid_unknown_fields=True):
    rule_id: Id


def commands(approvals: Approvals) -> list[Command]:
    def check_edit(tx: Transaction, caller: Principal, data: CheckEdit, now_ms: int) -> object:
        risk = approvals.check_edit(tx, caller, data.approval_id, data.edited_action, now_ms)
        return {"approval_id": data.approval_id, "risk": risk}

    def decide(tx: Transaction, caller: Principal, data: Decide, now_ms: int) -> object:
        answer = Answer(
            data.approval_id,
            Decision(data.decision),
            data.action_sha256,
            edited_action=data.edited_action,
            reason=data.reason,
            number=data.number,
            assertion=data.assertion,
            rule=data.rule,
        )
        seen = approvals.decide(tx, caller, answer, data.signature, now_ms)
        return seen if isinstance(seen, Problem) else approval_row(seen)

    def number(tx: Transaction, caller: Principal, data: OneApproval, now_ms: int) -> object:
        return {"approval_id": data.approval_id, "number": approvals.number_for(tx, caller, data.approval_id)}

    def list_(tx: Transaction, caller: Principal, data: ListApprovals, now_ms: int) -> object:
        rows, cursor = approvals.list(
            tx, caller.user_id, state=PENDING.get(data.state), cursor=data.cursor, limit=data.limit
        )
        return {"rows": [approval_row(row) for row in rows], "next": cursor}

    def list_rules(tx: Transaction, caller: Principal, data: ListRules, now_ms: int) -> object:
        rows, cursor = approvals.rules.list(tx, caller, is_everybody=False, cursor=data.cursor, limit=data.limit)
        return {"rows": [rule_row(row, now_ms) for row in rows], "next": cursor}

    def end_rule(tx: Transaction, caller: Principal, data: EndRule, now_ms: int) -> object:
        return rule_row(approvals.rules.end(tx, caller, data.rule_id, now_ms), now_ms)

    return [
        Command("approval.check_edit", CheckEdit, check_edit, writes=False),
        Command("approval.decide", Decide, decide),
        Command("approval.list", ListApprovals, list_, writes=False),
        Command("approval.number", OneApproval, number, writes=False),
        Command("approval_rule.end", EndRule, end_rule),
        Command("approval_rule.list", ListRules, list_rules, writes=False),
    ]
