"""One of several processes that claim the same invite at the same moment.

Arguments: folder, invite id, secret, number of claims, seed, present time in ms. Says "ready", waits for a line, claims
with a new key each, and prints what came of it as JSON.
"""

import asyncio
import json
import sys
from pathlib import Path

from entobot.core.errors import Problem
from entobot.pairing.requests import ClaimRequest
from tests.pairing.gatehouse import ADDRESS, Gatehouse
from tests.pairing.phones import NewPhone
from tests.support.time import ManualClock, SeededEntropy


async def main() -> None:
    folder, invite_id, secret, count, seed, now_ms = sys.argv[1:]
    gate = await Gatehouse.open(Path(folder), ManualClock(int(now_ms)), SeededEntropy(seed))
    requests = [claim(invite_id, secret, gate.now_ms) for _ in range(int(count))]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    answers = await asyncio.gather(*(attempt(gate, request) for request in requests))
    await gate.close()
    sys.stdout.write(json.dumps(answers))


def claim(invite_id: str, secret: str, now_ms: int) -> ClaimRequest:
    phone = NewPhone()
    proof = phone.claim_proof(now_ms, secret, invite_id)
    return phone._request(invite_id=invite_id, secret=secret, proof=proof)


async def attempt(gate: Gatehouse, request: ClaimRequest) -> dict[str, str]:
    try:
        claimed = await gate.pairing.claim_invite(request, ADDRESS)
    except Problem as problem:
        return {"code": problem.code}
    return {"claim_id": claimed.claim_id, "thumbprint": request.public_key.thumbprint}


if __name__ == "__main__":
    asyncio.run(main())
