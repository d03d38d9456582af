"""People with different roles on one gateway: what each may do, and how one leaves."""

import asyncio
from typing import Any

import pytest

from entobot.client.device import Device
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ROLE_SCOPES, Role
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GatewayProcess

ON_EVERY_STORE = True
REVOKED = 4501


def change(gateway: GatewayProcess, login: str, *what: str) -> None:
    done = gateway.cli("users", what[0], login, *what[1:])
    assert done.returncode == 0, done.stderr


def refusal(device: Device, method: str, path: str, **options: Any) -> Code:
    with pytest.raises(Problem) as caught:
        device.request(method, path, **options)
    return caught.value.code


async def test_who_is_disabled_is_cut_off_at_once_with_everything_that_was_under_way(gateway: GatewayProcess) -> None:
    operator = Operator(gateway)
    added = await asyncio.to_thread(gateway.ask, "users", "add", "bob@example.org", "--name", "Bob")
    device = await asyncio.to_thread(operator.pair, "Bob's phone", user_id=added["user_id"])
    other = await asyncio.to_thread(operator.pair, "Bob's tablet", user_id=added["user_id"])
    owner = await asyncio.to_thread(operator.pair, "Owner's phone")
    async with connected(gateway, device) as phone, connected(gateway, owner) as mine:
        await phone.say("!note eggs")
        asked = (await phone.until_event("approval.requested"))["data"]
        await asyncio.to_thread(change, gateway, "bob@example.org", "disable")
        assert await phone.closed() == REVOKED
        await mine.say("still here")
    for gone in (device, other):
        with pytest.raises(Problem) as refused:
            await asyncio.to_thread(gone.refresh)
        assert refused.value.code in (Code.REFRESH_INVALID, Code.UNAUTHENTICATED)
    assert await asyncio.to_thread(refusal, device, "GET", "/api/v1/conversations") is Code.UNAUTHENTICATED
    entries = await asyncio.to_thread(gateway.ask, "audit", "list")
    events = [row["event"] for row in entries]
    assert events.count("device.revoked") == 2
    assert {"user.disabled", "run.cancelled", "approval.cancelled"} <= set(events)
    assert asked["approval_id"] in [row["subject"] for row in entries if row["event"] == "approval.cancelled"]

    await asyncio.to_thread(change, gateway, "bob@example.org", "enable")
    assert await asyncio.to_thread(refusal, device, "GET", "/api/v1/conversations") is Code.UNAUTHENTICATED
    again = await asyncio.to_thread(operator.pair, "New phone", user_id=added["user_id"])
    async with connected(gateway, again) as phone:
        await phone.say("back")


def test_an_operator_manages_devices_but_not_those_of_people_above(gateway: GatewayProcess) -> None:
    operator = Operator(gateway)
    people = {
        role: gateway.ask("users", "add", role, "--role", role)["user_id"]
        for role in (Role.ADMIN, Role.OPERATOR, Role.MEMBER)
    }
    scopes = sorted(ROLE_SCOPES[Role.OPERATOR])
    hers = operator.pair("Operator's phone", user_id=people[Role.OPERATOR], scopes=scopes)
    theirs = {
        role: operator.pair(f"{role}'s phone", user_id=user_id)
        for role, user_id in people.items()
        if role != Role.OPERATOR
    }
    theirs[Role.OWNER] = operator.pair("Owner's phone")
    assert len(hers.request("GET", "/api/v1/devices")["rows"]) == 4
    for role, device in theirs.items():
        assert device.credentials is not None
        path = f"/api/v1/devices/{device.credentials.device_id}"
        if role is Role.MEMBER:
            assert hers.request("POST", f"{path}/suspend")["status"] == "suspended"
        else:
            assert refusal(hers, "POST", f"{path}/suspend") is Code.FORBIDDEN
            assert refusal(hers, "DELETE", path) is Code.FORBIDDEN
            assert refusal(hers, "PATCH", path, json={"device_name": "mine now"}) is Code.FORBIDDEN
    assert refusal(hers, "POST", "/api/v1/users", json={"login": "x", "name": "X"}) is Code.FORBIDDEN
    for user_id in people.values():
        if user_id != people[Role.OPERATOR]:
            body = {"kind": "qr", "user_id": user_id}
            assert refusal(hers, "POST", "/api/v1/pairing/invites", json=body) is Code.FORBIDDEN


def test_an_admin_pairs_nothing_into_the_owners_name(gateway: GatewayProcess) -> None:
    operator = Operator(gateway)
    admin = gateway.ask("users", "add", "admin", "--role", "admin")["user_id"]
    owner = next(row["user_id"] for row in gateway.ask("users", "list") if row["role"] == "owner")
    phone = operator.pair("Admin's phone", user_id=admin, scopes=sorted(ROLE_SCOPES[Role.ADMIN]))
    assert refusal(phone, "POST", "/api/v1/pairing/invites", json={"kind": "qr", "user_id": owner}) is Code.FORBIDDEN
    assert refusal(phone, "PATCH", f"/api/v1/users/{owner}", json={"role": "member"}) is Code.FORBIDDEN
    assert refusal(phone, "POST", f"/api/v1/users/{owner}/disable") is Code.FORBIDDEN


def test_a_lesser_role_is_felt_at_the_next_request(gateway: GatewayProcess) -> None:
    operator = Operator(gateway)
    bob = gateway.ask("users", "add", "bob", "--role", "operator")["user_id"]
    phone = operator.pair("Bob's phone", user_id=bob, scopes=["chat", "devices.read", "metrics"])
    assert phone.request("GET", "/api/v1/devices")["rows"]
    change(gateway, "bob", "role", "viewer")
    assert refusal(phone, "GET", "/api/v1/conversations") is Code.UNAUTHENTICATED
    phone.refresh()
    assert refusal(phone, "GET", "/api/v1/conversations") is Code.FORBIDDEN
    assert phone.request("GET", "/api/v1/devices")["rows"]


def test_a_device_is_paired_for_somebody_by_their_login(gateway: GatewayProcess) -> None:
    bob = gateway.ask("users", "add", "pairs@example.org")
    assert gateway.ask("pair", "--user", "pairs@example.org")["user_id"] == bob["user_id"]
    assert gateway.ask("pair")["user_id"] != bob["user_id"]
