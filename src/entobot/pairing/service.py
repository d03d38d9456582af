"""Use cases of pairing. The only code that creates an invite, accepts one, or turns it into a device."""

import asyncio
import json
from typing import TypeVar
from urllib.parse import urlencode

from entobot.accounts.service import Accounts
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.bus.waiting import Waiting
from entobot.core import qr, topics
from entobot.core.clock import Clock, to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.core.secrets import CROCKFORD, Entropy, normalise_code, random_code, random_secret, same
from entobot.devices.dpop import Proof
from entobot.devices.model import Credentials
from entobot.devices.service import Devices
from entobot.notifications.sms_outbox import Outbox
from entobot.pairing import proof as claim_proof
from entobot.pairing import store
from entobot.pairing.bearer import Bearers
from entobot.pairing.by_sms import Desk, Draft, SmsInvites
from entobot.pairing.claiming import Attempt, Claiming
from entobot.pairing.collecting import Collecting
from entobot.pairing.inviting import check_request, check_room, granted
from entobot.pairing.keys import PairingKeys
from entobot.pairing.model import (
    CODE_LENGTH,
    KEEP_ENDED,
    LIVE,
    Claim,
    Confirm,
    Invite,
    Inviter,
    Kind,
    Reason,
    State,
)
from entobot.pairing.requests import Claimed, ClaimRequest, CreatedInvite, InviteRequest, Pending
from entobot.pairing.texting import Texting
from entobot.pairing.transitions import Transitions, invite_not_found
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Presented

T = TypeVar("T")

MAX_WAIT_S = 25
LOOK_EVERY_S = 3.0
"""The bell of another node may be lost."""


class Pairing:
    """Invites → claims → confirmations → devices.

    `server_key` is the gateway's own secret (derive others from it elsewhere); `origin` its public URL; `spki` the
    base64url SHA-256 of the TLS key's SubjectPublicKeyInfo, None when TLS ends elsewhere.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        entropy: Entropy,
        audit: Audit,
        accounts: Accounts,
        devices: Devices,
        bus: Bus,
        server_key: bytes,
        origin: str,
        gateway_name: str,
        spki: str | None,
        outbox: Outbox | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._entropy = entropy
        self._accounts = accounts
        self._devices = devices
        self._keys = PairingKeys(server_key)
        self._origin = origin
        self.gateway_name = gateway_name
        self.spki = spki
        """Changes with the certificate's key."""
        self.transitions = Transitions(audit, accounts, devices, bus)
        self._claiming = Claiming(self.transitions, devices, self._keys)
        self._collecting = Collecting(self.transitions, devices)
        desk = Desk(
            database=database,
            clock=clock,
            transitions=self.transitions,
            guard=devices.guard,
            see=self._visible,
            link=self._url,
            name=lambda: self.gateway_name,
            origin=origin,
        )
        self.by_sms = SmsInvites(desk, Texting(outbox, self._keys, entropy))
        self._waiting = Waiting(bus, topics.CONTROL_INVITES)
        self.bearers = Bearers(
            database=database,
            clock=clock,
            ids=ids,
            keys=self._keys,
            transitions=self.transitions,
            claiming=self._claiming,
            collecting=self._collecting,
            waiting=self._waiting,
        )

    # -- the operator

    async def create_invite(self, principal: Principal, request: InviteRequest) -> CreatedInvite:
        """Open an invite with a fresh secret or code.

        Raises Problem: `forbidden` (more than the inviter or the user holds, or another user without `users.manage`),
        `not_found` (the user), `invalid`, `rate_limited` (too many open ones).
        """
        principal.require(Scope.PAIR)
        user_id = request.user_id or principal.user_id
        if user_id != principal.user_id:
            principal.require(Scope.USERS_MANAGE)
        check_request(request)
        if request.kind is Kind.SMS:
            return await self.by_sms.create(principal, request.phone_number, self._draft(principal, request, user_id))
        is_code = request.kind is Kind.CODE
        secret = random_code(self._entropy, CODE_LENGTH) if is_code else random_secret(self._entropy)
        digest = self._keys.digest_of_code(secret) if is_code else self._keys.digest_of_secret(secret)
        draft = self._draft(principal, request, user_id)

        def unit(tx: Transaction) -> Invite:
            invite = draft(tx, digest, self._keys.mark_of_code(secret) if is_code else None)
            self.transitions.create(tx, invite, principal, invite.created_at_ms)
            return invite

        invite = await self._database.write(unit)
        if is_code:
            return CreatedInvite(invite, code=secret)
        url = self._url(invite, secret)
        return CreatedInvite(
            invite, secret=secret, url=url, qr_svg=await asyncio.to_thread(qr.svg, url, "Pairing code")
        )

    async def list_invites(self, principal: Principal) -> list[Invite]:
        """Newest first, as they stand now. Without `users.manage` only those by or for the caller's user."""
        principal.require(Scope.PAIR)
        now_ms = self._clock.now_ms()
        of_user = None if Scope.USERS_MANAGE in principal.scopes else principal.user_id

        def unit(tx: Transaction) -> list[Invite]:
            self._devices.guard(tx, principal)
            return [invite.at(now_ms) for invite in store.list_invites(tx, of_user)]

        return await self._database.read(unit)

    async def get_invite(self, principal: Principal, invite_id: str) -> Invite:
        """The invite as it stands now. Raises `invite_not_found`, also for one the caller may not see."""
        principal.require(Scope.PAIR)
        now_ms = self._clock.now_ms()
        return await self._database.read(lambda tx: self._visible(tx, principal, invite_id).at(now_ms))

    async def cancel_invite(self, principal: Principal, invite_id: str) -> Invite:
        """End an invite whose device is not paired yet; one that has ended already stays as it is.

        Raises Problem: `invite_not_found`, `invite_used` (paired: revoke the device instead).
        """
        principal.require(Scope.PAIR)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Invite:
            invite = self.transitions.settle(tx, self._visible(tx, principal, invite_id), now_ms)
            if invite.state is State.PAIRED:
                raise Problem(Code.INVITE_USED, "This invite has become a device. Revoke the device instead.")
            if invite.state not in LIVE:
                return invite
            after = invite.cancelled(Reason.OPERATOR, now_ms)
            return self.transitions.apply(tx, invite, after, now_ms, actor=principal)

        return await self._database.write(unit)

    async def confirm_invite(
        self,
        principal: Principal,
        invite_id: str,
        claim_id: str,
        *,
        code: str | None = None,
        approve: bool | None = None,
    ) -> str | None:
        """Say yes (with the six digits, or `approve=True`) or no to exactly this claim.

        Returns the reserved device id, None after a no. Raises Problem: `invite_not_found`, `claim_changed`,
        `invite_burned` (a wrong code), `invite_expired`, `invite_used`, `pairing_denied`, `key_known`, `forbidden`,
        `invalid` (this invite is confirmed the other way).
        """
        principal.require(Scope.PAIR)
        if (code is None) == (approve is None):
            raise Problem(Code.INVALID, "Give either the code that the phone shows, or approve.")
        now_ms = self._clock.now_ms()
        device_id = self._ids.new(Prefix.DEVICE)

        def unit(tx: Transaction) -> Invite | Problem:
            invite = self.transitions.settle(tx, self._visible(tx, principal, invite_id), now_ms)
            if approve is False:
                return self._deny(tx, principal, invite, claim_id, now_ms)
            return self._confirm(
                tx, principal, invite, claim_id=claim_id, code=code, device_id=device_id, now_ms=now_ms
            )

        return _or_raise(await self._database.write(unit)).device_id

    # -- the device

    async def refuse_if_blocked(self, address: str) -> None:
        """Raise `rate_limited` while this address, or all together, failed too often. To be asked before parsing."""
        now_ms = self._clock.now_ms()
        blocked = await self._database.read(lambda tx: self.transitions.block_of(tx, address, now_ms))
        if blocked is not None:
            raise blocked

    async def claim_invite(self, request: ClaimRequest, address: str) -> Claimed:
        """Spend an invite: of all concurrent claims exactly one wins. The same key may repeat its own.

        Raises Problem: `rate_limited`, `proof_invalid`, `proof_stale`, `invite_not_found` (also a wrong secret),
        `invite_used`, `invite_expired`, `invite_burned`, `pairing_denied`, `key_known`, `invalid`.
        """
        now_ms = self._clock.now_ms()
        code = None if request.code is None else _whole_code(request.code)
        secret = code or request.secret
        if secret is None or (code is None) != (request.invite_id is not None) or (code and request.secret):
            raise Problem(Code.INVALID, "Give either invite_id and secret, or code.")
        attempt = Attempt(
            claim=Claim(
                claim_id=self._ids.new(Prefix.CLAIM),
                public_jwk=json.dumps(request.public_key.to_jwk(), separators=(",", ":"), sort_keys=True),
                thumbprint=request.public_key.thumbprint,
                device=request.device.cleaned(),
                address=address,
                claimed_at_ms=now_ms,
            ),
            proof=self._check_proof(request, secret, now_ms),
            invite_id=request.invite_id,
            secret=request.secret,
            code=code,
            reserved_device_id=self._ids.new(Prefix.DEVICE),
        )
        invite = _or_raise(await self._database.write(lambda tx: self._claiming.claim(tx, attempt, now_ms)))
        assert invite.claim is not None
        return Claimed(
            claim_id=invite.claim.claim_id,
            is_confirmed=invite.state is not State.CLAIMED,
            confirmation_code=self._digits(invite.claim),
            gateway_name=self.gateway_name,
            expires_at_ms=invite.deadline_ms,
        )

    async def collect(self, claim_id: str, presented: Presented, wait_s: float = 0) -> Pending | Credentials:
        """The credentials of a confirmed claim, for a DPoP proof by the claiming key; minted here.

        Waits up to `wait_s` (at most 25) for the operator. May be repeated until a credential is first used or the
        time to collect is over; each repeat voids what was given before. Raises Problem: `invite_not_found` (also
        another's claim), `invite_expired`, `invite_burned`, `pairing_denied`, `invite_used`, `key_known`, and what a
        bad proof raises.
        """
        if not is_id(claim_id, Prefix.CLAIM):
            raise invite_not_found()
        proof = self._devices.verify_presented_proof(presented, self._clock.now_ms())
        with self._waiting.turn(claim_id) as turn:
            answer = await self._look(claim_id, proof, is_first=True)
            if isinstance(answer, Pending) and wait_s > 0:
                left_s = min(wait_s, MAX_WAIT_S, (answer.expires_at_ms - self._clock.now_ms()) / 1000)
                is_over = False
                while isinstance(answer, Pending) and not is_over:
                    is_over = await turn.wait(min(left_s, LOOK_EVERY_S)) or left_s <= LOOK_EVERY_S
                    left_s -= LOOK_EVERY_S
                    answer = await self._look(claim_id, proof, is_first=False)
        return answer

    # -- upkeep

    async def expire(self) -> int:
        """Put overdue invites to their end and forget old ones. Returns how many expired. For a periodic sweep."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> int:
            overdue = store.overdue_invites(tx, now_ms)
            for invite in overdue:
                self.transitions.settle(tx, invite, now_ms)
            store.purge_invites(tx, now_ms - to_ms(KEEP_ENDED))
            return len(overdue)

        return await self._database.write(unit)

    def stop(self) -> None:
        """End all long polls, now and from now on; what they wait for stays in the tables."""
        self._waiting.stop()

    # -- within units

    def _draft(self, principal: Principal, request: InviteRequest, user_id: str) -> Draft:
        """Makes the invite in a unit, as far as the inviter may, where there is room for it."""
        now_ms = self._clock.now_ms()
        invite_id = self._ids.new(Prefix.INVITE)
        inviter = Inviter(principal.user_id, principal.device_id)
        is_sms = request.kind is Kind.SMS

        def draft(tx: Transaction, digest: str, mark: str | None) -> Invite:
            self._devices.guard(tx, principal)
            self._accounts.check_reach(tx, principal, user_id)
            held = narrow(principal.scopes, self.transitions.rights(tx, inviter))
            scopes = granted(request, held, self._accounts.get_user(tx, user_id).scopes)
            check_room(store.open_invites(tx, now_ms), request.kind, now_ms)
            return Invite(
                invite_id=invite_id,
                kind=request.kind,
                state=State.OPEN,
                user_id=user_id,
                inviter=inviter,
                label=request.label,
                scopes=scopes,
                confirm=request.way,
                created_at_ms=now_ms,
                deadline_ms=now_ms + to_ms(request.lives),
                allow_bearer=request.allow_bearer,
                secret_digest=digest,
                code_mark=mark,
                sends=int(is_sms),
                sent_at_ms=now_ms if is_sms else None,
            )

        return draft

    def _visible(self, tx: Transaction, principal: Principal, invite_id: str) -> Invite:
        self._devices.guard(tx, principal)
        invite = store.find_invite(tx, invite_id)
        if invite is None or not (
            principal.user_id in (invite.user_id, invite.inviter.user_id) or Scope.USERS_MANAGE in principal.scopes
        ):
            raise invite_not_found()
        return invite

    def _deny(
        self, tx: Transaction, principal: Principal, invite: Invite, claim_id: str, now_ms: int
    ) -> Invite | Problem:
        if invite.state is not State.CLAIMED:
            return invite.refusal()
        return self.transitions.apply(tx, invite, invite.denied(claim_id, now_ms), now_ms, actor=principal)

    def _confirm(
        self,
        tx: Transaction,
        principal: Principal,
        invite: Invite,
        *,
        claim_id: str,
        code: str | None,
        device_id: str,
        now_ms: int,
    ) -> Invite | Problem:
        """Problems are returned: what was burned or cancelled on the way must stay so."""
        if invite.claim is None or invite.state not in (State.CLAIMED, State.CONFIRMED, State.PAIRED):
            return invite.refusal()
        invite.need_claim(claim_id)
        if (invite.confirm is Confirm.TYPE) != (code is not None):
            way = "typing the code that the phone shows" if code is None else "approve, without a code"
            raise Problem(Code.INVALID, f"This invite is confirmed by {way}.")
        is_right = code is None or same(code, self._digits(invite.claim))
        if invite.state is not State.CLAIMED:
            return invite if is_right else invite.refusal()  # the answer was lost: the same yes, the same device
        if not invite.scopes <= principal.scopes:
            raise Problem(Code.FORBIDDEN, "This device would hold more scopes than you do. Let somebody else confirm.")
        if not is_right:
            after = invite.burned(Reason.WRONG_CONFIRMATION, now_ms)
            return self.transitions.apply(tx, invite, after, now_ms, actor=principal).refusal()
        return self.transitions.confirm(tx, invite, device_id, now_ms, principal)

    async def _look(self, claim_id: str, proof: Proof, *, is_first: bool) -> Pending | Credentials:
        now_ms = self._clock.now_ms()
        return _or_raise(
            await self._database.write(
                lambda tx: self._collecting.collect(tx, claim_id, proof, now_ms, must_spend=is_first)
            )
        )

    def _check_proof(self, request: ClaimRequest, secret: str, now_ms: int) -> Proof | Problem:
        """Raises `proof_stale`, which is no failure: a wrong clock is told the time and tries again."""
        try:
            return claim_proof.verify(
                request.proof,
                request.public_key,
                origin=self._origin,
                invite_id=request.invite_id,
                secret=secret,
                now_ms=now_ms,
            )
        except Problem as problem:
            if problem.code is Code.PROOF_STALE:
                raise
            return problem

    def _digits(self, claim: Claim) -> str:
        return self._keys.confirmation_code(claim.claim_id, claim.thumbprint or "")

    def confirmation_code(self, invite: Invite) -> str | None:
        """The digits that the claiming phone shows, for the operator to compare; None where they are to be typed."""
        if invite.kind is not Kind.SMS or invite.confirm is not Confirm.APPROVE or invite.claim is None:
            return None
        return self._digits(invite.claim)

    def _url(self, invite: Invite, secret: str) -> str:
        """What stands after `#` is never sent to a server, so it stays out of logs."""
        parts = {"v": "1", "i": invite.invite_id, "s": secret}
        if self.spki is not None:
            parts["g"] = self.spki
        parts["x"] = str(invite.deadline_ms // 1000)
        return f"{self._origin}/pair#{urlencode(parts)}"


def _or_raise(answer: T | Problem) -> T:
    if isinstance(answer, Problem):
        raise answer
    return answer


def _whole_code(text: str) -> str:
    """The normalised code. Something that cannot be a code is a slip of the finger and counts against nobody."""
    code = normalise_code(text)
    if len(code) != CODE_LENGTH or not set(code) <= set(CROCKFORD):
        raise Problem(Code.INVALID, f"A code has {CODE_LENGTH} letters and digits.")
    return code
