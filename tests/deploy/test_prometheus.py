"""The alerts and the example configuration, with the real promtool and the real Prometheus."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.promql import VARIABLES
from tests.deploy.test_metrics_used import RULES, panels
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess, free_port
from tests.support.programs import program, run, running
from tests.support.thing import Thing

EXAMPLE = ROOT / "deploy" / "prometheus" / "prometheus.yml"
UNIT_TESTS = ROOT / "tests" / "deploy" / "alerts.test.yml"


def configured(folder: Path, gateway: GatewayProcess | None, key: str = "nobody") -> Path:
    """The example as an operator has it: the files beside it, the gateway's address, and less patience."""
    shutil.copy(RULES, folder)
    (folder / "entobot.key").write_text(key)
    text = EXAMPLE.read_text().replace("15s", "1s")
    if gateway is not None:
        shutil.copy(gateway.home / "tls" / "ca.crt", folder / "entobot-ca.crt")
        text = text.replace("gateway.example:18790", gateway.address.removeprefix("https://"))
    else:
        (folder / "entobot-ca.crt").touch()
    (folder / "prometheus.yml").write_text(text)
    return folder / "prometheus.yml"


def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    promtool = program("promtool", "prometheus")
    checked = run([promtool, "check", "rules", "--lint-fatal", RULES])
    assert checked.returncode == 0, checked.stdout
    checked = run([promtool, "check", "config", configured(tmp_path, None)])
    assert checked.returncode == 0, checked.stdout
    assert "1 rule files found" in checked.stdout


def test_the_alerts_fire_when_they_should_and_are_silent_otherwise(tmp_path: Path) -> None:
    promtool = program("promtool", "prometheus")
    tested = run([promtool, "test", "rules", UNIT_TESTS])
    assert tested.returncode == 0, tested.stdout
    broken = RULES.read_text().replace('up{job="entobot"} == 0', 'up{job="entobot"} == 2')
    (tmp_path / "alerts.yml").write_text(broken)
    (tmp_path / "test.yml").write_text(UNIT_TESTS.read_text().replace("../../deploy/prometheus/", ""))
    assert run([promtool, "test", "rules", tmp_path / "test.yml"]).returncode != 0, "a wrong rule is seen"


def test_every_alert_that_wakes_somebody_has_a_unit_test() -> None:
    tested = UNIT_TESTS.read_text()
    critical = [
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if rule["labels"]["severity"] == "critical"
    ]
    assert {name for name in critical if name not in tested} == {"EntobotRestarting"}


class Prometheus:
    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=GENEROUS_S)

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, query: str) -> float | None:
        if self._http.get("/query", params={"query": "1"}).status_code == HTTPStatus.SERVICE_UNAVAILABLE:  # it starts
            return None
        found = self.ask("/query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + GENEROUS_S
        while not holds():
            assert time.monotonic() < end, self.ask("/targets")
            time.sleep(0.1)

    def close(self) -> None:
        self._http.close()


OF_THE_MACHINE = frozenset({"EntobotEventLoopLate"})
"""True where other tests keep the processor busy."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "home").start()
    yield process
    process.close()


async def test_prometheus_scrapes_a_gateway_as_the_example_says_and_sees_it_go(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    await asyncio.to_thread(watched, gateway, tmp_path)


def watched(gateway: GatewayProcess, folder: Path) -> None:
    server, port = program("prometheus"), free_port()
    thing = Thing.make(gateway, "prometheus", "--scopes", "metrics", "--platform", "desktop")
    file = configured(folder, gateway, thing.api_key)
    command = [server, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], port, log=folder / "prometheus.log"):
        prometheus = Prometheus(port)
        try:
            prometheus.until(lambda: prometheus.value('up{job="entobot"}') == 1)
            prometheus.until(lambda: prometheus.value('entobot_ready{check="storage"}') == 1)
            for panel in panels():
                for target in panel["targets"]:
                    query = target["expr"]
                    for name, value in VARIABLES.items():
                        query = query.replace(name, value)
                    prometheus.ask("/query", query=query)
            told = [
                one for one in prometheus.ask("/alerts")["alerts"] if one["labels"]["alertname"] not in OF_THE_MACHINE
            ]
            assert told == [], "a gateway that is well is left alone"
            gateway.kill()
            prometheus.until(lambda: is_pending(prometheus, "EntobotDown"))
            rules = [rule for group in prometheus.ask("/rules")["groups"] for rule in group["rules"]]
            assert {rule["health"] for rule in rules} == {"ok"}, rules
        finally:
            prometheus.close()


def is_pending(prometheus: Prometheus, name: str) -> bool:
    return name in {alert["labels"]["alertname"] for alert in prometheus.ask("/alerts")["alerts"]}
