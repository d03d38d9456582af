"""The list of devices is searched, filtered and sorted at the gateway, a page at a time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix
from entobot.core.secrets import b64u
from entobot.devices import store
from entobot.devices.directory import MAX_PAGE
from entobot.devices.model import Platform, Status
from entobot.devices.search import Search, Sort, find
from entobot.storage.database import Transaction
from tests.devices.conftest import House
from tests.devices.test_lifecycle import code_of, member

ON_EVERY_STORE = True


async def names(house: House, wanted: Search, limit: int = MAX_PAGE) -> list[str]:
    """Over all pages."""
    owner, found, cursor = await house.devices.local_owner(), list[str](), None
    while True:
        page = await house.devices.directory.find_page(owner, wanted, cursor, limit)
        assert len(page.rows) <= limit
        assert page.total is None if cursor else page.total is not None
        found += [device.name for device in page.rows]
        cursor = page.next
        if cursor is None:
            return found


async def add(house: House, *called: str) -> list[str]:
    made: list[str] = []
    for name in called:
        house.clock.advance(1)
        made.append((await house.pair(name))[1])
    return made


async def test_a_part_of_the_name_is_enough_in_either_case(house: House) -> None:
    await add(house, "Ada's phone", "Bob's PHONE", "Lamp")
    assert await names(house, Search(text="phone")) == ["Bob's PHONE", "Ada's phone"]
    assert await names(house, Search(text="ADA")) == ["Ada's phone"]


@pytest.mark.parametrize("sign", ["%", "_", "\\", "'", '"', "|"])
async def test_signs_of_the_database_are_only_signs(house: House, sign: str) -> None:
    await add(house, "plain", f"with {sign} in it")
    assert await names(house, Search(text=sign)) == ([f"with {sign} in it"])


async def test_a_device_is_found_by_its_whole_id_and_by_its_key(house: House) -> None:
    one, _ = await add(house, "one", "two")
    device = await house.device(one)
    assert await names(house, Search(text=one)) == ["one"]
    assert device.thumbprint is not None
    assert await names(house, Search(text=device.thumbprint)) == ["one"]
    assert await names(house, Search(text=one[:-1])) == []


async def test_filters_narrow_together(house: House) -> None:
    guest = await member(house)
    owner = await house.devices.local_owner()
    suspended, _ = await add(house, "suspended", "active")
    await house.devices.suspend(owner, suspended)
    await house.pair("guest's", user_id=guest.user_id)
    await house.devices.create_api_key(owner, "board", platform=Platform.IOT, scopes=None, expires_in_s=None)
    assert await names(house, Search(status=Status.SUSPENDED)) == ["suspended"]
    assert await names(house, Search(user_id=guest.user_id)) == ["guest's"]
    assert await names(house, Search(credential="api_key")) == ["board"]
    assert await names(house, Search(platform=Platform.IOT)) == ["board"]
    assert sorted(await names(house, Search(credential="device_key"))) == ["active", "guest's", "suspended"]
    assert await names(house, Search(credential="device_key", status=Status.SUSPENDED, text="act")) == []
    assert sorted(await names(house, Search(never_seen=True))) == ["active", "board", "guest's", "suspended"]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_every_order_pages_without_gap_or_repeat(house: House, limit: int) -> None:
    made = await add(house, "beta", "Alpha", "alpha", "gamma", "beta")
    for device_id in made[1:3]:
        house.clock.advance(1)
        device = await house.device(device_id)
        await house.database.write(lambda tx, device=device: store.note_seen(tx, device, house.now_ms))
    assert await names(house, Search(sort=Sort.NEWEST), limit) == ["beta", "gamma", "alpha", "Alpha", "beta"]
    assert await names(house, Search(sort=Sort.NAME), limit) == ["alpha", "Alpha", "beta", "beta", "gamma"]
    assert await names(house, Search(sort=Sort.SEEN), limit) == ["alpha", "Alpha", "beta", "gamma", "beta"]


async def test_the_first_page_tells_how_many_there_are(house: House) -> None:
    await add(house, "one", "two", "three")
    owner = await house.devices.local_owner()
    page = await house.devices.directory.find_page(owner, Search(text="t"), None, 1)
    assert (page.total, len(page.rows)) == (2, 1)


async def test_only_those_who_are_connected_come_when_asked_for(house: House) -> None:
    made = await add(house, *(f"phone {number}" for number in range(9)))
    here = frozenset(made[::4])
    directory = house.devices.directory

    async def find_online(which: Sequence[str]) -> frozenset[str]:
        return here & frozenset(which)

    directory.find_online = find_online
    owner = await house.devices.local_owner()
    found, cursor = list[str](), None
    while True:
        page = await directory.find_online_page(owner, Search(), cursor, 2)
        found += [device.device_id for device in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert found == [made[8], made[4], made[0]]


async def test_nobody_searches_among_other_peoples_devices(house: House) -> None:
    guest = await member(house)
    await add(house, "owner's")
    await house.pair("guest's", user_id=guest.user_id)
    principal = replace(await house.devices.local_owner(), user_id=guest.user_id, scopes=frozenset())
    page = await house.devices.directory.find_page(principal, Search())
    assert ([device.name for device in page.rows], page.total) == (["guest's"], 1)
    others = await house.devices.directory.find_page(principal, Search(user_id=(await house.owner()).user_id))
    assert (others.rows, others.total) == ([], 0)


async def test_a_cursor_of_another_order_is_refused(house: House) -> None:
    await add(house, "one", "two")
    owner, directory = await house.devices.local_owner(), house.devices.directory
    cursors = {sort: (await directory.find_page(owner, Search(sort=sort), None, 1)).next for sort in Sort}
    for sort in Sort:
        for other in Sort:
            if sort is not other:
                asked = directory.find_page(owner, Search(sort=sort), cursors[other], 1)
                assert await code_of(asked) is Code.INVALID


@given(cursor=st.text(max_size=80), sort=st.sampled_from(Sort))
def test_no_text_that_is_no_cursor_is_taken(cursor: str, sort: Sort) -> None:
    never_asked = cast("Transaction", None)
    with pytest.raises(Problem, match="cursor"):
        find(never_asked, Search(sort=sort), cursor, 1)


@pytest.mark.parametrize("place", ['"\\ud800"', '"a\\u0000"'])
async def test_a_cursor_that_no_database_could_take_is_refused(house: House, place: str) -> None:
    device_id = house.ids.new(Prefix.DEVICE)
    owner, cursor = await house.devices.local_owner(), b64u(f'[{place},"{device_id}"]'.encode())
    asked = house.devices.directory.find_page(owner, Search(sort=Sort.NAME), cursor, 1)
    assert await code_of(asked) is Code.INVALID
