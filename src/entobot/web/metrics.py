"""`GET /metrics`."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from entobot.web.routes import Api

Expose = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Given the Accept header: the text of all metrics and its content type. Must not block."""

OPERATION = {
    "summary": "Every metric of this process",
    "description": "Prometheus text format 0.0.4, or OpenMetrics 1.0 where `Accept` names it.",
    "responses": {"200": {"description": "The metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}},
}


def add_routes(api: Api, expose: Expose) -> None:
    async def get_metrics(request: Request) -> Response:
        body, content_type = await expose(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    api.add_raw("GET", "/metrics", get_metrics, operation=OPERATION)
