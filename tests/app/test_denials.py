"""Commands that were refused, in the audit log: the first at once, then how many, whatever is sent."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from entobot.app.denials import CommandDenials
from entobot.audit.model import Entry
from entobot.audit.service import Audit
from entobot.core.ids import RandomIds
from entobot.core.permissions import Scope
from entobot.devices.model import Device, Platform, Status
from entobot.policies.service import Wish
from entobot.signin.refusals import MAX_PLACES, WINDOW_MS
from entobot.storage.database import StorageFailed, Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things.refused import CommandRefused
from tests.support.stores import sqlite_database
from tests.support.time import ManualClock, SeededEntropy

T = TypeVar("T")
DOOR = Device(
    device_id="dev_door",
    user_id="usr_other",
    name="Door",
    platform=Platform.IOT,
    app_version="",
    os_version="",
    jwk=None,
    thumbprint=None,
    scopes=frozenset({Scope.CHAT}),
    status=Status.ACTIVE,
    epoch=1,
    created_at_ms=0,
    last_seen_at_ms=None,
    first_used_at_ms=None,
    paired_by="",
    confirmed_by_mode="api_key",
)


def refused(
    user: str = "usr_a", command: str = "open", *, by: str | None = None, is_known: bool = True
) -> CommandRefused:
    wish = Wish(user, manages=False, via="person", by_device=by, thing=DOOR, command=command)
    return CommandRefused("Door", wish, "policy night forbids it", is_known=is_known)


class _Broken:
    """A store that does not take it."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        raise StorageFailed


class Case:
    def __init__(self, database: SqliteDatabase) -> None:
        self.database, self.clock, self.meters = database, ManualClock(), Meters()
        entropy = SeededEntropy()
        self.audit = Audit(ids=RandomIds(self.clock, entropy), entropy=entropy, signer=None, head_file=None)
        self.denials = CommandDenials(database, self.clock, self.audit, self.meters)

    async def told(self) -> list[Entry]:
        page = await self.database.read(lambda tx: self.audit.find(tx, after=0, limit=500))
        return [one.entry for one in page.entries]


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    database = sqlite_database(tmp_path)
    await database.start()
    yield Case(database)
    await database.stop()


async def test_the_first_is_told_at_once_and_the_same_again_is_counted(case: Case) -> None:
    for _ in range(500):
        await case.denials.note(refused(by="dev_phone"))
    (one,) = await case.told()
    assert (one.event, one.outcome, one.subject) == ("thing.command_refused", "denied", "dev_door")
    assert one.actor is not None
    assert (one.actor.user_id, one.actor.device_id) == ("usr_a", "dev_phone")
    facts: dict[str, Any] = {"via": "person", "command": "open", "rule": "policy night forbids it", "count": 1}
    assert (one.facts, one.commitments) == (facts, {})
    await case.denials.settle()
    assert len(await case.told()) == 1, "not before its window is over"
    case.clock.advance(WINDOW_MS / 1000)
    await case.denials.settle()
    assert (await case.told())[1].facts == {"via": "person", "command": "open", "count": 499}
    await case.denials.note(refused(by="dev_phone"))
    assert len(await case.told()) == 3, "a new window begins"
    assert case.meters.counter(Metric.REFUSALS, reason="thing_command").value == 501


async def test_another_person_device_or_command_is_told_by_itself(case: Case) -> None:
    for one in (refused(), refused("usr_b"), refused(by="dev_phone"), refused(command="shut")):
        await case.denials.note(one)
        await case.denials.note(one)
    assert [one.facts["count"] for one in await case.told()] == [1] * 4


async def test_a_name_that_the_thing_does_not_have_is_no_word_for_the_log(case: Case) -> None:
    for number in range(50):
        await case.denials.note(refused(command=f"hunter{number} 2", is_known=False))
    (one,) = await case.told()
    assert "command" not in one.facts


async def test_many_kinds_at_once_fill_neither_log_nor_memory(case: Case) -> None:
    for number in range(MAX_PLACES + 50):
        await case.denials.note(refused(f"usr_{number}"))
    found = await case.told()
    assert len(found) == MAX_PLACES + 1
    assert (found[-1].actor, found[-1].subject) == (None, ""), "it is of many"
    case.clock.advance(WINDOW_MS / 1000)
    await case.denials.settle()
    assert (await case.told())[-1].facts == {"count": 49}


async def test_what_the_store_did_not_take_is_told_when_it_does(case: Case) -> None:
    case.denials._database = _Broken()  # pyright: ignore[reportAttributeAccessIssue]  only its writes are asked for
    await case.denials.note(refused())
    case.denials._database = case.database
    await case.denials.settle()
    assert [one.facts["count"] for one in await case.told()] == [1]
