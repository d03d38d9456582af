"""`GET /metrics` as Prometheus scrapes it, and who may."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
from prometheus_client.metrics_core import Metric as PrometheusFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from entobot.client.device import Device
from entobot.telemetry.metrics import Metric
from tests.support.nats import NatsServer
from tests.support.nodes import Pair
from tests.support.phone import Phone, authenticate, connected, raw_socket
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S, GatewayProcess
from tests.support.thing import Thing, receive, refused_with

Values = Mapping[tuple[str, ...], float]


def scrape(thing: Thing, accept: str = "*/*") -> httpx.Response:
    thing.headers["Accept"] = accept
    return thing.request("GET", "/metrics")


def values(text: str) -> dict[tuple[str, ...], float]:
    """By the sample's name, then the values of its labels, in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value for family in parse_text(text) for sample in family.samples
    }


async def test_a_key_with_that_scope_alone_scrapes_in_both_formats(shared_gateway: GatewayProcess) -> None:
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Prometheus", "--scopes", "metrics")
    plain = await asyncio.to_thread(scrape, thing)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.headers["cache-control"] == "no-store"
    found = values(plain.text)
    assert found["process_open_fds",] > 5
    assert found["entobot_listener_connections",] >= 1
    assert any(name[0] == "entobot_build_info" for name in found)
    modern = await asyncio.to_thread(scrape, thing, "application/openmetrics-text;version=1.0.0,text/plain;q=0.3")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {family.name for family in parse_openmetrics(modern.text)} >= {"entobot_commands", "process_cpu_seconds"}
    assert (await asyncio.to_thread(thing.request, "GET", "/api/v1/conversations")).status_code == 403


async def test_strangers_and_other_scopes_are_refused(shared_gateway: GatewayProcess) -> None:
    with shared_gateway.http() as http:
        stranger = await asyncio.to_thread(http.get, "/metrics")
    assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthenticated")
    thing = await asyncio.to_thread(Thing.make, shared_gateway, "Chatter")
    refused = await asyncio.to_thread(thing.request, "GET", "/metrics")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert b"entobot_" not in refused.content + stranger.content


async def test_the_numbers_are_those_of_what_happened(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with connected(gateway, device) as phone:
        await phone.say("hello")
        await phone.until_event("RUN_FINISHED")
        await phone.command("message.send", {"content": 1})
        raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
        live = values(raw.stdout)
        assert live["entobot_connections", "websocket"] == 1
    assert await refused_with(gateway, api_key="ent_key_nothing") == 4500
    async with raw_socket(gateway) as socket:
        await socket.close(1001)
    raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
    assert raw.returncode == 0, raw.stderr
    found = values(raw.stdout)
    assert found["entobot_commands_total", "message.send", "ok"] == 1
    assert found["entobot_commands_total", "message.send", "invalid"] == 1
    assert found["entobot_command_seconds_count", "message.send"] == 1
    assert found["entobot_connections", "websocket"] == 0
    assert found["entobot_connections_opened_total", "websocket"] == 3
    assert found["entobot_connections_closed_total", "4500", "websocket"] == 1
    assert found["entobot_connections_closed_total", "1001", "websocket"] == 1
    assert found["entobot_handshakes_total", "ok", "websocket"] == 1
    assert found["entobot_handshakes_total", "bad_credentials", "websocket"] == 1
    assert found["entobot_handshakes_total", "lost", "websocket"] == 1
    assert found["entobot_handshake_seconds_count", "websocket"] == 1
    assert found["entobot_database_commit_seconds_count",] > 5
    assert found["entobot_database_commit_units_sum",] >= found["entobot_database_commit_seconds_count",]
    assert found["entobot_audit_entries_total", "invite.confirmed", "success"] == 1
    assert found["entobot_auth_failures_total", "bad_credentials", "websocket"] == 1
    assert found["entobot_refusals_total", "connection"] == 1
    assert found["entobot_run_seconds_count", "ok"] == found["entobot_model_turn_seconds_count", "ok"] == 1
    assert found["entobot_http_requests_total", "POST", "200"] >= 3
    assert found["entobot_event_loop_late_seconds_count",] > 0
    assert found["entobot_bus_up",] == 1
    assert found["entobot_delivery_seconds_count", "live"] >= 4
    assert found["entobot_events_sent_total",] >= found["entobot_delivery_seconds_count", "live"]
    shown = await asyncio.to_thread(gateway.cli, "metrics", "entobot_commands")
    assert "entobot_commands_total {command=message.send outcome=ok}" in shown.stdout


ABSENT_BY_DEFAULT = {
    Metric.ALERT_MESSAGES,
    Metric.AUDIT_SINK_FAILURES,
    Metric.AUDIT_SINK_LAG,
    Metric.AUTOMATION_ACTIONS,
    Metric.AUTOMATION_FIRINGS,
    Metric.BACKUP_AGE_SECONDS,
    Metric.BRIDGE_DROPPED,
    Metric.BRIDGE_MESSAGES,
    Metric.BRIDGE_REFUSED,
    Metric.BRIDGE_UP,
    Metric.EDGE_ASKED,
    Metric.EDGE_BACKLOG,
    Metric.EDGE_BOARDS,
    Metric.EDGE_CUT,
    Metric.EDGE_MESSAGES,
    Metric.EDGE_TOLD_AGAIN,
    Metric.EDGE_UP,
    Metric.FILE_REFUSALS,
    Metric.MQTT_WITHHELD,
    Metric.SMS_MESSAGES,
    Metric.SMS_RECEIPTS,
    Metric.SMS_REFUSED,
    Metric.THING_COMMANDS,
    Metric.THING_REFUSED,
    Metric.TRANSCRIPTION_SECONDS,
}
"""There is no backup, no receiver of the audit log, no channel for alerts, no refused file, no provider of SMS, no thing, no MQTT, no bridge, no edge, no automation, no recording."""
ABSENT_ON_SQLITE = {
    Metric.BUS_BEHIND,
    Metric.BUS_MADE_GOOD,
    Metric.DATABASE_CONNECTIONS,
    Metric.DATABASE_RETRIES,
    Metric.DATABASE_WAIT_SECONDS,
}


def families(text: str) -> dict[str, PrometheusFamily]:
    return {family.name: family for family in parse_text(text) if family.name.startswith("entobot_")}


def missing(found: Mapping[str, PrometheusFamily]) -> set[Metric]:
    """Metrics without a single series."""
    names = {name for name, family in found.items() if family.samples}
    return {metric for metric in Metric if metric.value.name.removesuffix("_total") not in names}


async def a_story(node: GatewayProcess, device: Device) -> None:
    """Everything that is counted happens once."""
    async with connected(node, device) as phone:
        await phone.say("!note milk")
        asked = (await phone.until_event("approval.requested"))["data"]
        await asyncio.to_thread(device.decide, asked, "approve")
        await phone.until_event("RUN_FINISHED")
        await phone.command("message.send", {"content": 1})
    assert await refused_with(node, api_key="ent_key_nothing") == 4500


async def test_every_metric_is_there_after_a_story(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    await a_story(gateway, device)
    raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
    assert missing(families(raw.stdout)) == ABSENT_ON_SQLITE | ABSENT_BY_DEFAULT
    found = values(raw.stdout)
    assert found["entobot_ready", "storage"] == 1, "looked at by the scrape, nobody has probed"
    assert found["entobot_tool_call_seconds_count", "done"] == 1
    assert found["entobot_approval_wait_seconds_count", "approved"] == 1
    assert found["entobot_approvals_pending",] == found["entobot_conversations_awaiting",] == 0
    assert found["entobot_stream_backlog",] == 0
    assert 0 < found["entobot_stream_oldest_seconds",] < GENEROUS_S
    assert found["entobot_database_up",] == 1


async def test_what_waits_is_counted_where_it_waits(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with connected(gateway, device) as phone, raw_socket(gateway) as silent:
        await receive(silent)  # greeted, and says nothing
        await phone.say("!note milk")
        asked = (await phone.until_event("approval.requested"))["data"]
        raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
        waits = values(raw.stdout)
        assert waits["entobot_approvals_pending",] == 1
        assert waits["entobot_handshakes_waiting",] == 1
        assert waits["entobot_runs_active",] == 0
        assert (
            waits["entobot_delivery_unacknowledged", "websocket"] == waits["entobot_delivery_waiting", "websocket"] == 0
        )
        await asyncio.to_thread(device.decide, asked, "deny")
        async with raw_socket(gateway) as deaf:
            await authenticate(deaf, device)  # and acknowledges nothing
            while (await receive(deaf))["type"] != "snapshot":
                pass
            await phone.say("for both")
            await phone.until_event("RUN_FINISHED")
            raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
            assert values(raw.stdout)["entobot_delivery_unacknowledged", "websocket"] >= 4
            assert values(raw.stdout)["entobot_connections", "websocket"] == 2
        raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
        assert values(raw.stdout)["entobot_delivery_unacknowledged", "websocket"] == 0


async def test_every_metric_is_there_where_nodes_share_a_store_and_a_bus(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    nats = NatsServer(tmp_path).start()
    pair = Pair(tmp_path, postgres, bus=nats.url)
    try:
        await asyncio.to_thread(pair.start)
        device = await asyncio.to_thread(pair.a.pair, "Phone")
        async with connected(pair.b, device) as elsewhere:
            await a_story(pair.a, device)
            await elsewhere.until_event("RUN_FINISHED")
            found = await settled_metrics(pair.a, "entobot_database_connections", "read", "idle")
            assert missing(families(found)) == ABSENT_BY_DEFAULT
            numbers = values(found)
            assert 1 <= numbers["entobot_database_connections", "read", "idle"] <= 4
            await settled_metrics(pair.a, "entobot_database_connections", "write", "idle", value=1)
            assert numbers["entobot_database_wait_seconds_count", "write"] > 10
            assert numbers["entobot_bus_up",] == 1
            assert numbers["entobot_bus_sent_total",] >= 1
            assert numbers["entobot_bus_reconnects_total",] == numbers["entobot_bus_dropped_total",] == 0
            await bus_goes_and_comes(pair, nats, device, elsewhere)
    finally:
        pair.close()
        nats.kill()


async def bus_goes_and_comes(pair: Pair, nats: NatsServer, device: Device, elsewhere: Phone) -> None:
    nats.kill()
    await settled_metrics(pair.b, "entobot_bus_up", value=0)
    async with connected(pair.a, device) as phone:
        await settled_metrics(pair.a, "entobot_bus_up", value=0)
        await phone.say("nobody rings")
        await elsewhere.until_event("RUN_FINISHED")
        away = values(await metrics_of(pair.a))
        assert away["entobot_bus_waiting",] >= 1
        assert away["entobot_bus_waiting_seconds",] > 0
        assert values(await metrics_of(pair.b))["entobot_bus_made_good_total",] >= 3, "it looked for them"
    nats.start()
    back = values(await settled_metrics(pair.a, "entobot_bus_waiting_seconds", value=0))
    assert (back["entobot_bus_up",], back["entobot_bus_reconnects_total",]) == (1, 1)


async def metrics_of(node: GatewayProcess) -> str:
    return (await asyncio.to_thread(node.cli, "metrics", "--raw")).stdout


async def settled_metrics(node: GatewayProcess, *series: str, value: float | None = None) -> str:
    """The metrics once this series is `value`, or anything above 0."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            text = await metrics_of(node)
            now = values(text).get(series, -1)
            if now == value or (value is None and now > 0):
                return text
            await asyncio.sleep(0.1)
