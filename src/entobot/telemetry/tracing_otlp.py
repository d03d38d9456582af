"""Spans to an OpenTelemetry collector: OTLP 1.x over HTTP, protobuf. Imported only when a collector is named."""

import logging
import threading
from collections import OrderedDict

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as Recorded

from entobot.telemetry.tracing import OK, Remote, Span, Value

MAX_WAITING = 2048
MAX_REMEMBERED = 4096
EXPORT_TIMEOUT_S = 5.0
SEND_EVERY_MS = 2000
_NOTHING = Context()
_NAMES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
}
"""OpenTelemetry's semantic conventions for HTTP; everything else is ours."""


class OtlpSpan:
    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded

    @property
    def trace_id(self) -> str:
        return f"{self.recorded.get_span_context().trace_id:032x}"

    def set(self, **attributes: Value) -> None:
        for name, value in attributes.items():
            self.recorded.set_attribute(_named(name), value)

    def note(self, event: str) -> None:
        self.recorded.add_event(event)

    def end(self, outcome: str = OK, *, name: str = "", is_failed: bool = False) -> None:
        if name:
            self.recorded.update_name(name)
        self.set(outcome=outcome)
        if is_failed:
            self.recorded.set_status(Status(StatusCode.ERROR))
        self.recorded.end()


class OtlpTracer:
    is_on = True

    def __init__(self, endpoint: str, sample_ratio: float, *, node_id: str, version: str) -> None:
        # The library warns for every span that finds the queue full, on the caller's thread.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        ratio = TraceIdRatioBased(sample_ratio)
        self._provider = TracerProvider(
            # A caller's "sampled" flag does not overrule the operator's ratio.
            sampler=ParentBased(root=ratio, remote_parent_sampled=ratio),
            resource=Resource.create(
                {"service.name": "entobot", "service.version": version, "service.instance.id": node_id}
            ),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=MAX_WAITING, schedule_delay_millis=SEND_EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("entobot", version)
        self._remembered: OrderedDict[str, Span] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, name: str, parent: Span | Remote | None = None, **attributes: Value) -> Span:
        kind, above = SpanKind.INTERNAL, None
        if isinstance(parent, OtlpSpan):
            above = parent.recorded
        elif isinstance(parent, Remote):
            flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
            above = NonRecordingSpan(
                SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
            )
        if "method" in attributes:
            kind = SpanKind.SERVER
        context = _NOTHING if above is None else set_span_in_context(above, _NOTHING)
        named = {_named(key): value for key, value in attributes.items()}
        return OtlpSpan(self._tracer.start_span(name, context, kind, named))

    def remember(self, key: str, span: Span) -> None:
        with self._lock:
            self._remembered[key] = span
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)

    def recall(self, key: str) -> Span | None:
        with self._lock:
            return self._remembered.pop(key, None)

    def stop(self, within_s: float) -> None:
        # The library waits 30 s for a collector that does not answer.
        ending = threading.Thread(target=self._provider.shutdown, name="traces end", daemon=True)
        ending.start()
        ending.join(within_s)


def _named(name: str) -> str:
    return _NAMES.get(name) or f"entobot.{name}"
