"""`kill -9` at every point of a run, then a start on the same data folder."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from entobot.audit.events import AuditEvent
from entobot.client.keys import DeviceKey
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.core.principal import Principal
from tests.agents.conftest import Opener
from tests.support.agency import Agency, Pocket
from tests.support.stores import for_child
from tests.support.time import SeededEntropy

ON_EVERY_STORE = True
ROOT = Path(__file__).parents[2]


async def die_at(point: str, folder: Path) -> None:
    """Run a gateway in `folder` up to a point and kill it there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.agents.mortal",
        str(folder),
        point,
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}", **for_child(folder)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).decode().strip() == point
    process.kill()
    await process.wait()


async def phone_of(agency: Agency, folder: Path) -> Pocket:
    key = DeviceKey.from_text((folder / "phone-key").read_text())
    device_id = (folder / "phone-id").read_text()
    principal = Principal(agency.user_id, DEFAULT_DEVICE_SCOPES, device_id, 1, key.thumbprint)
    return Pocket(key, principal)


@pytest.fixture
def entropy() -> SeededEntropy:
    return SeededEntropy("after the restart")


async def test_an_acknowledged_message_without_a_run_gets_one(open_agency: Opener, tmp_path: Path) -> None:
    await die_at("asked", tmp_path)
    agency = await open_agency()
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["hello"]


async def test_a_run_cut_mid_model_ends_as_gateway_restarted_and_offers_a_retry(
    open_agency: Opener, tmp_path: Path
) -> None:
    await die_at("mid-model", tmp_path)
    agency = await open_agency()
    error = await agency.until("RUN_ERROR")
    (started,) = await agency.of("RUN_STARTED")
    assert (error["code"], error["retry"], error["runId"]) == ("gateway_restarted", True, started["runId"])
    assert await agency.answers() == []
    sent = (await agency.of("message.created"))[0]
    await agency.say("again", sent["conversation_id"])
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["again"]


async def test_a_tool_call_found_executing_is_never_run_again_and_is_shown_as_unknown(
    open_agency: Opener, tmp_path: Path
) -> None:
    await die_at("executing", tmp_path)
    agency = await open_agency()
    error = await agency.until("RUN_ERROR")
    assert (error["code"], error["retry"]) == ("tool_outcome_unknown", False)
    (result,) = await agency.of("TOOL_CALL_RESULT")
    assert result["state"] == "unknown"
    assert len(agency.audit.of(AuditEvent.TOOL_OUTCOME_UNKNOWN)) == 1
    await agency.worker.sweep()
    await agency.idle()
    assert (agency.workspace / "notes.txt").read_text() == "milk\n"
    assert await agency.of("RUN_FINISHED") == []


async def test_a_paused_run_is_still_there_and_goes_on_when_it_is_decided(open_agency: Opener, tmp_path: Path) -> None:
    await die_at("waiting", tmp_path)
    agency = await open_agency()
    await agency.idle()
    assert await agency.of("RUN_ERROR") == []
    approval = await agency.until("approval.requested")
    await agency.decide(await phone_of(agency, tmp_path), approval, "approve")
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["noted: milk"]
    assert (agency.workspace / "notes.txt").read_text() == "milk\n"


async def test_a_decision_whose_bell_was_lost_with_the_process_is_taken_up_at_start(
    open_agency: Opener, tmp_path: Path
) -> None:
    await die_at("waiting", tmp_path)
    before = await open_agency(works=False)
    await before.decide(await phone_of(before, tmp_path), await before.until("approval.requested"), "approve")
    await before.close()
    agency = await open_agency()
    await agency.until("RUN_FINISHED")
    assert await agency.answers() == ["noted: milk"]
