"""Buses of several nodes in one process, over a real server, some of them through a proxy that can be cut."""

import asyncio
from collections.abc import Callable

from entobot.bus.bus_nats import nats_bus
from entobot.bus.bus_postgres import postgres_bus
from entobot.bus.remote import RemoteBus
from entobot.bus.sealing import Seal
from entobot.core.secrets import SystemEntropy, random_secret
from tests.support.nats import NatsServer
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S, free_port

KEY = b"k" * 32


class CutProxy:
    """A TCP proxy on this loop. While it is cut, nobody gets in and whoever was in is out."""

    def __init__(self, to_port: int) -> None:
        self.port = free_port()
        self.is_cut = False
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        self.is_cut = True
        for writer in tuple(self._open):
            writer.transport.abort()

    async def stop(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.transport.abort()


class Nodes:
    """`make(port, node_id, seal)` builds the bus of one node that reaches the server at a port."""

    def __init__(self, port: int, make: Callable[[int, str, Seal], RemoteBus]) -> None:
        self._port = port
        self._make = make
        self._proxy = CutProxy(port)
        self._buses: list[RemoteBus] = []

    async def open(self, *, key: bytes = KEY, through_proxy: bool = False) -> RemoteBus:
        await self._proxy.start()
        port = self._proxy.port if through_proxy else self._port
        node_id = random_secret(SystemEntropy())  # of former tests, batches may still travel
        bus = self._make(port, node_id, Seal(key, SystemEntropy()))
        self._buses.append(bus)
        await bus.start()
        return bus

    def cut(self) -> None:
        self._proxy.cut()

    def mend(self) -> None:
        self._proxy.is_cut = False

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(GENEROUS_S):
            while not condition():  # noqa: ASYNC110  a connection has no event to wait for
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for bus in self._buses:
            await bus.stop()
        await self._proxy.stop()


def nats_nodes(server: NatsServer) -> Nodes:
    return Nodes(
        server.port,
        lambda port, node_id, seal: nats_bus(
            f"nats://127.0.0.1:{port}", subject="entobot.test", node_id=node_id, seal=seal, entropy=SystemEntropy()
        ),
    )


def postgres_nodes(server: PostgresServer) -> Nodes:
    return Nodes(
        server.port,
        lambda port, node_id, seal: postgres_bus(
            server.url(port=port), channel="entobot_test", node_id=node_id, seal=seal, entropy=SystemEntropy()
        ),
    )
