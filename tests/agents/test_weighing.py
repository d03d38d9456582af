"""A tool whose risk lies in what is there: what was approved covers no more than was at stake when it was asked."""

from dataclasses import replace

import pytest

from entobot.agents.tools import Toolbox, built_in_tools
from entobot.agents.workspace import Workspace
from entobot.approvals.model import ApprovalState, Risk
from entobot.core.clock import Clock
from tests.agents.conftest import Opener


class Stake:
    """What `note` puts at risk at present."""

    risk: Risk | None = Risk.MEDIUM

    def tools(self, clock: Clock, workspace: Workspace) -> Toolbox:
        known = built_in_tools(clock, workspace)
        note = known.find("note")
        assert note is not None
        return known.plus([replace(note, weigh=lambda *_: self.risk)])


@pytest.mark.parametrize(("risk", "is_done"), [(Risk.HIGH, False), (Risk.MEDIUM, True), (Risk.LOW, True), (None, True)])
async def test_a_leave_does_not_cover_a_risk_that_rose_while_it_waited(
    open_agency: Opener, risk: Risk | None, *, is_done: bool
) -> None:
    stake = Stake()
    agency = await open_agency(tools=stake.tools)
    phone = await agency.pair()
    await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    stake.risk = risk
    await agency.decide(phone, approval, "approve")
    await agency.until("RUN_FINISHED")
    assert (agency.workspace / "notes.txt").exists() is is_done
    (answer,) = await agency.answers()
    assert ("More is at stake by now than was approved: high, not medium. It was not done." in answer) is not is_done
    kept = await agency.database.read(lambda tx: agency.approvals.find(tx, approval["approval_id"]))
    assert kept is not None
    assert (kept.state, kept.consumed_at_ms is not None) == (ApprovalState.APPROVED, True)


async def test_a_refusal_stays_a_refusal_whatever_rose(open_agency: Opener) -> None:
    stake = Stake()
    agency = await open_agency(tools=stake.tools)
    phone = await agency.pair()
    await agency.say("!note milk")
    approval = await agency.until("approval.requested")
    stake.risk = Risk.HIGH
    await agency.decide(phone, approval, "deny", reason="no")
    await agency.until("RUN_FINISHED")
    (answer,) = await agency.answers()
    assert "A person refused this" in answer
