"""What we rely on in picows though it does not promise it. When one of these fails, picows has changed: read its diff."""

import asyncio
import logging
from importlib.metadata import version
from typing import Any

import pytest
from picows import WSListener
from picows.picows import (
    WSProtocol,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]  not in picows' stub, hence this file
)

from entobot.gateway.websocket import _ANY_UPGRADE, _NO_SOCKET, _QUIET, WebSockets
from tests.support.listening import masked, serving, websocket

PINNED = "2.3.1"


class Seen(WSListener):
    def __init__(self) -> None:
        self.frames: list[tuple[Any, ...]] = []
        self.connected = 0

    def on_ws_connected(self, transport: Any) -> None:
        self.connected += 1

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        self.frames.append(
            (
                int(frame.msg_type),
                bool(frame.fin),
                (frame.rsv1, frame.rsv2, frame.rsv3),
                frame.get_payload_as_bytes(),
                bool(frame.last_in_buffer),
                frame.tail_size,
            )
        )


class Outlet:
    """Records what picows would do to the transport."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _NO_SOCKET if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 1

    def write(self, data: bytes) -> None:
        self.calls.append(("write", bytes(data)))

    def close(self) -> None:
        self.calls.append(("close", b""))

    abort = close


def feed(protocol: Any, data: bytes) -> None:
    while data:
        room = protocol.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]


def parser(*, max_frame_bytes: int = 1000) -> tuple[Any, Seen, Outlet]:
    """Built exactly as `WebSocketProtocol` builds it, and brought into its frame state."""
    seen, outlet = Seen(), Outlet()

    def give(_request: object) -> Seen:
        return seen

    protocol = WSProtocol(
        None, None, False, give, _QUIET, False, None, False, None, None, 0, False, max_frame_bytes, None, 2048
    )
    protocol.connection_made(outlet)
    feed(protocol, _ANY_UPGRADE)
    return protocol, seen, outlet


def test_the_pinned_version_is_installed() -> None:
    assert version("picows") == PINNED


async def test_the_constructor_is_positional_and_an_upgrade_brings_the_frame_state() -> None:
    _, seen, outlet = parser()
    assert seen.connected == 1
    ((kind, data),) = outlet.calls
    assert kind == "write"
    assert data.startswith(b"HTTP/1.1 101 ")


async def test_each_frame_is_told_with_its_bits_and_what_is_left_in_the_buffer() -> None:
    protocol, seen, outlet = parser()
    feed(protocol, masked(1, b"one", rsv=4) + masked(0, b"two", is_final=False) + masked(9, b"3") + b"\x81\x85abcd12")
    assert seen.frames == [
        (1, True, (1, 0, 0), b"one", False, seen.frames[0][5]),
        (0, False, (0, 0, 0), b"two", False, seen.frames[1][5]),
        (9, True, (0, 0, 0), b"3", True, 8),
    ]
    feed(protocol, b"345")
    assert seen.frames[3][0] == 1
    assert len(outlet.calls) == 1, "picows answers no ping by itself"


@pytest.mark.parametrize(
    ("bad", "code"),
    [(masked(3), 1002), (b"\x81\x00", 1002), (masked(1, b"x" * 1001)[:8], 1009), (masked(9, b"x" * 126), 1002)],
)
async def test_a_parser_error_is_told_by_writing_a_close_frame_before_the_good_frame_is_delivered(
    bad: bytes, code: int
) -> None:
    protocol, seen, outlet = parser()
    feed(protocol, masked(1, b"good") + bad)
    (_, (kind, data)) = outlet.calls
    assert (kind, data[0], int.from_bytes(data[2:4], "big")) == ("write", 0x88, code)
    assert [frame[3] for frame in seen.frames] == [b"good"]


async def test_bytes_that_are_not_announced_are_overwritten_by_the_next() -> None:
    protocol, seen, _ = parser()
    room = protocol.get_buffer(-1)
    room[:4] = b"junk"
    feed(protocol, masked(1, b"good"))
    assert [frame[3] for frame in seen.frames] == [b"good"]


async def test_the_loops_take_our_class_for_a_buffered_protocol() -> None:
    async with serving() as server, websocket(server) as (_, handler):
        link: Any = handler.link
        protocol = link._transport.get_protocol()
        assert isinstance(protocol, asyncio.BufferedProtocol)
        assert not isinstance(protocol, asyncio.Protocol)


def test_the_class_is_what_uvicorn_calls_for_an_upgrade() -> None:
    assert callable(WebSockets)
    assert not logging.getLogger("picows").handlers
