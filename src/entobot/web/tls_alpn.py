"""The TLS side of tls-alpn-01 (RFC 8737): who asks for it is known before the handshake, from the first bytes.

Python's ssl tells a server nothing of ALPN before it has chosen a certificate, so the ClientHello is looked at where it
waits in the socket, and left there.
"""

import asyncio
import socket
import ssl
import struct
from typing import cast

from entobot.web.tls import TlsFiles, server_context

PROTOCOL = "acme-tls/1"
_OFFERED = bytes((len(PROTOCOL),)) + PROTOCOL.encode("ascii")
_RECORD_HEAD = 5
_HANDSHAKE = 0x16
_MAX_RECORD_BYTES = 1 << 14


def challenge_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises OSError or ssl.SSLError."""
    context = server_context(files)
    context.set_alpn_protocols([PROTOCOL])
    return context


async def asks_for_challenge(connection: socket.socket) -> bool:
    """Whether the ClientHello that arrives offers `acme-tls/1`. Nothing is taken from the socket. Raises OSError."""
    head = await _peek(connection, _RECORD_HEAD)
    if len(head) < _RECORD_HEAD or head[0] != _HANDSHAKE:
        return False
    (length,) = struct.unpack("!H", head[3:5])
    return _OFFERED in await _peek(connection, _RECORD_HEAD + min(length, _MAX_RECORD_BYTES))


async def _peek(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes, fewer where the peer has ended."""
    loop = asyncio.get_running_loop()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)  # not readable before
    try:
        readable = loop.create_future()
        loop.add_reader(connection, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(connection)
        return connection.recv(size, socket.MSG_PEEK)
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


class Goodbye(asyncio.Protocol):
    """Ends the connection as soon as the handshake is done."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).close()
