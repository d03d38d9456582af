"""From decided to delivered to consumed, and the warning when that does not happen."""

import pytest

from entobot.approvals import store
from entobot.approvals.model import ApprovalState
from entobot.audit.events import AuditEvent
from tests.approvals.conftest import RUN, Ask
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock

ON_EVERY_STORE = True


async def row_of(agency: Agency, pocket: Pocket, approval: Event) -> Event:
    listed = await agency.command(pocket.principal, "approval.list", state="all")
    return next(row for row in listed["rows"] if row["approval_id"] == approval["approval_id"])


async def sweep(agency: Agency) -> None:
    await agency.approvals.sweep(agency.database, agency.clock.now_ms())


async def test_a_decision_that_nobody_takes_up_is_told_of_once(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock
) -> None:
    approval = await ask()
    await agency.decide(phone, approval, "approve")
    clock.advance(9.999)
    await sweep(agency)
    assert await agency.of("approval.unconsumed") == []
    clock.advance(0.001)
    for _ in range(2):
        await sweep(agency)
    (told,) = await agency.of("approval.unconsumed")
    assert told["approval_id"] == approval["approval_id"]
    assert len(agency.audit.of(AuditEvent.APPROVAL_UNCONSUMED)) == 1
    count = await agency.database.read(lambda tx: agency.approvals.count_unconsumed(tx, clock.now_ms()))
    assert count == 1
    await agency.database.write(lambda tx: agency.approvals.consumed(tx, approval["approval_id"], clock.now_ms()))
    count = await agency.database.read(lambda tx: agency.approvals.count_unconsumed(tx, clock.now_ms()))
    assert count == 0
    row = await row_of(agency, phone, approval)
    assert row["delivered_at"] == row["consumed_at"] != None  # noqa: E711  both, and the same


async def test_each_step_has_its_time_and_none_moves_back(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock
) -> None:
    approval = await ask()
    approval_id = approval["approval_id"]
    await agency.database.write(lambda tx: agency.approvals.consumed(tx, approval_id, clock.now_ms()))
    assert "consumed_at" not in await row_of(agency, phone, approval), "nothing was decided yet"
    await agency.decide(phone, approval, "approve")
    clock.advance(1)
    await agency.database.write(lambda tx: agency.approvals.delivered(tx, approval_id, clock.now_ms()))
    delivered = (await row_of(agency, phone, approval))["delivered_at"]
    clock.advance(1)
    for _ in range(2):
        await agency.database.write(lambda tx: agency.approvals.consumed(tx, approval_id, clock.now_ms()))
        clock.advance(1)
    row = await row_of(agency, phone, approval)
    assert row["delivered_at"] == delivered < row["consumed_at"]


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_run_that_ends_before_drops_what_was_decided_for_it(
    agency: Agency, phone: Pocket, ask: Ask, clock: ManualClock, decision: str
) -> None:
    approval = await ask()
    await agency.decide(phone, approval, decision)
    await agency.database.write(lambda tx: agency.approvals.cancel_for_run(tx, RUN, clock.now_ms()))
    clock.advance(60)
    await sweep(agency)
    assert await agency.of("approval.unconsumed") == []
    row = await row_of(agency, phone, approval)
    assert row["dropped_at"]
    assert row["consumed_at"] is None
    assert row["state"] in (ApprovalState.APPROVED, ApprovalState.DENIED)


async def test_the_row_is_warned_of_once_whoever_looks(agency: Agency, phone: Pocket, ask: Ask) -> None:
    """The guard of databases that run units side by side."""
    approval_id, now_ms = (await ask())["approval_id"], agency.clock.now_ms()
    assert not await agency.database.write(lambda tx: store.note_warned(tx, approval_id, now_ms)), "it is not decided"
    await agency.decide(phone, (await agency.of("approval.requested"))[-1], "approve")
    warned = await agency.database.write(lambda tx: [store.note_warned(tx, approval_id, now_ms) for _ in range(2)])
    assert warned == [True, False]
