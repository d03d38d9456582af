from datetime import timedelta

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from entobot.core.errors import StartupRefused
from entobot.web.application import WebSettings
from entobot.web.headers import API_POLICY, PAGE_POLICY, SecurityHeaders
from tests.web.conftest import ORIGIN, OWNER, Build, client_of

ANSWERS = ["/", "/admin", "/api/health", "/api/v1/demo/thing", "/nothing", "/api/v1/demo-broken", "/docs/errors"]


@pytest.mark.parametrize("path", ANSWERS)
async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    is_phone = not path.startswith(("/api", "/admin"))
    features = "camera=(self), microphone=(self)" if is_phone else "camera=(), microphone=()"
    assert headers["permissions-policy"] == f"{features}, geolocation=()"
    assert "strict-transport-security" not in headers
    assert "server" not in headers
    assert headers["content-security-policy"] == (API_POLICY if path.startswith("/api") else PAGE_POLICY)


@pytest.mark.parametrize("path", ["/api/health", "/api/v1/demo/thing", "/api/docs2"])
async def test_answers_of_the_api_are_not_stored(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path, headers=OWNER)).headers["cache-control"] == "no-store"


async def test_the_description_page_may_run_its_own_scripts(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/docs")).headers["content-security-policy"] == PAGE_POLICY


async def test_hsts_is_sent_only_when_asked_for(build: Build) -> None:
    settings = WebSettings(origin=ORIGIN, version="1", gateway_name="x", hsts=timedelta(days=365))
    async with client_of(build(settings)) as client:
        assert (await client.get("/")).headers["strict-transport-security"] == "max-age=31536000"


def test_hsts_without_tls_is_refused() -> None:
    with pytest.raises(StartupRefused):
        WebSettings(origin="http://localhost:18790", version="1", gateway_name="x", has_tls=False, hsts=timedelta(1))


async def test_a_handler_that_never_stops_is_stopped_once_head_is_answered() -> None:
    sent: list[Message] = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        pytest.fail("it went on")

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/", "headers": []}
    await SecurityHeaders(endless, hsts=None)(scope, receive, send)
    assert [message.get("body") for message in sent] == [None, b""]
