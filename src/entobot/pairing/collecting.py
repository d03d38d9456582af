"""The one place where a confirmed claim becomes a device with credentials."""

import json

from entobot.core.errors import Code, Problem
from entobot.core.secrets import same
from entobot.devices.dpop import Proof
from entobot.devices.keys import parse_public_jwk
from entobot.devices.model import Change, Credentials
from entobot.devices.service import Devices
from entobot.pairing import store
from entobot.pairing.model import Invite, State
from entobot.pairing.requests import BearerCredentials, Pending
from entobot.pairing.transitions import Transitions, invite_not_found
from entobot.storage.database import Transaction


class Collecting:
    def __init__(self, transitions: Transitions, devices: Devices) -> None:
        self._transitions = transitions
        self._devices = devices

    def collect(
        self, tx: Transaction, claim_id: str, proof: Proof, now_ms: int, *, must_spend: bool
    ) -> Pending | Credentials | Problem:
        """`must_spend` False when this very call has spent the proof before. Problems are returned."""
        invite = store.find_by_claim(tx, claim_id)
        holder = None if invite is None or invite.claim is None else invite.claim.thumbprint
        if invite is None or holder is None or not same(holder, proof.thumbprint):
            return invite_not_found()
        if must_spend and (replayed := self._devices.spend_proof(tx, proof, now_ms)):
            return replayed
        return self._answer(tx, self._transitions.settle(tx, invite, now_ms), now_ms)

    def _answer(self, tx: Transaction, invite: Invite, now_ms: int) -> Pending | Credentials | Problem:
        if invite.state is State.PAIRED:
            return self._again(tx, invite, now_ms)
        waits = self._not_yet(tx, invite, now_ms)
        if waits is not None:
            return waits
        assert invite.claim is not None
        assert invite.claim.public_jwk is not None
        assert invite.device_id is not None
        self._transitions.apply(tx, invite, invite.paired(now_ms), now_ms)
        device = invite.claim.device
        self._devices.register(
            tx,
            device_id=invite.device_id,
            user_id=invite.user_id,
            name=device.device_name,
            platform=device.platform,
            app_version=device.app_version,
            os_version=device.os_version,
            key=parse_public_jwk(json.loads(invite.claim.public_jwk)),
            scopes=invite.scopes,
            paired_by=invite.inviter.device_id or invite.inviter.user_id,
            confirm_mode=invite.confirm,
            now_ms=now_ms,
        )
        self._devices.announce(tx, invite.user_id, invite.device_id, Change.PAIRED, now_ms)
        return self._devices.issue(tx, invite.device_id, now_ms)

    def _not_yet(self, tx: Transaction, invite: Invite, now_ms: int) -> Pending | Problem | None:
        """Why the claim cannot become a device now; None when it can."""
        if invite.state is State.CLAIMED:
            return Pending(invite.deadline_ms)
        if invite.state is not State.CONFIRMED:
            return invite.refusal()
        return self._transitions.end_if_not_allowed(tx, invite, now_ms)

    def collect_bearer(self, tx: Transaction, claim_id: str, now_ms: int) -> Pending | BearerCredentials | Problem:
        """The credential of a bearer claim, once. Whoever asks is the connection that claimed: nobody else knows the
        claim's id as one to collect by.
        """
        invite = store.find_by_claim(tx, claim_id)
        if invite is None or invite.claim is None or not invite.claim.is_bearer:
            return invite_not_found()
        invite = self._transitions.settle(tx, invite, now_ms)
        waits = self._not_yet(tx, invite, now_ms)
        if waits is not None:
            return waits
        assert invite.claim is not None
        assert invite.device_id is not None
        self._transitions.apply(tx, invite, invite.paired(now_ms), now_ms)
        device = invite.claim.device
        secret = self._devices.register_bearer(
            tx,
            device_id=invite.device_id,
            user_id=invite.user_id,
            name=device.device_name,
            platform=device.platform,
            app_version=device.app_version,
            os_version=device.os_version,
            scopes=invite.scopes,
            paired_by=invite.inviter.device_id or invite.inviter.user_id,
            confirm_mode=invite.confirm,
            now_ms=now_ms,
        )
        return BearerCredentials(invite.device_id, device.device_name, secret)

    def _again(self, tx: Transaction, invite: Invite, now_ms: int) -> Credentials | Problem:
        assert invite.device_id is not None
        if now_ms >= invite.deadline_ms:
            return Problem(Code.INVITE_EXPIRED, "The time to collect is over. Revoke this device and pair again.")
        try:
            return self._devices.issue(tx, invite.device_id, now_ms)
        except Problem as problem:  # a credential is in use, or the device is out: returned, so the proof stays spent
            return problem
