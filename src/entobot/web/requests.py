"""A name for every request, in its answer and in every log line about it; how many there are, and how long they take."""

import logging
import re
from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entobot.core.clock import Clock
from entobot.core.secrets import Entropy
from entobot.telemetry.log import bind, unbind
from entobot.telemetry.meters import OTHER, Meters
from entobot.telemetry.metrics import Metric
from entobot.telemetry.tracing import NO_SPAN, OK, Remote, Span, Tracer, request_span

log = logging.getLogger("entobot.web")

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_ABORTED = 499
"""Of a request whose caller went before there was an answer; nobody is sent it."""


def caller_of(headers: Iterable[tuple[bytes, bytes]]) -> Remote | None:
    """What a valid W3C `traceparent` names (Trace Context §3.2), else None. Hexadecimal: safe in a log."""
    given = [value for name, value in headers if name == b"traceparent"]
    if len(given) != 1:
        return None
    match = _TRACEPARENT.fullmatch(given[0])
    if match is None or given[0].startswith(b"ff") or not int(match[1], 16) or not int(match[2], 16):
        return None
    return Remote(match[1].decode("ascii"), match[2].decode("ascii"), bool(int(match[3], 16) & 1))


class Requests:
    """ASGI, outermost. The request id is the trace id that the caller brought, or a new one of the same form."""

    def __init__(self, app: ASGIApp, entropy: Entropy, clock: Clock, meters: Meters, tracer: Tracer) -> None:
        self._app = app
        self._entropy = entropy
        self._clock = clock
        self._meters = meters
        self._tracer = tracer
        self._seconds = meters.histogram(Metric.HTTP_REQUEST_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        remote = caller_of(scope["headers"])
        span = self._tracer.start("request", remote, method=_method(scope)) if self._tracer.is_on else NO_SPAN
        request_id = span.trace_id or (remote.trace_id if remote else self._entropy.bytes(16).hex())
        header = (b"x-request-id", request_id.encode("ascii"))
        begun_s, status = self._clock.monotonic(), _ABORTED

        async def sender(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._seconds.observe(self._clock.monotonic() - begun_s)
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        bind(request_id=request_id)
        token = request_span.set(span)
        try:
            await self._app(scope, receive, sender)
        finally:
            request_span.reset(token)
            self._ended(scope, status, begun_s, span)
            unbind("request_id", "device_id")

    def _ended(self, scope: Scope, status: int, begun_s: float, span: Span) -> None:
        method = _method(scope)
        self._meters.counter(Metric.HTTP_REQUESTS, method=method, status=status).add()
        if span is NO_SPAN and not log.isEnabledFor(logging.DEBUG):
            return
        route = getattr(scope.get("route"), "path", "")  # the template: a path may hold ids, and anything at all
        if span is not NO_SPAN:
            span.set(route=route, status=status)
            is_failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
            span.end("failed" if is_failed else OK, name=f"{method} {route}".rstrip(), is_failed=is_failed)
        if log.isEnabledFor(logging.DEBUG):
            ms = round((self._clock.monotonic() - begun_s) * 1000, 1)
            log.debug("request", extra={"method": method, "route": route, "status": status, "ms": ms})


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else OTHER
