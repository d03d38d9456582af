"""`GET /api/ready` of gateways that really lose their store, their bus or their tables."""

import asyncio
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.storage.migrations import HEAD
from tests.support.nats import NatsServer
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.process import GENEROUS_S, GatewayProcess


async def test_a_store_that_hangs_is_noticed_told_to_who_may_know_and_forgotten_when_it_answers(
    gateway: GatewayProcess,
) -> None:
    from entobot.client.local import local_http

    with gateway.http() as strangers, local_http(gateway.home / "gateway.sock") as local:

        def ask(http: httpx.Client) -> httpx.Response:
            return http.get("/api/ready")

        well = await asyncio.to_thread(ask, local)
        assert (well.status_code, well.json()["status"]) == (200, "ready")
        assert {check["name"] for check in well.json()["checks"]} >= {"accepting", "listener", "storage", "worker"}
        with closing(sqlite3.connect(gateway.home / "entobot.db", isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(2.1)  # the answer before is kept for 2 s
            for http, told in ((strangers, None), (local, "storage: the store does not answer")):
                answer = await asyncio.to_thread(ask, http)
                assert answer.status_code == 503
                if told is None:
                    assert answer.json() == {"status": "not_ready"}
                else:
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert told in answer.json()["detail"]
            found = await asyncio.to_thread(gateway.cli, "doctor")
            assert "the store does not answer" in found.stdout
            blocker.execute("ROLLBACK")
        async with asyncio.timeout(GENEROUS_S):
            while (await asyncio.to_thread(ask, local)).status_code != 200:  # noqa: ASYNC110  another process's state
                await asyncio.sleep(0.2)
    assert Operator(gateway).query("SELECT COUNT(*) FROM command_results") == [(0,)]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Of one test alone: it is stopped."""
    with postgres_server() as server:
        yield server


Answer = tuple[int, dict[str, Any]]


async def ready(node: GatewayProcess) -> Answer:
    """What the local socket is told."""
    from entobot.client.local import local_http

    def ask() -> Answer:
        with local_http(node.home / "gateway.sock") as local:
            answer = local.get("/api/ready")
            return answer.status_code, answer.json()

    return await asyncio.to_thread(ask)


async def until_ready_says(node: GatewayProcess, status: int, said: str) -> dict[str, Any]:
    """The body once `said` stands in what is told; every answer until then must be a whole one."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            code, body = await ready(node)
            assert (code == 200) == (body.get("status") in ("ready", "degraded"))
            if code == status and said in f"{body.get('status')} {body.get('detail')}":
                return body
            await asyncio.sleep(0.1)


def check_of(body: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in body["checks"] if check["name"] == name)


async def test_without_its_bus_a_node_is_degraded_and_serves_and_without_its_store_it_is_not_ready(
    tmp_path: Path, server: PostgresServer
) -> None:
    nats = NatsServer(tmp_path).start()
    environment = {"ENTOBOT_STORAGE__URL": server.url(server.furnished_database()), "ENTOBOT_BUS__URL": nats.url}
    node = GatewayProcess(tmp_path / "home", environment=environment).start()
    try:
        assert (await ready(node))[1]["status"] == "ready"
        device = await asyncio.to_thread(node.pair, "Phone")

        nats.kill()
        first = await until_ready_says(node, 200, "Degraded: bus: nats at 127.0.0.1")
        async with connected(node, device) as phone:
            await phone.say("still served")
            await phone.until_event("RUN_FINISHED")
        await asyncio.sleep(0.2)  # an age in tenths of seconds
        later = check_of((await ready(node))[1], "bus")
        assert (later["ok"], later["for_s"] > check_of(first, "bus")["for_s"]) == (False, True)
        assert "Degraded" not in str(node.http().get("/api/ready").json()), "strangers are told whether, not why"
        found = await asyncio.to_thread(node.cli, "doctor")
        assert re.search(r"nats at 127\.0\.0\.1.* For \d+ s\.", found.stdout), found.stdout
        nats.start()
        assert check_of(await until_ready_says(node, 200, "ready"), "bus").get("for_s") is None

        server.stop()
        body = await until_ready_says(node, 503, "storage: the database cannot be reached")
        assert check_of(body, "storage")["for_s"] >= 0
        assert (await ready(node))[0] == 503
        server.start()
        await until_ready_says(node, 200, "ready")
    finally:
        node.close()
        nats.kill()


async def test_a_node_whose_tables_wait_for_a_migration_is_not_ready(tmp_path: Path, postgres: PostgresServer) -> None:
    name = postgres.new_database()
    node = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_STORAGE__URL": postgres.url(name)}).start()
    try:
        assert (await ready(node))[0] == 200
        postgres.execute("UPDATE alembic_version SET version_num = '0001'", database=name)  # as a restore would
        await until_ready_says(node, 503, "storage: the tables are of version 0001")
        postgres.execute(f"UPDATE alembic_version SET version_num = '{HEAD}'", database=name)
        await until_ready_says(node, 200, "ready")
    finally:
        node.close()


async def test_a_node_that_drains_says_so_while_it_still_serves(tmp_path: Path) -> None:
    node = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_GATEWAY__DRAIN_PAUSE": "60"}).start()
    try:
        device = await asyncio.to_thread(node.pair, "Phone")
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
        body = await until_ready_says(node, 503, "accepting: draining")
        assert (body["code"], body["retry"]) == ("draining", True)
        async with connected(node, device) as phone:
            await phone.say("it still serves")
    finally:
        node.close()
