"""Behind proxies, over real sockets: one resolved address decides, and a header from anybody else decides nothing."""

import struct
from contextlib import AsyncExitStack
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from entobot.core.clock import SystemClock
from entobot.core.networks import Networks
from entobot.gateway.limits import CountCaps, WaitingRoom
from entobot.web.callers import Callers
from entobot.web.endpoints import TcpEndpoint
from entobot.web.http_protocol import HttpLimits
from entobot.web.proxy_protocol import MAX_REST_BYTES, SIGNATURE
from tests.support.listening import Raw, eventually, raw, serving, upgrade_request
from tests.support.time import ManualClock
from tests.web.test_listener import local_tls, trusting

ON_EVERY_LOOP = True

BEHIND = Callers(trusted=Networks(["127.0.0.1"]))
PROXIED = Callers(trusted=Networks(["127.0.0.1"]), proxy_protocol=True)


def get(**headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return ("GET /a HTTP/1.1\r\nHost: x\r\n" + "".join(lines) + "\r\n").encode()


async def caller(client: Raw, request: bytes) -> str:
    """Whom the application sees."""
    await client.send(request)
    status, _, body = await client.response()
    assert status == 200, body
    return body.rpartition(b" ")[2].decode()


def header(source: str, *, command: int = 0x21, family: int | None = None, more: bytes = b"") -> bytes:
    """A PROXY v2 header."""
    packed = ip_address(source).packed
    ports = struct.pack("!HH", 40_000, 443)
    body = packed + packed + ports + more
    kind = family if family is not None else 0x11 if len(packed) == 4 else 0x21
    return SIGNATURE + bytes((command, kind)) + len(body).to_bytes(2, "big") + body


# X-Forwarded-For


async def test_each_request_of_a_trusted_proxy_is_its_callers_own() -> None:
    async with serving(callers=BEHIND) as server, raw(server.port) as proxy:
        assert await caller(proxy, get(X_Forwarded_For="203.0.113.9")) == "203.0.113.9"
        assert await caller(proxy, get(X_Forwarded_For="6.6.6.6, 2001:db8::5")) == "2001:db8::5"
        assert await caller(proxy, get()) == "127.0.0.1"
        assert await caller(proxy, get(Forwarded="for=6.6.6.6", X_Real_IP="6.6.6.6")) == "127.0.0.1"


async def test_nobody_else_can_say_who_they_are() -> None:
    elsewhere = Callers(trusted=Networks(["10.0.0.0/8"]))
    for callers in (None, elsewhere):
        async with serving(callers=callers) as server, raw(server.port) as client:
            assert await caller(client, get(X_Forwarded_For="203.0.113.9", Forwarded="for=1.2.3.4")) == "127.0.0.1"


async def test_a_forwarded_address_that_cannot_be_read_is_refused_and_not_guessed() -> None:
    async with serving(callers=BEHIND) as server:
        for request in (get(X_Forwarded_For="unknown"), get(X_Forwarded_For="203.0.113.9, 1.2.3")):
            async with raw(server.port) as proxy:
                await proxy.send(request)
                status, _, body = await proxy.response()
                assert (status, b"X-Forwarded-For" in body) == (400, True)
        async with raw(server.port) as proxy:
            await proxy.send(upgrade_request(X_Forwarded_For="x"))
            assert (await proxy.response())[0] == 400
            assert server.recorders.made == []


async def test_a_websocket_is_its_callers_own_too_and_counts_for_the_caller() -> None:
    per_address = CountCaps(per_key=2, total=100)
    async with serving(callers=BEHIND, per_address=per_address) as server, AsyncExitStack() as stack:

        async def upgraded(address: str) -> tuple[Raw, bytes]:
            proxy = await stack.enter_async_context(raw(server.port))
            await proxy.send(upgrade_request(X_Forwarded_For=address))
            return proxy, await proxy.until(b"\r\n\r\n")

        first, _ = await upgraded("203.0.113.9")
        _, head = await upgraded("203.0.113.9")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert server.recorders.made[0].link.peer == server.recorders.made[0].request.peer == "203.0.113.9"
        third, head = await upgraded("203.0.113.9")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in head
        assert (await upgraded("203.0.113.10"))[1].startswith(b"HTTP/1.1 101 ")
        first.writer.transport.abort()
        await eventually(lambda: per_address.held_by("203.0.113.9") == 1)
        assert (await upgraded("203.0.113.9"))[1].startswith(b"HTTP/1.1 101 ")
        del third


# PROXY protocol


@pytest.mark.parametrize("more", [b"", b"\x03\x00\x04abcd" * 10, b"x" * (MAX_REST_BYTES - 12)])
@pytest.mark.parametrize("secured", [False, True])
async def test_a_proxy_header_names_the_caller_before_tls_begins(tmp_path: Path, secured: bool, more: bytes) -> None:
    tls = local_tls(tmp_path) if secured else None
    endpoint = TcpEndpoint("127.0.0.1", 0, tls.files if tls else None)
    async with serving(callers=PROXIED, endpoints=[endpoint]) as server:
        async with raw(server.port) as proxy:
            await proxy.send(header("203.0.113.9", more=more))
            if tls is not None:
                await proxy.writer.start_tls(trusting(tls.authority), server_hostname="localhost")
            assert await caller(proxy, get()) == "203.0.113.9"
            assert await caller(proxy, get(X_Forwarded_For="6.6.6.6")) == "203.0.113.9", "it is no trusted proxy"
        await eventually(lambda: server.waiting.held == 0)


async def test_ipv6_health_checks_and_a_proxy_behind_the_balancer() -> None:
    async with serving(callers=PROXIED) as server:
        for first, sees in (
            (header("2001:db8::5"), "2001:db8::5"),
            (header("::ffff:203.0.113.9"), "203.0.113.9"),
            (SIGNATURE + b"\x20\x00\x00\x00", "127.0.0.1"),
        ):
            async with raw(server.port) as proxy:
                assert await caller(proxy, first + get()) == sees
        async with raw(server.port) as proxy:
            await proxy.send(header("127.0.0.1"))
            assert await caller(proxy, get(X_Forwarded_For="203.0.113.9")) == "203.0.113.9"


@pytest.mark.parametrize(
    "first",
    [
        b"PROXY TCP4 203.0.113.9 10.0.0.1 40000 443\r\n",
        get(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        header("203.0.113.9", command=0x11),
        header("203.0.113.9", command=0x22),
        header("203.0.113.9", family=0x00),
        header("203.0.113.9", family=0x31),
        header("203.0.113.9", family=0x12),
        header("203.0.113.9", family=0x21),
        SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 70_000,
        SIGNATURE + b"\x21\x11\x00\x00",
        SIGNATURE[:11],
    ],
    ids=lambda value: repr(value[:20]),
)
async def test_a_trusted_proxy_without_a_good_header_is_cut(first: bytes) -> None:
    async with serving(callers=PROXIED) as server:
        async with raw(server.port) as proxy:
            await proxy.send(first)
            if proxy.writer.can_write_eof():
                proxy.writer.write_eof()
            assert await proxy.to_end() == b""
        await eventually(lambda: server.waiting.held == 0 and server.listener.connection_count == 0)


async def test_a_late_header_is_cut_at_the_deadline_of_heads() -> None:
    limits = HttpLimits(request_head=timedelta(milliseconds=150))
    async with serving(callers=PROXIED, limits=limits) as server, raw(server.port) as proxy:
        await proxy.send(header("203.0.113.9")[:20])
        assert await proxy.to_end() == b""
        assert server.waiting.held == 0


async def test_a_header_from_anybody_else_is_no_header() -> None:
    callers = Callers(trusted=Networks(["10.0.0.0/8"]), proxy_protocol=True)
    async with serving(callers=callers) as server, raw(server.port) as client:
        await client.send(header("203.0.113.9") + get())
        assert (await client.response())[0] == 400


async def test_the_caller_behind_a_header_has_the_limits_of_its_own_address() -> None:
    waiting = WaitingRoom(per_key=1, total=50, clock=SystemClock())
    per_address = CountCaps(per_key=2, total=50)
    async with serving(callers=PROXIED, waiting=waiting, per_address=per_address) as server, AsyncExitStack() as stack:

        async def opened(address: str) -> Raw:
            proxy = await stack.enter_async_context(raw(server.port))
            await proxy.send(header(address))
            return proxy

        await opened("203.0.113.9")
        await eventually(lambda: waiting.held_by("203.0.113.9") == 1)
        assert await (await opened("203.0.113.9")).to_end() == b"", "one half-open request"
        assert await caller(await opened("203.0.113.10"), get()) == "203.0.113.10"
        assert await caller(await opened("203.0.113.10"), get()) == "203.0.113.10"
        assert await (await opened("203.0.113.10")).to_end() == b"", "two connections"


# who may connect


async def test_an_address_that_is_not_allowed_is_closed_before_tls(tmp_path: Path) -> None:
    told: list[tuple[str, Any]] = []
    endpoint = TcpEndpoint("127.0.0.1", 0, local_tls(tmp_path).files)
    async with serving(callers=Callers(allowed=Networks(["192.0.2.0/24"])), endpoints=[endpoint]) as server:
        server.listener._on_refused = lambda reason, fields: told.append((reason, fields))
        async with raw(server.port) as client:
            assert await client.to_end() == b""
        assert told == [("address_not_allowed", {"address": "127.0.0.1"})]


async def test_behind_a_proxy_the_callers_address_must_be_allowed() -> None:
    allowed = Networks(["192.0.2.0/24"])
    both = Callers(trusted=Networks(["127.0.0.1"]), allowed=allowed)
    async with serving(callers=both) as server:
        async with raw(server.port) as proxy:
            assert await caller(proxy, get(X_Forwarded_For="192.0.2.7")) == "192.0.2.7"
        for request in (get(X_Forwarded_For="203.0.113.9"), get(X_Forwarded_For="192.0.2.7, 203.0.113.9"), get()):
            async with raw(server.port) as proxy:
                await proxy.send(request)
                status, _, body = await proxy.response()
                assert (status, b"gateway.allowed_networks" in body) == (403, True)
        async with raw(server.port) as proxy:
            await proxy.send(upgrade_request(X_Forwarded_For="203.0.113.9"))
            assert (await proxy.response())[0] == 403
    headers = Callers(trusted=Networks(["127.0.0.1"]), allowed=allowed, proxy_protocol=True)
    async with serving(callers=headers) as server:
        async with raw(server.port) as proxy:
            assert await caller(proxy, header("192.0.2.7") + get()) == "192.0.2.7"
        async with raw(server.port) as proxy:
            await proxy.send(header("203.0.113.9") + get())
            assert await proxy.to_end() == b""


async def test_an_address_holds_so_many_connections_and_no_more() -> None:
    per_address = CountCaps(per_key=2, total=100)
    async with serving(per_address=per_address) as server, raw(server.port) as first, raw(server.port) as second:
        assert await caller(first, get()) == "127.0.0.1"
        await second.send(upgrade_request())
        await second.until(b"\r\n\r\n")
        async with raw(server.port) as third:
            assert await third.to_end() == b""
        first.writer.transport.abort()
        await eventually(lambda: per_address.held == 1)
        async with raw(server.port) as fourth:
            assert await caller(fourth, get()) == "127.0.0.1"
        second.writer.transport.abort()
        await eventually(lambda: per_address.held == 0)


# the second port


async def test_the_second_port_serves_the_websocket_and_nothing_else() -> None:
    endpoints = [TcpEndpoint("127.0.0.1", 0), TcpEndpoint("127.0.0.1", 0, only_websocket=True)]
    async with serving(endpoints=endpoints) as server:
        port = server.listener._doors()[1].listening.getsockname()[1]
        assert port != server.port
        async with raw(port) as client:
            await client.send(get())
            assert (await client.response())[0] == 404
            await client.send(b"POST /api/v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert (await client.response())[0] == 404
            await client.send(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.response())[0] == 426
        async with raw(port) as client:
            await client.send(upgrade_request("/other"))
            assert (await client.response())[0] == 404
        async with raw(port) as client:
            await client.send(upgrade_request(Origin="https://evil.example"))
            assert (await client.response())[0] == 403
        for one in (port, server.port):
            async with raw(one) as client:
                await client.send(upgrade_request())
                assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_half_open_connections_of_an_address_keep_it_out_for_two_seconds_at_most() -> None:
    clock = ManualClock()
    waiting = WaitingRoom(per_key=3, total=10, clock=clock)
    async with serving(waiting=waiting) as server, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(raw(server.port)) for _ in range(3)]
        await eventually(lambda: waiting.held == 3)
        clock.advance(2)
        async with raw(server.port) as phone:
            assert await caller(phone, get()) == "127.0.0.1"
        assert await silent[0].to_end() == b"", "it made room"
        assert waiting.held == 2


async def test_a_half_open_tls_handshake_makes_room_too(tmp_path: Path) -> None:
    tls = local_tls(tmp_path)
    clock = ManualClock()
    waiting = WaitingRoom(per_key=1, total=10, clock=clock)
    async with serving(waiting=waiting, endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)]) as server:
        async with raw(server.port) as silent:
            await silent.send(b"\x16\x03\x01\x02\x00\x01\x00")
            await eventually(lambda: waiting.held == 1)
            clock.advance(2)
            async with raw(server.port, ssl=trusting(tls.authority), server_hostname="localhost") as phone:
                assert await caller(phone, get()) == "127.0.0.1"
            assert await silent.to_end() == b""
        await eventually(lambda: server.listener.connection_count == 0)
