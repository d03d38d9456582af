"""A WebSocket to a gateway, by picows."""

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import msgspec
import picows

from entobot.client.link import CannotOpen, OnEnd, OnFrame
from entobot.client.returning import NEVER_OPENED, Ended

if TYPE_CHECKING:

    class WSProtocol(asyncio.BufferedProtocol):
        """What picows' compiled class offers and its stubs leave out."""

        def __init__(self, *arguments: object) -> None: ...
        async def wait_until_handshake_complete(self) -> None: ...

else:
    from picows.picows import WSProtocol

log = logging.getLogger(__name__)

NO_STATUS = 1005
SUBPROTOCOL = "entobot.v1"
OPEN_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0
MAX_FRAME_BYTES = 1024 * 1024
SILENCE_S = 45.0
"""A gateway pings every 30 s; after this without a byte it is asked, and given PONG_S to answer."""
PONG_S = 15.0
BUFFER_BYTES = 2048
_encode = msgspec.json.Encoder().encode
_TEXT = picows.WSMsgType.TEXT


class WebSocketLink(picows.WSListener):
    """`Link`."""

    is_http = False

    def __init__(self, on_frame: OnFrame, on_end: OnEnd) -> None:
        self._on_frame = on_frame
        self._on_end: OnEnd | None = on_end
        self._transport: picows.WSTransport | None = None
        self._parts: list[bytes] = []
        self._over = asyncio.get_running_loop().create_future()

    def send(self, frame: dict[str, Any]) -> None:
        if self._transport is not None and self._on_end is not None:
            self._transport.send(_TEXT, _encode(frame))

    def pause_reading(self) -> None:
        """The kernel's buffers fill, then the gateway's: a reader that stopped reading."""
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]  a stream transport has it

    async def close(self) -> None:
        transport = self._transport
        self._on_end = None
        if transport is None:
            return
        transport.send_close(picows.WSCloseCode.OK)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._over), CLOSE_TIMEOUT_S)
        transport.disconnect(graceful=False)

    def abort(self) -> None:
        self._on_end = None
        if self._transport is not None:
            self._transport.underlying_transport.abort()

    async def open(self, url: str, context: ssl.SSLContext | None) -> None:
        """Frames may come before it returns. Raises CannotOpen, ssl.SSLError."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._connect(urlsplit(url), context)
        except ssl.SSLError:
            raise
        except picows.WSHandshakeError as error:
            status = None if error.response is None else error.response.status
            raise CannotOpen(f"no WebSocket: HTTP {status}") from None
        except (OSError, picows.WSError, TimeoutError) as error:
            raise CannotOpen(str(error) or type(error).__name__) from None

    async def _connect(self, url: SplitResult, context: ssl.SSLContext | None) -> None:
        """As `picows.ws_connect`, which leaves its socket open when it is cancelled during the upgrade."""
        protocol = WSProtocol(
            url.netloc,
            url.path,
            True,  # the client's side
            lambda: self,
            log,
            True,  # an exception of ours ends the connection
            OPEN_TIMEOUT_S,
            True,  # pings when nothing comes
            SILENCE_S,
            PONG_S,
            picows.WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # answers pings
            MAX_FRAME_BYTES,
            {"Sec-WebSocket-Protocol": SUBPROTOCOL},
            BUFFER_BYTES,
        )
        loop = asyncio.get_running_loop()
        port = url.port or (443 if context is not None else 80)
        transport, _ = await loop.create_connection(lambda: protocol, url.hostname or "", port, ssl=context)
        try:
            await protocol.wait_until_handshake_complete()
        except BaseException:
            transport.abort()
            raise

    # -- picows

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind == _TEXT and frame.fin:
            self._tell(frame.get_payload_as_bytes())
        elif kind in (_TEXT, picows.WSMsgType.CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                whole = b"".join(self._parts)
                self._parts.clear()
                self._tell(whole)
            elif sum(map(len, self._parts)) > MAX_FRAME_BYTES:
                transport.disconnect()
        elif kind == picows.WSMsgType.CLOSE:
            self._end(Ended(_code(frame), frame.get_close_reason() or ""))
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        del transport
        if not self._over.done():
            self._over.set_result(None)
        self._end(Ended(NEVER_OPENED, "the connection broke"))

    def _tell(self, payload: bytes) -> None:
        if self._on_end is not None:
            self._on_frame(payload)

    def _end(self, ended: Ended) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(ended)


def _code(frame: picows.WSFrame) -> int:
    """Picows knows the registered codes by name and hands out the others as numbers."""
    code: Any = frame.get_close_code()
    return int(getattr(code, "value", code)) or NO_STATUS
