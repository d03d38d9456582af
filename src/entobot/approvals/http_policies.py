"""REST of policies: who decides. Looked at by whoever may approve, changed by owners."""

from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.accounts.service import Accounts
from entobot.approvals.policies import KEY, Policies
from entobot.config_approvals import ApprovalPolicy
from entobot.core.clock import rfc3339
from entobot.core.errors import Code
from entobot.settings.service import StoredSettings
from entobot.sources import Source
from entobot.storage.database import Database
from entobot.web.authentication import Caller
from entobot.web.routes import Api

MAX_BYTES = 64 * 1024
LARGEST = 2**53 - 1
MONTH_S = 30 * 86_400
Risk = Literal["low", "medium", "high"]


class ApprovalPolicyRow(BaseModel):
    """As in the settings; times in seconds, 0 for none."""

    tool: str
    args: dict[str, dict[str, Any]]
    for_risk: list[Risk]
    risk: Literal["", "low", "medium", "high"]
    deciders: list[str]
    quorum: int
    two_person: bool
    remind_after_s: float
    escalate_after_s: float
    escalate_to: list[str]
    expire_after_s: float


class WantedApprovalPolicy(BaseModel):
    """As a row; what is left out is as usual."""

    model_config = ConfigDict(extra="forbid")

    tool: str = Field(default="*", max_length=128)
    args: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]], max_length=20)
    for_risk: list[Risk] = Field(default_factory=list[Risk], max_length=3)
    risk: Literal["", "low", "medium", "high"] = ""
    deciders: list[str] = Field(default=["requester"], max_length=50)
    quorum: int = Field(default=1, ge=1, le=10)
    two_person: bool = False
    remind_after_s: float = Field(default=900, ge=0, le=MONTH_S)
    escalate_after_s: float = Field(default=0, ge=0, le=MONTH_S)
    escalate_to: list[str] = Field(default_factory=list[str], max_length=50)
    expire_after_s: float = Field(default=0, ge=0, le=MONTH_S)


class PolicyChangedBy(BaseModel):
    """`by` is a user id."""

    by: str
    at: str


class ApprovalPolicyList(BaseModel):
    rows: list[ApprovalPolicyRow]
    version: int = Field(description="Give it with a change, so that nobody's change is overwritten unseen.")
    source: Source = Field(description="Where they come from: `stored` is what was set here.")
    pinned_by: str | None = Field(description="The variable that wins over anything stored.")
    may_change: bool = Field(description="Whether whoever asks may change them.")
    changed: PolicyChangedBy | None = Field(description="Who stored them last; null where they come from elsewhere.")


class ApprovalPolicyChanges(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: list[WantedApprovalPolicy] | None = Field(
        max_length=50, description="All of them, in their order; null takes back what is stored."
    )
    version: int = Field(ge=0, le=LARGEST, description="As it was read.")
    dry_run: bool = Field(default=False, description="Tell what would change, and change nothing.")


class ChangedApprovalPolicies(BaseModel):
    """What would be, or was, taken out and put in; both empty: the order, or nothing."""

    version: int
    dry_run: bool
    removed: list[ApprovalPolicyRow]
    added: list[ApprovalPolicyRow]
    is_changed: bool


def add_routes(api: Api, settings: StoredSettings, accounts: Accounts, database: Database) -> None:
    policies = Policies(settings, accounts, database)

    async def list_approval_policies(caller: Caller, response: Response) -> ApprovalPolicyList:
        response.headers["Cache-Control"] = "no-store"
        found = await policies.look(caller)
        stored = found.state.changed
        return ApprovalPolicyList(
            rows=[row_of(one) for one in found.policies],
            version=found.version,
            source=found.state.source,
            pinned_by=found.state.pinned_by,
            may_change=found.may_change,
            changed=None if stored is None else PolicyChangedBy(by=stored.changed_by, at=rfc3339(stored.changed_at_ms)),
        )

    async def change_approval_policies(body: ApprovalPolicyChanges, caller: Caller) -> ChangedApprovalPolicies:
        wanted = None if body.rows is None else [_given(one) for one in body.rows]
        changed = await policies.change(caller, wanted, body.version, is_dry_run=body.dry_run)
        before: list[Any] = []
        after: list[Any] = []
        for one in changed.differences:
            if one.key == KEY:
                before, after = one.before, one.after
        return ChangedApprovalPolicies(
            version=changed.version,
            dry_run=body.dry_run,
            removed=[_shown(one) for one in before if one not in after],
            added=[_shown(one) for one in after if one not in before],
            is_changed=before != after,
        )

    path = "/api/v1/approval-policies"
    api.add("GET", path, list_approval_policies)
    told = (Code.SETTINGS_CHANGED,)
    api.add("PUT", path, change_approval_policies, problems=told, max_body_bytes=MAX_BYTES)


def row_of(policy: ApprovalPolicy) -> ApprovalPolicyRow:
    return ApprovalPolicyRow(
        tool=policy.tool,
        args=policy.args,
        for_risk=list(policy.for_risk),
        risk=policy.risk,
        deciders=list(policy.deciders),
        quorum=policy.quorum,
        two_person=policy.two_person,
        remind_after_s=policy.remind_after.total_seconds(),
        escalate_after_s=policy.escalate_after.total_seconds(),
        escalate_to=list(policy.escalate_to),
        expire_after_s=policy.expire_after.total_seconds(),
    )


def _given(row: WantedApprovalPolicy) -> dict[str, Any]:
    """As the settings have it."""
    values = row.model_dump()
    return {name.removesuffix("_s") if name.endswith("_after_s") else name: value for name, value in values.items()}


def _shown(stored: Any) -> ApprovalPolicyRow:
    return row_of(ApprovalPolicy.model_validate(stored))
