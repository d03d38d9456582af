"""Several people decide through two nodes of one PostgreSQL, at once and across a crash."""

import asyncio
import json
from pathlib import Path
from typing import Any

from entobot.client.device import Device
from entobot.core.errors import Code, Problem
from tests.support.nodes import Pair
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.postgres import PostgresServer

POLICIES = [{"tool": "note", "deciders": ["role:admin"], "quorum": 2}]


def answer(device: Device, asked: dict[str, Any], decision: str) -> str:
    try:
        return device.decide(asked, decision)["state"]
    except Problem as problem:
        return str(problem.code)


async def test_answers_at_once_on_two_nodes_are_counted_once_and_outlive_a_crash(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    settings = {"ENTOBOT_APPROVALS__POLICIES": json.dumps(POLICIES)}
    two = await asyncio.to_thread(Pair(tmp_path, postgres, settings=settings).start)
    try:
        operator = Operator(two.a)
        mine = await asyncio.to_thread(operator.pair, "Mine", user_id=operator.add_user("Asker"))
        admins = [operator.pair(f"Admin {n}", user_id=operator.add_user(f"Admin {n}", "admin")) for n in range(4)]
        at = [two.at(admin, two.a if n % 2 else two.b) for n, admin in enumerate(admins)]
        async with connected(two.a, mine) as phone:
            await phone.say("!note hire Dee")
            asked = (await phone.until_event("approval.requested"))["data"]
            said = await asyncio.gather(*(asyncio.to_thread(answer, one, asked, "approve") for one in at))
            late = str(Code.APPROVAL_ALREADY_DECIDED)
            assert sorted(said) == sorted(["approved", "pending", late, late])
            await phone.until_event("RUN_FINISHED")
            assert len(phone.events("TOOL_CALL_RESULT")) == len(phone.events("approval.decided")) == 1

            await phone.say("!note hire Eli")
            asked = (await phone.until_event("approval.requested"))["data"]
            assert await asyncio.to_thread(answer, at[1], asked, "approve") == "pending"
        await asyncio.to_thread(two.a.kill)
        assert await asyncio.to_thread(answer, at[0], asked, "approve") == "approved"
        async with connected(
            two.b, two.at(mine, two.b), {"stream": phone.frames[0]["stream"], "after": phone.seen}
        ) as there:
            await there.until_event("RUN_FINISHED")
            assert [one["data"]["content"] for one in there.events("message.created")] == ["noted: hire Eli"]
    finally:
        await asyncio.to_thread(two.close)
