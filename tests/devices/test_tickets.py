"""Tickets on a real database: one connection each, from where they were asked for, for 30 s."""

import asyncio

import pytest

from entobot.audit.events import AuditEvent, Outcome
from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.core.principal import Principal
from entobot.devices.model import Authenticated, ConnectionRefused, Refusal
from tests.devices.conftest import House
from tests.devices.phone import ORIGIN, Phone

ON_EVERY_STORE = True
PATH = "/api/v1/auth/ws-ticket"


async def asking(house: House, phone: Phone) -> Principal:
    return await house.devices.authenticate(phone.ask(PATH, house.now_ms, "POST"))


async def get(house: House, origin: str | None = ORIGIN) -> tuple[str, Phone, str]:
    phone, device_id = await house.pair()
    issued = await house.devices.issue_ticket(await asking(house, phone), origin)
    assert issued.expires_in == 30
    return issued.text, phone, device_id


async def refused(house: House, ticket: str, origin: str | None = ORIGIN) -> Refusal:
    with pytest.raises(ConnectionRefused) as caught:
        await house.devices.spend_ticket(ticket, origin)
    return caught.value.reason


@pytest.mark.parametrize("origin", [ORIGIN, None])
async def test_a_ticket_opens_one_connection_of_its_device(house: House, origin: str | None) -> None:
    ticket, phone, device_id = await get(house, origin)
    found = await house.devices.spend_ticket(ticket, origin)
    assert (found.principal.device_id, found.principal.scopes) == (device_id, DEFAULT_DEVICE_SCOPES)
    assert found.principal.key_thumbprint == phone.key.thumbprint()
    assert await refused(house, ticket, origin) is Refusal.STALE


async def test_of_fifty_who_show_one_ticket_exactly_one_gets_in(house: House) -> None:
    ticket, _, _ = await get(house)
    spending = (house.devices.spend_ticket(ticket, ORIGIN) for _ in range(50))
    answers = await asyncio.gather(*spending, return_exceptions=True)
    assert sum(isinstance(answer, Authenticated) for answer in answers) == 1
    assert sum(isinstance(answer, ConnectionRefused) for answer in answers) == 49


async def test_a_ticket_is_good_for_thirty_seconds(house: House) -> None:
    first, phone, _ = await get(house)
    second = (await house.devices.issue_ticket(await asking(house, phone), ORIGIN)).text
    house.clock.advance(29.999)
    await house.devices.spend_ticket(first, ORIGIN)
    house.clock.advance(0.001)
    assert await refused(house, second) is Refusal.STALE


@pytest.mark.parametrize(
    ("given_to", "shown_by"), [(ORIGIN, None), (None, ORIGIN), (ORIGIN, "https://other.test"), (None, ""), (ORIGIN, "")]
)
async def test_a_ticket_from_another_origin_is_refused_used_up_and_audited(
    house: House, given_to: str | None, shown_by: str | None
) -> None:
    ticket, _, device_id = await get(house, given_to)
    assert await refused(house, ticket, shown_by) is Refusal.BAD_CREDENTIALS
    assert await refused(house, ticket, given_to) is Refusal.STALE
    told = (AuditEvent.AUTH_REFUSED, Outcome.DENIED, device_id, {"reason": "wrong_origin"})
    assert house.audit.heard.count(told) == 1


async def test_a_ticket_falls_with_its_devices_epoch(house: House) -> None:
    owner = await house.devices.local_owner()
    for verbs, reason in (
        (("suspend",), Refusal.SUSPENDED),
        (("suspend", "reactivate"), Refusal.STALE),
        (("revoke",), Refusal.REVOKED),
    ):
        ticket, _, device_id = await get(house)
        for verb in verbs:
            await getattr(house.devices, verb)(owner, device_id)
        assert await refused(house, ticket) is reason


async def test_a_device_that_was_suspended_meanwhile_gets_no_ticket(house: House) -> None:
    phone, device_id = await house.pair()
    principal = await asking(house, phone)
    await house.devices.suspend(await house.devices.local_owner(), device_id)
    with pytest.raises(Problem) as caught:
        await house.devices.issue_ticket(principal, ORIGIN)
    assert caught.value.code is Code.DEVICE_SUSPENDED


async def test_a_connection_on_a_ticket_lives_no_longer_than_the_token_that_asked(house: House) -> None:
    phone, _ = await house.pair()
    token_ends = house.now_ms + 300_000
    house.clock.advance(200)
    issued = await house.devices.issue_ticket(await asking(house, phone), ORIGIN)
    found = await house.devices.spend_ticket(issued.text, ORIGIN)
    assert found.expires_at_ms == found.principal.expires_at_ms == token_ends


async def test_a_key_without_an_end_gets_a_ticket_for_five_minutes(house: House) -> None:
    made = await house.devices.create_api_key(await house.devices.local_owner(), "Script")
    key = await house.devices.authenticate_key_connection(made.secret, "192.0.2.7")
    issued = await house.devices.issue_ticket(key.principal, None)
    house.clock.advance(10)
    found = await house.devices.spend_ticket(issued.text, None)
    assert found.expires_at_ms == house.now_ms + 290_000


async def test_the_local_owner_gets_no_ticket(house: House) -> None:
    with pytest.raises(Problem) as caught:
        await house.devices.issue_ticket(await house.devices.local_owner(), None)
    assert caught.value.code is Code.FORBIDDEN


async def test_tickets_are_stored_as_digests_and_swept_when_the_next_is_asked_for(house: House) -> None:
    ticket, phone, _ = await get(house)
    for path in house.folder.iterdir():
        assert ticket.encode() not in path.read_bytes()
    house.clock.advance(31)
    await house.devices.issue_ticket(await asking(house, phone), ORIGIN)
    assert await house.count("ws_tickets") == 1


@pytest.mark.parametrize("text", ["", "x", "A" * 42, "A" * 44, "é" * 43, "A" * 8000])
async def test_what_is_no_ticket_is_refused_unread(house: House, text: str) -> None:
    await house.database.stop()
    assert await refused(house, text) is Refusal.STALE
    await house.database.start()


@pytest.mark.parametrize("is_spent", [False, True])
async def test_a_ticket_and_its_connection_end_with_the_key_that_asked(house: House, is_spent: bool) -> None:
    owner = await house.devices.local_owner()
    made = await house.devices.create_api_key(owner, "Script")
    key = await house.devices.authenticate_key_connection(made.secret, "192.0.2.7")
    ticket = (await house.devices.issue_ticket(key.principal, None)).text
    if is_spent:
        found = await house.devices.spend_ticket(ticket, None)
        await house.devices.machines.revoke(owner, made.device.device_id, key.principal.credential_id)
        assert await house.database.read(lambda tx: house.devices.machines.has_ended(tx, found.principal))
    else:
        await house.devices.machines.revoke(owner, made.device.device_id, key.principal.credential_id)
        assert await refused(house, ticket, None) is Refusal.BAD_CREDENTIALS
