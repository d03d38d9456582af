"""Agencies whose answers come from an agent behind a URL."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from entobot.agents.ag_ui_words import ask_tool
from entobot.agents.bridging import Bridged, Bridges, BridgeState, Outside
from entobot.agents.plain_bridge import PlainBridge
from entobot.agents.remote import Remote
from entobot.agents.runner_a2a import A2aRunner
from entobot.agents.runner_ag_ui import AgUiRunner
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.tools import built_in_tools
from entobot.config_bridges import A2aBridge, AgUiBridge
from entobot.core.networks import Networks
from entobot.core.permissions import Role
from entobot.outgoing.guarded_http import GuardedHttp
from tests.support.agency import Agency

LOOPBACK = ("127.0.0.0/8",)
Asking = Callable[..., Awaitable[Agency]]


def remote(folder: Path, key: str, header: str, networks: tuple[str, ...] = LOOPBACK, within_s: float = 20) -> Remote:
    key_file = folder / "key"
    key_file.write_text(key)
    return Remote("helper", guarded(networks, within_s), key_file, header)


def guarded(networks: tuple[str, ...], within_s: float) -> GuardedHttp:
    return GuardedHttp(Networks(networks), ssl.create_default_context, setting="here", within_s=within_s)


def ag_ui(folder: Path, url: str, key: str, *, sends_all: bool = True, **how: Any) -> tuple[AgUiBridge, Bridged]:
    runner = AgUiRunner(url, remote(folder, key, "Authorization", **how), sends_all=sends_all)
    return AgUiBridge(name="helper", kind="ag-ui", url=url), PlainBridge(runner, runner.allow)


def a2a(folder: Path, url: str, key: str, **how: Any) -> tuple[A2aBridge, Bridged]:
    runner = A2aRunner(url, remote(folder, key, "X-API-Key", **how))
    return A2aBridge(name="helper", kind="a2a", url=url), PlainBridge(runner)


async def asking(open_agency: Asking, found: tuple[Any, Bridged], **parts: Any) -> Agency:
    bridge, runner = found
    bridges = Bridges(EchoRunner(), [Outside(bridge, runner)], "helper", lambda *_: Role.OWNER)
    return await open_agency(
        runner=bridges,
        waiting=bridges,
        agent="helper",
        tools=lambda clock, workspace: built_in_tools(clock, workspace).plus([ask_tool("helper")]),
        **parts,
    )


def standing(agency: Agency) -> BridgeState:
    bridges = agency.worker._runner
    assert isinstance(bridges, Bridges)
    return bridges.outside["helper"].runner.standing()
