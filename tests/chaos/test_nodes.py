"""Two nodes on one PostgreSQL: a node, the store or the bus is killed under load, and every promise holds."""

import asyncio
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from entobot.client.history import report
from tests.rigs.campaign import Campaign
from tests.rigs.nodes import nats_cluster, two_nodes
from tests.rigs.storm import Storm
from tests.support.operator import Operator
from tests.support.postgres import postgres_server


@pytest.mark.parametrize("bus", ["postgres", "nats"])
@pytest.mark.parametrize("rounds", [pytest.param(1, id="short"), pytest.param(20, id="long", marks=pytest.mark.chaos)])
async def test_killing_a_node_the_store_or_the_bus_loses_repeats_and_reorders_nothing(
    tmp_path: Path, campaign: Campaign, rounds: int, bus: str
) -> None:
    with ExitStack() as stack:
        store = stack.enter_context(postgres_server())
        settings = {"ENTOBOT_STORAGE__URL": store.url(store.furnished_database())}
        kinds: list[list[Any]] = [[store]]
        if bus == "nats":
            servers = stack.enter_context(nats_cluster(tmp_path))
            settings["ENTOBOT_BUS__URL"] = ",".join(server.url for server in servers)
            kinds.append(servers)
        async with two_nodes(tmp_path, settings) as there:
            kinds.append(there.nodes)
            dice = campaign.random
            order = chain.from_iterable(dice.sample(kinds, len(kinds)) for _ in range(rounds))

            async def strike() -> None:
                part = dice.choice(next(order))
                await asyncio.to_thread(part.kill)
                await asyncio.to_thread(part.start)

            storm = Storm(campaign, tmp_path, Operator(there.nodes[0]), rounds * len(kinds), each=4)
            violations = await storm.run(strike)
            assert violations == [], report(violations)
            campaign.settle()
