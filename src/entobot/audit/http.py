"""REST of the audit log: translate only."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from entobot.audit.events import Outcome
from entobot.audit.model import Found, Verification
from entobot.audit.searching import Filters
from entobot.audit.service import MAX_PAGE, Audit, ExportWanted
from entobot.audit.walks import Walks
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.secrets import b64u
from entobot.storage.database import Database
from entobot.web.authentication import Caller
from entobot.web.routes import Api

LARGEST_SEQ = 2**53 - 1


MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/jsonl", "ndjson": "application/x-ndjson"}


class FilterQuery(BaseModel):
    """What is given must hold together."""

    model_config = ConfigDict(extra="forbid")

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


class AuditQuery(FilterQuery):
    after: int | None = Field(default=None, ge=0, le=LARGEST_SEQ, description="Oldest first, from behind this `seq`.")
    before: int | None = Field(default=None, ge=1, le=LARGEST_SEQ, description="Newest first, below this `seq`.")
    limit: int = Field(default=100, ge=1, le=MAX_PAGE)


class ExportQuery(FilterQuery):
    """Without filters the whole chain, which can be verified offline; with them a selection."""

    format: Literal["csv", "jsonl"] = Field(default="jsonl", description="`jsonl` can be verified offline.")
    after: int | None = Field(
        default=None, ge=0, le=LARGEST_SEQ, description="The chain from behind this `seq`: `jsonl` without filters."
    )


class CheckpointView(BaseModel):
    """`note` is a C2SP signed note over the first `size` entries; `key` is the verifier key that it is good under."""

    size: int
    at: str
    note: str
    key: str


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


def add_routes(api: Api, audit: Audit, database: Database, clock: Clock) -> None:
    async def list_audit(query: Annotated[AuditQuery, Query()]) -> PageView:
        filters = query.filters()
        page = await database.read(
            lambda tx: audit.find(tx, filters, after=query.after, before=query.before, limit=query.limit)
        )
        return PageView(rows=[_entry(found) for found in page.entries], next=page.next)

    async def export_audit(query: Annotated[ExportQuery, Query()], by: Caller) -> StreamingResponse:
        filters = query.filters()
        if query.after is not None and (filters.given() or query.format != "jsonl"):
            raise Problem(Code.INVALID, "'after' is for the whole chain as jsonl: leave out the filters.")
        wanted = ExportWanted(query.format, filters, query.after)
        now_ms = clock.now_ms()
        pages = await audit.export(database.read, database.write, wanted, now_ms=now_ms, by=by)
        name = f"audit-{rfc3339(now_ms)[:19].replace(':', '')}.{query.format}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(pages, media_type=MEDIA_TYPES[query.format], headers=headers)

    async def find_audit_checkpoint() -> CheckpointView:
        made = await audit.checkpoints.make(database.read, database.write, clock.now_ms())
        newest = made or await audit.checkpoints.newest(database.read)
        key = await audit.checkpoints.key(database.read)
        if newest is None or key is None:
            raise Problem(Code.NOT_FOUND, "There is no checkpoint: nothing can be signed. See the gateway's log.")
        return CheckpointView(size=newest.tree.size, at=rfc3339(newest.made_at_ms), note=newest.note, key=str(key))

    api.add("GET", "/api/v1/audit", list_audit, response_model=PageView)
    api.add(
        "GET",
        "/api/v1/audit/checkpoint",
        find_audit_checkpoint,
        problems=[Code.NOT_FOUND],
        response_model=CheckpointView,
    )
    api.add(
        "GET",
        "/api/v1/audit/export",
        export_audit,
        response_class=StreamingResponse,
        response_model=None,
        responses=_streams("csv", "jsonl"),
    )
    _add_verification(api, Walks(audit, database.read))


def _add_verification(api: Api, walks: Walks) -> None:
    async def verify_audit() -> VerificationView:
        return _verification(await walks.run())

    async def watch_audit_verification() -> StreamingResponse:
        told = walks.watched()
        first = await anext(told)  # here, so that a refusal is an answer of its own
        return StreamingResponse(_progress(first, told), media_type=MEDIA_TYPES["ndjson"])

    api.add("GET", "/api/v1/audit/verify", verify_audit, problems=[Code.RATE_LIMITED], response_model=VerificationView)
    api.add(
        "GET",
        "/api/v1/audit/verify/progress",
        watch_audit_verification,
        problems=[Code.RATE_LIMITED],
        response_class=StreamingResponse,
        response_model=None,
        responses=_streams("ndjson"),
    )


def _streams(*formats: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {MEDIA_TYPES[name]: {"schema": {"type": "string"}} for name in formats}}}


async def _progress(
    first: tuple[int, int] | Verification, told: AsyncGenerator[tuple[int, int] | Verification]
) -> AsyncGenerator[bytes]:
    """A line of JSON each: `{"checked":…,"total":…}`, last `{"result":…}` as `VerificationView`."""
    async with aclosing(told):
        yield _progress_line(first)
        async for news in told:
            yield _progress_line(news)


def _progress_line(news: tuple[int, int] | Verification) -> bytes:
    if isinstance(news, Verification):
        return b'{"result":%s}\n' % _verification(news).model_dump_json().encode()
    return b'{"checked":%d,"total":%d}\n' % news


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
