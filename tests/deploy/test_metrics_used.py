"""Dashboards and alerts ask for what a gateway really exports, and say what to do about it."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tools import dashboards

from entobot.audit.events import AuditEvent
from entobot.core.rates import Rate
from entobot.telemetry.metrics import PROCESS_METRICS, Kind, Metric
from tests.deploy.promql import TARGET, Comparison, labels, parsed, selectors, shown
from tests.support.phone import connected
from tests.support.process import ROOT, GatewayProcess
from tests.support.thing import refused_with

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
UNITS = {"Bps", "bytes", "dateTimeFromNow", "none", "ops", "percentunit", "reqps", "s"}
"""Grafana's own names."""
WORDS: dict[str, frozenset[str]] = {
    "check": frozenset({"accepting", "bus", "listener", "renewal", "storage", "worker"}),
    "event": frozenset(AuditEvent),
    "limit": frozenset(Rate),
    "path": frozenset({"live", "replay"}),
}
"""Values of labels that are known without a scrape."""
Known = Mapping[str, frozenset[str]]


def declared() -> dict[str, frozenset[str]]:
    """Labels by the name of a series, as the vocabulary has them."""
    found: dict[str, frozenset[str]] = dict.fromkeys(("up", *PROCESS_METRICS), frozenset[str]())
    for metric in Metric:
        spec, names = metric.value, frozenset(metric.value.labels)
        if spec.kind is Kind.HISTOGRAM:
            found |= dict.fromkeys(series_of(metric), names) | {f"{spec.name}_bucket": names | {"le"}}
        else:
            found[spec.name] = names
    return found


def series_of(metric: Metric) -> set[str]:
    name = metric.value.name
    return {f"{name}_{part}" for part in ("bucket", "count", "sum")} if metric.value.kind is Kind.HISTOGRAM else {name}


def dashboard_files() -> list[Path]:
    return sorted((ROOT / "deploy" / "grafana").glob("*.json"))


def panels() -> list[dict[str, Any]]:
    return [panel for path in dashboard_files() for panel in json.loads(path.read_text())["panels"]]


def queries() -> list[tuple[str, str]]:
    """Every PromQL expression, and the text in which its labels are shown."""
    asked = [(target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]]
    return asked + [(rule["expr"], " ".join(rule["annotations"].values())) for rule in rules()]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_a_wrong_expression_is_seen() -> None:
    known = declared()
    for wrong in (
        "sum by (device) (rate(entobot_commands_total[5m]))",
        "histogram_quantile(0.9, sum by (le, path) (rate(entobot_command_seconds_bucket[5m])))",
        "sum by (command) (entobot_commands_total) / sum(entobot_commands_total) > sum by (outcome) (entobot_commands_total)",
    ):
        with pytest.raises(AssertionError):
            labels(parsed(wrong), known)
    assert "entobot_nothing" not in known


def test_every_metric_and_label_that_is_asked_for_is_declared() -> None:
    known = declared()
    for text, words in queries():
        expr = parsed(text)
        for selector in selectors(expr):
            assert selector.metric in known, text
            asked = {one.label for one in selector.comparisons}
            assert asked <= known[selector.metric] | TARGET, text
            for one in selector.comparisons:
                assert_is_a_word(one, text)
        assert shown(words) - {"value"} <= labels(expr, known), (text, words)
    for path in dashboard_files():
        for variable in json.loads(path.read_text())["templating"]["list"]:
            named = (
                re.match(r"label_values\((\w+)", str(variable.get("query", {})["query"]))
                if variable["type"] == "query"
                else None
            )
            assert named is None or named[1] in known


def assert_is_a_word(one: Comparison, text: str) -> None:
    words = WORDS.get(one.label)
    if words is not None:
        pattern = one.value if one.is_pattern else re.escape(one.value)
        assert any(re.fullmatch(pattern, word) for word in words), f"{one} matches nothing in {text}"
        for alternative in re.findall(r"[a-z_]+", pattern) if one.label == "event" else ():
            assert any(alternative in word for word in words), f"{alternative} is in no word of {text}"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Labels by the name of a series, as a gateway tells them after people used it."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("scraped") / "home").start()

    async def story() -> str:
        device = await asyncio.to_thread(gateway.pair, "Phone")
        async with connected(gateway, device) as phone:
            await phone.say("!note milk")
            asked = (await phone.until_event("approval.requested"))["data"]
            await asyncio.to_thread(device.decide, asked, "approve")
            await phone.until_event("RUN_FINISHED")
        assert await refused_with(gateway, api_key="ent_key_nothing") == 4500
        return (await asyncio.to_thread(gateway.cli, "metrics", "--raw")).stdout

    try:
        text = asyncio.run(story())
    finally:
        gateway.close()
    return {sample.name: frozenset(sample.labels) for family in parse_text(text) for sample in family.samples}


ONLY_ELSEWHERE = {
    "up",  # Prometheus's own
    "entobot_alert_messages_total",  # where [alerts] names channels
    "entobot_audit_sink_failures_total",  # where [audit] names receivers
    "entobot_audit_sink_lag",
    "entobot_automation_actions_total",  # before the first
    "entobot_automation_firings_total",
    "entobot_backup_age_seconds",  # before the first backup
    "entobot_bridge_dropped_total",  # where [mqtt] names bridges
    "entobot_bridge_messages_total",
    "entobot_bridge_refused_total",
    "entobot_bridge_up",
    "entobot_bus_made_good_total",  # several nodes; tests/stories/test_metrics.py has them all there
    "entobot_database_connections",  # of PostgreSQL, as the wait for it
    "entobot_database_errors_total",
    "entobot_database_retries_total",
    "entobot_database_wait_seconds_bucket",
    "entobot_edge_asked_total",  # where [edge] names a server
    "entobot_edge_backlog",
    "entobot_edge_boards",
    "entobot_edge_cut_total",
    "entobot_edge_messages_total",
    "entobot_edge_told_again_total",
    "entobot_edge_up",
    "entobot_file_refusals_total",  # before the first
    "entobot_mqtt_withheld_total",  # where [mqtt] is enabled
    "entobot_sms_messages_total",  # where [sms] names a provider
    "entobot_sms_receipts_total",
    "entobot_sms_refused_total",
    "entobot_sweep_seconds_count",
    "entobot_thing_commands_total",  # before the first
    "entobot_thing_refused_total",
    "entobot_transcription_seconds_bucket",  # before the first recording
}
"""Not there in a gateway that has just started on SQLite and has had no trouble."""


def test_every_metric_and_label_that_is_asked_for_is_exported_by_a_running_gateway(scraped: Known) -> None:
    known = declared()
    asked = {selector.metric for text, _ in queries() for selector in selectors(parsed(text))}
    absent = {name for name in asked if name not in scraped}
    assert absent <= ONLY_ELSEWHERE
    assert {name: scraped[name] for name in asked - absent} == {name: known[name] for name in asked - absent}


def test_every_metric_of_the_vocabulary_is_looked_at_by_somebody() -> None:
    asked = {selector.metric for text, _ in queries() for selector in selectors(parsed(text))}
    unseen = {metric.value.name for metric in Metric if asked.isdisjoint(series_of(metric))}
    assert unseen == {
        "entobot_alerts_total",  # the gateway tells them itself
        "entobot_bus_behind",  # its effect is made_good
        "entobot_bus_waiting",  # its age tells more
        "entobot_connections_opened_total",  # handshakes tell how they went
        "entobot_database_reads_total",  # commits are what costs
    }


def test_the_dashboards_are_what_their_program_writes() -> None:
    assert {path: path.read_text("utf-8") for path in dashboard_files()} == dashboards.written()


@pytest.mark.parametrize("path", dashboard_files(), ids=lambda path: path.stem)
def test_every_panel_has_a_unit_and_says_what_to_do(path: Path) -> None:
    board = json.loads(path.read_text())
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert len(panel["description"].split()) > 6, panel["title"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= dashboards.WIDTH
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert len(rule["annotations"]["description"].split()) > 10, rule["alert"]


def test_what_the_alerts_tell_people_to_run_is_there() -> None:
    text = RULES.read_text() + " ".join(panel["description"] for panel in panels())
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for command in set(re.findall(r"`(entobot [a-z]+(?: [a-z-]+)?)", text)):
        words = command.split(" --")[0].split()
        assert any(" ".join(words[:count]) in reference for count in range(len(words), 1, -1)), command
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for section, key in set(re.findall(r"`(agent|gateway|limits|stream|storage|bus)\.([a-z_]+)`", text)):
        assert f"| `{key}` |" in settings, f"{section}.{key}"
    for page in set(re.findall(r"(docs/[a-z/-]+\.md)", text)):
        assert (ROOT / page).is_file(), page
