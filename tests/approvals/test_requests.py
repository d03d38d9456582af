"""An agent that runs elsewhere asks for leave: by the same policies and rules, and it sees and moves nothing else."""

from dataclasses import replace
from typing import Any

import pytest
import rfc8785

from entobot.approvals.http_requests import request_row
from entobot.approvals.model import Risk
from entobot.approvals.request_model import MAX_OPEN, Wish
from entobot.approvals.requests import Requests
from entobot.audit.events import AuditEvent
from entobot.callbacks.service import Callbacks
from entobot.config_approvals import ApprovalsSettings
from entobot.config_callbacks import CallbackSettings
from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from tests.approvals.test_people import person
from tests.approvals.test_rules import rule_text
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock

ON_EVERY_STORE = True
ARGS = {"path": "/tmp/x", "recursive": True}


class Program:
    """An agent elsewhere, with the token of a device."""

    def __init__(self, agency: Agency, requests: Requests, principal: Principal) -> None:
        self.agency, self.requests = agency, requests
        self.principal = replace(principal, scopes=frozenset({Scope.NOTIFY}))

    async def ask(self, args: dict[str, Any] | None = None, **changes: Any) -> Event:
        known: dict[str, Any] = {"tool": "delete", "title": "Delete it", "risk": Risk.MEDIUM, "takes_edits": False}
        known |= {"life_s": 3600, "key": None} | changes
        wish = Wish(args_json=rfc8785.dumps(ARGS if args is None else args).decode(), **known)
        now_ms = self.agency.clock.now_ms()
        return await self.agency.database.write(
            lambda tx: request_row(self.requests.request(tx, self.principal, wish, now_ms))
        )

    async def look(self, request_id: str) -> Event:
        return await self.agency.database.read(
            lambda tx: request_row(self.requests.get(tx, self.principal, request_id))
        )

    async def take(self, request_id: str) -> None:
        now_ms = self.agency.clock.now_ms()
        await self.agency.database.write(
            lambda tx: self.requests.take(tx, self.requests.get(tx, self.principal, request_id), now_ms)
        )

    async def take_back(self, request_id: str) -> Event:
        now_ms = self.agency.clock.now_ms()
        return await self.agency.database.write(
            lambda tx: request_row(self.requests.take_back(tx, self.principal, request_id, now_ms))
        )


@pytest.fixture
def requests(agency: Agency) -> Requests:
    callbacks = Callbacks(ids=agency.ids, bus=agency.bus, settings=CallbackSettings())
    made = Requests(agency.approvals, ids=agency.ids, devices=agency.devices, callbacks=callbacks)
    agency.devices.on_end.append(made.end_of_device)
    return made


@pytest.fixture
async def program(agency: Agency, requests: Requests) -> Program:
    return Program(agency, requests, (await agency.pair()).principal)


async def asked(agency: Agency) -> Event:
    return (await agency.of("approval.requested"))[-1]


async def test_what_is_asked_from_elsewhere_is_signed_as_it_stands_and_fetched_by_who_asked(
    agency: Agency, phone: Pocket, program: Program
) -> None:
    rung: list[bytes] = []
    agency.bus.subscribe(topics.CONTROL_APPROVALS, lambda _, payload: rung.append(payload))
    mine = await program.ask()
    assert (mine["state"], mine["args"], mine["approval_id"][:4]) == ("pending", ARGS, "apr_")
    approval = await asked(agency)
    assert (
        approval["action"]
        == rfc8785.dumps(
            {
                "approval_id": approval["approval_id"],
                "args": ARGS,
                "run_id": mine["request_id"],
                "tool": "outside:delete",
            }
        ).decode()
    )
    assert (approval["conversation_id"], approval["may_edit"]) == (None, False)
    assert approval["title"] == "Phone: Delete it", "people read which program asks"
    await agency.decide(phone, approval, "approve")
    assert rung == [mine["request_id"].encode()]
    done = await program.look(mine["request_id"])
    assert (done["state"], done["args"], done["taken_at"]) == ("approved", ARGS, None)
    await program.take(mine["request_id"])
    assert (await program.look(mine["request_id"]))["taken_at"] is not None
    row = (await agency.command(phone.principal, "approval.list", state="all"))["rows"][0]
    assert row["consumed_at"] is not None
    assert agency.audit.of(AuditEvent.APPROVAL_REQUESTED)[-1]["asked_by_device_id"] == program.principal.device_id


async def test_a_decision_that_its_agent_does_not_fetch_is_told_of(
    agency: Agency, phone: Pocket, program: Program, clock: ManualClock
) -> None:
    mine = await program.ask()
    await agency.decide(phone, await asked(agency), "deny", reason="not that one")
    clock.advance(11)
    await agency.approvals.sweep(agency.database, clock.now_ms())
    assert len(await agency.of("approval.unconsumed")) == 1
    done = await program.look(mine["request_id"])
    assert (done["state"], done["reason"]) == ("denied", "not that one")


async def test_asked_again_under_its_name_it_is_one_request(agency: Agency, phone: Pocket, program: Program) -> None:
    first = await program.ask(key="k")
    assert (await program.ask(key="k"))["request_id"] == first["request_id"]
    assert len(await agency.of("approval.requested")) == 1
    others: list[dict[str, Any]] = [
        {"args": {"path": "/"}},
        {"risk": Risk.LOW},
        {"takes_edits": True},
        {"title": "Other"},
    ]
    for changes in others:
        with pytest.raises(Problem) as refused:
            await program.ask(key="k", **changes)
        assert refused.value.code is Code.IDEMPOTENCY_MISMATCH
    await agency.decide(phone, await asked(agency), "approve")
    assert (await program.ask(key="k"))["state"] == "approved", "who died gets what was decided meanwhile"
    other = Program(agency, program.requests, (await agency.pair()).principal)
    assert (await other.ask(key="k"))["request_id"] != first["request_id"]


async def test_policies_and_quorum_hold_for_agents_elsewhere(agency: Agency, phone: Pocket, program: Program) -> None:
    boss = await person(agency, "boss", Role.ADMIN)
    policy = {"tool": "outside:*", "deciders": ["requester", "boss"], "quorum": 2, "risk": "high"}
    agency.policy = ApprovalsSettings.model_validate(
        {"policies": [policy], "user_verification": "never", "number_match": "high"}
    )
    mine = await program.ask(risk=Risk.LOW)
    assert mine["risk"] == "high"
    approval = await asked(agency)
    await agency.decide(phone, approval, "approve", number=mine["number"])
    assert (await program.look(mine["request_id"]))["state"] == "pending"
    await agency.decide(boss, approval, "approve", number=mine["number"])
    assert (await program.look(mine["request_id"]))["state"] == "approved"


async def test_edited_arguments_come_back_only_to_who_takes_them(
    agency: Agency, phone: Pocket, program: Program
) -> None:
    await program.ask()
    approval = await asked(agency)
    edited = approval["action"].replace("/tmp/x", "/tmp/y")
    with pytest.raises(Problem) as refused:
        await agency.decide(phone, approval, "approve", edited_action=edited)
    assert refused.value.code is Code.INVALID
    mine = await program.ask(takes_edits=True)
    approval = await asked(agency)
    assert approval["may_edit"] is True
    policy = {"tool": "outside:delete", "args": {"path": {"is": "/"}}, "risk": "high"}
    agency.policy = ApprovalsSettings.model_validate({"policies": [policy]})
    root = approval["action"].replace("/tmp/x", "/")
    with pytest.raises(Problem) as refused:
        await agency.decide(phone, approval, "approve", edited_action=root)
    assert refused.value.code is Code.EDIT_TOO_RISKY
    edited = approval["action"].replace("/tmp/x", "/tmp/y")
    await agency.decide(phone, approval, "approve", edited_action=edited)
    done = await program.look(mine["request_id"])
    assert (done["args"], done["edited"]) == (ARGS | {"path": "/tmp/y"}, True)


async def test_a_rule_holds_for_the_program_that_it_was_made_for(
    agency: Agency, phone: Pocket, program: Program
) -> None:
    await program.ask()
    conditions = {"path": {"begins": "/tmp/"}, "recursive": {"is": True}}
    approval = await asked(agency)
    await agency.decide(phone, approval, "approve", rule=rule_text(approval, conditions, tool="outside:delete"))
    through = await program.ask({"path": "/tmp/z", "recursive": True})
    assert (through["state"], through["approval_id"]) == ("approved", None)
    assert through["rule_id"] is not None
    with pytest.raises(Problem) as late:
        await program.take_back(through["request_id"])
    assert late.value.code is Code.APPROVAL_ALREADY_DECIDED
    assert (await program.ask({"path": "/etc", "recursive": True}))["state"] == "pending"
    other = Program(agency, program.requests, (await agency.pair()).principal)
    assert (await other.ask({"path": "/tmp/z", "recursive": True}))["state"] == "pending", "it is another program"


async def test_an_agent_decides_nothing_and_sees_nothing_of_others(agency: Agency, program: Program) -> None:
    mine = await program.ask()
    approval = await asked(agency)
    forger = Pocket((await agency.pair()).key, replace(program.principal, scopes=frozenset(Scope)))
    with pytest.raises(Problem) as forged:
        await agency.decide(forger, approval, "approve")
    assert forged.value.code is Code.SIGNATURE_INVALID
    other = Program(agency, program.requests, (await agency.pair()).principal)
    for attempt in (other.look, other.take, other.take_back):
        with pytest.raises(Problem) as unknown:
            await attempt(mine["request_id"])
        assert unknown.value.code is Code.NOT_FOUND
    assert (await program.look(mine["request_id"]))["state"] == "pending"


async def test_what_is_asked_ends_when_it_is_taken_back_or_its_program_is_cut_off(
    agency: Agency, program: Program
) -> None:
    first, second = await program.ask(), await program.ask()
    assert (await program.take_back(first["request_id"]))["state"] == "cancelled"
    with pytest.raises(Problem) as late:
        await program.take_back(first["request_id"])
    assert late.value.code is Code.APPROVAL_ALREADY_DECIDED
    device_id = program.principal.device_id
    assert device_id is not None
    local = Principal(agency.user_id, frozenset(Scope))
    await agency.devices.revoke(local, device_id)
    assert (await program.look(second["request_id"]))["state"] == "cancelled"


async def test_who_asks_without_end_is_stopped(agency: Agency, program: Program) -> None:
    last, *_ = [await program.ask() for _ in range(MAX_OPEN)]
    with pytest.raises(Problem) as full:
        await program.ask()
    assert full.value.code is Code.RATE_LIMITED
    await program.take_back(last["request_id"])
    assert (await program.ask())["state"] == "pending"


@pytest.mark.parametrize("life_s", [59, 31 * 24 * 3600])
async def test_how_long_it_waits_is_bounded(program: Program, life_s: int) -> None:
    with pytest.raises(Problem) as refused:
        await program.ask(life_s=life_s)
    assert refused.value.code is Code.INVALID
