"""Links over real sockets: handshake, messages, size caps, closing, back-pressure."""

import asyncio
import json
from typing import Any

import pytest

from entobot.core.rates import RATES, Rate
from entobot.gateway.link import Link
from entobot.gateway.upgrade import UpgradeRequest
from entobot.gateway.websocket_link import MAX_BUFFERED_BYTES, MAX_MESSAGE_BYTES_BEFORE_AUTHENTICATION
from tests.support.listening import (
    ORIGIN,
    Recorder,
    Recorders,
    eventually,
    masked,
    raw,
    serving,
    upgrade_request,
    websocket,
)

ON_EVERY_LOOP = True

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class Echo(Recorder):
    def text(self, payload: bytes) -> None:
        super().text(payload)
        self.link.send(payload)


class Greeter(Recorder):
    def opened(self) -> None:
        super().opened()
        self.link.send(b"hello")
        self.link.send(b"again")


async def test_a_message_goes_there_and_back() -> None:
    async with serving(recorders=Recorders(Echo)) as server, websocket(server) as (client, handler):
        await client.send(masked(TEXT, "grüß".encode()))
        assert await client.frame() == (TEXT, "grüß".encode())
        assert [name for name, _ in handler.events] == ["opened", "text"]
        assert handler.link.peer == "127.0.0.1"
        assert handler.link.subprotocol is None


async def test_what_the_handler_sends_at_once_comes_behind_the_handshake() -> None:
    async with serving(recorders=Recorders(Greeter)) as server, websocket(server) as (client, _):
        assert await client.frame() == (TEXT, b"hello")
        assert await client.frame() == (TEXT, b"again")


async def test_the_subprotocol_is_chosen_from_the_offer() -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(upgrade_request(Sec_WebSocket_Protocol="other, entobot.v1"))
        head = await client.until(b"\r\n\r\n")
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert b"\r\nSec-WebSocket-Protocol: entobot.v1\r\n" in head
        assert b"extensions" not in head.lower()
        assert server.recorders.made[0].link.subprotocol == "entobot.v1"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws", {"Origin": "https://evil.example"}, 403),
        ("/ws", {"Origin": "null"}, 403),
        ("/ws", {"Origin": ORIGIN.upper()}, 403),
        ("/ws", {"Origin": f"{ORIGIN}, {ORIGIN}"}, 403),
        ("/ws/", {}, 404),
        ("/WS", {}, 404),
        ("/other", {"Origin": ORIGIN}, 404),
        ("/ws", {"Sec_WebSocket_Protocol": "graphql-ws"}, 400),
        ("/ws", {"Sec_WebSocket_Version": "8"}, 426),
        ("/ws", {"Sec_WebSocket_Key": "short"}, 400),
        ("/ws", {"Sec_WebSocket_Key": ""}, 400),
        ("/ws", {"Content_Length": "3"}, 400),
    ],
)
async def test_an_upgrade_that_is_not_admitted_is_refused_before_it_happens(
    path: str, headers: dict[str, str], status: int
) -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(upgrade_request(path, **headers))
        answered, head, body = await client.response()
        assert answered == status
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status
        assert await client.to_end() == b""
        assert server.recorders.made == []


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, {"Cookie": "a=b", "Origin": ORIGIN}])
async def test_the_gateways_own_origin_and_native_clients_are_admitted(headers: dict[str, str]) -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(upgrade_request("/ws?ignored=1", **headers))
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_a_plain_request_to_the_websockets_path_is_told_to_upgrade() -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
        status, head, body = await client.response()
        assert status == 426
        assert b"application/problem+json" in head
        assert json.loads(body)["code"] == "invalid"


async def test_frames_sent_before_the_handshake_is_answered_are_refused() -> None:
    async with serving() as server, raw(server.port) as client:
        await client.send(upgrade_request() + masked(TEXT, b"early"))
        assert (await client.response())[0] == 400


async def test_several_sends_in_one_tick_are_one_write() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        link: Any = handler.link
        writes: list[bytes] = []
        transport = link._transport

        class Spy:
            def __getattr__(self, name: str) -> None:
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                writes.append(data)
                transport.write(data)

        link._transport = Spy()
        for number in range(5):
            link.send(b"%d" % number)
        assert link.buffered_bytes == 5 * 3
        assert [await client.frame() for _ in range(5)] == [(TEXT, b"%d" % number) for number in range(5)]
        assert len(writes) == 1


async def test_fragments_with_a_ping_between_them_are_one_message() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        await client.send(masked(TEXT, b"one ", is_final=False) + masked(PING, b"p") + masked(CONTINUATION, b"two"))
        assert await client.frame() == (PONG, b"p")
        assert await handler.hears("text") == [b"one two"]


async def test_a_pong_is_told_and_our_ping_is_sent() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        before = handler.link.received_bytes
        handler.link.ping()
        assert await client.frame() == (PING, b"")
        await client.send(masked(PONG))
        await handler.hears("pong")
        assert handler.link.received_bytes > before


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(TEXT, b"x", rsv=4), 1002),
        (masked(3, b"x"), 1002),
        (masked(11), 1002),
        (masked(PING, b"x" * 126), 1002),
        (masked(PING, is_final=False), 1002),
        (masked(CONTINUATION, b"x"), 1002),
        (masked(TEXT, b"x", is_final=False) + masked(TEXT, b"y"), 1002),
        (b"\x81\x01x", 1002),  # not masked
        (masked(CLOSE, b"\x03"), 1002),
        (masked(CLOSE, b"\x03\xee"), 1002),  # 1006
        (masked(CLOSE, b"\x13\x88"), 1002),  # 5000
        (masked(CLOSE, b"\x03\xe8\xff"), 1007),
        (masked(TEXT, b"\xff"), 1007),
        (masked(TEXT, b"\xc3", is_final=False) + masked(CONTINUATION, b"x"), 1007),
    ],
)
async def test_a_broken_frame_closes_with_its_code_and_nothing_after_it_is_heard(data: bytes, code: int) -> None:
    async with serving() as server, websocket(server) as (client, handler):
        await client.send(masked(TEXT, b"good") + data + masked(TEXT, b"after"))
        assert await client.close_code() == code
        assert await client.to_end() == b""
        client.writer.close()
        assert await handler.hears("closed") == [code]
        assert handler.values("text") == [b"good"]


async def test_a_sender_in_full_flow_still_hears_why_it_was_refused() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        sending = asyncio.create_task(client.send(masked(3) + b"x" * 8_000_000))
        assert await client.close_code() == 1002
        assert await client.to_end() == b""
        client.writer.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)
        assert await handler.hears("closed") == [1002]


async def test_a_binary_message_is_the_handlers_to_refuse() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        await client.send(masked(BINARY, b"x"))
        assert await client.close_code() == 4503
        await client.send(masked(CLOSE, b"\x11\x97"))
        assert await handler.hears("closed") == [4503]


@pytest.mark.parametrize(
    "data",
    [
        masked(TEXT, b"x" * 8193),
        masked(TEXT, b"x" * 8193)[:8300],
        masked(TEXT, b"x" * 8193)[:-1],
        masked(TEXT, b"x" * 5000, is_final=False) + masked(CONTINUATION, b"x" * 5000, is_final=False),
        b"\x81\xff" + (1 << 40).to_bytes(8, "big"),
    ],
    ids=["whole", "partly", "but one", "fragments", "announced"],
)
async def test_a_message_over_the_cap_is_the_handlers_to_refuse(data: bytes) -> None:
    async with serving() as server, websocket(server) as (client, handler):
        await client.send(data)
        assert await client.close_code() == 4505
        client.writer.close()
        assert await handler.hears("closed") == [4505]
        assert handler.values("too_large") == [None]
        assert handler.values("text") == []


async def test_the_cap_is_raised_after_authentication() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        await client.send(masked(TEXT, b"x" * 8192))
        await handler.hears("text")
        handler.link.set_max_message_bytes(256 * 1024)
        await client.send(masked(TEXT, b"y" * 256 * 1024))
        assert [len(text) for text in await handler.hears("text", 2)] == [8192, 256 * 1024]
        await client.send(masked(TEXT, b"z" * (256 * 1024 + 1)))
        assert await client.close_code() == 4505


async def test_a_closing_handshake_that_the_client_begins_is_finished() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        await client.send(masked(CLOSE, (4999).to_bytes(2, "big") + b"bye"))
        assert await client.close_code() == 4999
        assert await client.to_end() == b""
        assert await handler.hears("closed") == [4999]


async def test_close_flushes_and_a_second_close_changes_nothing() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        handler.link.send(b"last words")
        handler.link.close(4000, "draining")
        handler.link.close(4001)
        handler.link.send(b"too late")
        assert await client.frame() == (TEXT, b"last words")
        assert await client.frame() == (CLOSE, b"\x0f\xa0draining")
        await client.send(masked(TEXT, b"not heard") + masked(CLOSE, b"\x0f\xa0"))
        assert await client.to_end() == b""
        assert await handler.hears("closed") == [4000]
        assert handler.values("text") == []


async def test_a_peer_that_ignores_the_closing_handshake_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entobot.gateway.websocket_link.CLOSE_TIMEOUT_S", 0.1)
    async with serving() as server, websocket(server) as (client, handler):
        handler.link.close(4001)
        assert await client.close_code() == 4001
        assert await client.to_end() == b""
        assert await handler.hears("closed") == [4001]


async def test_a_lost_connection_is_told_once_as_abnormal() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        client.writer.transport.abort()
        assert await handler.hears("closed") == [1006]
        handler.link.send(b"nobody")
        handler.link.close(4000)
        assert handler.values("closed") == [1006]


async def test_a_handler_that_raises_closes_its_own_link_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def text(self, payload: bytes) -> None:
            if payload == b"break":
                raise RuntimeError("a defect")
            super().text(payload)

    async with (
        serving(recorders=Recorders(Broken)) as server,
        websocket(server) as (first, _),
        websocket(server) as (second, other),
    ):
        await first.send(masked(TEXT, b"break"))
        assert await first.close_code() == 1011
        await second.send(masked(TEXT, b"fine"))
        assert await other.hears("text") == [b"fine"]
    assert "a defect" in caplog.text


async def test_a_handler_that_cannot_be_made_refuses_the_upgrade_and_leaves_nothing_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(link: Link, request: UpgradeRequest) -> Recorder:
        raise RuntimeError("a defect")

    async with serving(make=broken) as server, raw(server.port) as client:
        await client.send(upgrade_request())
        status, _, body = await client.response()
        assert status == 500
        assert b"a defect" not in body
        assert await client.to_end() == b""
        await eventually(lambda: server.listener.connection_count == 0)
    assert "a defect" in caplog.text


async def test_a_client_that_never_reads_is_cut_at_the_cap_and_memory_stays_bounded() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        client.stop_reading()
        message = b"x" * 16_384
        worst = 0
        for _ in range(4096):
            handler.link.send(message)
            worst = max(worst, handler.link.buffered_bytes)
            await asyncio.sleep(0)
            if handler.values("closed"):
                break
        assert await handler.hears("closed") == [1006]
        assert worst <= MAX_BUFFERED_BYTES
        assert handler.link.is_writable is False


async def test_a_client_that_reads_again_is_told_to_the_handler() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        client.stop_reading()
        sent = 0
        while handler.link.is_writable:
            handler.link.send(b"x" * 10_000)
            sent += 1
            await asyncio.sleep(0)
        client.read_again()
        for _ in range(sent):
            assert len((await client.frame())[1]) == 10_000
        await handler.hears("writable")
        assert handler.link.is_writable
        await eventually(lambda: handler.link.buffered_bytes == 0)


async def test_a_stopping_listener_says_so_to_its_websockets() -> None:
    async with serving() as server, websocket(server) as (client, handler):
        stopping = asyncio.create_task(server.listener.stop(2.0))
        assert await client.close_code() == 1012
        await client.send(masked(CLOSE, b"\x03\xf4"))
        await stopping
        assert handler.values("closed") == [1012]


@pytest.mark.parametrize("opcode", [9, 10])
async def test_a_flood_of_pings_ends_the_connection_and_a_heartbeat_does_not(opcode: int) -> None:
    burst = RATES[Rate.PINGS].default.burst
    async with serving() as server, websocket(server) as (client, recorder):
        await client.send(masked(opcode) * (burst - 5))
        await client.send(masked(1, b"still here"))
        await recorder.hears("text")
        await client.send(masked(opcode) * 100)
        seen, payload = opcode, b""
        while seen != 8:
            seen, payload = await client.frame()
        assert int.from_bytes(payload[:2], "big") == 4004


async def test_a_first_message_of_exactly_the_cap_is_taken_however_it_is_cut() -> None:
    frame = masked(1, b"x" * MAX_MESSAGE_BYTES_BEFORE_AUTHENTICATION)
    async with serving() as server:
        for cut in (1, 14, 100):
            async with websocket(server) as (client, recorder):
                await client.send(frame[:-cut])
                await eventually(lambda recorder=recorder, cut=cut: recorder.link.received_bytes >= len(frame) - cut)
                await client.send(frame[-cut:])
                assert len((await recorder.hears("text"))[0]) == MAX_MESSAGE_BYTES_BEFORE_AUTHENTICATION
