"""What docs/secure/hardening.md says that `entobot doctor` checks, it checks: each is made weak once and told."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entobot.app import doctor
from entobot.app.doctor import Level
from entobot.app.weak_points import Topic
from entobot.core.errors import Code, Problem
from tests.support.operator import Operator
from tests.support.process import ROOT, GatewayProcess

PAGE = ROOT / "docs" / "secure" / "hardening.md"
READY = frozenset({"accepting", "agents", "bus", "listener", "renewal", "storage", "worker"})
"""The parts of readiness; their names come from the gateway."""
SAID_ONLY = frozenset({"posture", "python", "voice"})
"""What is told and is never a complaint."""
ELSEWHERE = {
    "audit": "tests/audit/test_sending.py::test_a_long_outage_is_recorded_once_and_so_is_its_end",
    "backup": "tests/app/test_backups.py::test_a_gateway_that_runs_makes_one_and_everybody_can_see_it",
    "edge": "tests/stories/test_mqtt_edge.py::test_the_doctor_finds_an_edge_that_lets_the_gateway_in_and_says_why_one_does_not",
    "store": "tests/stories/test_upgrade.py::test_the_doctor_says_why_a_gateway_over_a_newer_store_does_not_start",
}
"""What other tests make weak."""
WEAK = {
    "ENTOBOT_GATEWAY__ALLOWED_NETWORKS": "192.0.2.0/24",
    "ENTOBOT_GATEWAY__ALLOWED_ORIGINS": "http://pages.example",
    "ENTOBOT_LIMITS__REQUESTS_PER_SECOND": "100000",
    "ENTOBOT_SIGNIN__PASSWORDS": "true",
    "ENTOBOT_SMS__PROVIDER": "console",
}


def claimed() -> set[str]:
    """The names that stand behind *Checked by*, and those of the last section."""
    text = PAGE.read_text("utf-8")
    last = text.partition("## What else doctor says")[2]
    said = [re.sub(r"\([^)]*\)", "", one) for one in re.findall(r"Checked by (.+?)\.$", text, re.MULTILINE)]
    names = {name for one in said for name in re.findall(r"`([a-z ]+)`", one)}
    return names | set(re.findall(r"`([a-z]+)`[,:]", last))


def checked() -> set[str]:
    """What doctor can say: the names in its code, the topics of the posture, the parts of readiness."""
    tree = ast.parse(Path(doctor.__file__).read_text("utf-8"))
    named = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
        if isinstance(node.args[0], ast.Constant)
    }
    return {str(name) for name in named} | {topic.replace("_", " ") for topic in Topic} | READY


def test_every_check_has_its_place_in_the_guide_and_no_other_is_claimed() -> None:
    assert claimed() == checked()


def test_every_item_says_what_why_how_and_how_to_check() -> None:
    items = re.split(r"^## \d+\. ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert len(items) > 10
    for item in items:
        title, _, text = item.partition("\n")
        assert re.findall(r"^\*\*(\w+)\*\*", text, re.MULTILINE) == ["What", "Why", "How", "Check"], title
        assert "Checked by" in text or "*Not checked.*" in text, title


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """What doctor says of a gateway that is weak wherever a test can make it so."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("weak") / "home", environment=WEAK)
    (gateway.home / "workspace").mkdir(parents=True)
    gateway.home.chmod(0o755)
    try:
        gateway.start()
        Operator(gateway).execute("UPDATE audit_log SET event = 'device.paired' WHERE seq = 1")
        (gateway.home / "entobot.toml").write_text('[gateway]\nnmae = "Kitchen"\n')
        (gateway.home / "entobot.toml").chmod(0o600)
        gateway.home.chmod(0o750)
        found: dict[str, list[dict[str, Any]]] = {}
        for one in json.loads(gateway.cli("doctor", "--json").stdout):
            found.setdefault(one["name"], []).append(one)
        yield found
    finally:
        gateway.close()


PROVOKED = {
    "agent": "no model key",
    "audit log": "Altered at entry 1",
    "certificate": "does not answer",
    "data folder": "open to others",
    "limits": "requests",
    "networks": "leaves out 127.0.0.1",
    "origins": "http://pages.example",
    "push": "devices that trust",
    "secrets": "home",
    "settings": "nmae",
    "sign in": "passwords",
    "sms": "not sent",
}


@pytest.mark.parametrize("name", list(PROVOKED))
def test_what_is_weak_is_told(findings: dict[str, list[dict[str, Any]]], name: str) -> None:
    told = [one for one in findings[name] if one["level"] != Level.OK]
    assert [one for one in told if PROVOKED[name] in one["detail"]], findings[name]
    assert all(one["fix"] for one in told)


def test_a_topic_that_was_told_is_not_told_again(findings: dict[str, list[dict[str, Any]]]) -> None:
    assert len(findings["networks"]) == 1


def test_a_gateway_that_does_not_run_is_told(tmp_path: Path) -> None:
    told = json.loads(GatewayProcess(tmp_path / "home").cli("doctor", "--json").stdout)
    assert [one["level"] for one in told if one["name"] == "gateway"] == ["warning"]


def test_a_full_disk_a_wrong_clock_and_a_lost_address_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 1024**6)
    assert doctor._disk(tmp_path).level is Level.WARNING
    assert doctor._clock({"server_time": "2026-01-01T00:00:00Z"}).level is Level.WARNING
    assert [one.level for one in doctor._address(tmp_path, "https://203.0.113.9:18790")] == [Level.WARNING]


@pytest.mark.parametrize("name", sorted(READY))
def test_what_readiness_complains_about_is_told(name: str) -> None:
    class Unready:
        def request(self, *_: str) -> dict[str, Any]:
            checks = [{"name": name, "ok": False, "detail": "away", "for_s": 3}]
            raise Problem(Code.DRAINING, "It is not ready.", extra={"checks": checks})

    told = doctor._ready(Unready())  # pyright: ignore[reportArgumentType]  the one method that is used
    assert [(one.name, one.level, one.detail) for one in told] == [(name, Level.WARNING, "away For 3 s.")]


def test_every_check_was_made_to_complain() -> None:
    here = set(PROVOKED) | READY | {"address", "clock", "disk", "gateway"}
    assert here | set(ELSEWHERE) | SAID_ONLY | {"readiness"} == checked()
    for named in ELSEWHERE.values():
        path, _, function = named.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text("utf-8"), named
