"""Buses of several nodes in one process, over a real server, some of them through a proxy that can be cut."""

import asyncio
from collections.abc import Callable

from entobot.bus.bus_nats import nats_bus
from entobot.bus.bus_postgres import postgres_bus
from entobot.bus.remote import RemoteBus
from entobot.bus.sealing import Seal
from entobot.core.secrets import SystemEntropy, random_secret
from tests.rigs.fault_proxy import FaultProxy
from tests.support.nats import NatsServer
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S

KEY = b"k" * 32


class Nodes:
    """`make(port, node_id, seal)` builds the bus of one node that reaches the server at a port."""

    def __init__(self, port: int, make: Callable[[int, str, Seal], RemoteBus]) -> None:
        self._port = port
        self._make = make
        self._proxy = FaultProxy(("127.0.0.1", port))
        self._is_started = False
        self._buses: list[RemoteBus] = []

    async def open(self, *, key: bytes = KEY, through_proxy: bool = False) -> RemoteBus:
        if not self._is_started:
            self._is_started = True
            await self._proxy.start()
        port = self._proxy.port if through_proxy else self._port
        node_id = random_secret(SystemEntropy())  # of former tests, batches may still travel
        bus = self._make(port, node_id, Seal(key, SystemEntropy()))
        self._buses.append(bus)
        await bus.start()
        return bus

    def cut(self) -> None:
        self._proxy.faults.is_refusing = True
        self._proxy.reset()

    def mend(self) -> None:
        self._proxy.faults.is_refusing = False

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(GENEROUS_S):
            while not condition():  # noqa: ASYNC110  a connection has no event to wait for
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for bus in self._buses:
            await bus.stop()
        if self._is_started:
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
