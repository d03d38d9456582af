"""Settings are changed over the API: validated, stored, audited, in force at once or after a restart."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.client.local import LocalGateway
from entobot.core.errors import Code, Problem
from tests.support.operator import Operator
from tests.support.process import GatewayProcess
from tests.support.thing import Thing

PATH = "/api/v1/settings"


class Desk:
    """Settings as somebody at the local socket sees them."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.request = LocalGateway(gateway.home / "gateway.sock").request

    @property
    def view(self) -> dict[str, Any]:
        return self.request("GET", PATH)

    def fields(self) -> dict[str, dict[str, Any]]:
        return {field["key"]: field for section in self.view["sections"] for field in section["fields"]}

    def change(self, changes: dict[str, Any], **options: Any) -> dict[str, Any]:
        body = {"version": self.view["version"], "changes": changes, **options}
        return self.request("PATCH", PATH, json=body)

    def refused(self, changes: dict[str, Any], code: Code = Code.INVALID, **options: Any) -> Problem:
        with pytest.raises(Problem) as caught:
            self.change(changes, **options)
        assert caught.value.code is code
        return caught.value

    def history(self) -> list[dict[str, Any]]:
        return self.request("GET", f"{PATH}/history")["rows"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[GatewayProcess] = []

    def start(file: str = "", **environment: str) -> Desk:
        home = tmp_path / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "entobot.toml").write_text(file)
        (home / "entobot.toml").chmod(0o600)
        gateway = GatewayProcess(home, environment={"ENTOBOT_AGENT__RUNNER": "echo", **environment})
        made.append(gateway)
        return Desk(gateway.start())

    yield start
    for gateway in made:
        gateway.close()


def test_a_change_holds_at_once_or_after_a_restart_as_the_field_says(make: Any) -> None:
    desk = make(file="[stream]\nkeep_events = 5000\n")
    changed = desk.change({"gateway.name": "Kitchen", "gateway.heartbeat": 25, "stream.keep_events": 6000})
    assert changed["changes"] == [
        {"key": "gateway.heartbeat", "from": 30.0, "to": 25.0, "applies": "restart"},
        {"key": "gateway.name", "from": "", "to": "Kitchen", "applies": "now"},
        {"key": "stream.keep_events", "from": 5000, "to": 6000, "applies": "now"},
    ]
    now = desk.fields()
    assert {key: now[key]["value"] for key in ("gateway.name", "gateway.heartbeat", "stream.keep_events")} == {
        "gateway.name": "Kitchen",
        "gateway.heartbeat": 30.0,
        "stream.keep_events": 6000,
    }
    waiting = now["gateway.heartbeat"]
    assert (waiting["is_waiting"], waiting["waiting"], waiting["source"]) == (True, 25.0, "stored")
    assert desk.view["waiting"] == ["gateway.heartbeat"]
    assert desk.request("GET", "/api/health")["gateway_name"] == "Kitchen"
    desk.gateway.kill()
    desk.gateway.start()
    assert desk.view["waiting"] == []
    assert desk.fields()["gateway.heartbeat"]["value"] == 25.0
    assert desk.request("GET", "/api/health")["gateway_name"] == "Kitchen"
    (shown,) = [row for row in desk.gateway.ask("config", "show") if row["key"] == "stream.keep_events"]
    assert (shown["value"], shown["source"], shown["default"]) == (6000, "stored", 10_000)
    back = desk.change({"stream.keep_events": None})
    assert back["changes"] == [{"key": "stream.keep_events", "from": 6000, "to": 5000, "applies": "now"}]
    assert desk.fields()["stream.keep_events"]["source"] == "file"


def test_log_level_limits_and_networks_hold_at_once(make: Any) -> None:
    desk = make()
    desk.change({"log.level": "debug", "limits.requests_burst": 20, "limits.requests_per_second": 5})
    client = desk.gateway.http()
    answers = [client.get("/api/health").status_code for _ in range(60)]
    assert 429 in answers
    desk.change({"limits.requests_burst": None, "limits.requests_per_second": None})
    desk.change({"gateway.allowed_networks": ["192.0.2.0/24"]})
    with pytest.raises(httpx.TransportError):
        desk.gateway.http().get("/api/health")
    desk.change({"gateway.allowed_networks": None})
    assert desk.gateway.http().get("/api/ready").status_code == 200


def test_nothing_changes_when_anything_is_wrong(make: Any) -> None:
    desk = make(ENTOBOT_LOG__LEVEL="warning")
    before = desk.view
    problem = desk.refused(
        {"gateway.name": "Fine", "log.level": "debug", "gateway.port": 1, "stream.keep_events": 1, "nope": 1}
    )
    errors: Any = problem.extra["errors"]
    assert {one["key"] for one in errors} == {"log.level", "gateway.port", "stream.keep_events", "nope"}
    (pinned,) = [one["message"] for one in errors if one["key"] == "log.level"]
    assert "ENTOBOT_LOG__LEVEL" in pinned
    field = desk.fields()["log.level"]
    assert (field["is_editable"], "ENTOBOT_LOG__LEVEL" in field["pinned_by"]) == (False, True)
    assert desk.change({"gateway.name": "Tried"}, dry_run=True)["changes"][0]["to"] == "Tried"
    assert desk.view == before
    assert desk.history() == []


def test_two_who_change_at_the_same_time_do_not_overwrite_one_another(make: Any) -> None:
    desk = make()
    seen = desk.view["version"]
    assert desk.change({"gateway.name": "First"})["version"] != seen
    desk.refused({"gateway.name": "Second"}, Code.SETTINGS_CHANGED, version=seen)
    assert desk.fields()["gateway.name"]["value"] == "First"


def test_history_says_who_changed_what(make: Any) -> None:
    desk = make()
    desk.change({"gateway.name": "One"})
    desk.change({"gateway.name": "Two", "agent.instructions": "The safe's number is 4711."})
    owner = desk.request("GET", "/api/v1/me")["user_id"]
    rows = desk.history()
    assert [(row["key"], row["from"], row["to"], row["by"]) for row in rows] == [
        ("gateway.name", "One", "Two", owner),
        ("agent.instructions", None, None, owner),
        ("gateway.name", "", "One", owner),
    ]
    page = desk.request("GET", f"{PATH}/history?limit=2")
    (last,) = desk.request("GET", f"{PATH}/history?limit=2&before={page['next']}")["rows"]
    assert last == rows[2]
    assert desk.fields()["gateway.name"]["changed"]["by"] == owner
    assert "4711" not in json.dumps(desk.request("GET", "/api/v1/audit")) + desk.gateway.log.read_text()


def test_whoever_would_lock_themselves_out_is_told_and_the_way_out_is_the_command_line(make: Any) -> None:
    desk = make()
    admin = Operator(desk.gateway).pair("Admin", scopes=["settings"])

    def patch(**options: Any) -> dict[str, Any]:
        version = admin.request("GET", PATH)["version"]
        body = {"version": version, "changes": {"gateway.allowed_networks": ["192.0.2.0/24"]}, **options}
        return admin.request("PATCH", PATH, json=body)

    with pytest.raises(Problem) as caught:
        patch()
    assert "gateway.allowed_networks leaves out 127.0.0.1" in caught.value.detail
    assert desk.history() == []
    patch(force=True)
    with pytest.raises(httpx.TransportError):
        desk.gateway.http().get("/api/health")
    assert desk.gateway.ask("config", "unset", "gateway.allowed_networks", "log.level") == {
        "unset": ["gateway.allowed_networks"]
    }
    assert desk.gateway.http().get("/api/health").status_code == 200
    desk.change({"gateway.allowed_networks": ["192.0.2.0/24"]})
    desk.gateway.stop()
    assert desk.gateway.ask("config", "unset", "gateway.allowed_networks")["unset"] == ["gateway.allowed_networks"]
    desk.gateway.start()
    assert desk.gateway.http().get("/api/health").status_code == 200
    assert desk.history()[0]["by"] is None
    assert desk.request("GET", "/api/v1/audit/verify")["ok"]


def test_stored_settings_that_do_not_hold_any_more_do_not_keep_it_from_starting(make: Any) -> None:
    desk = make()
    desk.change({"gateway.name": "Kept", "gateway.heartbeat": 20})
    desk.gateway.stop()
    with closing(sqlite3.connect(desk.gateway.home / "entobot.db")) as connection, connection:
        connection.execute("UPDATE stored_settings SET value = '0.001' WHERE key = 'gateway.heartbeat'")
        connection.execute("INSERT INTO stored_settings VALUES ('storage.url', '\"postgresql://evil\"', 0, 'usr_x')")
    desk.gateway.start()
    assert "The stored gateway.heartbeat is left out" in desk.gateway.banner
    assert "settings.stored_refused" in desk.gateway.log.read_text()
    view = desk.view
    assert {row["key"] for row in view["refused"]} == {"gateway.heartbeat", "storage.url"}
    assert desk.fields()["gateway.heartbeat"]["value"] == 30.0
    assert desk.fields()["gateway.name"]["value"] == "Kept"
    desk.gateway.ask("config", "unset", "gateway.heartbeat", "storage.url")
    assert desk.view["refused"] == []


def test_groups_are_the_same_settings(make: Any) -> None:
    desk = make()
    for name in ("enterprise", "mobile"):
        group = desk.request("GET", f"{PATH}/{name}")
        assert all(field == desk.fields()[field["key"]] for field in group["fields"])
        values = {field["key"]: field["value"] for field in group["fields"]}
        assert desk.request("PUT", f"{PATH}/{name}", json={"values": values})["changes"] == []
        values["stream.keep_events"] = 7000
        changed = desk.request("PUT", f"{PATH}/{name}", json={"values": values, "version": group["version"]})
        assert [one["key"] for one in changed["changes"]] == ["stream.keep_events"]
        with pytest.raises(Problem) as caught:
            desk.request("PUT", f"{PATH}/{name}", json={"values": {"agent.model": "openai:x"}})
        assert "agent.model" in caught.value.detail
        desk.change({"stream.keep_events": None})
    assert desk.request("GET", f"{PATH}/mobile")["origin"] == desk.gateway.origin


def test_secrets_are_told_as_set_and_nothing_else(make: Any) -> None:
    desk = make(ENTOBOT_AGENT__API_KEY="sk-very-secret")
    field = desk.fields()["agent.api_key"]
    assert (field["is_set"], field["value"], field["is_editable"]) == (True, None, False)
    assert "very-secret" not in json.dumps(desk.view)
    desk.refused({"agent.api_key": "sk-other-secret"})
    kept = b"".join(path.read_bytes() for path in desk.gateway.home.rglob("*") if path.is_file())
    assert b"sk-other-secret" not in kept + desk.gateway.log.read_bytes()


def test_it_needs_the_scope(make: Any) -> None:
    desk = make()
    thing = Thing.make(desk.gateway, "Curious")
    body = {"version": 0, "changes": {}}
    for method, path in (("GET", PATH), ("GET", f"{PATH}/history"), ("GET", f"{PATH}/mobile"), ("PATCH", PATH)):
        answer = thing.request(method, path, json=body if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
