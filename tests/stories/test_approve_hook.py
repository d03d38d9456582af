"""A coding agent's hook, as an agent runs it: by its settings' command line, with the event on standard input."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOMY, ROOT, GatewayProcess
from tests.support.thing import Thing

_RECIPE = (ROOT / "docs" / "how-to" / "ask-a-human.md").read_text("utf-8")
_AS_WRITTEN = re.search(r'"command": "(entobot approve-hook [^"]+)"', _RECIPE)
assert _AS_WRITTEN is not None
COMMAND = _AS_WRITTEN[1].replace("entobot", f"{sys.executable} -m entobot", 1)
EVENT: dict[str, Any] = {
    "session_id": "s1",
    "cwd": "/work/project",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": "rm -r build", "description": "Start anew"},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("hook") / "home", environment=ROOMY)
    yield process.start()
    process.close()


def run(
    gateway: GatewayProcess, event: object = EVENT, command: str = COMMAND, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", "-c", command],
        input=event if isinstance(event, str) else json.dumps(event),
        env={**os.environ, **gateway.environment, **environment},
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
        start_new_session=True,  # without the terminal of whoever runs the tests
    )


async def asked_by(gateway: GatewayProcess, phone: Any, **options: Any) -> "tuple[asyncio.Task[Any], dict[str, Any]]":
    hook = asyncio.create_task(asyncio.to_thread(run, gateway, **options))
    return hook, (await phone.until_event("approval.requested"))["data"]


async def test_what_is_approved_on_the_phone_runs_and_nothing_else_does(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    agent = await asyncio.to_thread(Thing.make, gateway, "Coder", "--scopes", "notify")
    there = {"ENTOBOT_URL": gateway.origin, "ENTOBOT_AUTHORITY": str(gateway.home / "tls" / "ca.crt")}
    async with connected(gateway, device) as phone:
        hook, approval = await asked_by(gateway, phone, **there, ENTOBOT_TOKEN=agent.api_key)
        assert approval["title"] == "Coder: Bash: rm -r build"
        assert json.loads(approval["action"])["args"] == EVENT["tool_input"] | {"cwd": "/work/project"}
        await asyncio.to_thread(device.decide, approval, "approve")
        done = await hook
        assert (done.returncode, json.loads(done.stdout)["hookSpecificOutput"]["permissionDecision"]) == (0, "allow")
        hook, approval = await asked_by(gateway, phone)
        await asyncio.to_thread(device.decide, approval, "deny", "not the build")
        done = await hook
        assert (done.returncode, done.stdout) == (2, "")
        assert "not the build" in done.stderr


async def test_changed_input_goes_to_agents_that_take_it(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    command = COMMAND.replace("--wait", "--edits --wait")
    event = EVENT | {"hook_event_name": "PermissionRequest"}
    async with connected(gateway, device) as phone:
        hook, approval = await asked_by(gateway, phone, command=command, event=event)
        edited = approval["action"].replace("rm -r build", "ls build")
        await asyncio.to_thread(device.decide, approval, "approve", edited_action=edited)
        told = json.loads((await hook).stdout)["hookSpecificOutput"]
        assert told["decision"] == {
            "behavior": "allow",
            "updatedInput": {"command": "ls build", "description": "Start anew"},
        }


def test_whatever_goes_wrong_is_a_no(gateway: GatewayProcess) -> None:
    nowhere = {"ENTOBOT_URL": "https://127.0.0.1:9", "ENTOBOT_TOKEN": "ent_key_x"}
    attempts: dict[str, subprocess.CompletedProcess[str]] = {
        "nobody decides": run(gateway, command=COMMAND.replace("--wait 600", "--wait 1")),
        "no event": run(gateway, event="{"),
        "no input": run(gateway, event=EVENT | {"tool_input": "x"}),
        "a name that says something else": run(gateway, event=EVENT | {"tool_name": "Bash\u202e"}),
        "too large": run(gateway, event=EVENT | {"tool_input": {"content": "x" * 100_000}}),
        "no gateway": run(gateway, **nowhere),
        "no token": run(gateway, ENTOBOT_URL=gateway.origin),
        "no scope": run(gateway, ENTOBOT_URL=gateway.origin, ENTOBOT_TOKEN="ent_key_nobodys"),
        "digits without a terminal": run(gateway, command=COMMAND.replace("--wait", "--risk high --wait")),
        "no such command": run(gateway, command="no-such-entobot approve-hook || exit 2"),
    }
    assert {name: (done.returncode, done.stdout) for name, done in attempts.items()} == dict.fromkeys(attempts, (2, ""))
    assert all(done.stderr for done in attempts.values()), "the agent is told why"
    left = gateway.ask("audit", "list", "--event", "approval.")
    assert "approval.cancelled" in str(left), "what nobody waits for leaves the phone"
