"""REST of the audit log: translate only."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from entobot.audit.events import Outcome
from entobot.audit.model import Found, Verification
from entobot.audit.searching import Filters
from entobot.audit.service import MAX_PAGE, Audit
from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.secrets import b64u
from entobot.storage.database import Database
from entobot.web.routes import Api

LARGEST_SEQ = 2**53 - 1


class AuditQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(default=None, ge=0, le=LARGEST_SEQ, description="Oldest first, from behind this `seq`.")
    before: int | None = Field(default=None, ge=1, le=LARGEST_SEQ, description="Newest first, below this `seq`.")
    event: str | None = Field(default=None, max_length=64, description="An event's name, or its beginning: `invite.`")
    actor: str | None = Field(default=None, max_length=64, description="A user id or a device id.")
    subject: str | None = Field(default=None, max_length=64, description="The id of what was acted on.")
    outcome: Outcome | None = None
    since: AwareDatetime | None = Field(default=None, description="RFC 3339; this instant and later.")
    until: AwareDatetime | None = Field(default=None, description="RFC 3339; before this instant.")
    text: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Stands in the event's name, an id, a fact or a personal value; upper and lower case are alike.",
    )
    limit: int = Field(default=100, ge=1, le=MAX_PAGE)

    def filters(self) -> Filters:
        return Filters(
            event=self.event or None,
            actor=self.actor,
            subject=self.subject,
            outcome=self.outcome,
            since_ms=_ms(self.since),
            until_ms=_ms(self.until),
            text=self.text,
        )


class ActorView(BaseModel):
    user_id: str
    device_id: str | None


class EntryView(BaseModel):
    """`personal` is null once it was erased. `hash` is base64url(SHA-256), see the chain's definition."""

    seq: int
    audit_id: str
    at: str
    event: str
    outcome: str
    actor: ActorView | None
    subject: str
    facts: dict[str, Any]
    personal: dict[str, str] | None
    hash: str


class PageView(BaseModel):
    """`next` goes into `before` (into `after`, if the page was asked for with it); null at the end.

    One page looks at a bounded number of entries: it may be short, or empty, and have a `next` all the same.
    """

    rows: list[EntryView]
    next: int | None


class FindingView(BaseModel):
    kind: str
    seq: int
    detail: str


class VerificationView(BaseModel):
    """`signed_seq` is the newest entry under a valid signature: a tail cut behind it cannot be told."""

    ok: bool
    checked: int
    signed_seq: int | None
    erased: int
    finding: FindingView | None


def add_routes(api: Api, audit: Audit, database: Database) -> None:
    # A walk costs CPU in proportion to the log: one at a time, whoever asks.
    walking = asyncio.Semaphore(1)

    async def list_audit(query: Annotated[AuditQuery, Query()]) -> PageView:
        filters = query.filters()
        page = await database.read(
            lambda tx: audit.find(tx, filters, after=query.after, before=query.before, limit=query.limit)
        )
        return PageView(rows=[_entry(found) for found in page.entries], next=page.next)

    async def verify_audit() -> VerificationView:
        if walking.locked():
            raise Problem(Code.RATE_LIMITED, "The log is being verified. Ask again when that is done.", retry_after_s=5)
        async with walking:
            return _verification(await audit.verify(database.read))

    api.add("GET", "/api/v1/audit", list_audit, response_model=PageView)
    api.add("GET", "/api/v1/audit/verify", verify_audit, problems=[Code.RATE_LIMITED], response_model=VerificationView)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _entry(found: Found) -> EntryView:
    entry = found.entry
    actor = entry.actor
    return EntryView(
        seq=entry.seq,
        audit_id=entry.audit_id,
        at=rfc3339(entry.at_ms),
        event=entry.event,
        outcome=entry.outcome,
        actor=None if actor is None else ActorView(user_id=actor.user_id, device_id=actor.device_id),
        subject=entry.subject,
        facts=dict(entry.facts),
        personal=None if found.personal is None else dict(found.personal),
        hash=b64u(entry.hash),
    )


def _verification(result: Verification) -> VerificationView:
    finding = result.finding
    return VerificationView(
        ok=result.is_intact,
        checked=result.checked,
        signed_seq=result.signed_seq,
        erased=result.erased,
        finding=None if finding is None else FindingView(kind=finding.kind, seq=finding.seq, detail=finding.detail),
    )
