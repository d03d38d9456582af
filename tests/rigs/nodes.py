"""Two gateways on one PostgreSQL behind one address, and NATS servers that stand for one another."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.fault_proxy import FaultProxy
from tests.rigs.storm import ROOMY
from tests.support.nats import NatsServer
from tests.support.process import GatewayProcess, free_port


@dataclass(frozen=True, slots=True)
class Nodes:
    """`front` is where devices connect; it takes whichever node answers."""

    nodes: list[GatewayProcess]
    front: FaultProxy


@asynccontextmanager
async def two_nodes(folder: Path, settings: Mapping[str, str]) -> AsyncGenerator[Nodes]:
    """Started, with the same keys and certificate."""
    ports = [free_port(), free_port()]
    async with FaultProxy(("127.0.0.1", ports[0]), others=[("127.0.0.1", ports[1])]) as front:
        origin = f"https://127.0.0.1:{front.port}"
        environment = {**ROOMY, **settings, "ENTOBOT_GATEWAY__PUBLIC_URL": origin}
        nodes = [
            GatewayProcess(
                folder / f"node-{number}", port=port, environment=environment | {"ENTOBOT_MQTT__PORT": str(free_port())}
            )
            for number, port in enumerate(ports)
        ]
        for node in nodes:
            node.origin = origin
        try:
            await asyncio.to_thread(nodes[0].start)
            nodes[1].home.mkdir(mode=0o700)
            for name in ("keys", "tls"):
                await asyncio.to_thread(shutil.copytree, nodes[0].home / name, nodes[1].home / name)
            await asyncio.to_thread(nodes[1].start)
            yield Nodes(nodes, front)
        finally:
            for node in nodes:
                await asyncio.to_thread(node.close)


@contextmanager
def nats_cluster(folder: Path, size: int = 3) -> Generator[list[NatsServer]]:
    """Started; each knows the others and passes messages on."""
    doors = [free_port() for _ in range(size)]
    routes = ", ".join(f'"nats://127.0.0.1:{door}"' for door in doors)
    servers = [
        NatsServer(folder, extra=f"cluster {{ name: C1, listen: 127.0.0.1:{door}, routes: [{routes}] }}")
        for door in doors
    ]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.kill()
