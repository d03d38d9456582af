"""What every change of an invite needs, in the caller's transaction: one conditional write, its audit line, the doorbell."""

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope, narrow, scope_text
from entobot.core.principal import Principal
from entobot.devices.model import Change
from entobot.devices.service import Devices
from entobot.notifications import sms_outbox
from entobot.pairing import limits, store
from entobot.pairing.model import Confirm, Invite, Inviter, Kind, Reason, State
from entobot.storage.database import Transaction

_EVENTS = {
    State.BURNED: AuditEvent.INVITE_BURNED,
    State.CANCELLED: AuditEvent.INVITE_CANCELLED,
    State.CLAIMED: AuditEvent.INVITE_CLAIMED,
    State.CONFIRMED: AuditEvent.INVITE_CONFIRMED,
    State.DENIED: AuditEvent.INVITE_DENIED,
    State.EXPIRED: AuditEvent.INVITE_EXPIRED,
    State.OPEN: AuditEvent.INVITE_CREATED,
    State.PAIRED: AuditEvent.DEVICE_PAIRED,
}


class Transitions:
    def __init__(self, audit: Audit, accounts: Accounts, devices: Devices, bus: Bus) -> None:
        self._audit = audit
        self._accounts = accounts
        self._devices = devices
        self._bus = bus

    def create(
        self, tx: Transaction, invite: Invite, actor: Principal, now_ms: int, *, phone_number: str | None = None
    ) -> None:
        store.insert_invite(tx, invite)
        self._tell(tx, invite, now_ms, actor, phone_number=phone_number)

    def resend(self, tx: Transaction, seen: Invite, after: Invite, actor: Principal, now_ms: int) -> None:
        """Put the new secret in the place of the old one."""
        self.apply(tx, seen, after, now_ms)
        self._audit.record(
            tx,
            AuditEvent.INVITE_RESENT,
            now_ms=now_ms,
            actor=actor,
            subject=after.invite_id,
            facts={"invite_id": after.invite_id, "sends": after.sends, "user_id": after.user_id},
        )

    def apply(
        self, tx: Transaction, seen: Invite, after: Invite, now_ms: int, *, actor: Principal | None = None
    ) -> Invite:
        """Put `after` in the place of `seen`. Raises `invite_used` when somebody else changed it first."""
        if not store.change(tx, seen, after, now_ms):
            raise Problem(Code.INVITE_USED, "Somebody else changed this invite at the same moment. Look at it again.")
        if after.state is not seen.state:
            self._tell(tx, after, now_ms, actor)
        return after

    def settle(self, tx: Transaction, invite: Invite, now_ms: int) -> Invite:
        """The invite as it stands now; one whose time is over is put to its end."""
        current = invite.at(now_ms)
        return invite if current is invite else self.apply(tx, invite, current, now_ms)

    def end_all(self, tx: Transaction, now_ms: int) -> int:
        """Cancel every invite that is not at its end. Returns how many. For a store that was restored: whether one
        was used after the copy was made, nobody knows.
        """
        current = [self.settle(tx, invite, now_ms) for invite in store.unended_invites(tx)]
        live = [invite for invite in current if invite.ended_at_ms is None]
        for invite in live:
            self.apply(tx, invite, invite.cancelled(Reason.OPERATOR, now_ms), now_ms)
        return len(live)

    def end_of_sessions(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Cancel what this person has invited from a browser: whoever made them may not have been the person."""
        for invite in store.unended_invites(tx):
            current = self.settle(tx, invite, now_ms)
            is_meant = current.inviter == Inviter(user_id, None) and current.ended_at_ms is None
            if is_meant:
                self.apply(tx, current, current.cancelled(Reason.OPERATOR, now_ms), now_ms, actor=by)

    # -- rights

    def may_give(self, tx: Transaction, invite: Invite) -> bool:
        """Whether the inviter could make this invite today: still allowed to pair, still holding every scope, and the
        person not above them by now.
        """
        held = self.rights(tx, invite.inviter)
        is_for_self = invite.user_id == invite.inviter.user_id
        return (
            Scope.PAIR in held
            and (is_for_self or Scope.USERS_MANAGE in held)
            and self._accounts.reaches(tx, invite.inviter.user_id, invite.user_id)
            and narrow(invite.scopes, held, self._devices.rights_of(tx, invite.user_id, None)) == invite.scopes
        )

    def rights(self, tx: Transaction, inviter: Inviter) -> frozenset[Scope]:
        """What an inviter holds at this moment."""
        return self._devices.rights_of(tx, inviter.user_id, inviter.device_id)

    def confirm(
        self, tx: Transaction, seen: Invite, device_id: str, now_ms: int, actor: Principal | None
    ) -> Invite | Problem:
        """The yes to the claim of `seen`, after rights and key are checked once more; its device id is reserved."""
        assert seen.claim is not None
        ended = self.end_if_not_allowed(tx, seen, now_ms)
        if ended is not None:
            return ended
        after = self.apply(tx, seen, seen.confirmed(seen.claim.claim_id, device_id, now_ms), now_ms, actor=actor)
        self._devices.announce(tx, seen.user_id, device_id, Change.PAIRING, now_ms)
        return after

    def end_if_not_allowed(self, tx: Transaction, seen: Invite, now_ms: int) -> Problem | None:
        """Cancel an invite whose inviter lost the right to make it, or whose key has become a device's."""
        assert seen.claim is not None
        if not self.may_give(tx, seen):
            return self.apply(tx, seen, seen.cancelled(Reason.RIGHT_LOST, now_ms), now_ms).refusal()
        if seen.claim.thumbprint is not None and self._devices.is_key_known(tx, seen.claim.thumbprint):
            self.apply(tx, seen, seen.cancelled(Reason.KEY_KNOWN, now_ms), now_ms)
            return key_known()
        return None

    # -- failures

    def block_of(self, tx: Transaction, address: str, now_ms: int) -> Problem | None:
        """`rate_limited` while this address, or all together, failed too often."""
        recent = store.failures_since(tx, limits.window_start_ms(now_ms))
        key = limits.address_key(address)
        return limits.refusal([at for name, at in recent if name == key], [at for _, at in recent], now_ms)

    def count_failure(self, tx: Transaction, address: str, invite: Invite | None, why: Problem, now_ms: int) -> Problem:
        """Count a failed claim against its address and say so in the audit log. Returns `why`, to be returned."""
        store.add_failure(tx, limits.address_key(address), now_ms, limits.window_start_ms(now_ms))
        self._audit.record(
            tx,
            AuditEvent.INVITE_CLAIM_REFUSED,
            now_ms=now_ms,
            outcome=Outcome.DENIED,
            subject="" if invite is None else invite.invite_id,
            facts={"code": why.code.value},
            personal={"address": address},
        )
        return why

    def contest(self, tx: Transaction, invite: Invite, address: str, now_ms: int) -> None:
        """A second device came with an invite that has its device. Told once an invite: it may be a photograph."""
        if store.contest(tx, invite.invite_id):
            self._audit.record(
                tx,
                AuditEvent.INVITE_CLAIM_REFUSED,
                now_ms=now_ms,
                outcome=Outcome.DENIED,
                subject=invite.invite_id,
                facts={"code": Code.INVITE_USED.value},
                personal={"address": address},
            )

    # -- telling

    def _tell(
        self,
        tx: Transaction,
        invite: Invite,
        now_ms: int,
        actor: Principal | None,
        *,
        phone_number: str | None = None,
    ) -> None:
        self._audit.record(
            tx,
            _EVENTS[invite.state],
            now_ms=now_ms,
            outcome=Outcome.DENIED if invite.state in (State.BURNED, State.DENIED) else Outcome.SUCCESS,
            actor=actor,
            subject=invite.device_id if invite.state is State.PAIRED and invite.device_id else invite.invite_id,
            facts=_facts(invite),
            personal=_personal(invite) | ({} if phone_number is None else {"phone_number": phone_number}),
        )
        if invite.kind is Kind.SMS and invite.state is not State.OPEN:
            sms_outbox.end(tx, invite.invite_id, f"the invite is {invite.state}", now_ms)
        payload = b"" if invite.claim is None else invite.claim.claim_id.encode("ascii")
        tx.after_commit(lambda: self._bus.publish(topics.CONTROL_INVITES, payload))


def key_known() -> Problem:
    return Problem(
        Code.KEY_KNOWN, "This key already belongs to a device, or did before it was revoked. Pair with a new key."
    )


def invite_not_found() -> Problem:
    return Problem(Code.INVITE_NOT_FOUND, "There is no such invite. Check it, or ask for a new one.")


def _facts(invite: Invite) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "invite_id": invite.invite_id,
        "kind": invite.kind.value,
        "confirm": invite.confirm.value,
        "is_weak": invite.confirm is Confirm.NONE or invite.allow_bearer,
        "scopes": scope_text(invite.scopes),
        "user_id": invite.user_id,
    }
    if invite.allow_bearer:
        facts["allow_bearer"] = True
    if invite.reason is not None:
        facts["reason"] = invite.reason.value
    if invite.device_id is not None:
        facts["device_id"] = invite.device_id
    if invite.claim is not None:
        facts["claim_id"] = invite.claim.claim_id
        facts["key"] = invite.claim.thumbprint
        facts["credential"] = "api_key" if invite.claim.is_bearer else "device_key"
    return facts


def _personal(invite: Invite) -> dict[str, str]:
    personal = {"label": invite.label} if invite.label else {}
    if invite.claim is not None:
        personal |= {"device_name": invite.claim.device.device_name, "address": invite.claim.address}
    return personal
