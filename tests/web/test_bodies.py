"""Bodies: how large, which type, and JSON that has one meaning."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entobot.core.errors import Problem
from entobot.web.bodies import MAX_DEPTH, parse
from tests.web.conftest import OWNER, client_of, served
from tests.web.test_problems import check_problem

JSON = {"content-type": "application/json"}
THINGS = "/api/v1/demo-things"


async def post(client: httpx.AsyncClient, content: Any, path: str = THINGS, **headers: str) -> httpx.Response:
    return await client.post(path, content=content, headers=OWNER | JSON | headers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b'{"name":"x"}trailing',
        b'{"name":"\xff"}',
        '{"name":"x"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"name":"x"}',
        b'{"name":"x","name":"y"}',
        b'{"name":"x","amount":NaN}',
        b'{"name":"x","amount":1e999}',
        b'{"name":"x","amount":9007199254740992}',
        b'{"name":"x","amount":' + b"9" * 5000 + b"}",
        b'{"name":"\\ud800"}',
        b'{"name":"\\u0000"}',
        b'{"\\udc00":1,"name":"x"}',
        b'{"name":"\x00"}',
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
        b"null",
        b"[]",
        b'"text"',
    ],
)
async def test_what_is_no_clear_json_object_is_invalid(client: httpx.AsyncClient, body: bytes) -> None:
    check_problem(await post(client, body), 422, "invalid")


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=x",
    ],
)
async def test_only_json_is_taken(client: httpx.AsyncClient, media_type: str) -> None:
    response = await post(client, b'{"name":"x"}', **{"content-type": media_type})
    check_problem(response, 422, "invalid")
    no_type = await client.post(THINGS, content=b'{"name":"x"}', headers=OWNER)
    check_problem(no_type, 422, "invalid")


async def test_a_compressed_body_is_invalid(client: httpx.AsyncClient) -> None:
    check_problem(await post(client, b'{"name":"x"}', **{"content-encoding": "gzip"}), 422, "invalid")


async def test_a_charset_of_utf_8_is_fine(client: httpx.AsyncClient) -> None:
    response = await post(client, b'{"name":"\xc3\xa9"}', **{"content-type": 'application/json; charset="UTF-8"'})
    assert response.status_code == 201


async def test_a_body_of_the_default_cap_is_taken_and_one_byte_more_is_not(client: httpx.AsyncClient) -> None:
    fits = b'{"name":"x"}'.ljust(64 * 1024)
    assert (await post(client, fits)).status_code == 201
    check_problem(await post(client, fits + b" "), 413, "too_large")


async def test_a_route_may_have_its_own_cap(client: httpx.AsyncClient) -> None:
    small = b'{"name":"x"}'.ljust(64)
    assert (await post(client, small, "/api/v1/demo-tiny")).status_code == 200
    check_problem(await post(client, small + b" ", "/api/v1/demo-tiny"), 413, "too_large")


async def test_a_declared_length_is_refused_before_reading(client: httpx.AsyncClient) -> None:
    async def body():  # noqa: ANN202
        pytest.fail("the body was read")
        yield b""

    check_problem(await post(client, body(), **{"content-length": "70000"}), 413, "too_large")


async def test_a_raw_route_is_capped_too(client: httpx.AsyncClient) -> None:
    check_problem(await post(client, b" " * 70_000, "/api/v1/demo-raw"), 413, "too_large")


async def exchange(port: int, request: bytes) -> bytes:
    """Send `request` and nothing more; what the server answers until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    given = ("Host: x", "Authorization: DPoP owner", "Content-Type: application/json", *lines)
    return "\r\n".join((f"{method} {path} HTTP/1.1", *given, "", "")).encode()


async def test_an_endless_body_is_cut_off_on_a_real_connection(app: FastAPI) -> None:
    async with served(app) as port:
        # One byte beyond the cap, and the body has not ended: nothing is left unread when the server hangs up.
        body = (b"1000\r\n" + b" " * 4096 + b"\r\n") * 16 + b"1\r\n \r\n"
        answer = await exchange(port, head(THINGS, "Transfer-Encoding: chunked") + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_a_strangers_endless_body_ends_the_connection(app: FastAPI) -> None:
    async with served(app) as port:
        request = head(THINGS, "Transfer-Encoding: chunked").replace(b"owner", b"stale")
        answer = await exchange(port, request)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_a_huge_declared_length_ends_the_connection(app: FastAPI) -> None:
    async with served(app) as port:
        answer = await exchange(port, head(THINGS, "Content-Length: 99999999999999999999"))
    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))


async def test_a_body_in_pieces_arrives_whole(app: FastAPI) -> None:
    async with served(app) as port:
        body = b'6\r\n{"name\r\n6\r\n":"x"}\r\n0\r\n\r\n'
        request = head("/api/v1/demo-tiny", "Transfer-Encoding: chunked", "Connection: close") + body
        answer = await exchange(port, request)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"name":"x"}')


async def test_a_connection_stays_open_after_an_ordinary_refusal(app: FastAPI) -> None:
    async with served(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        response = await client.post(THINGS, json={"name": "x"})
        assert response.status_code == 401
        assert "connection" not in response.headers


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
near_things = st.fixed_dictionaries(
    {},
    optional={
        "name": any_json,
        "amount": any_json,
        "nested": any_json | st.fixed_dictionaries({}, optional={"label": any_json, "parts": any_json}),
    },
)
bodies = st.binary(max_size=200) | (any_json | near_things).map(lambda value: json.dumps(value).encode())


@given(body=bodies, path=st.sampled_from([THINGS, "/api/v1/demo-open", "/api/v1/demo-raw"]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_whatever_is_a_server_error(app: FastAPI, body: bytes, path: str) -> None:
    async with client_of(app) as client:
        response = await post(client, body, path)
    assert response.status_code in (200, 201, 422), response.text
    if response.status_code == 422:
        check_problem(response, 422, "invalid")


@pytest.mark.parametrize("body", [b'"\\ud800"', b'{"a":["\\udfff"]}', b'{"\\ud800":1}', b'"\\u0000"'])
def test_text_that_no_database_takes_is_refused_everywhere(body: bytes) -> None:
    with pytest.raises(Problem):
        parse(body)


def test_an_escaped_pair_of_surrogates_is_one_character() -> None:
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


@given(value=any_json)
def test_what_is_accepted_is_what_was_sent(value: Any) -> None:
    try:
        text = json.dumps(value)
        parsed = parse(text.encode())
    except Problem:
        return
    assert parsed == json.loads(text)
    json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode("utf-8")
