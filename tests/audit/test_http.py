import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI

from entobot.audit.events import AuditEvent
from entobot.audit.heads import RunUnit
from entobot.audit.http import add_routes
from entobot.audit.model import Verification
from entobot.audit.note import VerifierKey, open_note
from entobot.audit.walks import Walks
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.web.authentication import Presented
from entobot.web.idempotency import Idempotency
from entobot.web.problems import install
from entobot.web.routes import Api
from tests.audit.conftest import Log
from tests.support.time import SeededEntropy


class Everybody:
    """Whoever comes is the owner, with the scopes that the test gives."""

    scopes: frozenset[Scope] = ALL_SCOPES
    session_id: str | None = None

    async def authenticate(self, presented: Presented) -> Principal:
        return Principal("usr_owner", self.scopes, "dev_phone", session_id=self.session_id)

    async def local_owner(self) -> Principal:
        raise Problem(Code.UNAUTHENTICATED, "not here")


@pytest.fixture
def everybody() -> Everybody:
    return Everybody()


@pytest.fixture
async def client(log: Log, everybody: Everybody) -> AsyncIterator[httpx.AsyncClient]:
    api = Api(everybody, Idempotency(log.database, log.clock, SeededEntropy()))
    add_routes(api, log.audit, log.database, log.clock)
    app = FastAPI(routes=api.routes)
    install(app, api.methods_for)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://gateway") as client:
        yield client


async def test_the_log_is_listed_newest_first(log: Log, client: httpx.AsyncClient) -> None:
    await log.record(1, event=AuditEvent.GATEWAY_STARTED, actor=None, subject="", facts={})
    await log.record(1, personal={"device_name": "Ann's phone"})
    answer = await client.get("/api/v1/audit")
    assert answer.status_code == 200
    newest, oldest = answer.json()["rows"]
    assert newest | {"audit_id": "", "hash": ""} == {
        "seq": 2,
        "audit_id": "",
        "at": "2026-09-21T14:13:22.000Z",
        "event": "device.renamed",
        "outcome": "success",
        "actor": {"user_id": "usr_owner", "device_id": "dev_phone"},
        "subject": "dev_1",
        "facts": {"by": "test", "n": 1, "late": False},
        "personal": {"device_name": "Ann's phone"},
        "hash": "",
    }
    assert (oldest["actor"], oldest["personal"], oldest["facts"]) == (None, {}, {})


async def test_filters_and_cursors_come_from_the_query(log: Log, client: httpx.AsyncClient) -> None:
    await log.record(3, event=AuditEvent.INVITE_CREATED)
    await log.record(1)
    answer = (await client.get("/api/v1/audit", params={"event": "invite.", "limit": 2})).json()
    assert ([entry["seq"] for entry in answer["rows"]], answer["next"]) == ([3, 2], 2)
    answer = (await client.get("/api/v1/audit", params={"event": "invite.", "before": answer["next"]})).json()
    assert ([entry["seq"] for entry in answer["rows"]], answer["next"]) == ([1], None)
    until = answer["rows"][0]["at"]
    assert (await client.get("/api/v1/audit", params={"until": until})).json()["rows"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "colour=red", "since=yesterday", "since=2026-01-01T00:00:00", "after=1&before=2", "outcome=x", "after=99999999999999999999"]
)  # fmt: skip
async def test_a_senseless_query_is_invalid(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/api/v1/audit?{query}")).status_code == 422


@pytest.mark.parametrize("path", ["", "/checkpoint", "/export", "/verify", "/verify/progress"])
async def test_reading_the_log_needs_its_scope(client: httpx.AsyncClient, everybody: Everybody, path: str) -> None:
    everybody.scopes = ALL_SCOPES - {Scope.AUDIT}
    assert (await client.get(f"/api/v1/audit{path}")).status_code == 403


async def test_verification_says_where_the_log_was_touched(log: Log, client: httpx.AsyncClient) -> None:
    await log.record(3)
    body = (await client.get("/api/v1/audit/verify")).json()
    assert body == {"ok": True, "checked": 3, "signed_seq": None, "erased": 0, "finding": None}
    log.tamper("UPDATE audit_log SET subject='x' WHERE seq=2")
    body = (await client.get("/api/v1/audit/verify")).json()
    assert (body["ok"], body["finding"]["kind"], body["finding"]["seq"]) == (False, "edited", 2)


async def test_the_log_is_walked_once_at_a_time(
    log: Log, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_walking, may_end = asyncio.Event(), asyncio.Event()

    async def slow(read: RunUnit, progress: object = None) -> Verification:
        is_walking.set()
        await may_end.wait()
        return Verification(None, 0, None, 0)

    monkeypatch.setattr(log.audit, "verify", slow)
    first = asyncio.create_task(client.get("/api/v1/audit/verify"))
    await is_walking.wait()
    assert (await client.get("/api/v1/audit/verify")).status_code == 429
    may_end.set()
    assert (await first).status_code == 200
    assert (await client.get("/api/v1/audit/verify")).status_code == 200


async def test_a_walk_tells_how_far_it_is_and_what_it_found(log: Log, client: httpx.AsyncClient) -> None:
    await log.record(3)
    answer = await client.get("/api/v1/audit/verify/progress")
    assert answer.headers["content-type"] == "application/x-ndjson"
    *news, last = [json.loads(line) for line in answer.text.splitlines()]
    assert news[0] == {"checked": 0, "total": 0}
    assert last == {"result": (await client.get("/api/v1/audit/verify")).json()}


async def test_whoever_leaves_ends_the_walk_and_another_may_begin(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def endless(read: RunUnit, progress: Callable[[int, int], None]) -> Verification:
        try:
            progress(7, 9)
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr(log.audit, "verify", endless)
    walks = Walks(log.audit, log.database.read)
    told = walks.watched()
    assert await anext(told) == (0, 0)
    with pytest.raises(Problem, match="verified"):
        await anext(walks.watched())
    assert await anext(told) == (7, 9)
    await told.aclose()
    await ended.wait()
    assert await anext(walks.watched()) == (0, 0)


async def test_the_whole_log_is_taken_away_as_lines_or_as_a_table(log: Log, client: httpx.AsyncClient) -> None:
    await log.record(600)
    answer = await client.get("/api/v1/audit/export")
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-disposition"].startswith('attachment; filename="audit-2026-')
    assert len(answer.text.splitlines()) == 601 + 3
    answer = await client.get("/api/v1/audit/export", params={"format": "csv", "event": "audit."})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert [line.split(",")[2] for line in answer.text.splitlines()] == ["event", "audit.exported", "audit.exported"]


@pytest.mark.parametrize("query", ["format=xml", "limit=3", "after=1&event=a", "after=1&format=csv", "before=3"])
async def test_a_senseless_export_is_invalid_and_not_recorded(log: Log, client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/api/v1/audit/export?{query}")).status_code == 422
    assert log.ask("SELECT count(*) FROM audit_log") == [(0,)]


async def test_a_browser_needs_a_fresh_sign_in_to_export(
    log: Log, client: httpx.AsyncClient, everybody: Everybody
) -> None:
    everybody.session_id = "ses_1"
    assert (await client.get("/api/v1/audit/export")).json()["code"] == "step_up_required"
    assert (await client.get("/api/v1/audit")).status_code == 200


async def test_a_checkpoint_is_signed_by_the_key_that_is_told(log: Log, client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/audit/checkpoint")).status_code == 404
    await log.record(3)
    body = (await client.get("/api/v1/audit/checkpoint")).json()
    assert open_note(body["note"], VerifierKey.parse(body["key"])).size == body["size"] == 3
    assert (await client.get("/api/v1/audit/checkpoint")).json() == body
