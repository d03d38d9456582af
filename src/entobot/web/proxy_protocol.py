"""The PROXY protocol, version 2 (HAProxy's specification, §2.2): who is behind a proxy, told before TLS begins.

Version 1 is text of no fixed length and is refused. What is left after the header belongs to the next protocol and
is not touched.
"""

import asyncio
import ipaddress
import socket

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PREFIX_BYTES = 16
MAX_REST_BYTES = 2048
"""Addresses take 12 or 36 bytes; the rest is TLVs (certificate names, …), which are read and forgotten."""
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and over IPv6. Anything else names no address that could be limited, so it is refused."""


class HeaderRefused(Exception):  # noqa: N818  reads as what happened
    """What came is no PROXY header, or one that is not taken. The text is for the operator's log."""


def rest_bytes(prefix: bytes) -> int:
    """How many bytes follow the first 16. Raises HeaderRefused."""
    if prefix[:12] != SIGNATURE:
        version = "version 1; use version 2" if prefix.startswith(b"PROXY ") else "missing"
        raise HeaderRefused(f"the PROXY header is {version}")
    if prefix[12] not in (_LOCAL, _PROXY):
        raise HeaderRefused("the PROXY header has an unknown version or command")
    size = int.from_bytes(prefix[14:16], "big")
    if size > MAX_REST_BYTES:
        raise HeaderRefused(f"the PROXY header has more than {MAX_REST_BYTES} bytes")
    return size


def source_address(prefix: bytes, rest: bytes) -> str | None:
    """The caller's address; None for a connection of the proxy's own (health checks). Raises HeaderRefused."""
    if prefix[12] == _LOCAL:
        return None
    size = _ADDRESS_BYTES.get(prefix[13])
    if size is None or len(rest) < 2 * size + 4:
        raise HeaderRefused("the PROXY header names no TCP address")
    source = ipaddress.ip_address(rest[:size])
    mapped = source.ipv4_mapped if isinstance(source, ipaddress.IPv6Address) else None
    return str(mapped or source)


async def read_source(connection: socket.socket) -> str | None:
    """Read exactly the header off a non-blocking socket; the answer of `source_address`. No deadline of its own.

    Raises HeaderRefused, also when the connection ends early, and OSError.
    """
    prefix = await _exactly(connection, PREFIX_BYTES)
    return source_address(prefix, await _exactly(connection, rest_bytes(prefix)))


async def _exactly(connection: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(connection, count - len(data))
        if not more:
            raise HeaderRefused("the connection ended within the PROXY header")
        data += more
    return data
