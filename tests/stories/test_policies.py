"""Policies on a real gateway, felt by boards that are connected: paho's client, and the command line."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stories.test_things import GARAGE
from tests.support.board import V3, Board, mqtt_environment, wait_for
from tests.support.process import ROOMY, GatewayProcess
from tests.support.thing import Thing
from tests.test_docs import block

NOT_AUTHORIZED = 0x87
READS_SENSORS = """\
// Thermostats read the sensors of the same owner.
permit (principal is Device, action == Action::"subscribe", resource is Device)
when {
  principal.type == "thermostat" && resource.type == "sensor" &&
  resource.owner == principal.owner && context.topic like "telemetry/*"
};
"""
QUIET = """\
forbid (principal, action == Action::"publish", resource)
when { principal.tags.contains("quiet") && context.topic like "event*" };
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "garage.toml").write_text(GARAGE)
    process = GatewayProcess(folder / "home", environment=mqtt_environment() | ROOMY).start()
    assert process.cli("things", "types", "add", str(folder / "garage.toml")).returncode == 0
    yield process
    process.close()


def measured(gateway: GatewayProcess, name: str) -> str:
    return " ".join(gateway.cli("metrics", name).stdout.split())


Add = Callable[[str, str], None]


@pytest.fixture
def add(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Add]:
    """Store a policy; gone when the test is over."""
    names: list[str] = []

    def store(name: str, text: str) -> None:
        (tmp_path / f"{name}.cedar").write_text(text)
        gateway.ask("policy", "add", str(tmp_path / f"{name}.cedar"))
        names.append(name)

    yield store
    for name in names:
        gateway.cli("policy", "remove", name)


def test_a_policy_opens_a_sensor_to_a_thermostat_and_its_removal_shuts_it_on_the_live_connection(
    gateway: GatewayProcess, add: Add
) -> None:
    sensor = Board(gateway, Thing.make(gateway, "Sensor", "--type", "sensor")).opened()
    thermostat = Board(gateway, Thing.make(gateway, "Radiator", "--type", "thermostat")).opened()
    reads = f"{sensor.root}/telemetry/#"
    assert thermostat.subscribe(reads) == [NOT_AUTHORIZED]
    add("reads-sensors", READS_SENSORS)
    assert thermostat.subscribe(reads, f"{sensor.root}/command", "devices/+/telemetry/x") == [1, NOT_AUTHORIZED, 1]
    assert sensor.publish(f"{sensor.root}/telemetry/temperature", b"21") == 0
    assert thermostat.heard().payload == b"21"
    assert thermostat.publish(f"{sensor.root}/telemetry/temperature", b"99") == NOT_AUTHORIZED, "reading is not writing"
    gateway.ask("policy", "remove", "reads-sensors")
    assert sensor.publish(f"{sensor.root}/telemetry/temperature", b"secret") == 0
    assert thermostat.subscribe(f"{thermostat.root}/#") == [1]
    assert thermostat.publish(f"{thermostat.root}/event", b"own") == 0
    assert thermostat.heard().payload == b"own", "and nothing before it"
    wait_for(lambda: "entobot_mqtt_withheld_total {reason=arrived} 1" in measured(gateway, "entobot_mqtt_withheld"))


def test_a_forbidden_publish_is_refused_with_the_rule_told_and_audited(gateway: GatewayProcess, add: Add) -> None:
    thing = Thing.make(gateway, "Loud", "--tags", "quiet")
    board, old = Board(gateway, thing).opened(), Board(gateway, thing, name="old", version=V3).opened()
    assert board.publish(f"{board.root}/event", b"1") == 0
    add("quiet", QUIET)
    assert board.publish(f"{board.root}/event", b"2") == NOT_AUTHORIZED
    assert old.publish(f"{old.root}/event", b"3") == 0, "3.1.1 has no word for no"
    assert board.publish(f"{board.root}/telemetry/x", b"4") == 0
    explained = gateway.cli("policy", "explain", "--device", "Loud", "--publish", "devices/Loud/event")
    assert (explained.returncode, explained.stdout) == (1, "denied: policy quiet forbids it\n")

    def denied() -> list[dict[str, object]]:
        rows = gateway.ask("audit", "list", "--event", "device.topic_denied")
        return [one for one in rows if one["subject"] == thing.device_id]

    wait_for(lambda: bool(denied()))
    assert denied()[0]["facts"]["rule"] == "policy quiet forbids it"  # pyright: ignore[reportIndexIssue]  JSON
    (changed,) = [one for one in gateway.ask("audit", "list", "--event", "policy.changed") if one["subject"] == "quiet"]
    assert changed["facts"] == {"version": gateway.ask("policy", "show", "quiet")["version"]}


def test_a_text_that_is_wrong_is_refused_with_line_and_column_and_changes_nothing(
    gateway: GatewayProcess, add: Add, tmp_path: Path
) -> None:
    add("locks", 'forbid (principal is Agent, action == Action::"command", resource);')
    file = tmp_path / "locks.cedar"
    before = gateway.ask("policy", "show", "locks")
    for wrong, said in (
        ("permit (principal, action, resource)\n  when { principl.type };", ":2:10: "),
        ('permit (principal, action == Action::"publish", resource)\nwhen { context.topc == "x" };', ":2:16: "),
    ):
        file.write_text(wrong)
        for command in ("check", "add"):
            done = gateway.cli("policy", command, str(file))
            assert done.returncode == 1
            assert f"locks.cedar{said}" in done.stdout + done.stderr
    assert gateway.ask("policy", "show", "locks") == before


def test_a_policy_says_which_command_may_be_sent_to_which_thing(gateway: GatewayProcess, add: Add) -> None:
    thing = Thing.make(gateway, "Door")
    gateway.ask("things", "set-type", "Door", "garage")
    board = Board(gateway, thing).opened()
    board.subscribe(f"{board.root}/command")
    add("no-opening", 'forbid (principal, action == Action::"command", resource)\n'
        'when { resource.type == "garage" && context.command == "open" };')  # fmt: skip
    done = gateway.cli("things", "command", "Door", "open")
    assert done.returncode == 4
    assert "policy no-opening forbids it" in done.stderr
    for _ in range(3):
        assert gateway.cli("things", "command", "Door", "open").returncode == 4
    (told,) = gateway.ask("audit", "list", "--event", "thing.command_refused")
    assert (told["outcome"], told["subject"], told["personal"]) == ("denied", thing.device_id, {})
    assert told["actor"]["user_id"]
    assert told["facts"] == {"command": "open", "count": 1, "rule": "policy no-opening forbids it", "via": "person"}
    assert gateway.ask("things", "command", "Door", "light", "on=true", "--wait", "0")["state"] == "queued"
    assert json.loads(board.heard().payload)["name"] == "light"
    said = gateway.cli("policy", "explain", "--device", "Door", "--command", "open", "--via", "agent")
    assert (said.returncode, said.stdout) == (1, "denied: policy no-opening forbids it\n")


def test_a_check_tells_who_would_lose_and_a_file_of_expectations_which_fails(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    board = Board(gateway, Thing.make(gateway, "Known", "--tags", "quiet")).opened()
    assert board.publish(f"{board.root}/event", b"1") == 0
    file = tmp_path / "quiet.cedar"
    file.write_text(QUIET)
    found = gateway.ask("policy", "check", str(file))
    shift = {"device_name": "Known", "action": "publish", "topic": f"{board.root}/event", "becomes": "denied"}
    assert shift.items() <= next(one for one in found["shifts"] if one["device_name"] == "Known").items()
    assert board.publish(f"{board.root}/event", b"2") == 0, "it was only checked"
    tests = tmp_path / "policies.toml"
    tests.write_text(
        '[[test]]\ndevice = "Known"\npublish = "devices/Known/event"\nexpect = "denied"\n'
        '[[test]]\ndevice = "Known"\nsubscribe = "devices/Known/#"\nexpect = "allowed"\n'
    )
    done = gateway.cli("policy", "test", str(tests))
    assert done.returncode == 1
    assert "test 1: device Known, publish devices/Known/event: expected denied, is allowed" in done.stdout
    assert "1 of 2 as expected." in done.stdout


def test_without_cedar_stored_policies_shut_everything_and_say_what_to_install(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home", environment=mqtt_environment() | ROOMY).start()
    try:
        thing = Thing.make(gateway, "Board")
        (tmp_path / "quiet.cedar").write_text(QUIET)
        gateway.ask("policy", "add", str(tmp_path / "quiet.cedar"))
        assert Board(gateway, thing).opened().publish(f"devices/{thing.device_id}/event", b"1") == 0
        gateway.stop()
        (tmp_path / "without").mkdir()
        (tmp_path / "without" / "cedarpy.py").write_text("raise ImportError('not installed')\n")
        gateway.environment["PYTHONPATH"] = f"{tmp_path / 'without'}:{gateway.environment['PYTHONPATH']}"
        gateway.start()
        board = Board(gateway, thing).opened()
        assert board.publish(f"{board.root}/event", b"2") == NOT_AUTHORIZED
        said = gateway.cli("policy", "explain", "--device", "Board", "--publish", "devices/Board/event")
        assert (said.returncode, "pip install 'entobot[policy]'" in said.stdout) == (1, True)
        assert "pip install 'entobot[policy]'" in gateway.log.read_text()
        refused = gateway.cli("policy", "add", str(tmp_path / "quiet.cedar"), "--name", "more")
        assert (refused.returncode, "[policy_unavailable]" in refused.stderr) == (1, True)
        gateway.ask("policy", "remove", "quiet")
        assert board.publish(f"{board.root}/event", b"3") == 0, "what is built in needs nothing"
    finally:
        gateway.close()


def test_the_examples_of_the_how_to_do_what_it_says(gateway: GatewayProcess, add: Add, tmp_path: Path) -> None:
    page = "docs/how-to/policies.md"
    for name, options in (
        ("Thermostat", ["--type", "thermostat"]),
        ("Hall sensor", ["--type", "sensor"]),
        ("Garage", ["--type", "garage"]),
        ("Rack 1", ["--tags", "rack"]),
    ):
        Thing.make(gateway, name, *options)
    (tmp_path / "expected.toml").write_text(block(page, "expected"))
    assert "1 of 4 as expected." in gateway.cli("policy", "test", str(tmp_path / "expected.toml")).stdout
    for name in ("reads", "garage", "rack"):
        add(name, block(page, name))
    assert gateway.cli("policy", "test", str(tmp_path / "expected.toml")).stdout == "4 of 4 as expected.\n"
    said = gateway.cli("policy", "explain", "--device", "Garage", "--command", "open", "--via", "agent").stdout
    assert re.search("garage#(agent|night)", said), "at night the person may not either"
