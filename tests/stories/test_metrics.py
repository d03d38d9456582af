"""`GET /metrics` as Prometheus scrapes it, and who may."""

import asyncio
from collections.abc import Mapping

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.phone import connected, raw_socket
from tests.support.process import GatewayProcess
from tests.support.thing import Thing, refused_with

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
