"""Approvals over REST, behind the real router."""

from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from entobot.approvals.http import add_routes
from entobot.core.errors import Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.web.authentication import Presented
from entobot.web.idempotency import Idempotency
from entobot.web.routes import Api
from tests.approvals.conftest import Ask
from tests.support.agency import Agency, Pocket

ON_EVERY_STORE = True


class Doorman:
    """Lets in whoever the test says is calling."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    async def authenticate(self, presented: Presented) -> Principal:
        return self.principal

    async def local_owner(self) -> Principal:
        return self.principal


@pytest.fixture
def doorman(phone: Pocket) -> Doorman:
    return Doorman(phone.principal)


@pytest.fixture
def client(agency: Agency, doorman: Doorman) -> httpx.AsyncClient:
    api = Api(doorman, Idempotency(agency.database, agency.clock, agency.entropy))
    add_routes(api, agency.approvals, agency.database, agency.clock)
    app = FastAPI(routes=api.routes)

    @app.exception_handler(Problem)
    async def refuse(_: Request, problem: Problem) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]  FastAPI calls it
        return JSONResponse(problem.to_json(), problem.status)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://gateway.test")


async def test_a_row_has_its_decision_once_there_is_one(
    agency: Agency, phone: Pocket, ask: Ask, client: httpx.AsyncClient
) -> None:
    approval = await ask()
    path = f"/api/v1/approvals/{approval['approval_id']}"
    row = (await client.get(path)).json()
    assert row == approval | {"state": "pending", "votes": [], "escalated_at": None}
    await agency.decide(phone, approval, "deny")
    row = (await client.get(path)).json()
    assert (row["state"], row["decision"], row["decided_at"]) == ("denied", "deny", "2026-09-21T14:13:20.000Z")
    assert row["decided_by_device_id"] == phone.principal.device_id


async def test_the_list_shows_what_waits_unless_all_is_asked_for(
    agency: Agency, phone: Pocket, ask: Ask, client: httpx.AsyncClient
) -> None:
    decided, waiting = await ask(), await ask()
    await agency.decide(phone, decided, "deny")
    page = (await client.get("/api/v1/approvals")).json()
    assert page == {"rows": [waiting | {"state": "pending", "votes": [], "escalated_at": None}], "next": None}
    page = (await client.get("/api/v1/approvals", params={"state": "all", "limit": 1})).json()
    assert page["next"] == waiting["approval_id"]
    page = (await client.get("/api/v1/approvals", params={"state": "all", "cursor": page["next"]})).json()
    assert [row["approval_id"] for row in page["rows"]] == [decided["approval_id"]]


async def test_another_users_approval_is_not_found(
    doorman: Doorman, phone: Pocket, ask: Ask, client: httpx.AsyncClient
) -> None:
    approval = await ask()
    doorman.principal = replace(phone.principal, user_id="usr_other")
    answer = await client.get(f"/api/v1/approvals/{approval['approval_id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_scope_is_needed(doorman: Doorman, phone: Pocket, client: httpx.AsyncClient) -> None:
    doorman.principal = replace(phone.principal, scopes=frozenset({Scope.CHAT}))
    assert (await client.get("/api/v1/approvals")).status_code == 403


async def test_history_is_filtered_by_outcome_and_tool(
    agency: Agency, phone: Pocket, ask: Ask, client: httpx.AsyncClient
) -> None:
    denied, approved, _ = await ask(), await ask('{"path":"a","content":"x"}', tool="files.write"), await ask()
    await agency.decide(phone, denied, "deny")
    await agency.decide(phone, approved, "approve")

    async def found(**query: str) -> list[str]:
        rows = (await client.get("/api/v1/approvals", params=query)).json()["rows"]
        return [row["approval_id"] for row in rows]

    assert await found(state="denied") == [denied["approval_id"]]
    assert await found(state="all", tool="files.write") == [approved["approval_id"]]
    assert await found(state="approved", tool="note") == []
    assert (await client.get("/api/v1/approvals", params={"tool": "a'b"})).status_code == 422
