"""One WebSocket: frames in from picows, messages out to the handler; every byte to the wire goes through its queue."""

import asyncio
import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from picows import WSFrame, WSListener, WSTransport

from entobot.core.rates import RATES, Allowance, Rate
from entobot.gateway import frames
from entobot.gateway.frames import CloseCode, FrameError, Opcode, Reassembler
from entobot.gateway.link import LinkHandler, Timer, Timers

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES_BEFORE_AUTHENTICATION = 8 * 1024
MAX_MESSAGE_BYTES = 256 * 1024
MAX_BUFFERED_BYTES = 1024 * 1024
CLOSE_TIMEOUT_S = 5.0
_UNCHECKED_BYTES = MAX_BUFFERED_BYTES // 2


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()  # our close frame is out, the peer's is awaited
    FINISHED = auto()  # nothing more is read or written


_OPEN = _State.OPEN
_TEXT = Opcode.TEXT.value


def _not_yet(_payload: bytes) -> None:
    """No handler: the link is being opened, or is gone."""


class Flusher:
    """One call a loop tick writes out every link that something was queued for."""

    def __init__(self) -> None:
        self._waiting: list[WebSocketLink] = []

    def add(self, link: "WebSocketLink") -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        self._waiting.append(link)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        for link in waiting:
            link.flush()


class WebSocketLink(WSListener):
    """`Link`, and the receiver of picows' frames."""

    __slots__ = (
        "_close_code", "_close_timer", "_flusher", "_handler", "_is_flushing", "_max_bytes", "_on_text",
        "_pings", "_pings_idle_at", "_queue", "_queued_bytes", "_reassembler", "_state", "_timers", "_transport",
        "is_deaf", "is_writable", "max_pending_bytes", "parser_error", "peer", "pending_bytes", "received_bytes",
        "subprotocol",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        flusher: Flusher,
        timers: Timers,
        *,
        peer: str,
        subprotocol: str | None,
        pings: Allowance = RATES[Rate.PINGS].default,
    ) -> None:
        self.peer = peer
        self.subprotocol = subprotocol
        self.is_writable = True
        self.received_bytes = 0
        self._transport = transport
        self._flusher = flusher
        self._timers = timers
        self._handler: LinkHandler | None = None
        self._on_text: Callable[[bytes], None] = _not_yet
        self._state = _State.OPEN
        self.is_deaf = False
        self.parser_error = 0  # a close code: picows parses ahead, so the good frames before it come first
        self.set_max_message_bytes(MAX_MESSAGE_BYTES_BEFORE_AUTHENTICATION)
        self.pending_bytes = 0
        self._reassembler: Reassembler | None = None
        self._pings = pings
        self._pings_idle_at = 0.0
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._is_flushing = True
        self._close_code: int = CloseCode.ABNORMAL
        self._close_timer: Timer | None = None

    # what the layer above calls

    @property
    def buffered_bytes(self) -> int:
        return self._queued_bytes + self._transport.get_write_buffer_size()

    def set_max_message_bytes(self, limit: int) -> None:
        if not 0 < limit <= MAX_MESSAGE_BYTES:
            raise ValueError(f"a message may have 1 to {MAX_MESSAGE_BYTES} bytes")
        self._max_bytes = limit
        self.max_pending_bytes = limit + frames.masked_header_bytes(limit)

    def send(self, payload: bytes) -> None:
        if self._state is _OPEN:
            self._enqueue(frames.text_frame(payload))

    def send_frame(self, frame: bytes) -> None:
        if self._state is _State.OPEN:
            self._enqueue(frame)

    def ping(self) -> None:
        if self._state is _State.OPEN:
            self._enqueue(frames.PING_FRAME)

    def close(self, code: int, reason: str = "") -> None:
        if self._state is not _State.OPEN:
            return
        self._enqueue(frames.close_frame(code, reason))
        if self._state is not _State.OPEN:  # the close frame was the drop too much
            return
        self._state = _State.CLOSING
        self._close_code = code
        self._close_timer = self._timers.after(CLOSE_TIMEOUT_S, self.abort)
        if self.is_deaf:
            self._hang_up()

    def pause(self, *, is_paused: bool) -> None:
        """Whether to read on; a peer that goes on sending waits in its own kernel."""
        if self._state is not _State.OPEN or self._transport.is_closing():
            return
        if is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the TCP connection now; what was queued is lost."""
        self._state = _State.FINISHED
        self.is_deaf = True
        self._drop_queue()
        self._transport.abort()

    # writing

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued_bytes += len(data)
        # while the transport takes more, its own buffer is below its high-water mark and need not be asked
        if (self._queued_bytes > _UNCHECKED_BYTES or not self.is_writable) and self.buffered_bytes > MAX_BUFFERED_BYTES:
            log.info("link cut: the peer does not read")
            self.abort()
        elif not self._is_flushing:
            self._is_flushing = True
            self._flusher.add(self)

    def flush(self) -> None:
        self._is_flushing = False
        queue = self._queue
        if queue:
            data = queue[0] if len(queue) == 1 else b"".join(queue)
            queue.clear()
            self._queued_bytes = 0
            self._transport.write(data)

    def _drop_queue(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0

    def _hang_up(self) -> None:
        """Let the written bytes arrive, then end.

        While unread data may be on its way, closing at once would reset the connection and lose our close frame: plain
        TCP is half-closed and what still comes is thrown away until the peer ends or the close timer cuts.
        """
        has_failed, self.is_deaf = self.is_deaf, True
        self._state = _State.FINISHED
        self.flush()
        if self._close_timer is None:
            self._close_timer = self._timers.after(CLOSE_TIMEOUT_S, self.abort)
        if has_failed and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # reading

    def begin(self, handler: LinkHandler, response: bytes) -> None:
        self._handler = handler
        self._on_text = handler.text
        self._enqueue(response)
        self._guarded(handler.opened)
        self.flush()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        del transport
        if frame.last_in_buffer:
            self.pending_bytes = frame.tail_size
        if self.is_deaf:
            return
        opcode: Any = frame.msg_type
        try:
            if (
                opcode == _TEXT
                and frame.fin
                and self._reassembler is None
                and frame.payload_size <= self._max_bytes
                and self._state is _OPEN
                and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            ):
                payload = frame.get_payload_as_bytes()
                if not payload.isascii():
                    frames.require_utf8(payload)
                self._on_text(payload)
            else:
                self._receive(opcode, frame)
        except FrameError as error:
            self._fail(error.code, error.reason)
        except Exception:
            log.exception("link closed: its handler failed")
            self.close(CloseCode.INTERNAL_ERROR)

    def _receive(self, opcode: int, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        if opcode >= Opcode.CLOSE:
            self._receive_control(opcode, frame.get_payload_as_bytes())
        elif self._state is _State.OPEN:
            self._receive_fragment(opcode, frame)

    def _receive_fragment(self, opcode: int, frame: WSFrame) -> None:
        if self._reassembler is None:
            self._reassembler = Reassembler()
        try:
            message = self._reassembler.feed(
                opcode, frame.get_payload_as_bytes(), is_final=bool(frame.fin), max_bytes=self._max_bytes
            )
        except FrameError as error:
            if error.code != CloseCode.TOO_BIG:
                raise
            self._refuse_size()
            return
        if self._reassembler.is_idle:
            self._reassembler = None
        if message is None or self._handler is None:
            return
        if message.opcode is Opcode.TEXT:
            self._handler.text(message.payload)
        else:
            self.receive_binary(message.payload)

    def receive_binary(self, payload: bytes) -> None:
        """Binary messages have no meaning in the protocol; the payload is for subclasses in conformance tests."""
        del payload
        if self._handler is not None:
            self._handler.binary()

    def _receive_control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.CLOSE:
            self._receive_close(payload)
        elif self._state is not _State.OPEN or self._handler is None:
            return
        elif (wait_s := self._pings_over()) > 0:
            self._handler.over_limit(wait_s)
        elif opcode == Opcode.PING:
            self._enqueue(frames.frame(Opcode.PONG, payload))
        else:
            self._handler.pong()

    def _pings_over(self) -> float:
        """Seconds to wait, 0 within the limit. No handler sees every control frame; one number does (GCRA)."""
        now_s = asyncio.get_running_loop().time()
        interval_s = 1 / self._pings.per_second
        idle_at = max(self._pings_idle_at, now_s)
        self._pings_idle_at = idle_at + interval_s
        return max(0.0, idle_at - now_s - (self._pings.burst - 1) * interval_s)

    def _receive_close(self, payload: bytes) -> None:
        code = frames.peer_close_code(payload)
        if self._state is _State.OPEN:
            self._close_code = code
            self._enqueue(frames.close_frame(code))
        self._hang_up()

    def _refuse_size(self) -> None:
        self.is_deaf = True
        if self._state is _State.OPEN and self._handler is not None:
            self._guarded(self._handler.too_large)
        self._fail(CloseCode.TOO_BIG, "message too large")

    def _fail(self, code: int, reason: str) -> None:
        """Say why and stop listening (RFC 6455 §7.1.7): after an error the peer's bytes mean nothing."""
        self.is_deaf = True
        if self._state is _State.OPEN:
            self.close(code, reason)
        elif self._state is _State.CLOSING:
            self._hang_up()

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            log.exception("link closed: its handler failed")
            self.close(CloseCode.INTERNAL_ERROR)

    # what the protocol below calls

    def give_up_parsing(self) -> None:
        """The parser met an error, or holds more of one message than the cap allows."""
        if self.parser_error not in (0, CloseCode.TOO_BIG):
            self._fail(self.parser_error, "protocol error")
        else:
            self._refuse_size()

    def hold_flush(self) -> None:
        """What is sent from here to the next `flush` waits for it, without a loop tick."""
        self._is_flushing = True

    def set_writable(self, *, is_writable: bool) -> None:
        self.is_writable = is_writable
        if is_writable and self._handler is not None and self._state is _State.OPEN:
            self._guarded(self._handler.writable)

    def lost(self) -> None:
        self._state = _State.FINISHED
        self.is_deaf = True
        self._on_text = _not_yet
        self._drop_queue()
        if self._close_timer is not None:
            self._close_timer.cancel()
        handler, self._handler = self._handler, None
        if handler is not None:
            try:
                handler.closed(int(self._close_code))
            except Exception:
                log.exception("a link's handler failed after the end")
