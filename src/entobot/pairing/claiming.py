"""The one place where an invite is claimed: everything is checked and done in one unit of work."""

from dataclasses import dataclass

from entobot.core.errors import Problem
from entobot.core.secrets import same
from entobot.devices.dpop import Proof
from entobot.devices.service import Devices
from entobot.pairing import store
from entobot.pairing.keys import PairingKeys
from entobot.pairing.model import Claim, Confirm, Invite, Kind, State
from entobot.pairing.transitions import Transitions, invite_not_found, key_known
from entobot.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim as it came in. `proof` is a Problem when it does not stand; then it only counts as a failure. It is None
    for a bearer claim, which has no key to prove.

    `reserved_device_id` is used when the invite needs no confirmation.
    """

    claim: Claim
    proof: Proof | Problem | None
    invite_id: str | None
    secret: str | None
    code: str | None
    reserved_device_id: str


class Claiming:
    def __init__(self, transitions: Transitions, devices: Devices, keys: PairingKeys) -> None:
        self._transitions = transitions
        self._devices = devices
        self._keys = keys

    def claim(self, tx: Transaction, attempt: Attempt, now_ms: int) -> Invite | Problem:
        """The invite that now is this device's. Problems are returned: what was counted must stay recorded."""
        blocked = self._transitions.block_of(tx, attempt.claim.address, now_ms)
        if blocked is not None:
            return blocked
        found = self._find(tx, attempt)
        invite = None if found is None else self._transitions.settle(tx, found, now_ms)
        if isinstance(attempt.proof, Problem):
            return self._failed(tx, attempt, invite, attempt.proof, now_ms)
        if invite is None:
            if attempt.code is not None:
                self._count_wrong_code(tx, now_ms)
            return self._failed(tx, attempt, None, invite_not_found(), now_ms)
        return self._claim_found(tx, attempt, invite, attempt.proof, now_ms)

    def _claim_found(
        self, tx: Transaction, attempt: Attempt, invite: Invite, proof: Proof | None, now_ms: int
    ) -> Invite | Problem:
        holder = None if invite.claim is None else invite.claim.thumbprint
        if proof is not None and holder is not None and same(holder, proof.thumbprint):
            return self._repeat(tx, attempt, invite, proof, now_ms)
        if invite.state is not State.OPEN:
            if invite.claim is not None:
                self._transitions.contest(tx, invite, attempt.claim.address, now_ms)
            return invite.refusal()
        if not self._is_right(attempt, invite):
            return self._failed(tx, attempt, invite, invite_not_found(), now_ms)
        return self._win(tx, attempt, invite, proof, now_ms)

    def _find(self, tx: Transaction, attempt: Attempt) -> Invite | None:
        if attempt.code is not None:
            return store.find_by_mark(tx, self._keys.mark_of_code(attempt.code))
        return None if attempt.invite_id is None else store.find_invite(tx, attempt.invite_id)

    def _is_right(self, attempt: Attempt, invite: Invite) -> bool:
        assert invite.secret_digest is not None
        if attempt.code is not None and invite.kind is Kind.SMS:  # found by its code, which is a second way to the link
            return invite.takes_codes
        if attempt.code is not None:
            return same(invite.secret_digest, self._keys.digest_of_code(attempt.code))
        assert attempt.secret is not None
        return same(invite.secret_digest, self._keys.digest_of_secret(attempt.secret))

    def _win(
        self, tx: Transaction, attempt: Attempt, invite: Invite, proof: Proof | None, now_ms: int
    ) -> Invite | Problem:
        refused = None if proof is None else self._refuse_key(tx, proof, now_ms)
        if refused is not None:
            return self._transitions.count_failure(tx, attempt.claim.address, invite, refused, now_ms)
        claimed = self._transitions.apply(tx, invite, invite.claimed(attempt.claim, now_ms), now_ms)
        if claimed.confirm is not Confirm.NONE:
            return claimed
        return self._transitions.confirm(tx, claimed, attempt.reserved_device_id, now_ms, actor=None)

    def _refuse_key(self, tx: Transaction, proof: Proof, now_ms: int) -> Problem | None:
        replayed = self._devices.spend_proof(tx, proof, now_ms)
        if replayed is None and self._devices.is_key_known(tx, proof.thumbprint):
            return key_known()
        return replayed

    def _repeat(self, tx: Transaction, attempt: Attempt, invite: Invite, proof: Proof, now_ms: int) -> Invite | Problem:
        """The device that holds the invite lost the answer: it gets the same one, for a proof it did not use before."""
        replayed = self._devices.spend_proof(tx, proof, now_ms)
        if replayed is not None:
            return self._transitions.count_failure(tx, attempt.claim.address, invite, replayed, now_ms)
        if invite.state is State.PAIRED and invite.device_id and self._devices.was_used(tx, invite.device_id):
            return key_known()
        if invite.state in (State.CLAIMED, State.CONFIRMED, State.PAIRED):
            return invite
        return invite.refusal()

    def _failed(self, tx: Transaction, attempt: Attempt, invite: Invite | None, why: Problem, now_ms: int) -> Problem:
        """Count against the address, and against the invite while it can still be guessed."""
        self._transitions.count_failure(tx, attempt.claim.address, invite, why, now_ms)
        if invite is None or invite.state is not State.OPEN:
            return why
        after = self._transitions.apply(tx, invite, invite.with_bad_claim(now_ms), now_ms)
        return after.refusal() if after.state is State.BURNED else why

    def _count_wrong_code(self, tx: Transaction, now_ms: int) -> None:
        for invite in store.open_invites(tx, now_ms):
            if invite.takes_codes:
                self._transitions.apply(tx, invite, invite.with_wrong_code(now_ms), now_ms)
