"""The port for plain HTTP, over real sockets: where it sends people, what it answers an authority, what it refuses."""

from datetime import timedelta

import pytest

from entobot.app.front import PLAIN_LIMITS, plain_listener
from entobot.config import Settings
from entobot.core.clock import SystemClock
from entobot.web.http_protocol import HttpLimits
from entobot.web.plain_http import PlainHttp
from tests.support.listening import raw, serving

ORIGIN = "https://gateway.example:18790"
ANSWERS = {"tok-en_1": "tok-en_1.thumbprint"}
APP = PlainHttp(ORIGIN, ANSWERS)
CHALLENGE = b"/.well-known/acme-challenge/"


async def asked(request: bytes, limits: HttpLimits = PLAIN_LIMITS) -> tuple[int, dict[bytes, bytes], bytes]:
    async with serving(app=APP, limits=limits) as server, raw(server.port) as client:
        await client.send(request)
        status, head, body = await client.response()
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
        assert fields[b"connection"] == b"close" or status >= 400
        return status, fields, body


@pytest.mark.parametrize(
    ("target", "location"),
    [
        (b"/", b"/"),
        (b"/pair?a=1&b=%20x", b"/pair?a=1&b=%20x"),
        (b"//evil.example/x", b"//evil.example/x"),
        (b"/\\evil.example", b"/%5Cevil.example"),
        (b"http://evil.example/x", b"/x"),
        (b"/.well-known/acme-challengex", b"/.well-known/acme-challengex"),
    ],
)
@pytest.mark.parametrize("host", [b"gateway.example", b"evil.example", b"evil.example:80"])
async def test_reads_are_sent_to_the_configured_origin_whatever_the_host_says(
    target: bytes, location: bytes, host: bytes
) -> None:
    status, fields, _ = await asked(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host))
    assert (status, fields[b"location"]) == (308, ORIGIN.encode() + location)


async def test_an_authority_gets_exactly_its_answer() -> None:
    status, fields, body = await asked(b"GET %stok-en_1 HTTP/1.1\r\nHost: x\r\n\r\n" % CHALLENGE)
    assert (status, body) == (200, b"tok-en_1.thumbprint")
    assert b"location" not in fields
    for path in (b"other", b"", b"tok-en_1/", b"tok-en_1/../tok-en_1", b"../../etc/passwd"):
        status, fields, body = await asked(b"GET %s%s HTTP/1.1\r\nHost: x\r\n\r\n" % (CHALLENGE, path))
        assert (status, b"location" in fields, b"thumbprint" in body) == (404, False, False)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
async def test_what_is_no_read_is_refused_and_not_sent_on(method: bytes) -> None:
    status, fields, body = await asked(b"%s /api HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % method)
    assert (status, b"location" in fields) == (403, False)
    assert ORIGIN.encode() in body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nBig: " + b"x" * 9000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", 413),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
async def test_a_huge_or_foreign_request_is_refused(request_bytes: bytes, status: int) -> None:
    assert (await asked(request_bytes))[0] == status


async def test_a_slow_request_is_cut() -> None:
    short = HttpLimits(request_head=timedelta(milliseconds=150))
    async with serving(app=APP, limits=short) as server, raw(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\n")
        assert (await client.response())[0] == 408
        assert await client.to_end() == b""


@pytest.mark.parametrize(
    ("tls", "port"),
    [
        ({}, None),
        ({"mode": "acme"}, 80),
        ({"mode": "acme", "http_port": 8080}, 8080),
        ({"http_port": 8080}, 8080),
    ],
)
def test_there_is_such_a_port_where_it_is_wanted(tls: dict[str, object], port: int | None) -> None:
    settings = Settings.model_validate(
        {"gateway": {"public_url": "https://gateway.example.org"}, "tls": tls, "acme": {"agree": True}}
    )
    timers = None
    listener = plain_listener(settings, ORIGIN, {}, SystemClock(), timers)  # pyright: ignore[reportArgumentType]  it is not started
    assert (None if listener is None else listener._endpoints[0].port) == port  # pyright: ignore[reportAttributeAccessIssue]
