"""Pairing for boards and scripts that hold no key: the same claim and confirmation, then an API key. See docs/protocol.md §8.

Weaker, since whoever reads the API key is the device. Only for invites that allow it; what comes out may chat and
nothing else, for 30 days.
"""

from dataclasses import dataclass, field

from entobot.bus.waiting import Waiting
from entobot.core.clock import Clock
from entobot.core.errors import Problem
from entobot.core.ids import Ids, Prefix
from entobot.pairing import store
from entobot.pairing.claiming import Attempt, Claiming
from entobot.pairing.collecting import Collecting
from entobot.pairing.keys import PairingKeys
from entobot.pairing.model import Claim, DeviceInfo, Reason, State
from entobot.pairing.requests import BearerCredentials, Pending
from entobot.pairing.transitions import Transitions
from entobot.storage.database import Database, Transaction

LOOK_AGAIN_S = 5.0
"""How late the operator's answer is noticed if its doorbell is lost."""


@dataclass(frozen=True, slots=True)
class BearerClaimed:
    """`confirmation_code` is for the claiming device and nowhere else; '' where nobody has to confirm it."""

    claim_id: str
    confirmation_code: str = field(repr=False)
    expires_at_ms: int


class Bearers:
    """Called by the connection that claims, waits and collects; its claim dies with it."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        keys: PairingKeys,
        transitions: Transitions,
        claiming: Claiming,
        collecting: Collecting,
        waiting: Waiting,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._transitions = transitions
        self._claiming = claiming
        self._collecting = collecting
        self._waiting = waiting

    async def claim(self, invite_id: str, secret: str, device: DeviceInfo, address: str) -> BearerClaimed:
        """Spend an invite without a key. Raises what `Pairing.claim_invite` raises, and `forbidden`."""
        now_ms = self._clock.now_ms()
        attempt = Attempt(
            claim=Claim(
                claim_id=self._ids.new(Prefix.CLAIM),
                public_jwk=None,
                thumbprint=None,
                device=device.cleaned(),
                address=address,
                claimed_at_ms=now_ms,
            ),
            proof=None,
            invite_id=invite_id,
            secret=secret,
            code=None,
            reserved_device_id=self._ids.new(Prefix.DEVICE),
        )
        invite = await self._database.write(lambda tx: self._claiming.claim(tx, attempt, now_ms))
        if isinstance(invite, Problem):
            raise invite
        assert invite.claim is not None
        code = self._keys.confirmation_code(invite.claim.claim_id, "")
        return BearerClaimed(invite.claim.claim_id, code, invite.deadline_ms)

    async def collect(self, claim_id: str) -> BearerCredentials:
        """Wait for the operator, then make the device and its key, once. Ends with the claim at the latest.

        Raises Problem: `invite_expired`, `invite_burned`, `pairing_denied`, `invite_not_found`, `invite_used`.
        """
        with self._waiting.turn(claim_id) as turn:
            while True:
                answer = await self._look(claim_id)
                if isinstance(answer, BearerCredentials):
                    return answer
                left_s = (answer.expires_at_ms - self._clock.now_ms()) / 1000
                await turn.wait(min(LOOK_AGAIN_S, left_s))

    async def _look(self, claim_id: str) -> Pending | BearerCredentials:
        now_ms = self._clock.now_ms()
        answer = await self._database.write(lambda tx: self._collecting.collect_bearer(tx, claim_id, now_ms))
        if isinstance(answer, Problem):
            raise answer
        return answer

    async def abandon(self, claim_id: str) -> None:
        """The connection is gone: nobody could collect any more, so nobody has to confirm."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            invite = store.find_by_claim(tx, claim_id)
            if invite is not None and invite.at(now_ms).state in (State.CLAIMED, State.CONFIRMED):
                self._transitions.apply(tx, invite, invite.cancelled(Reason.DEVICE_LEFT, now_ms), now_ms)

        await self._database.write(unit)
