"""What the dashboard shows of a running gateway is what the gateway did."""

from collections.abc import Iterator

import httpx
import pytest

from entobot.client.local import local_http
from tests.support.process import GatewayProcess

ON_EVERY_STORE = True


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with local_http(gateway.home / "gateway.sock") as client:
        yield client


def test_the_overview_counts_what_is_there(gateway: GatewayProcess, http: httpx.Client) -> None:
    gateway.ask("users", "add", "bob")
    made = gateway.ask("devices", "add-key", "Lamp")
    gateway.ask("devices", "add-key", "Board")
    http.post(f"/api/v1/devices/{made['device_id']}/suspend").raise_for_status()
    found = http.get("/api/v1/overview").json()
    assert found["devices"] == {"active": 1, "suspended": 1, "revoked": 0}
    assert (found["people"], found["nodes"], found["is_ready"]) == (2, 1, True)
    assert found["agent"]["runner_kind"] == "echo"


def test_the_posture_names_each_fix_and_scores_less_than_all(http: httpx.Client) -> None:
    found = http.get("/api/v1/posture").json()
    agent = [point for point in found["points"] if point["topic"] == "agent"]
    assert agent, "the echo agent answers"
    assert all(point["fix"] and point["topic"] in found["topics"] for point in found["points"])
    assert 0 < found["score"] < 100


def test_the_snapshot_and_the_log_hold_what_happened(gateway: GatewayProcess, http: httpx.Client) -> None:
    gateway.ask("devices", "add-key", "Lamp")
    rows = {row["name"]: row for row in http.get("/api/v1/metrics").json()["rows"]}
    entries = rows["entobot_audit_entries_total"]["series"]
    made = [one["value"] for one in entries if one["labels"]["event"] == "api_key.created"]
    assert made == [1]
    history = http.get("/api/v1/metrics/history", params={"window": "24h"}).json()
    assert {"connections", "command_p95"} <= {line["name"] for line in history["lines"]}
    assert http.get("/api/v1/metrics/history", params={"window": "1y"}).status_code == 422
    http.put("/api/v1/settings/bot", json={"temperature": 0.5}).raise_for_status()
    lines = http.get("/api/v1/logs", params={"q": "settings.changed", "level": "info"}).json()["rows"]
    assert [line["event"] for line in lines] == ["settings.changed"]
    assert http.get("/api/v1/logs", params={"after": lines[0]["number"], "q": "settings.changed"}).json()["rows"] == []
