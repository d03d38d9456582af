"""REST: `GET /api/v1/approvals`, `GET /api/v1/approvals/{approval_id}`. Deciding is a command."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel

from entobot.approvals.rows import approval_row
from entobot.approvals.service import Approvals
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class ApprovalRow(BaseModel):
    approval_id: str
    run_id: str
    conversation_id: str
    action: str
    action_sha256: str
    title: str
    risk: str
    state: str
    created_at: str
    expires_at: str
    decision: str | None = None
    decided_at: str | None = None
    decided_by_device_id: str | None = None


class ApprovalPage(BaseModel):
    rows: list[ApprovalRow]
    next: str | None


State = Annotated[Literal["pending", "all"], Query()]
Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=100)]


def add_routes(api: Api, approvals: Approvals, database: Database) -> None:
    async def list_approvals(
        caller: Caller, state: State = "pending", cursor: Cursor = None, limit: Limit = 50
    ) -> object:
        def unit(tx: Transaction) -> object:
            rows, following = approvals.list(
                tx, caller.user_id, only_pending=state == "pending", cursor=cursor, limit=limit
            )
            return {"rows": [approval_row(row) for row in rows], "next": following}

        return await database.read(unit)

    async def get_approval(caller: Caller, approval_id: str) -> object:
        return await database.read(lambda tx: approval_row(approvals.get(tx, caller.user_id, approval_id)))

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
