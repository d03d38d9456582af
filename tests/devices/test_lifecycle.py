"""Rename, suspend, reactivate, revoke: who may, and what becomes of credentials already given out."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from entobot.accounts.model import User
from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix
from entobot.core.names import clean_name
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.devices.keys import parse_public_jwk
from entobot.devices.model import Change, Device, Status
from entobot.devices.search import Search
from entobot.devices.service import Devices
from tests.devices.conftest import House
from tests.devices.phone import Phone

ON_EVERY_STORE = True
PATH = "/api/v1/devices"
MANAGER = DEFAULT_DEVICE_SCOPES | {Scope.DEVICES_MANAGE}
UNKNOWN = "dev_01K0000000000000000000000A"


async def problem_of(call: Awaitable[object]) -> Problem:
    with pytest.raises(Problem) as caught:
        await call
    return caught.value


async def code_of(call: Awaitable[object]) -> Code:
    return (await problem_of(call)).code


async def admitted(house: House, phone: Phone) -> Principal:
    return await house.devices.authenticate(phone.ask(PATH, house.now_ms))


async def member(house: House) -> User:
    user_id = house.ids.new(Prefix.USER)
    user = User(user_id, "Guest", Role.MEMBER, house.now_ms, login=user_id.lower())
    await house.database.write(lambda tx: house.accounts.insert(tx, user))
    return user


async def changes(house: House, user_id: str) -> list[tuple[str, str]]:
    events = await house.database.read(lambda tx: house.stream.after(tx, user_id, 0))
    data = [json.loads(event.event)["data"] for event in events]
    return [(row["device_id"], row["change"]) for row in data]


Call = Callable[[Devices, Principal, str], Awaitable[Device]]


async def rename(devices: Devices, principal: Principal, device_id: str) -> Device:
    return await devices.rename(principal, device_id, "Renamed")


async def label(devices: Devices, principal: Principal, device_id: str) -> Device:
    return await devices.label(principal, device_id, "Thermometer", ["cellar", "Wet", "wet"])


# -- revoke


async def test_a_revoked_device_gets_in_nowhere_also_after_a_restart(house: House) -> None:
    phone, device_id = await house.pair()
    await admitted(house, phone)
    revoked = await house.devices.revoke(await house.devices.local_owner(), device_id)
    assert revoked.status is Status.REVOKED
    assert await house.count("device_families") == 0
    again = await house.reopened()
    assert await code_of(admitted(again, phone)) is Code.UNAUTHENTICATED
    assert await code_of(again.refresh(phone)) is Code.REFRESH_INVALID
    thumbprint = phone.key.thumbprint()
    assert await again.database.read(lambda tx: again.devices.is_key_known(tx, thumbprint))
    await again.database.stop()


async def test_what_a_revoked_device_had_seen_is_forgotten_with_it(house: House) -> None:
    _, device_id = await house.pair()
    owner = await house.devices.local_owner()
    user_id = owner.user_id
    await house.database.write(lambda tx: house.stream.acknowledge(tx, device_id, user_id, 1, house.now_ms))
    assert await house.count("stream_cursors") == 1
    await house.devices.suspend(owner, device_id)
    assert await house.count("stream_cursors") == 1
    await house.devices.revoke(owner, device_id)
    assert await house.count("stream_cursors") == 0


async def test_a_revoked_device_is_out_at_once(house: House) -> None:
    phone, device_id = await house.pair()
    principal = await admitted(house, phone)
    await house.devices.revoke(await house.devices.local_owner(), device_id)
    assert await code_of(admitted(house, phone)) is Code.UNAUTHENTICATED
    assert await code_of(house.refresh(phone)) is Code.REFRESH_INVALID
    guarded = house.database.read(lambda tx: house.devices.guard(tx, principal))
    assert await code_of(guarded) is Code.UNAUTHENTICATED
    assert house.rung == [device_id]


async def test_a_principal_of_another_key_or_user_does_not_pass_the_guard(house: House) -> None:
    phone, _ = await house.pair()
    principal = await admitted(house, phone)
    for forged in (replace(principal, key_thumbprint="other"), replace(principal, user_id="usr_other")):
        guarded = house.database.read(lambda tx, forged=forged: house.devices.guard(tx, forged))
        assert await code_of(guarded) is Code.UNAUTHENTICATED


async def test_a_key_can_be_registered_once_ever(house: House) -> None:
    phone, device_id = await house.pair()
    owner = await house.owner()

    def register(tx: object, key: Phone) -> Device:
        return house.devices.register(
            tx,  # pyright: ignore[reportArgumentType]  the unit's transaction
            device_id=house.ids.new(Prefix.DEVICE),
            user_id=owner.user_id,
            name="Again",
            platform="ios",
            app_version="1",
            os_version=None,
            key=parse_public_jwk(key.jwk),
            scopes=DEFAULT_DEVICE_SCOPES,
            paired_by="operator",
            confirm_mode="type",
            now_ms=house.now_ms,
        )

    assert await code_of(house.database.write(lambda tx: register(tx, phone))) is Code.KEY_KNOWN
    await house.devices.revoke(await house.devices.local_owner(), device_id)
    assert await code_of(house.database.write(lambda tx: register(tx, phone))) is Code.KEY_KNOWN
    assert await house.database.write(lambda tx: register(tx, Phone()))


async def test_a_revoked_device_comes_back_by_no_way(house: House) -> None:
    _, device_id = await house.pair()
    owner = await house.devices.local_owner()
    await house.devices.revoke(owner, device_id)
    assert await code_of(house.devices.reactivate(owner, device_id)) is Code.INVALID
    assert await code_of(house.devices.suspend(owner, device_id)) is Code.INVALID
    assert await code_of(house.devices.rename(owner, device_id, "Ghost")) is Code.INVALID
    issued = house.database.write(lambda tx: house.devices.issue(tx, device_id, house.now_ms))
    assert await code_of(issued) is Code.UNAUTHENTICATED
    assert (await house.device(device_id)).status is Status.REVOKED


# -- suspend, reactivate


async def test_a_suspended_device_waits_and_old_tokens_stay_dead_when_it_comes_back(house: House) -> None:
    phone, device_id = await house.pair()
    principal = await admitted(house, phone)
    owner = await house.devices.local_owner()
    await house.devices.suspend(owner, device_id)
    assert await code_of(admitted(house, phone)) is Code.DEVICE_SUSPENDED
    assert await code_of(house.refresh(phone)) is Code.DEVICE_SUSPENDED
    guarded = house.database.read(lambda tx: house.devices.guard(tx, principal))
    assert await code_of(guarded) is Code.DEVICE_SUSPENDED
    await house.devices.reactivate(owner, device_id)
    assert await code_of(admitted(house, phone)) is Code.UNAUTHENTICATED
    guarded = house.database.read(lambda tx: house.devices.guard(tx, principal))
    assert await code_of(guarded) is Code.UNAUTHENTICATED
    await house.refresh(phone)
    renewed = await admitted(house, phone)
    await house.database.read(lambda tx: house.devices.guard(tx, renewed))
    assert house.rung == [device_id, device_id]


async def test_a_suspended_device_can_be_revoked(house: House) -> None:
    phone, device_id = await house.pair()
    owner = await house.devices.local_owner()
    await house.devices.suspend(owner, device_id)
    await house.devices.revoke(owner, device_id)
    assert await code_of(house.refresh(phone)) is Code.REFRESH_INVALID


async def test_every_change_is_audited_once_and_told_to_the_user(house: House) -> None:
    _, device_id = await house.pair()
    owner = await house.devices.local_owner()
    epoch = (await house.device(device_id)).epoch
    for call, expected in (
        (Devices.suspend, epoch + 1),
        (Devices.reactivate, epoch + 2),
        (rename, epoch + 2),
        (label, epoch + 2),
        (Devices.revoke, epoch + 3),
    ):
        for _ in range(2):
            assert (await call(house.devices, owner, device_id)).epoch == expected
    assert house.audit.events() == [
        AuditEvent.DEVICE_SUSPENDED,
        AuditEvent.DEVICE_REACTIVATED,
        AuditEvent.DEVICE_RENAMED,
        AuditEvent.DEVICE_LABELLED,
        AuditEvent.DEVICE_REVOKED,
    ]
    told = [Change.SUSPENDED, Change.REACTIVATED, Change.RENAMED, Change.LABELLED, Change.REVOKED]
    assert await changes(house, owner.user_id) == [(device_id, change) for change in told]


async def test_of_concurrent_suspends_one_moves_the_epoch(house: House) -> None:
    _, device_id = await house.pair()
    owner = await house.devices.local_owner()
    before = (await house.device(device_id)).epoch
    await asyncio.gather(*(house.devices.suspend(owner, device_id) for _ in range(20)))
    assert (await house.device(device_id)).epoch == before + 1
    assert len(house.audit.heard) == 1


# -- rights

OWN: list[Call] = [rename, Devices.revoke]
MANAGERS: list[Call] = [Devices.suspend, Devices.reactivate, label]


@pytest.mark.parametrize("call", OWN)
async def test_a_device_changes_itself_but_no_other_of_its_user(house: House, call: Call) -> None:
    phone, device_id = await house.pair()
    _, sibling = await house.pair("Sibling")
    principal = await admitted(house, phone)
    assert await code_of(call(house.devices, principal, sibling)) is Code.FORBIDDEN
    assert await call(house.devices, principal, device_id)


@pytest.mark.parametrize("call", MANAGERS)
async def test_a_device_does_not_suspend_reactivate_or_label_even_itself(house: House, call: Call) -> None:
    phone, device_id = await house.pair()
    principal = await admitted(house, phone)
    assert await code_of(call(house.devices, principal, device_id)) is Code.FORBIDDEN


@pytest.mark.parametrize("call", OWN + MANAGERS)
async def test_another_users_device_does_not_exist(house: House, call: Call) -> None:
    guest = await member(house)
    _, device_id = await house.pair()
    phone, _ = await house.pair("Guest's", user_id=guest.user_id)
    principal = await admitted(house, phone)
    assert await code_of(call(house.devices, principal, device_id)) is Code.NOT_FOUND
    assert await code_of(house.devices.directory.find(principal, device_id)) is Code.NOT_FOUND
    for unknown in (UNKNOWN, "", "dev_", "dev_\x00", "dev_\ud800", "x" * 10_000):
        assert await code_of(call(house.devices, principal, unknown)) is Code.NOT_FOUND


@pytest.mark.parametrize("call", OWN + MANAGERS)
async def test_a_manager_changes_any_device_and_its_user_is_told(house: House, call: Call) -> None:
    guest = await member(house)
    _, device_id = await house.pair("Guest's", user_id=guest.user_id)
    manager, _ = await house.pair("Manager", scopes=MANAGER)
    principal = await admitted(house, manager)
    if call is Devices.reactivate:
        await house.devices.suspend(principal, device_id)
    await call(house.devices, principal, device_id)
    assert (await changes(house, guest.user_id))[-1][0] == device_id


@pytest.mark.parametrize("call", OWN + MANAGERS)
async def test_a_principal_revoked_meanwhile_changes_nothing(house: House, call: Call) -> None:
    manager, manager_id = await house.pair("Manager", scopes=MANAGER)
    _, device_id = await house.pair()
    principal = await admitted(house, manager)
    await house.devices.revoke(await house.devices.local_owner(), manager_id)
    before = await house.device(device_id)
    assert await code_of(call(house.devices, principal, device_id)) is Code.UNAUTHENTICATED
    assert await house.device(device_id) == before


async def test_a_guest_s_device_never_holds_more_than_a_guest(house: House) -> None:
    guest = await member(house)
    phone, device_id = await house.pair("Guest's", scopes=frozenset(Scope), user_id=guest.user_id)
    assert (await house.device(device_id)).scopes == DEFAULT_DEVICE_SCOPES
    assert (await admitted(house, phone)).scopes == DEFAULT_DEVICE_SCOPES


# -- lists


async def test_a_device_sees_its_users_devices_newest_first_and_a_manager_everybodys(house: House) -> None:
    guest = await member(house)
    phone, first = await house.pair("Own")
    own, guests = [first], list[str]()
    for number in range(3):
        house.clock.advance(1)
        own.insert(0, (await house.pair(f"Own {number}"))[1])
        house.clock.advance(1)
        guests.insert(0, (await house.pair(f"Guest {number}", user_id=guest.user_id))[1])
    seen = await house.devices.directory.find_page(await admitted(house, phone), Search())
    assert [device.device_id for device in seen.rows] == own
    assert seen.next is None
    everything = await house.devices.directory.find_page(await house.devices.local_owner(), Search())
    assert sorted(device.device_id for device in everything.rows) == sorted(own + guests)


async def test_pages_follow_one_another_without_gap_or_repeat(house: House) -> None:
    paired: list[str] = []
    for number in range(7):
        house.clock.advance(1)
        paired.insert(0, (await house.pair(f"Phone {number}"))[1])
    owner = await house.devices.local_owner()
    found: list[str] = []
    cursor: str | None = None
    sizes: list[int] = []
    while True:
        page = await house.devices.directory.find_page(owner, Search(), cursor, 3)
        found += [device.device_id for device in page.rows]
        sizes.append(len(page.rows))
        cursor = page.next
        if cursor is None:
            break
    assert found == paired
    assert sizes == [3, 3, 1]
    exact = await house.devices.directory.find_page(owner, Search(), None, 7)
    assert exact.next is None


async def test_the_list_can_be_narrowed_by_status_and_refuses_a_foreign_cursor(house: House) -> None:
    _, one = await house.pair("one")
    _, two = await house.pair("two")
    owner = await house.devices.local_owner()
    await house.devices.suspend(owner, one)
    for status, expected in ((Status.SUSPENDED, [one]), (Status.ACTIVE, [two]), (Status.REVOKED, [])):
        page = await house.devices.directory.find_page(owner, Search(status=status))
        assert [device.device_id for device in page.rows] == expected
    assert await code_of(house.devices.directory.find_page(owner, Search(), "dev_' OR 1=1")) is Code.INVALID


# -- names


@pytest.mark.parametrize("name", ["a", "  Ada's phone  ", "Телефон", "📱", "👩‍👩‍👧", "x" * 64, "می‌خواهم"])
def test_people_name_devices_as_they_write(name: str) -> None:
    assert clean_name(name) == name.strip()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "x" * 65,
        "x" * 100_000,
        "a\nb",
        "a\x00b",
        "a\x1b[31mb",
        "\u202egpj.exe",
        "a\u2066b",
        "a\u200bb",
        "\u200d",
        "a\u2028b",
        "a\ud800",
        "\ufeff",
    ],
)
def test_names_that_hide_or_deceive_are_refused(name: str) -> None:
    with pytest.raises(Problem) as caught:
        clean_name(name)
    assert caught.value.code is Code.INVALID
