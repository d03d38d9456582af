"""Two gateway processes on one PostgreSQL, made as the manual says, and devices that may go to either."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from entobot.client.device import Device
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S, PROGRAM, GatewayProcess


class Pair:
    """`a` and `b` serve one origin; `b` got its keys by export and join."""

    def __init__(
        self,
        folder: Path,
        server: PostgresServer,
        *,
        bus: str = "",
        port: int | None = None,
        settings: Mapping[str, str] = {},
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.server = server
        self.database = server.furnished_database()
        self._clients: list[httpx.Client] = []
        shared = {
            "ENTOBOT_STORAGE__URL": server.url(self.database, port=port),
            "ENTOBOT_BUS__URL": bus,
            "ENTOBOT_GATEWAY__NAME": "Two",
            **settings,
        }
        self.a = GatewayProcess(folder / "a", environment=shared, program=program)
        shared["ENTOBOT_GATEWAY__PUBLIC_URL"] = self.a.origin
        self.b = GatewayProcess(folder / "b", environment=shared, program=program)
        self.b.origin = self.a.origin
        self._bundle = folder / "bundle"

    def start(self) -> "Pair":
        self.a.start()
        done = self.a.cli("node", "export", str(self._bundle))
        assert done.returncode == 0, done.stderr
        done = self.b.cli("node", "join", str(self._bundle))
        assert done.returncode == 0, done.stderr
        self.b.start()
        return self

    def at(self, device: Device, node: GatewayProcess) -> Device:
        """The same device, talking to one node."""
        client = httpx.Client(base_url=node.address, verify=self.trust(node), timeout=GENEROUS_S)
        self._clients.append(client)
        return replace(device, http=client)

    def trust(self, node: GatewayProcess) -> ssl.SSLContext:
        return node.trust()

    def query(self, sql: str) -> list[Mapping[str, object]]:
        return self.server.execute(sql, database=self.database)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.a.close()
        self.b.close()
        self.server.drop_database(self.database)
