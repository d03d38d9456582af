"""Traces, as a collector gets them."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from entobot.core.clock import SystemClock
from tests.support.phone import connected
from tests.support.process import ROOT, GatewayProcess, free_port
from tests.support.thing import Thing

SAID = "zanzibar heliotrope"
PARENT = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


class Collector:
    """Keeps what is sent to it, decoded and as it came."""

    def __init__(self) -> None:
        self.raw = b""
        self.sources: set[str] = set()
        self.resources: list[dict[str, str]] = []
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, code: Any = "-", size: Any = "-") -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        self.raw += body
        self.sources.add(path)
        if path != "/v1/traces":
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.sources.add(scope.scope.name)
                self.spans += scope.spans

    def named(self, name: str) -> list[Any]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def facts(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def traced(home: Path, url: str) -> GatewayProcess:
    """Frameworks that would send traces of their own are asked to."""
    environment = {
        "ENTOBOT_TRACING__ENDPOINT": url,
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
    }
    return GatewayProcess(home, environment=environment)


async def test_a_message_is_one_trace_to_its_answer_without_a_word_of_it(tmp_path: Path, collector: Collector) -> None:
    gateway = traced(tmp_path / "home", collector.url)
    try:
        await asyncio.to_thread(gateway.start)
        device = await asyncio.to_thread(gateway.pair, "Phone")
        async with connected(gateway, device) as phone:
            sent = await phone.say(SAID)
            await phone.until_event("RUN_FINISHED")
            await phone.say(f"!note {SAID}")
            asked = (await phone.until_event("approval.requested"))["data"]
            await asyncio.to_thread(device.decide, asked, "approve")
            await phone.until_event("RUN_FINISHED")
        assert await asyncio.to_thread(gateway.stop) == 0
    finally:
        await asyncio.to_thread(gateway.close)

    plain, noted = collector.named("command message.send")
    answered, waited, resumed = collector.named("run")
    assert [span.parent_span_id for span in (plain, noted)] == [b"", b""]
    assert (answered.trace_id, answered.parent_span_id) == (plain.trace_id, plain.span_id)
    assert (waited.trace_id, waited.parent_span_id) == (noted.trace_id, noted.span_id)
    assert (resumed.trace_id, resumed.parent_span_id) == (noted.trace_id, waited.span_id)
    assert facts(answered)["entobot.conversation_id"] == sent["conversation_id"]
    assert [facts(span)["entobot.outcome"] for span in (plain, answered, waited, resumed)] == [
        "ok",
        "ok",
        "waiting",
        "ok",
    ]
    assert [event.name for event in waited.events] == ["approval.wait"]
    turns = collector.named("model turn")
    assert [span.parent_span_id for span in turns[:2]] == [answered.span_id, waited.span_id]
    (tool,) = collector.named("tool call")
    assert (tool.parent_span_id, facts(tool)["entobot.tool"]) == (resumed.span_id, "note")
    assert collector.resources[0]["service.name"] == "entobot"
    assert collector.resources[0]["service.instance.id"].startswith("nod_")
    assert not [word for word in SAID.encode().split() if word in collector.raw]


async def test_a_request_goes_on_in_its_callers_trace(tmp_path: Path, collector: Collector) -> None:
    gateway = traced(tmp_path / "home", collector.url)
    try:
        await asyncio.to_thread(gateway.start)
        thing = await asyncio.to_thread(Thing.make, gateway, "Board")
        thing.headers["traceparent"] = f"00-{'-'.join(PARENT)}-01"
        found = await asyncio.to_thread(thing.request, "GET", "/api/v1/conversations/conv_none/messages")
        assert found.headers["x-request-id"] == PARENT[0]
        assert await asyncio.to_thread(gateway.stop) == 0
    finally:
        await asyncio.to_thread(gateway.close)
    assert collector.sources == {"/v1/traces", "entobot"}
    (span,) = collector.named("GET /api/v1/conversations/{conversation_id}/messages")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == PARENT
    assert facts(span)["http.response.status_code"] == found.status_code
    assert b"conv_none" not in collector.raw


async def test_a_dead_collector_neither_stops_nor_holds_the_gateway(tmp_path: Path) -> None:
    gateway = traced(tmp_path / "home", f"http://127.0.0.1:{free_port()}")
    try:
        await asyncio.to_thread(gateway.start)
        device = await asyncio.to_thread(gateway.pair, "Phone")
        async with connected(gateway, device) as phone:
            await phone.say("hello")
            await phone.until_event("RUN_FINISHED")
        clock = SystemClock()
        begun_s = clock.monotonic()
        assert await asyncio.to_thread(gateway.stop) == 0
        assert clock.monotonic() - begun_s < 10  # the promise of a stop
    finally:
        await asyncio.to_thread(gateway.close)


def test_neither_sdk_nor_exporter_is_loaded_when_no_collector_is_named() -> None:
    program = (
        "import sys, entobot.app.gateway; from entobot.app.observing import make_tracer;"
        "from entobot.config import TracingSettings as T;"
        "assert not make_tracer(T(), 'node_1').is_on;"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, check=False)
    assert child.returncode == 0
