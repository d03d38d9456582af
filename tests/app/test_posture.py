"""The score: a hundred when all is in order, less by the worst point of every topic."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from entobot.app.posture import clock_is_synchronised, score
from entobot.app.posture_settings import weak_settings
from entobot.app.weak_points import COST, Grade, Topic, WeakPoint
from entobot.config import Settings

POINTS = st.lists(st.builds(WeakPoint, st.sampled_from(Topic), st.sampled_from(Grade), st.just("x"), st.just("y")))


def point(topic: Topic, grade: Grade) -> WeakPoint:
    return WeakPoint(topic, grade, "what", "fix")


def test_nothing_weak_is_a_hundred() -> None:
    assert score([]) == 100


def test_a_topic_costs_what_its_worst_point_does() -> None:
    one = [point(Topic.BACKUP, Grade.NOTE), point(Topic.BACKUP, Grade.WARN), point(Topic.BACKUP, Grade.WARN)]
    assert score(one) == 100 - COST[Grade.WARN]
    assert score([*one, point(Topic.STORE, Grade.BAD)]) == 100 - COST[Grade.WARN] - COST[Grade.BAD]


@given(POINTS, POINTS)
def test_more_weak_points_never_raise_the_score(some: list[WeakPoint], more: list[WeakPoint]) -> None:
    assert 0 <= score(some + more) <= score(some) <= 100


def test_the_kernel_is_asked_without_changing_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock_is_synchronised() in (True, False, None)
    monkeypatch.setattr("entobot.app.posture.ctypes.CDLL", lambda _name: object())
    assert clock_is_synchronised() is None


def sections(section: type[BaseModel]) -> set[type[BaseModel]]:
    """Of all of the settings, lists of sections included."""
    inner = {part for field in section.model_fields.values() for part in parts(field.annotation)}
    return {section}.union(*(sections(one) for one in inner if isinstance(one, type) and issubclass(one, BaseModel)))


def parts(annotation: object) -> set[object]:
    return {annotation}.union(*(parts(one) for one in get_args(annotation)))


def paths_of(section: type[BaseModel]) -> list[str]:
    return [name for name, field in section.model_fields.items() if Path in parts(field.annotation)]


def names(**sections: object) -> list[str]:
    return [f"{one.topic} {one.grade}" for one in weak_settings(Settings.model_validate(sections))]


def test_usual_settings_have_no_weak_point() -> None:
    assert names() == []


@pytest.mark.parametrize(("mode", "found"), [(0o644, ["secrets bad"]), (0o640, []), (0o600, [])])
def test_a_secret_that_everybody_on_the_machine_can_read_is_told(tmp_path: Path, mode: int, found: list[str]) -> None:
    file = tmp_path / "secret"
    file.write_text("whsec_" + "A" * 32)
    file.chmod(mode)
    hook = {"name": "hook", "kind": "webhook", "url": "https://example.org/in", "secret_file": file}
    assert names(alerts={"channels": [hook]}) == found
    assert names(storage={"url": "postgresql://db/entobot", "password_file": file}) == found


def test_every_path_is_a_secret_or_known_not_to_be_one() -> None:
    """By the names of settings: a secret that is named otherwise would be left out."""
    paths = {f"{section.__name__}.{name}" for section in sections(Settings) for name in paths_of(section)}
    others = {
        "AcpBridge.folder",
        "AgentSettings.workspace",
        "AuditSink.certificate",
        "BackupSettings.folder",
        "TlsSettings.certificate",
    }
    others |= {f"{name}.authority" for name in ("AcmeSettings", "AlertChannel", "AuditSink", "BusSettings")}
    others |= {
        "CallbackSettings.authority",
        "NotificationSettings.authority",
        "NotificationSettings.smtp_authority",
        "SmsSettings.authority",
    }
    assert {path for path in paths if not path.endswith(("_file", ".key"))} == others | {"AcmeSettings.dns_hook"}


def test_one_name_for_several_nodes_wants_a_proof_that_any_of_them_can_give() -> None:
    acme = {"agree": True}
    public = {"public_url": "https://gate.example.org"}
    shared = {"url": "postgresql://db/entobot"}
    assert names(gateway=public, tls={"mode": "acme"}, acme=acme, storage=shared) == ["certificate note"]
    assert names(gateway=public, tls={"mode": "acme"}, acme=acme) == []
    hook = {"challenge": "dns-01", "dns_hook": "/hook"}
    assert names(gateway=public, tls={"mode": "acme"}, acme=acme | hook, storage=shared) == []


@pytest.mark.parametrize(
    ("bridge", "found"),
    [
        ({"url": "mqtts://broker.example.org"}, []),
        ({"url": "mqtt://127.0.0.1"}, []),
        ({"url": "mqtt://broker.example.org"}, ["networks warn"]),
        ({"url": "mqtt://broker.example.org", "username": "u", "password_file": "/none"}, ["secrets bad"]),
    ],
)
def test_a_bridge_without_tls_is_told(bridge: dict[str, object], found: list[str]) -> None:
    out = [{"of": "status", "topic": "house/{device}"}]
    one = {"name": "factory", "devices": ["*"], "out": out} | bridge
    assert names(mqtt={"enabled": True, "bridges": [one]}) == found
