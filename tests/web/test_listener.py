"""The listener over real sockets: deadlines, caps, TLS, the local socket, starting and stopping."""

import asyncio
import json
import os
import resource
import socket
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.gateway.limits import WaitingRoom
from entobot.web import unix_socket
from entobot.web.certificates import LocalTls, Machine, ensure_local_tls
from entobot.web.endpoints import AddressTaken, PlainBeyondLoopback, TcpEndpoint, UnixEndpoint, raise_file_limit
from entobot.web.http_protocol import HttpLimits
from entobot.web.tls import TlsFiles, server_context
from entobot.web.unix_socket import LocalPeer, SocketTaken, short_socket_path
from tests.support.listening import Raw, eventually, hello_app, masked, raw, serving, upgrade_request
from tests.support.process import GENEROUS_S

ON_EVERY_LOOP = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = timedelta(milliseconds=150)
MACHINE = Machine(("localhost",), ("127.0.0.1",))


def local_tls(folder: Path) -> LocalTls:
    return ensure_local_tls(folder, MACHINE, SystemClock().now_ms(), SystemEntropy())


async def ask(client: Raw, request: bytes = GET) -> bytes:
    await client.send(request)
    status, _, body = await client.response()
    assert status == 200
    return body


# HTTP


async def test_requests_are_answered_on_a_kept_connection_with_a_date_and_no_server_header() -> None:
    async with serving() as server, raw(server.port) as client:
        for _ in range(3):
            await client.send(GET)
            status, head, body = await client.response()
            assert (status, body) == (200, b"GET /a 0 None 127.0.0.1")
            assert b"\r\ndate: " in head
            assert b"server:" not in head
        await eventually(lambda: server.waiting.held == 0)


async def test_a_forwarded_address_is_not_believed() -> None:
    async with serving() as server, raw(server.port) as client:
        body = await ask(
            client, b"GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 8.8.8.8\r\nForwarded: for=8.8.8.8\r\n\r\n"
        )
        assert body.endswith(b" 127.0.0.1")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20)))
        for number in range(20):
            assert (await client.response())[2].startswith(b"GET /%d " % number)


async def test_an_upgrade_behind_an_unanswered_request_is_refused() -> None:
    answer = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await answer.wait()
        await hello_app(scope, receive, send)

    async with serving(app=slow) as server, raw(server.port) as client:
        await client.send(GET + upgrade_request())
        await client.to_end()
        answer.set()
        assert server.recorders.made == []


async def test_every_waiting_request_learns_that_a_pipelining_client_has_gone() -> None:
    gone = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(app=waits) as server:
        async with raw(server.port) as client:
            await client.send(GET + GET)
            await eventually(lambda: server.waiting.held == 0)
        async with asyncio.timeout(GENEROUS_S):
            await gone.wait()


async def test_another_kind_of_upgrade_is_answered_as_a_plain_request() -> None:
    async with serving() as server, raw(server.port) as client:
        body = await ask(client, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert body.startswith(b"GET /a")
        assert await client.to_end() == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET  HTTP\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nBig: " + b"x" * 17_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nBig: " + b"x" * 17_000, 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 4000, 431),
        (b"GET /" + b"x" * 17_000, 431),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413),
    ],
)
async def test_a_request_that_breaks_the_rules_is_refused_and_the_connection_ended(
    request_bytes: bytes, status: int
) -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(request_bytes)
        answered, head, body = await client.response()
        assert answered == status
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status
        assert await client.to_end() == b""


async def test_a_chunked_body_over_the_cap_is_refused() -> None:
    limits = HttpLimits(max_body_bytes=1000)
    async with serving(limits=limits) as server, raw(server.port) as client:
        chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        assert (await client.response())[0] == 413
        assert await client.to_end() == b""


# deadlines


async def test_slow_headers_are_cut_at_the_deadline() -> None:
    async with serving(limits=HttpLimits(request_head=SHORT)) as server, raw(server.port) as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n")
        status, _, _ = await client.response()
        assert status == 408
        assert await client.to_end() == b""
        await eventually(lambda: server.waiting.held == 0)


async def test_headers_that_drip_do_not_move_the_deadline() -> None:
    async with serving(limits=HttpLimits(request_head=SHORT)) as server, raw(server.port) as client:
        started = time.monotonic()
        await client.send(b"GET /a HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                await client.send(b"a: b\r\n")
                await asyncio.sleep(0.03)

        dripping = asyncio.create_task(drip())
        await client.to_end()
        dripping.cancel()
        assert time.monotonic() - started < 5


async def test_a_connection_that_says_nothing_is_cut() -> None:
    async with serving(limits=HttpLimits(request_head=SHORT)) as server, raw(server.port) as client:
        assert await client.to_end() == b""
        await eventually(lambda: server.waiting.held == 0)


async def test_slow_headers_of_a_second_request_are_cut_and_counted() -> None:
    async with serving(limits=HttpLimits(request_head=SHORT)) as server, raw(server.port) as client:
        await ask(client)
        await client.send(b"GET /b")
        await eventually(lambda: server.waiting.held == 1)
        assert (await client.response())[0] == 408
        await eventually(lambda: server.waiting.held == 0)


async def test_a_body_that_does_not_arrive_is_cut() -> None:
    async with serving(limits=HttpLimits(request_body=SHORT)) as server, raw(server.port) as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        assert (await client.response())[0] == 408
        assert await client.to_end() == b""


async def test_an_idle_connection_is_ended_and_stray_line_ends_do_not_keep_it() -> None:
    async with serving(limits=HttpLimits(keep_alive=SHORT)) as server, raw(server.port) as client:
        await ask(client)
        await client.send(b"\r\n\r\n")
        assert await client.to_end() == b""


async def test_a_slow_answer_is_not_cut_by_the_requests_deadlines() -> None:
    answer = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await answer.wait()
        await hello_app(scope, receive, send)

    limits = HttpLimits(SHORT, SHORT, SHORT, SHORT, SHORT)
    async with serving(app=slow, limits=limits) as server, raw(server.port) as client:
        await client.send(GET)
        fired = asyncio.Event()
        server.wheel.after(0.5, fired.set)
        await fired.wait()
        answer.set()
        assert (await client.response())[0] == 200


async def test_a_reader_that_stalls_is_cut() -> None:
    stopped, ended = asyncio.Event(), asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not stopped.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    async with serving(app=endless, limits=HttpLimits(stalled_write=SHORT)) as server, raw(server.port) as client:
        client.stop_reading()
        await client.send(GET)
        await eventually(lambda: server.listener.connection_count == 1)
        await eventually(lambda: server.listener.connection_count == 0)
        stopped.set()
        async with asyncio.timeout(GENEROUS_S):
            await ended.wait()


async def test_an_upgraded_connection_has_no_http_deadline() -> None:
    async with serving(limits=HttpLimits(SHORT, SHORT, SHORT, SHORT, SHORT)) as server, raw(server.port) as client:
        await client.send(upgrade_request())
        await client.until(b"\r\n\r\n")
        fired = asyncio.Event()
        server.wheel.after(0.5, fired.set)
        await fired.wait()
        await client.send(masked(1, b"still here"))
        assert await server.recorders.made[0].hears("text") == [b"still here"]
        assert server.waiting.held == 0


# caps


async def test_an_address_holds_so_many_unfinished_requests_and_no_more() -> None:
    waiting = WaitingRoom(per_key=3, total=10, clock=SystemClock())
    async with serving(waiting=waiting) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw(server.port)) for _ in range(3)]
        await eventually(lambda: waiting.held == 3)
        async with raw(server.port) as fourth:
            assert await fourth.to_end() == b""
        await ask(clients[0])
        await eventually(lambda: waiting.held == 2)
        async with raw(server.port) as fifth:
            await ask(fifth)


async def test_connections_in_all_are_capped() -> None:
    async with serving(max_connections=2) as server, raw(server.port) as first, raw(server.port) as second:
        await first.send(b"GET / HTTP/1.1\r\n")
        await second.send(b"GET / HTTP/1.1\r\n")
        await eventually(lambda: server.listener.connection_count == 2)
        async with raw(server.port) as third:
            assert await third.to_end() == b""


async def test_idle_connections_cannot_keep_a_newcomer_out() -> None:
    async with serving(max_connections=2) as server, raw(server.port) as first, raw(server.port) as second:
        await ask(first)
        await ask(second)
        async with raw(server.port) as third:
            await ask(third)
            assert await first.to_end() == b"", "the one idle longest made room"
            await ask(second)


# TLS


async def test_a_half_open_tls_handshake_is_cut_and_was_counted(tmp_path: Path) -> None:
    tls = local_tls(tmp_path)
    endpoint = TcpEndpoint("127.0.0.1", 0, tls.files)
    async with serving(endpoints=[endpoint], limits=HttpLimits(tls_handshake=SHORT)) as server:
        async with raw(server.port) as client:
            await client.send(b"\x16\x03\x01\x02\x00\x01\x00")
            await eventually(lambda: server.waiting.held == 1)
            await client.to_end()
        await eventually(lambda: server.waiting.held == 0 and server.listener.connection_count == 0)


async def test_many_half_open_handshakes_of_one_address_do_not_keep_another_request_out(tmp_path: Path) -> None:
    tls = local_tls(tmp_path)
    waiting = WaitingRoom(per_key=5, total=10, clock=SystemClock())
    async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)], waiting=waiting) as server:
        async with AsyncExitStack() as stack:
            held = [await stack.enter_async_context(raw(server.port)) for _ in range(30)]
            for client in held:
                client.writer.write(b"\x16")
            await eventually(lambda: waiting.held == 5)
            assert server.listener.connection_count <= 5
        await eventually(lambda: waiting.held == 0)


def trusting(authority: x509.Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.public_bytes(serialization.Encoding.PEM).decode())


@dataclass
class Wire:
    """A TLS client that hands the kernel all it takes before the server, in this same loop, may read."""

    socket: socket.socket
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    tls: ssl.SSLObject

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext) -> "Wire":
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setblocking(False)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wire = cls(connection, incoming, outgoing, context.wrap_bio(incoming, outgoing, server_hostname="localhost"))
        await wire.do(wire.tls.do_handshake)
        return wire

    async def do(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self.flush()
            async with asyncio.timeout(GENEROUS_S):
                self.incoming.write(await asyncio.get_running_loop().sock_recv(self.socket, 65536))

    async def flush(self) -> None:
        data = memoryview(self.outgoing.read())
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                await asyncio.sleep(0)


async def test_https_and_secure_websockets_work(tmp_path: Path) -> None:
    tls = local_tls(tmp_path)
    context = trusting(tls.authority)
    async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)]) as server:
        async with raw(server.port, ssl=context, server_hostname="localhost") as client:
            assert (await ask(client)).startswith(b"GET /a")
        async with raw(server.port, ssl=context, server_hostname="localhost") as client:
            await client.send(upgrade_request())
            await client.until(b"\r\n\r\n")
            await client.send(masked(1, b"x" * 8000))
            handler = server.recorders.made[0]
            assert handler.request.is_secure
            await handler.hears("text")
            handler.link.send(b"y" * 100_000)
            assert (await client.frame())[1] == b"y" * 100_000
            await client.send(masked(3))
            assert await client.close_code() == 1002
            assert await handler.hears("closed") == [1002]


async def test_a_body_that_fills_the_tls_buffer_arrives_whole(tmp_path: Path) -> None:
    """What lay decrypted behind a pause of reading stayed there when nothing more came."""
    tls = local_tls(tmp_path)
    body = bytes(512 * 1024)
    request = b"PUT /a HTTP/1.1\r\nHost: x\r\nX: %b\r\nContent-Length: %d\r\n\r\n" % (b"y" * 300, len(body))
    async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)]) as server:
        wire = await Wire.open(server.port, trusting(tls.authority))
        for _ in range(4):  # the kernel takes more at once each time
            wire.tls.write(request)
            for start in range(0, len(body), 16384):
                wire.tls.write(body[start : start + 16384])
            await wire.flush()
            answer = b""
            while not answer.endswith(b"127.0.0.1"):
                answer += await wire.do(wire.tls.read)
            assert b"PUT /a 524288 None" in answer
        wire.socket.close()


def test_a_device_that_comes_back_resumes_with_the_one_ticket_it_was_given(tmp_path: Path) -> None:
    local = local_tls(tmp_path)
    mine, theirs = trusting(local.authority), server_context(local.files)

    def handshake(session: ssl.SSLSession | None) -> tuple[ssl.SSLObject, int]:
        """The client's side, and the bytes that followed the handshake."""
        offer, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = mine.wrap_bio(answer, offer, server_hostname="localhost", session=session)
        server = theirs.wrap_bio(offer, answer, server_side=True)
        for side in (client, server, client):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        server.do_handshake()
        tickets = answer.pending
        with suppress(ssl.SSLWantReadError):
            client.read(1)
        return client, tickets

    first, tickets = handshake(None)
    assert 0 < tickets < 400
    again, _ = handshake(first.session)
    assert again.version() == "TLSv1.3"
    assert again.session_reused is True


async def test_old_tls_and_weak_ciphers_are_refused(tmp_path: Path) -> None:
    tls = local_tls(tmp_path)
    async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)]) as server:
        for setting in ("old", "weak"):
            context = trusting(tls.authority)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            if setting == "weak":
                context.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM:@SECLEVEL=0")
            else:
                with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with raw(server.port, ssl=context, server_hostname="localhost"):
                    pass


async def test_a_renewed_certificate_is_served_without_a_restart_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    first = local_tls(tmp_path / "tls")
    context = trusting(first.authority)
    async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, first.files)]) as server:

        async def served() -> bytes:
            async with raw(server.port, ssl=context, server_hostname="localhost") as client:
                return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

        def der(tls: LocalTls) -> bytes:
            return tls.leaf.public_bytes(serialization.Encoding.DER)

        async with raw(server.port, ssl=context, server_hostname="localhost") as kept:
            await ask(kept)
            assert await served() == der(first)
            renewed = ensure_local_tls(
                tmp_path / "tls",
                Machine(("localhost", "new.local"), ("127.0.0.1",)),
                SystemClock().now_ms(),
                SystemEntropy(),
            )
            server.listener.use_certificate(first.files)
            assert await served() == der(renewed) != der(first)
            other = local_tls(tmp_path / "other")
            first.files.certificate.write_bytes(other.files.certificate.read_bytes())
            with pytest.raises(ssl.SSLError):
                server.listener.use_certificate(first.files)
            assert await served() == der(renewed)
            await ask(kept)


# the local socket


async def unix_client(path: Path | str) -> Raw:
    return Raw(*await asyncio.open_unix_connection(str(path)))


async def test_the_local_socket_is_private_and_marks_its_callers(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gateway.sock"
    async with serving(endpoints=[UnixEndpoint(path), TcpEndpoint("127.0.0.1", 0)]) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        client = await unix_client(path)
        assert await ask(client) == b"GET /a 0 %d None" % os.geteuid()
        assert await ask(client) == b"GET /a 0 %d None" % os.geteuid()
        client.writer.close()
        async with raw(server.port) as stranger:
            assert b" None " in await ask(stranger)
    assert not path.exists()


async def test_a_websocket_over_the_local_socket_has_no_address(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gateway.sock"
    async with serving(endpoints=[UnixEndpoint(path)]) as server:
        client = await unix_client(path)
        await client.send(upgrade_request())
        await client.until(b"\r\n\r\n")
        await client.send(masked(1, b"hi"))
        handler = server.recorders.made[0]
        await handler.hears("text")
        assert handler.link.peer == ""
        client.writer.close()
        await handler.hears("closed")


def knows(peer: LocalPeer | None) -> Callable[[socket.socket], LocalPeer | None]:
    def credentials(_connection: socket.socket) -> LocalPeer | None:
        return peer

    return credentials


async def test_a_strangers_uid_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "gateway.sock"
    async with serving(endpoints=[UnixEndpoint(path)]):
        for stranger in (LocalPeer(uid=os.geteuid() + 4242, pid=1), None):
            monkeypatch.setattr("entobot.web.listener.peer_credentials", knows(stranger))
            client = await unix_client(path)
            assert await client.to_end() == b""
            client.writer.close()
        monkeypatch.setattr("entobot.web.listener.peer_credentials", knows(LocalPeer(uid=0, pid=1)))
        client = await unix_client(path)
        assert await ask(client) == b"GET /a 0 0 None"
        client.writer.close()


async def test_a_long_socket_path_works_for_server_and_client(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 20) / ("name" * 15) / "gateway.sock"
    assert len(os.fsencode(path)) > 130
    async with serving(endpoints=[UnixEndpoint(path)]):
        with short_socket_path(path) as short:
            assert len(short) <= unix_socket.MAX_PATH_BYTES
            client = await unix_client(short)
        assert short != str(path)
        assert await ask(client) == b"GET /a 0 %d None" % os.geteuid()
        client.writer.close()
    assert not path.exists()


async def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gateway.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(endpoints=[UnixEndpoint(path)]):
        with pytest.raises(SocketTaken, match="Another gateway listens"):
            async with serving(endpoints=[UnixEndpoint(path)]):
                pass
        client = await unix_client(path)
        await ask(client)
        client.writer.close()


async def test_a_file_in_the_sockets_place_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    path.write_text("precious")
    with pytest.raises(SocketTaken, match="is not a socket"):
        async with serving(endpoints=[UnixEndpoint(path)]):
            pass
    assert path.read_text() == "precious"


# starting and stopping


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com"])
def test_plain_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="without TLS would send tokens in clear") as refused:
        TcpEndpoint(host, 0)
    assert isinstance(refused.value, PlainBeyondLoopback)
    assert isinstance(refused.value, StartupRefused)


async def test_a_taken_port_is_a_clear_error_and_nothing_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    async with serving() as server:
        with pytest.raises(AddressTaken, match=f"port {server.port} is taken") as refused:
            async with serving(endpoints=[UnixEndpoint(path), TcpEndpoint("127.0.0.1", server.port)]):
                pass
        assert refused.value.code == "address_in_use"
        assert not path.exists()


async def test_a_certificate_that_does_not_load_refuses_to_start(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "none.crt", tmp_path / "none.key")
    with pytest.raises(StartupRefused, match=r"none\.crt does not load"):
        async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, files)]):
            pass


async def test_stop_lets_a_request_finish_and_ends_idle_connections_at_once() -> None:
    begun, answer = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/a":
            begun.set()
            await answer.wait()
        await hello_app(scope, receive, send)

    async with serving(app=slow) as server, raw(server.port) as idle, raw(server.port) as busy:
        await ask(idle, GET.replace(b"/a", b"/b"))
        await busy.send(GET)
        await begun.wait()
        port = server.port
        stopping = asyncio.create_task(server.listener.stop(10))
        assert await idle.to_end() == b""
        with pytest.raises(ConnectionRefusedError):
            async with raw(port):
                pass
        answer.set()
        assert (await busy.response())[0] == 200
        await stopping


async def test_stop_keeps_its_grace_whatever_is_open(tmp_path: Path) -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if released.is_set():
                    raise

    released = asyncio.Event()
    tls = local_tls(tmp_path)
    endpoints = [TcpEndpoint("127.0.0.1", 0), TcpEndpoint("127.0.0.1", 0, tls.files)]
    async with serving(app=stubborn, endpoints=endpoints) as server, AsyncExitStack() as stack:
        tls_port = server.listener._doors()[1].listening.getsockname()[1]
        clients = [await stack.enter_async_context(raw(server.port)) for _ in range(20)]
        for client in clients[:5]:
            await client.send(GET)
        for client in clients[5:10]:
            await client.send(upgrade_request())
            await client.until(b"\r\n\r\n")
            client.stop_reading()
        half_open = await stack.enter_async_context(raw(tls_port))
        await half_open.send(b"\x16\x03\x01")
        await eventually(lambda: server.listener.connection_count == 21)
        started = time.monotonic()
        tasks = asyncio.all_tasks()
        await server.listener.stop(1.0)
        assert time.monotonic() - started < 1.5
        for client in [*clients[:5], *clients[10:]]:
            assert await client.to_end() == b""
        await half_open.to_end()
        released.set()
        for task in tasks - {asyncio.current_task()}:
            if getattr(task.get_coro(), "__qualname__", "") == "RequestResponseCycle.run_asgi":
                task.cancel()
        assert server.recorders.made[0].values("closed") == [1012]


async def test_stopping_twice_and_before_the_start_is_harmless() -> None:
    async with serving() as server:
        await server.listener.stop(1.0)
        await server.listener.stop(1.0)


def test_the_process_may_open_as_many_files_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
        assert raise_file_limit() == hard
        assert raise_file_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
