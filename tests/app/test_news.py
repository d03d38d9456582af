"""What of conversations becomes a notification."""

from pathlib import Path

from entobot.agents.runner import RunErrorCode, RunFailed
from entobot.agents.service import Claimed
from entobot.app.news import FAILED, tell_failure
from entobot.core.ids import Prefix
from entobot.core.permissions import ALL_SCOPES
from entobot.core.principal import Principal
from entobot.notifications import store
from tests.notifications.conftest import House
from tests.support.agency import Agency
from tests.support.time import ManualClock, SeededEntropy


async def test_a_run_that_fails_is_told_to_whoever_put_the_phone_away(
    tmp_path: Path, clock: ManualClock, entropy: SeededEntropy
) -> None:
    agency = Agency(tmp_path, clock, entropy)
    await agency.open(works=False)
    house = House(agency.database, clock, agency.ids)
    house.owner = Principal(agency.user_id, ALL_SCOPES)
    house.allows_content = True
    await house.add_place()
    agency.agents.on_failure = tell_failure(house.service)
    sent = await agency.say("hello")
    run_id, now_ms = agency.ids.new(Prefix.RUN), clock.now_ms()
    claimed = await agency.database.write(lambda tx: agency.agents.claim(tx, sent.conversation_id, run_id, now_ms))
    assert isinstance(claimed, Claimed)
    failure = RunFailed(RunErrorCode.PROVIDER_REJECTED, "The key is wrong.")
    for is_first in (True, False):
        ended = await agency.database.write(lambda tx: agency.agents.fail(tx, run_id, failure, now_ms))
        assert ended is is_first
    await house.turn()
    (parcel,) = house.push.parcels
    assert (parcel.kind, parcel.path) == ("message", f"/chat/{sent.conversation_id}")
    event = (await agency.events())[-1]
    assert event["type"] == "RUN_ERROR"
    notification = await house.database.read(lambda tx: store.find(tx, parcel.notification_id))
    assert notification is not None
    assert notification.title == FAILED
    await agency.close()
