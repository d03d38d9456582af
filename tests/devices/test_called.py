"""Things found by what their devices are called."""

import pytest

from entobot.accounts.model import User
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix
from entobot.core.permissions import Role
from entobot.devices.model import Platform
from entobot.devices.search import CALLED_SO
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.things import store
from entobot.things.service import MAX_PAGE, Reach, Seen, Things
from tests.devices.conftest import House


def things_of(house: House) -> Things:
    return Things(
        database=house.database,
        clock=house.clock,
        ids=house.ids,
        audit=house.audit,
        accounts=house.accounts,
        devices=house.devices,
        meters=Meters(),
        keep_readings_ms=0,
    )


async def test_a_thing_is_found_by_its_name_however_many_there_are(house: House) -> None:
    things = things_of(house)
    owner = await house.owner()
    made = [(await house.pair(f"Lamp {n}"))[1] for n in range(MAX_PAGE)]
    house.clock.advance(1)  # the others come later in the order of ids
    made += [(await house.pair(name))[1] for name in ("Cellar", "Attic", "attic")]

    def begin(tx: Transaction) -> None:
        for device_id in made:
            store.add_thing(tx, device_id, owner.user_id, house.now_ms)

    await house.database.write(begin)

    async def named(name: str) -> Seen:
        reach = Reach.of(owner.user_id, owner.scopes)
        return await house.database.read(lambda tx: things.named(tx, reach, name))

    assert (await named(" cellar ")).thing.device_id == made[MAX_PAGE]
    assert (await named("Lamp 7")).name == "Lamp 7"
    for name, code in (("attic", Code.INVALID), ("Lamp", Code.NOT_FOUND), ("%", Code.NOT_FOUND)):
        with pytest.raises(Problem) as refused:
            await named(name)
        assert refused.value.code is code
    await house.devices.revoke(await house.devices.local_owner(), made[-1])
    assert (await named("ATTIC")).thing.device_id == made[-2]


async def test_things_of_others_that_are_called_so_hide_nobody_s_own(house: House) -> None:
    things, owner = things_of(house), await house.owner()
    ann = User(house.ids.new(Prefix.USER), "Ann", Role.MEMBER, house.now_ms, "ann")
    await house.database.write(lambda tx: house.accounts.insert(tx, ann))

    def register(tx: Transaction, user_id: str) -> str:
        device_id = house.ids.new(Prefix.DEVICE)
        house.devices.register_bearer(
            tx, device_id=device_id, user_id=user_id, name="Garage", platform=Platform.IOT, app_version="",
            os_version="", scopes=frozenset(), paired_by="operator", confirm_mode="none", now_ms=house.now_ms,
        )  # fmt: skip
        store.add_thing(tx, device_id, user_id, house.now_ms)
        return device_id

    await house.pair("Garage")
    await house.database.write(lambda tx: register(tx, owner.user_id))
    for _ in range(CALLED_SO - 2):
        await house.pair("Garage")
    house.clock.advance(1)  # the others come later in the order of ids
    await house.database.write(lambda tx: register(tx, owner.user_id))
    own = await house.database.write(lambda tx: register(tx, ann.user_id))
    found = await house.database.read(lambda tx: things.named(tx, Reach.of(ann.user_id, ann.scopes), "garage"))
    assert found.thing.device_id == own
    with pytest.raises(Problem, match="Several things are called so"):
        await house.database.read(lambda tx: things.named(tx, Reach.of(owner.user_id, owner.scopes), "garage"))
