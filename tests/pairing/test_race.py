"""Two processes on one database."""

import asyncio
import json
import sys
from pathlib import Path

from entobot.core.errors import Code
from entobot.pairing.model import State
from tests.pairing.gatehouse import ADDRESS, Gatehouse
from tests.support.stores import for_child

ON_EVERY_STORE = True
EACH = 25


async def test_of_fifty_claims_from_two_processes_exactly_one_wins(gate: Gatehouse, tmp_path: Path) -> None:
    created = await gate.invite()
    assert created.secret is not None
    racers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.pairing.race_process", str(tmp_path), created.invite.invite_id),
            *(created.secret, str(EACH), f"racer {number}", str(gate.now_ms)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": "src:.", **for_child(tmp_path)},
        )
        for number in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"go\n")
    outputs = [await racer.communicate() for racer in racers]
    answers: list[dict[str, str]] = [answer for output, _ in outputs for answer in json.loads(output)]
    winners = [answer for answer in answers if "claim_id" in answer]
    assert len(answers) == 2 * EACH
    assert len(winners) == 1
    assert [answer for answer in answers if answer not in winners] == [{"code": Code.INVITE_USED}] * (2 * EACH - 1)
    invite = await gate.look(created)
    assert invite.state is State.CLAIMED
    assert invite.claim is not None
    assert {"claim_id": invite.claim.claim_id, "thumbprint": invite.claim.thumbprint} == winners[0]
    await gate.pairing.refuse_if_blocked(ADDRESS)  # all came from there, and losing is no failure
