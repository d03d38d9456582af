"""An agency without a worker, and an approval that waits in it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from entobot.approvals.action import parse_args
from entobot.approvals.model import Question
from tests.support.agency import Agency, Event, Pocket
from tests.support.loop_guard import LoopGuard
from tests.support.time import ManualClock, SeededEntropy

RUN = "run_01J00000000000000000000000"


@pytest.fixture
async def agency(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[Agency]:
    agency = Agency(tmp_path, clock, entropy)
    await agency.open(works=False)
    yield agency
    await agency.close()


@pytest.fixture
async def phone(agency: Agency) -> Pocket:
    return await agency.pair()


Ask = Callable[..., Awaitable[Event]]


@pytest.fixture
def ask(agency: Agency) -> Ask:
    """Puts a tool call to the owner's devices and returns the event that they get."""

    async def put(
        args_json: str = '{"text":"milk"}', *, run_id: str = RUN, tool: str = "note", **changes: Any
    ) -> Event:
        now_ms = agency.clock.now_ms()
        await agency.database.write(
            lambda tx: agency.approvals.ask(
                tx,
                Question(
                    user_id=changes.get("user_id", agency.user_id),
                    run_id=run_id,
                    conversation_id="cnv_1",
                    tool_call_id="tcl_1",
                    tool=tool,
                    args_json=args_json,
                    title="Note: milk",
                    risk=changes.get("risk", agency.tools.judge(tool, parse_args(args_json))),
                    asked_by_device_id=changes.get("asked_by_device_id"),
                ),
                expires_at_ms=now_ms + 3_600_000,
                now_ms=now_ms,
            )
        )
        return (await agency.of("approval.requested"))[-1] if "user_id" not in changes else {}

    return put


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: LoopGuard) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Nothing here may block the loop."""
