"""The settings of agents outside: what is taken, and what refuses to start."""

import json
from pathlib import Path
from typing import Any

import pytest

from entobot.config_bridges import A2aBridge, AcpBridge, AgUiBridge, WebhookBridge
from entobot.core.errors import StartupRefused
from entobot.sources import load

ACP = {"name": "helper", "kind": "acp", "command": ["helper"]}
HOOK = {"name": "desk", "kind": "webhook", "url": "https://desk.example.org/chat", "secret_file": "/secret"}
AG_UI = {"name": "far", "kind": "ag-ui", "url": "https://far.example.org/ag-ui", "sends": "message"}
A2A = {"name": "painter", "kind": "a2a", "url": "https://painter.example.org", "key_header": "X-API-Key"}


def loaded(folder: Path, *bridges: dict[str, Any], **more: str) -> Any:
    variables = {f"ENTOBOT_AGENT__{name.upper()}": value for name, value in more.items()}
    return load(folder, {"ENTOBOT_AGENT__BRIDGES": json.dumps(bridges), **variables}).agent


def test_bridges_are_read_by_kind_and_one_answers_by_default(tmp_path: Path) -> None:
    agent = loaded(tmp_path, ACP, HOOK, AG_UI, A2A, default="desk")
    assert [type(one) for one in agent.bridges] == [AcpBridge, WebhookBridge, AgUiBridge, A2aBridge]
    assert agent.default == "desk"
    assert agent.bridges[0].roles == ("owner",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "echo"}, "is no name"),
        ({"name": "Helper"}, "is no name"),
        ({"command": []}, "command"),
        ({"command": ["bin/helper"]}, "absolute path"),
        ({"command": [""]}, "names no program"),
        ({"folder": "project"}, "absolute path"),
        ({"variables": ["ENTOBOT_AGENT__API_KEY"]}, "no variable"),
        ({"variables": ["A=B"]}, "no variable"),
        ({"roles": []}, "roles"),
        ({"kind": "shell"}, "kind"),
        ({"shell": True}, "not a known setting"),
        ({"kind": "webhook", "url": "ftp://x", "secret_file": "/s"}, "no https"),
    ],
    ids=range(12),
)
def test_what_cannot_be_meant_refuses_to_start(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    with pytest.raises(StartupRefused, match=why):
        loaded(tmp_path, ACP | change)


@pytest.mark.parametrize("header", ["Host", "content-length", "X API", "X-Key:", "", "Té"])
def test_a_key_is_sent_in_a_header_for_keys(tmp_path: Path, header: str) -> None:
    with pytest.raises(StartupRefused, match="no header for a key"):
        loaded(tmp_path, A2A | {"key_header": header})


def test_two_of_one_name_and_a_default_that_is_not_there_refuse_to_start(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="two of them"):
        loaded(tmp_path, ACP, HOOK | {"name": "helper"})
    with pytest.raises(StartupRefused, match="no bridge is called so"):
        loaded(tmp_path, ACP, default="desk")
