"""REST: approvals, and the rules that were made with them. Deciding is a command."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel

from entobot.approvals.model import ApprovalState
from entobot.approvals.rows import approval_row, rule_row
from entobot.approvals.service import Approvals
from entobot.core.clock import Clock
from entobot.core.errors import Code
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class VoteRow(BaseModel):
    """`verified` is `key` (the device's signature), `passkey` or `sms` (a code, and nothing signed). `address` is where the answer came from."""

    user_id: str
    name: str
    decision: str
    device_id: str | None
    address: str
    verified: str
    reason: str | None
    at: str


class ApprovalRow(BaseModel):
    """`may_decide`, `may_edit`: whether the caller may. `queued`: asked, but not aloud yet."""

    approval_id: str
    run_id: str
    conversation_id: str | None
    action: str
    action_sha256: str
    title: str
    risk: str
    state: str
    created_at: str
    expires_at: str
    for_user_id: str
    for_name: str
    quorum: int
    two_person: bool
    needs_number: bool
    needs_verification: bool
    may_decide: bool
    may_edit: bool
    queued: bool
    escalates_at: str | None
    escalated_at: str | None
    votes: list[VoteRow]
    decision: str | None = None
    decided_at: str | None = None
    delivered_at: str | None = None
    consumed_at: str | None = None
    dropped_at: str | None = None
    decided_by_device_id: str | None = None
    edited_action: str | None = None


class ApprovalNumber(BaseModel):
    approval_id: str
    number: str | None


class ApprovalPage(BaseModel):
    rows: list[ApprovalRow]
    next: str | None


class ApprovalRuleRow(BaseModel):
    """`conditions`: what each argument must be. `words` says the same for people. `for_device_id`: of that program only."""

    rule_id: str
    user_id: str
    tool: str
    for_device_id: str | None
    conditions: dict[str, dict[str, Any]]
    words: list[str]
    risk: str
    state: Literal["active", "ended", "expired"]
    approval_id: str
    made_by_user_id: str
    made_by_device_id: str | None
    created_at: str
    expires_at: str
    uses: int
    last_used_at: str | None
    ended_at: str | None
    ended_by: str | None
    ended_because: str | None


class ApprovalRulePage(BaseModel):
    rows: list[ApprovalRuleRow]
    next: str | None


State = Annotated[Literal["pending", "all", "approved", "denied", "expired", "cancelled"], Query()]
Tool = Annotated[str, Query(max_length=128, pattern="^[A-Za-z0-9_.:-]*$", description="Of this tool only.")]
Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=100)]


def add_routes(api: Api, approvals: Approvals, database: Database, clock: Clock) -> None:
    _add_rule_routes(api, approvals, database, clock)

    async def list_approvals(
        caller: Caller, state: State = "pending", tool: Tool = "", cursor: Cursor = None, limit: Limit = 50
    ) -> object:
        def unit(tx: Transaction) -> object:
            rows, following = approvals.list(
                tx,
                caller.user_id,
                state=None if state == "all" else ApprovalState(state),
                tool=tool,
                cursor=cursor,
                limit=limit,
            )
            return {"rows": [approval_row(row) for row in rows], "next": following}

        return await database.read(unit)

    async def get_approval(caller: Caller, approval_id: str) -> object:
        return await database.read(lambda tx: approval_row(approvals.get(tx, caller.user_id, approval_id)))

    async def get_approval_number(caller: Caller, approval_id: str) -> object:
        def unit(tx: Transaction) -> object:
            return {"approval_id": approval_id, "number": approvals.number_for(tx, caller, approval_id)}

        return await database.read(unit)

    api.add(
        "GET",
        "/api/v1/approvals/{approval_id}/number",
        get_approval_number,
        response_model=ApprovalNumber,
        problems=(Code.NOT_FOUND, Code.FORBIDDEN),
    )
    api.add(
        "GET",
        "/api/v1/approvals",
        list_approvals,
        response_model=ApprovalPage,
        response_model_exclude_unset=True,
    )
    api.add(
        "GET",
        "/api/v1/approvals/{approval_id}",
        get_approval,
        response_model=ApprovalRow,
        response_model_exclude_unset=True,
    )


def _add_rule_routes(api: Api, approvals: Approvals, database: Database, clock: Clock) -> None:
    rules = approvals.rules

    async def list_rules(
        caller: Caller,
        whose: Annotated[Literal["mine", "all"], Query(description="`all` needs `users.manage`.")] = "mine",
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> object:
        now_ms = clock.now_ms()

        def unit(tx: Transaction) -> object:
            rows, following = rules.list(tx, caller, is_everybody=whose == "all", cursor=cursor, limit=limit)
            return {"rows": [rule_row(row, now_ms) for row in rows], "next": following}

        return await database.read(unit)

    async def get_rule(caller: Caller, rule_id: str) -> object:
        now_ms = clock.now_ms()
        return await database.read(lambda tx: rule_row(rules.get(tx, caller, rule_id), now_ms))

    async def end_rule(caller: Caller, rule_id: str) -> object:
        now_ms = clock.now_ms()

        def unit(tx: Transaction) -> object:
            approvals.guard(tx, caller)
            return rule_row(rules.end(tx, caller, rule_id, now_ms), now_ms)

        return await database.write(unit)

    one = "/api/v1/approval-rules/{rule_id}"
    api.add("GET", "/api/v1/approval-rules", list_rules, response_model=ApprovalRulePage)
    api.add("GET", one, get_rule, response_model=ApprovalRuleRow, problems=(Code.NOT_FOUND,))
    api.add("DELETE", one, end_rule, response_model=ApprovalRuleRow, problems=(Code.NOT_FOUND,))
