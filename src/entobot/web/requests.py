"""A name for every request, in its answer and in every log line about it; how many there are, and how long they take."""

import logging
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entobot.core.clock import Clock
from entobot.core.secrets import Entropy
from entobot.telemetry.log import bind, unbind
from entobot.telemetry.meters import OTHER, Meters
from entobot.telemetry.metrics import Metric

log = logging.getLogger("entobot.web")

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_ABORTED = 499
"""Of a request whose caller went before there was an answer; nobody is sent it."""


def trace_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The trace id of a valid W3C `traceparent` (Trace Context §3.2), else None. Hexadecimal: safe in a log."""
    given = [value for name, value in headers if name == b"traceparent"]
    if len(given) != 1:
        return None
    match = _TRACEPARENT.fullmatch(given[0])
    if match is None or given[0].startswith(b"ff") or not int(match[1], 16) or not int(match[2], 16):
        return None
    return match[1].decode("ascii")


class Requests:
    """ASGI, outermost. The request id is the trace id that the caller brought, or a new one of the same form."""

    def __init__(self, app: ASGIApp, entropy: Entropy, clock: Clock, meters: Meters) -> None:
        self._app = app
        self._entropy = entropy
        self._clock = clock
        self._meters = meters
        self._seconds = meters.histogram(Metric.HTTP_REQUEST_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = trace_id_of(scope["headers"]) or self._entropy.bytes(16).hex()
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
        try:
            await self._app(scope, receive, sender)
        finally:
            self._ended(scope, status, begun_s)
            unbind("request_id", "device_id")

    def _ended(self, scope: Scope, status: int, begun_s: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._meters.counter(Metric.HTTP_REQUESTS, method=method, status=status).add()
        if log.isEnabledFor(logging.DEBUG):
            route = getattr(scope.get("route"), "path", "")  # the template: a path may hold ids, and anything at all
            ms = round((self._clock.monotonic() - begun_s) * 1000, 1)
            log.debug("request", extra={"method": method, "route": route, "status": status, "ms": ms})
