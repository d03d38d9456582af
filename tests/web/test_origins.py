"""Who may come in: other sites may not write, only listed origins may read, and nobody may ask without limit."""

import httpx
import pytest
from fastapi import FastAPI

from entobot.core.errors import StartupRefused
from entobot.web.application import WebSettings
from entobot.web.authentication import LOCAL_PEER
from tests.web.conftest import ORIGIN, OWNER, SETTINGS, Build, Demo, client_of
from tests.web.test_problems import check_problem

FRIEND = "https://friend.test"
OPENED = WebSettings(origin=ORIGIN, version="1", gateway_name="x", allowed_origins=(FRIEND,))
THINGS = "/api/v1/demo-things"


async def write(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(THINGS, json={"name": "x"}, headers=OWNER | named)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": ORIGIN},
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": ORIGIN + ".evil.test"},
        {"origin": "http://entobot.test:18790"},
        {"origin": FRIEND, "sec_fetch_site": "cross-site"},
    ],
)
async def test_another_site_may_not_write_even_with_a_token(
    client: httpx.AsyncClient, demo: Demo, headers: dict[str, str]
) -> None:
    check_problem(await write(client, **headers), 403, "forbidden")
    assert demo.made == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": ORIGIN}, {"origin": ORIGIN, "sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}],
)
async def test_the_own_page_and_native_clients_may_write(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await write(client, **headers)).status_code == 201


async def test_two_origins_are_one_too_many(client: httpx.AsyncClient) -> None:
    headers = [("authorization", "DPoP owner"), ("origin", ORIGIN), ("origin", ORIGIN)]
    check_problem(await client.post(THINGS, json={"name": "x"}, headers=headers), 403, "forbidden")


async def test_a_listed_origin_may_write_and_read_the_answer(build: Build) -> None:
    async with client_of(build(OPENED)) as client:
        response = await write(client, origin=FRIEND, sec_fetch_site="cross-site")
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == FRIEND
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers


async def test_an_unlisted_origin_is_not_told_that_it_may_read(build: Build) -> None:
    async with client_of(build(OPENED)) as client:
        response = await client.get("/api/health", headers={"origin": "https://evil.test"})
    assert "access-control-allow-origin" not in response.headers
    assert "Origin" in response.headers["vary"]


async def test_preflights_are_answered_for_listed_origins_only(build: Build) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,dpop"}
    async with client_of(build(OPENED)) as client:
        yes = await client.options(THINGS, headers=asked | {"origin": FRIEND})
        no = await client.options(THINGS, headers=asked | {"origin": "https://evil.test"})
    assert yes.status_code == 204
    assert yes.headers["access-control-allow-origin"] == FRIEND
    assert {"authorization", "dpop", "idempotency-key"} <= set(yes.headers["access-control-allow-headers"].split(", "))
    assert "*" not in repr(yes.headers)
    check_problem(no, 403, "forbidden")
    assert "access-control-allow-origin" not in no.headers


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "",
        "https://*.test",
        "https://friend.test/",
        "https://Friend.test",
        "https://friend.test:443",
        "friend.test",
        "https://user@friend.test",
        "file://x",
    ],
)
def test_what_is_no_exact_origin_refuses_to_start(origin: str) -> None:
    with pytest.raises(StartupRefused):
        WebSettings(origin=ORIGIN, version="1", gateway_name="x", allowed_origins=(origin,))
    with pytest.raises(StartupRefused):
        WebSettings(origin=origin, version="1", gateway_name="x")


@pytest.mark.parametrize("origin", ["http://localhost:18790", "https://[fd00::1]:18790", "https://192.168.1.5:18790"])
def test_exact_origins_are_taken(origin: str) -> None:
    WebSettings(origin=origin, version="1", gateway_name="x")


class Limiter:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, address: str) -> float | None:
        self.asked.append(address)
        return 2.2


async def test_an_address_over_its_limit_is_refused_before_anything_is_read(build: Build) -> None:
    limiter = Limiter()

    async def body():  # noqa: ANN202
        pytest.fail("the body was read")
        yield b""

    async with client_of(build(admit=limiter), client=("192.0.2.7", 1)) as client:
        response = await client.post(THINGS, content=body(), headers={"x-forwarded-for": "192.0.2.99"})
    problem = check_problem(response, 429, "rate_limited")
    assert (problem["retry_after_s"], response.headers["retry-after"]) == (2.2, "3")
    assert limiter.asked == ["192.0.2.7"]


def as_local(app: FastAPI):  # noqa: ANN201
    async def local(scope, receive, send) -> None:  # noqa: ANN001
        await app(scope | {"extensions": {LOCAL_PEER: {}}}, receive, send)

    return local


async def test_the_local_socket_is_not_limited(build: Build) -> None:
    async with client_of(as_local(build(SETTINGS, admit=Limiter()))) as client:
        assert (await client.get("/api/v1/demo/thing")).json() == {"id": "thing"}
