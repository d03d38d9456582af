"""Things found by what their devices are called."""

import pytest

from entobot.core.errors import Code, Problem
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.things import store
from entobot.things.service import MAX_PAGE, Reach, Seen, Things
from tests.devices.conftest import House


async def test_a_thing_is_found_by_its_name_however_many_there_are(house: House) -> None:
    things = Things(
        database=house.database,
        clock=house.clock,
        ids=house.ids,
        audit=house.audit,
        accounts=house.accounts,
        devices=house.devices,
        meters=Meters(),
        keep_readings_ms=0,
    )
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
