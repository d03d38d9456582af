"""The least that other libraries need to do our job, as servers: `python -m benchmarks.reference_servers KIND [CERT KEY]`.

They echo a frame to its sender; a frame that begins with `!` goes to everybody. They print their port and serve until
they are stopped. No identity, no order, no store: what they cost is the floor under what we cost.
"""

import asyncio
import ssl
import sys
from typing import Any

import picows
import uvloop
import websockets
from websockets.asyncio.server import ServerConnection, broadcast, serve


class BarePicows(picows.WSListener):
    everybody: "set[picows.WSTransport]" = set()  # noqa: RUF012  shared on purpose: it is the list of connections

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.everybody.add(transport)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.everybody.discard(transport)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if payload.startswith(b"!"):
            for one in self.everybody:
                one.send(frame.msg_type, payload)
        else:
            transport.send(frame.msg_type, payload)


async def serve_picows(context: ssl.SSLContext | None) -> int:
    server = await picows.ws_create_server(  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
        lambda _request: BarePicows(),
        "127.0.0.1",
        0,
        ssl=context,
        enable_auto_ping=False,
        read_buffer_init_size=2048,
        backlog=4096,
    )
    await server.start_serving()
    return server.sockets[0].getsockname()[1]


async def serve_websockets(context: ssl.SSLContext | None) -> int:
    everybody: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        everybody.add(connection)
        try:
            async for message in connection:
                start = message[:1]
                if start in ("!", b"!"):
                    broadcast(everybody, message)
                else:
                    await connection.send(message)
        except websockets.ConnectionClosed:
            pass
        finally:
            everybody.discard(connection)

    server = await serve(
        handle, "127.0.0.1", 0, ssl=context, compression=None, ping_interval=None, backlog=4096, open_timeout=60
    )
    return next(iter(server.sockets)).getsockname()[1]


KINDS: dict[str, Any] = {"picows": serve_picows, "websockets": serve_websockets}


async def main(kind: str, *files: str) -> None:
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    print(await KINDS[kind](context), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
