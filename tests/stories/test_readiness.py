"""`GET /api/ready` of a gateway whose store stops answering."""

import asyncio
import sqlite3
from contextlib import closing

import httpx

from tests.support.operator import Operator
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
