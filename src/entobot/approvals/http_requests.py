"""REST of requests from outside: a program asks for leave, waits with a long poll, and takes what was decided."""

import json
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from entobot.approvals import request_model as model
from entobot.approvals.model import ApprovalState, Risk
from entobot.approvals.request_model import Outcome, Wish
from entobot.approvals.requests import Requests
from entobot.bus.waiting import Waiting
from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api

MAX_WAIT_S = 30
LOOK_EVERY_S = 2.0
"""In case the bell of another node was lost."""
MAX_BODY_BYTES = 128 * 1024
ONE = "/api/v1/approval-requests/{request_id}"


class NewApprovalRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str = Field(
        pattern=rf"^[A-Za-z0-9_.:-]{{1,{model.MAX_TOOL_CHARACTERS}}}$",
        description="What would be done; policies know it as `outside:…`.",
    )
    args: dict[str, Any] = Field(description="With what, whole: this is what is signed.")
    title: str = Field(default="", max_length=120, description="One line for people.")
    risk: Literal["low", "medium", "high"] = Field(default="medium", description="Policies may raise it.")
    edits: bool = Field(default=False, description="You carry out the `args` that come back, whatever they are.")
    expires_in_s: int = Field(default=model.USUAL_LIFE_S, ge=model.MIN_LIFE_S, le=model.MAX_LIFE_S)
    key: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="Your name for it: asked again, it stays one request.",
    )
    callback_url: str | None = Field(
        default=None, max_length=1024, description="Post the decision there; settings say where it may be."
    )


class ApprovalRequestRow(BaseModel):
    """`args` are what was asked, and once it is approved what may be done. `number`: digits to show to the person while
    it is pending. `rule_id`: a rule let it through. `taken_at`: when its end was told for the first time, null the first.
    """

    request_id: str
    approval_id: str | None
    rule_id: str | None
    key: str | None
    tool: str
    title: str
    risk: str
    state: ApprovalState
    args: dict[str, Any]
    edited: bool
    reason: str | None
    number: str | None
    created_at: str
    expires_at: str
    decided_at: str | None
    taken_at: str | None


def request_row(outcome: Outcome) -> dict[str, Any]:
    request, approval = outcome.request, outcome.approval
    decided_at_ms = request.created_at_ms if approval is None else approval.decided_at_ms
    return {
        "request_id": request.request_id,
        "approval_id": request.approval_id,
        "rule_id": request.rule_id,
        "key": request.key,
        "tool": request.tool,
        "title": request.title,
        "risk": request.risk,
        "state": outcome.state,
        "args": outcome.args,
        "edited": approval is not None and approval.edited_action is not None,
        "reason": None if approval is None else approval.reason,
        "number": outcome.number,
        "created_at": rfc3339(request.created_at_ms),
        "expires_at": rfc3339(request.expires_at_ms if approval is None else approval.expires_at_ms),
        "decided_at": rfc3339_or_none(decided_at_ms),
        "taken_at": rfc3339_or_none(request.taken_at_ms),
    }


class _Look:
    def __init__(self, requests: Requests, database: Database, clock: Clock, waiting: Waiting) -> None:
        self._requests = requests
        self._database = database
        self._clock = clock
        self._waiting = waiting

    async def once(self, caller: Principal, request_id: str, wait_s: float) -> Outcome:
        """As it is, or after `wait_s` at most once it is decided."""
        until_s = self._clock.monotonic() + wait_s
        outcome = await self._now(caller, request_id)
        if not wait_s or outcome.state is not ApprovalState.PENDING:
            return outcome
        with self._waiting.turn(request_id) as turn:  # of the program that asked: a newer turn ends an older one
            while True:
                outcome = await self._now(caller, request_id)
                left_s = until_s - self._clock.monotonic()
                if outcome.state is not ApprovalState.PENDING or left_s <= 0 or turn.is_over:
                    return outcome
                await turn.wait(min(left_s, LOOK_EVERY_S))

    async def _now(self, caller: Principal, request_id: str) -> Outcome:
        return await self._database.read(lambda tx: self._requests.get(tx, caller, request_id))


def add_routes(api: Api, requests: Requests, database: Database, clock: Clock, waiting: Waiting) -> None:
    look = _Look(requests, database, clock, waiting)

    async def request_approval(caller: Caller, asked: NewApprovalRequest) -> object:
        """Ask for leave to do something. A rule lets it through, or people decide by the policies; `state` says."""
        wish = Wish(
            asked.tool,
            json.dumps(asked.args),
            asked.title,
            Risk(asked.risk),
            takes_edits=asked.edits,
            life_s=asked.expires_in_s,
            key=asked.key,
            callback_url=asked.callback_url,
        )
        now_ms = clock.now_ms()

        def unit(tx: Transaction) -> object:
            outcome = requests.request(tx, caller, wish, now_ms)
            requests.take(tx, outcome, now_ms)
            return request_row(outcome)

        return await database.write(unit)

    async def get_approval_request(
        caller: Caller,
        request_id: str,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Wait so long for the decision.")] = 0,
    ) -> object:
        """What this program asked for, as it is, or as it is once it was decided, taken back or has expired."""
        outcome = await look.once(caller, request_id, wait_s)
        if outcome.state is not ApprovalState.PENDING and outcome.request.taken_at_ms is None:
            taken, now_ms = outcome, clock.now_ms()
            await database.write(lambda tx: requests.take(tx, taken, now_ms), is_small=True)
        return request_row(outcome)

    async def take_back_approval_request(caller: Caller, request_id: str) -> object:
        """You do not need it any more: it leaves people's phones. Only who asked can."""
        now_ms = clock.now_ms()
        return await database.write(lambda tx: request_row(requests.take_back(tx, caller, request_id, now_ms)))

    shown: dict[str, Any] = {"response_model": ApprovalRequestRow}
    asking = [Code.ADDRESS_REFUSED, Code.IDEMPOTENCY_MISMATCH, Code.TOO_LARGE, Code.ACTION_NOT_PRESENTABLE]
    closed = [Code.NOT_FOUND, Code.APPROVAL_ALREADY_DECIDED, Code.APPROVAL_EXPIRED]
    at = "/api/v1/approvals"
    api.add("POST", at, request_approval, status_code=201, problems=asking, max_body_bytes=MAX_BODY_BYTES, **shown)
    api.add("GET", ONE, get_approval_request, problems=[Code.NOT_FOUND], **shown)
    api.add("DELETE", ONE, take_back_approval_request, problems=closed, **shown)
