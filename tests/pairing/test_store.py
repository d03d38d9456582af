"""One row a transition: the row count decides."""

from dataclasses import replace

import pytest

from entobot.pairing import store
from entobot.pairing.model import Claim, DeviceInfo, Invite, Reason, State
from entobot.storage.database import Database, Transaction
from tests.pairing.test_model import CLAIM, INVITES, NOW, OPEN

ON_EVERY_STORE = True


@pytest.mark.parametrize("state", list(State))
async def test_an_invite_in_any_state_is_read_as_it_was_written(database: Database, state: State) -> None:
    await database.write(lambda tx: store.insert_invite(tx, INVITES[state]))
    assert await database.read(lambda tx: store.find_invite(tx, "inv_1")) == INVITES[state]


async def test_of_two_changes_of_what_was_seen_the_second_does_nothing(database: Database) -> None:
    other = replace(CLAIM, claim_id="clm_2", thumbprint="other", device=DeviceInfo("Thief", CLAIM.device.platform, "1"))

    def unit(tx: Transaction) -> list[bool]:
        store.insert_invite(tx, OPEN)
        return [store.change(tx, OPEN, OPEN.claimed(claim, NOW), NOW) for claim in (CLAIM, other)]

    assert await database.write(unit) == [True, False]
    after = await database.read(lambda tx: store.find_invite(tx, "inv_1"))
    assert after == OPEN.claimed(CLAIM, NOW)


@pytest.mark.parametrize(
    "moved",
    [OPEN.with_bad_claim(NOW), OPEN.with_wrong_code(NOW), OPEN.cancelled(Reason.OPERATOR, NOW)],
    ids=["bad claim", "wrong code", "cancelled"],
)
async def test_a_change_of_what_has_moved_does_nothing(database: Database, moved: Invite) -> None:
    def unit(tx: Transaction) -> list[bool]:
        store.insert_invite(tx, OPEN)
        return [store.change(tx, OPEN, moved, NOW), store.change(tx, OPEN, OPEN.claimed(CLAIM, NOW), NOW)]

    assert await database.write(unit) == [True, False]


@pytest.mark.parametrize(("late_by_ms", "can_claim"), [(-1, True), (0, False)])
async def test_the_row_itself_knows_its_deadline(database: Database, late_by_ms: int, can_claim: bool) -> None:
    """Whatever the process that made the change believed."""
    now_ms = OPEN.deadline_ms + late_by_ms

    def unit(tx: Transaction) -> tuple[bool, bool]:
        store.insert_invite(tx, OPEN)
        expired = OPEN.expired(OPEN.deadline_ms)
        return store.change(tx, OPEN, OPEN.claimed(CLAIM, NOW), now_ms), store.change(tx, OPEN, expired, now_ms)

    assert await database.write(unit) == (can_claim, not can_claim)


async def test_a_second_device_is_noted_once(database: Database) -> None:
    def unit(tx: Transaction) -> list[bool]:
        store.insert_invite(tx, OPEN)
        return [store.contest(tx, "inv_1") for _ in range(3)]

    assert await database.write(unit) == [True, False, False]


async def test_failures_that_left_the_window_are_deleted(database: Database) -> None:
    def unit(tx: Transaction) -> list[tuple[str, int]]:
        for at_ms in range(10):
            store.add_failure(tx, "192.0.2.1", at_ms, at_ms - 3)
        return store.failures_since(tx, -1)

    assert await database.write(unit) == [("192.0.2.1", at_ms) for at_ms in (7, 8, 9)]


def test_the_claim_of_the_model_is_the_claim_of_the_row() -> None:
    columns = {column.name for column in store.invites.columns}
    told = set(Claim.__dataclass_fields__) - {"device"} | set(DeviceInfo.__dataclass_fields__)
    assert told <= columns
