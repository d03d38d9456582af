"""Policies changed while the gateway runs: by owners who are there, checked as a whole, kept in the log as a whole."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from entobot.accounts.model import User
from entobot.approvals.http_policies import add_routes
from entobot.audit.events import AuditEvent
from entobot.core.errors import Problem
from entobot.core.ids import Prefix
from entobot.core.permissions import ALL_SCOPES, Role
from entobot.core.principal import Principal
from entobot.settings.service import StoredSettings, read_stored
from entobot.sources import Layers
from entobot.web.idempotency import Idempotency
from entobot.web.routes import Api
from tests.approvals.conftest import Ask
from tests.approvals.test_http import Doorman
from tests.support.agency import Agency

ON_EVERY_STORE = True
FRESH_MS = 2**53
PATH = "/api/v1/approval-policies"
BOB = {"tool": "files.write", "args": {"path": {"begins": "deploy/"}}, "risk": "high", "deciders": ["bob"]}
ADMINS = {"tool": "*", "deciders": ["role:admin"], "escalate_after_s": 600, "escalate_to": ["role:owner"]}


class Office:
    def __init__(self, agency: Agency, settings: StoredSettings) -> None:
        self.agency, self.settings = agency, settings
        self.owner = Principal(agency.user_id, ALL_SCOPES, session_id="ses_1", fresh_until_ms=FRESH_MS)
        self.doorman = Doorman(self.owner)
        api = Api(self.doorman, Idempotency(agency.database, agency.clock, agency.entropy))
        add_routes(api, settings, agency.accounts, agency.database)
        app = FastAPI(routes=api.routes)

        @app.exception_handler(Problem)
        async def refuse(_: Request, problem: Problem) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]  FastAPI calls it
            return JSONResponse(problem.to_json(), problem.status)

        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://gateway.test")

    async def look(self) -> Any:
        return (await self.http.get(PATH)).json()

    async def put(self, rows: list[dict[str, Any]] | None, **more: Any) -> Any:
        body = {"rows": rows, "version": self.settings.version} | more
        return (await self.http.put(PATH, json=body)).json()

    async def person(self, login: str, role: Role) -> Principal:
        user = User(self.agency.ids.new(Prefix.USER), login, role, self.agency.clock.now_ms(), login)
        await self.agency.database.write(lambda tx: self.agency.accounts.insert(tx, user))
        return Principal(user.user_id, user.scopes, session_id="ses_2", fresh_until_ms=FRESH_MS)


async def open_office(agency: Agency, layers: Layers) -> Office:
    found = await read_stored(agency.database)
    guard = lambda tx, principal: None  # noqa: E731  a port, not worth a name
    settings = StoredSettings(agency.database, agency.clock, agency.audit, guard, layers=layers, found=found)
    return Office(agency, settings)


@pytest.fixture
async def office(agency: Agency) -> Office:
    office = await open_office(agency, Layers(file={"approvals": {"policies": [{"tool": "note", "risk": "medium"}]}}))
    await office.person("bob", Role.ADMIN)
    return office


async def test_the_policies_in_force_are_told_with_where_they_come_from(office: Office) -> None:
    found = await office.look()
    assert [(row["tool"], row["risk"], row["remind_after_s"]) for row in found["rows"]] == [("note", "medium", 900)]
    assert (found["source"], found["may_change"], found["changed"]) == ("file", True, None)


async def test_they_are_changed_at_once_and_taken_back(office: Office, ask: Ask) -> None:
    changed = await office.put([BOB, ADMINS])
    assert [row["tool"] for row in changed["removed"]] == ["note"]
    assert [row["deciders"] for row in changed["added"]] == [["bob"], ["role:admin"]]
    found = await office.look()
    assert [(row["tool"], row["escalate_to"]) for row in found["rows"]] == [("files.write", []), ("*", ["role:owner"])]
    assert (found["source"], found["changed"]["by"]) == ("stored", office.agency.user_id)
    office.agency.policy = office.settings.in_force.approvals
    approval = await ask()
    assert approval["may_decide"] is False, "it is for admins now"
    back = await office.put(None)
    assert [row["tool"] for row in back["added"]] == ["note"]
    assert (await office.look())["source"] == "file"


async def test_a_look_ahead_changes_nothing(office: Office) -> None:
    ahead = await office.put([BOB], dry_run=True)
    assert (ahead["dry_run"], ahead["is_changed"]) == (True, True)
    assert [row["tool"] for row in (await office.look())["rows"]] == ["note"]


async def test_their_order_is_a_change_too(office: Office) -> None:
    await office.put([BOB, ADMINS])
    turned = await office.put([ADMINS, BOB])
    assert (turned["added"], turned["removed"], turned["is_changed"]) == ([], [], True)
    assert [row["tool"] for row in (await office.look())["rows"]] == ["*", "files.write"]


async def test_the_log_has_who_changed_what_in_whole(office: Office) -> None:
    await office.put([BOB])
    ((_, _, subject, facts),) = [one for one in office.agency.audit.heard if one[0] is AuditEvent.SETTINGS_CHANGED]
    assert subject == "approvals.policies"
    assert json.loads(facts["from"]) == [{"tool": "note", "risk": "medium"}]
    assert json.loads(facts["to"]) == [BOB]


@pytest.mark.parametrize("who", ["admin", "device", "token of the owner"])
async def test_whoever_else_may_change_settings_does_not_make_themselves_the_one_who_decides(
    office: Office, who: str
) -> None:
    owner = office.agency.user_id
    callers = {
        "admin": await office.person("eve", Role.ADMIN),
        "device": (await office.agency.pair()).principal,
        "token of the owner": Principal(owner, ALL_SCOPES, device_id="dev_1"),
    }
    office.doorman.principal = callers[who]
    refused = await office.put([{"tool": "*", "deciders": ["eve"]}])
    assert refused["code"] == "forbidden"
    assert (await office.look())["may_change"] is False
    assert office.settings.in_force.approvals.policies[0].tool == "note"


async def test_a_session_that_is_not_fresh_signs_in_first(office: Office) -> None:
    office.doorman.principal = Principal(office.agency.user_id, ALL_SCOPES, session_id="ses_1", fresh_until_ms=0)
    assert (await office.put([ADMINS]))["code"] == "step_up_required"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"deciders": ["nobody"]}], "policy 1, nobody: there is nobody of this name"),
        ([BOB, {"deciders": ["vic"]}], "policy 2, vic: this person may not approve anything"),
        ([{"deciders": ["role:king"]}], "policy 1: 'role:king' names no role"),
        ([{"deciders": []}], "policy 1: deciders is empty"),
        ([{"quorum": 2}], "policy 1: deciders: several people have to agree"),
        ([{"escalate_after_s": 60}], "policy 1: escalate_after and escalate_to belong together"),
        ([{"args": {"path": {"like": "x"}}}], "policy 1: args: the condition for 'path' is none of"),
        ([{"args": {"path": {"longest": True}}}], "policy 1: args: the condition for 'path' is none of"),
    ],
)
async def test_what_is_wrong_is_told_and_nothing_is_stored(
    office: Office, rows: list[dict[str, Any]], said: str
) -> None:
    await office.person("vic", Role.VIEWER)
    refused = await office.put(rows)
    assert (refused["code"], said in refused["detail"]) == ("invalid", True), refused
    assert (await office.look())["source"] == "file"


async def test_they_are_few_enough_for_the_log_to_hold_them_whole(office: Office) -> None:
    many = [{"tool": f"t{number}", "args": {"a": {"begins": "x" * 400}}} for number in range(45)]
    refused = await office.put(many)
    assert "at most 16000 characters in all" in refused["detail"]


async def test_a_change_of_what_somebody_else_has_changed_meanwhile_is_refused(office: Office) -> None:
    seen = office.settings.version
    await office.put([BOB])
    refused = await office.put([ADMINS], version=seen)
    assert refused["code"] == "settings_changed"


async def test_a_variable_keeps_them_out_of_reach(agency: Agency) -> None:
    office = await open_office(agency, Layers(environment={"approvals": {"policies": '[{"tool": "note"}]'}}))
    assert (await office.look())["may_change"] is False
    refused = await office.put([ADMINS])
    assert "ENTOBOT_APPROVALS__POLICIES, which wins" in refused["detail"]
