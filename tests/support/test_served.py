"""The server of tests leaves no connection behind, whatever it was doing when it ended."""

import asyncio
import gc
import socket
import ssl
import warnings

import pytest

from tests.support.served import Served

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize("tls", [None, CONTEXT], ids=["plain", "in the handshake"])
@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_is_ended_however_far_it_has_come(turns: int, tls: ssl.SSLContext | None) -> None:
    async def never_done(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 10_000_000)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        server = Served(never_done, tls=tls)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.stop()
            client.settimeout(20.0)
            ended = 0
            try:
                while client.recv(1 << 20):
                    ended += 1
            except ConnectionError:
                pass
        del server
        gc.collect()
    assert [str(one.message) for one in told] == []


async def test_what_was_written_before_the_end_of_a_connection_arrives() -> None:
    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 3_000_000)

    async with Served(tell) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert len(await reader.read(-1)) == 3_000_000
        writer.close()
        await writer.wait_closed()
