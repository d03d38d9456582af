"""Request ids, and what is counted of requests."""

import logging

import httpx
import pytest

from entobot.telemetry.exposition import expose
from entobot.telemetry.meters import Meters
from entobot.web.requests import caller_of
from tests.web.conftest import CHATTER, OWNER, Build, client_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_every_answer_carries_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    answers = [await client.get(path) for path in ("/api/health", "/api/health", "/nothing", "/api/v1/demo-broken")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(len(one) == 32 and int(one, 16) for one in ids)
    assert len(set(ids)) == 4


async def test_a_valid_traceparent_gives_the_id(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health", headers={"traceparent": PARENT, "x-request-id": "mine"})
    assert answer.headers.get_list("x-request-id") == [TRACE]


@pytest.mark.parametrize(
    "given",
    [
        "",
        TRACE,
        PARENT.upper(),
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        f"00-{TRACE[:-1]}\n-00f067aa0ba902b7-01",
    ],
)
def test_what_is_no_traceparent_is_not_taken(given: str) -> None:
    assert caller_of([(b"traceparent", given.encode())]) is None


def test_two_of_them_are_none() -> None:
    assert caller_of([(b"traceparent", PARENT.encode())] * 2) is None


async def test_one_line_a_request_at_debug_with_the_route_and_never_the_path(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="entobot.web"):
        await client.get("/api/v1/demo/hunter2?q=hunter2", headers=OWNER)
    (line,) = [record for record in caplog.records if record.name == "entobot.web"]
    said = vars(line)
    assert (said["message"], said["method"], said["route"], said["status"]) == (
        "request",
        "GET",
        "/api/v1/demo/{demo_id}",
        200,
    )
    assert "hunter2" not in str(said)


async def test_requests_and_refused_credentials_are_counted(build: Build) -> None:
    meters = Meters()
    async with client_of(build(meters=meters)) as client:
        await client.get("/api/health")
        await client.request("PROPFIND", "/api/health")
        await client.get("/api/v1/demo/x", headers=CHATTER)
        await client.get("/api/v1/demo/x")
    text = (await expose(meters, ""))[0].decode()
    assert 'entobot_http_requests_total{method="GET",status="200"} 1.0' in text
    assert 'entobot_http_requests_total{method="other",status="405"} 1.0' in text
    assert 'entobot_http_requests_total{method="GET",status="403"} 1.0' in text
    assert 'entobot_http_requests_total{method="GET",status="401"} 1.0' in text
    assert "entobot_http_request_seconds_count 4.0" in text
    assert 'entobot_auth_failures_total{reason="unauthenticated",transport="http"} 1.0' in text
