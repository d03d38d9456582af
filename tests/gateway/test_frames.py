"""The pure frame rules, and the whole decoder under random bytes."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entobot.gateway import frames
from entobot.gateway.frames import FrameError, Opcode, Reassembler, close_frame, peer_close_code, text_frame
from entobot.gateway.link import Link
from entobot.gateway.upgrade import OriginPolicy, UpgradeRequest
from entobot.gateway.websocket import WebSockets
from entobot.web.arrivals import ARRIVAL, Arrival
from tests.support.listening import Recorder, masked, upgrade_request


@given(st.text(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_fragments_join_to_the_text_however_it_was_cut(text: str, cuts: list[int]) -> None:
    payload = text.encode()
    edges = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    pieces = [payload[start:end] for start, end in pairwise(edges)]
    whole = Reassembler()
    message = None
    for number, piece in enumerate(pieces):
        opcode = Opcode.TEXT if number == 0 else Opcode.CONTINUATION
        is_final = number == len(pieces) - 1
        message = whole.feed(opcode, piece, is_final=is_final, max_bytes=len(payload))
        assert (message is not None) == is_final
    assert message is not None
    assert message.payload == payload
    assert whole.is_idle


@given(st.binary(max_size=200))
def test_utf8_is_accepted_exactly_when_python_decodes_it(payload: bytes) -> None:
    try:
        payload.decode()
        is_utf8 = True
    except UnicodeDecodeError:
        is_utf8 = False
    if is_utf8:
        frames.require_utf8(payload)
    else:
        with pytest.raises(FrameError) as error:
            frames.require_utf8(payload)
        assert error.value.code == 1007


def test_endless_empty_fragments_take_no_memory() -> None:
    whole = Reassembler()
    whole.feed(Opcode.TEXT, b"", is_final=False, max_bytes=10)
    for _ in range(10_000):
        whole.feed(Opcode.CONTINUATION, b"", is_final=False, max_bytes=10)
    assert len(whole._buffer) == 0


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_may_not_travel_are_refused(code: int) -> None:
    with pytest.raises(FrameError):
        peer_close_code(code.to_bytes(2, "big"))


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4001, 4999]
)
def test_close_codes_that_may_travel_are_read(code: int) -> None:
    assert peer_close_code(code.to_bytes(2, "big") + b"why") == code


@given(st.text())
def test_a_close_reason_is_cut_at_a_characters_end(reason: str) -> None:
    frame = close_frame(4000, reason)
    assert len(frame) <= 127
    text = frame[4:].decode()
    assert reason.startswith(text)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_text_frame_announces_its_size(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    assert frame.endswith(b"x" * size)
    assert len(frame) - size == (2 if size < 126 else 4 if size < 65_536 else 10)


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_ended
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    close = abort = write_eof

    def is_closing(self) -> bool:
        return self.is_ended


class NoTimers:
    def after(self, delay_s: float, callback: Any) -> Any:
        class Timer:
            def cancel(self) -> None: ...

        return Timer()


class State:
    def __init__(self) -> None:
        self.connections: set[Any] = set()


def decoder() -> tuple[Any, MemoryTransport, Recorder]:
    made: list[Recorder] = []

    def make(link: Link, request: UpgradeRequest) -> Recorder:
        made.append(Recorder(link, request))
        return made[0]

    factory = WebSockets(admit=OriginPolicy(origins=[], subprotocols=["entobot.v1"]), make=make, timers=NoTimers())
    arrival = Arrival("192.0.2.1", waiting=None, per_address=None, cut=lambda: None)
    protocol: Any = factory(None, State(), {ARRIVAL: arrival})
    transport = MemoryTransport()
    protocol.connection_made(transport)
    protocol.data_received(upgrade_request())
    transport.written = b""
    return protocol, transport, made[0]


def feed(protocol: Any, data: bytes) -> None:
    while data:
        room = protocol.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]


frame_like = st.builds(
    masked,
    st.integers(0, 15),
    st.binary(max_size=140),
    is_final=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
)
streams = st.lists(st.one_of(st.binary(max_size=60), frame_like), max_size=12)


@settings(max_examples=400, deadline=None)
@given(streams, st.integers(1, 50))
def test_random_bytes_never_raise_and_end_in_waiting_or_closing(stream: list[bytes], chunk: int) -> None:
    async def run() -> None:
        protocol, transport, handler = decoder()
        data = b"".join(stream)
        for start in range(0, len(data), chunk):
            feed(protocol, data[start : start + chunk])
        codes = []
        written = transport.written
        while written:
            size = written[1]
            assert size <= 125
            if written[0] == 0x88:
                codes.append(int.from_bytes(written[2:4], "big"))
                assert len(written) == size + 2, "nothing is written after a close frame"
            else:
                assert written[0] == 0x8A
            written = written[size + 2 :]
        assert 1011 not in codes
        assert len(codes) <= 1
        assert transport.is_ended <= (len(codes) == 1)
        for text in handler.values("text"):
            text.decode()
        protocol.connection_lost(None)
        assert len(handler.values("closed")) == 1

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 300))
def test_good_messages_arrive_whole_however_tcp_cut_them(payloads: list[bytes], chunk: int) -> None:
    async def run() -> None:
        protocol, _, handler = decoder()
        texts = [payload.hex().encode() for payload in payloads]
        data = b"".join(masked(1, text) for text in texts)
        for start in range(0, len(data), chunk):
            feed(protocol, data[start : start + chunk])
        assert handler.values("text") == texts
        protocol.connection_lost(None)

    asyncio.run(run())


def test_the_read_buffer_of_a_stranger_stays_small() -> None:
    async def run() -> None:
        protocol, _, handler = decoder()
        feed(protocol, masked(1, b"x" * 250_000))
        assert handler.values("too_large") == [None]
        assert len(protocol.get_buffer(-1)) < 64 * 1024
        protocol.connection_lost(None)

    asyncio.run(run())
