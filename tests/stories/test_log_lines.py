"""Log lines of a real gateway: whose line it is can be told, for requests, connections and runs."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.support.phone import connected
from tests.support.process import GatewayProcess
from tests.support.thing import refused_with

Line = dict[str, Any]


def lines(gateway: GatewayProcess, event: str) -> list[Line]:
    read = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in read if line["event"] == event]


async def test_lines_about_a_connection_bear_its_id_and_device(tmp_path: Path) -> None:
    environment = {"ENTOBOT_LOG__LEVEL": "debug", "ENTOBOT_LOG__FORMAT": "json"}
    gateway = GatewayProcess(tmp_path / "home", environment=environment).start()
    try:
        device = await asyncio.to_thread(gateway.pair, "Phone")
        assert device.credentials is not None
        async with connected(gateway, device) as one, connected(gateway, device):
            await one.say("hello")
            await one.until_event("RUN_FINISHED")
        assert await refused_with(gateway, api_key="ent_key_nothing") == 4500
        gateway.stop()
    finally:
        gateway.close()
    ready, closed = lines(gateway, "connection.ready"), lines(gateway, "connection.closed")
    assert [line["device_id"] for line in ready] == [device.credentials.device_id] * 2
    assert [line["connection_id"] for line in ready] == [1, 2]
    assert {line["connection_id"]: line["code"] for line in closed} == {1: 1000, 2: 1000, 3: 4500}
    (refused,) = [line for line in lines(gateway, "refused") if line["reason"] == "connection"]
    assert (refused["connection_id"], "device_id" in refused, "request_id" in refused) == (3, False, False)
    assert all("connection_id" not in line for line in lines(gateway, "request"))
