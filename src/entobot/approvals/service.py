"""Use cases of approvals. Methods that take a transaction are units, or parts of them."""

from collections.abc import Callable
from dataclasses import replace

from entobot.accounts.service import Accounts
from entobot.approvals import store
from entobot.approvals.action import Action, Args, action_text, parse_args
from entobot.approvals.matching import Wish, parse_wish
from entobot.approvals.model import (
    MAX_SIGNATURE_BYTES,
    RANK,
    SIGNATURE_HEADER,
    SIGNATURE_TYPE,
    Answer,
    Approval,
    ApprovalState,
    Decision,
    Question,
    Risk,
    check_answer,
    check_open,
)
from entobot.approvals.rows import requested_data
from entobot.approvals.rules import Rules
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.keys import SignatureRefused, verify_compact
from entobot.devices.service import Devices
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

SWEEP_COUNT = 100
MAX_PAGE = 100
MAX_PAGE_BYTES = 80 * 1024
"""Of actions on one page: escaped once more inside a frame they stay under its 256 KiB."""
MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Of actions in one snapshot."""
BY_GATEWAY = "gateway"

Judge = Callable[[str, Args], Risk]
"""Port, filled by the composition root: what is at stake when this tool runs with these arguments? Raises Problem when
it cannot run with them."""

GoOn = Callable[[Transaction, str, int], bool]
"""Port, filled by the composition root: bring this run on at this time, in the unit that has decided for it. False when
that has to wait for a bell."""


def _later(_tx: Transaction, _run_id: str, _now_ms: int) -> bool:
    return False


class Approvals:
    """`audience` is the gateway's origin, as devices sign it."""

    def __init__(
        self,
        *,
        ids: Ids,
        stream: Stream,
        bus: Bus,
        audit: Audit,
        devices: Devices,
        accounts: Accounts,
        audience: str,
        judge: Judge,
        meters: Meters | None = None,
    ) -> None:
        self.go_on: GoOn = _later
        self._ids = ids
        self._stream = stream
        self._bus = bus
        self._audit = audit
        self._devices = devices
        self._audience = audience
        self._judge = judge
        self._meters = meters or Meters()
        self.rules = Rules(ids=ids, stream=stream, audit=audit, devices=devices, accounts=accounts, meters=self._meters)

    # -- asking

    def request(self, tx: Transaction, asked: Question, *, expires_at_ms: int, now_ms: int) -> Approval:
        """Put a tool call to its user's devices. Raises `action_not_presentable`."""
        approval_id = self._ids.new(Prefix.APPROVAL)
        approval = Approval(
            approval_id=approval_id,
            user_id=asked.user_id,
            run_id=asked.run_id,
            conversation_id=asked.conversation_id,
            tool_call_id=asked.tool_call_id,
            tool=asked.tool,
            action=action_text(Action(approval_id, asked.run_id, asked.tool, parse_args(asked.args_json))),
            title=asked.title,
            risk=asked.risk,
            state=ApprovalState.PENDING,
            created_at_ms=now_ms,
            expires_at_ms=expires_at_ms,
        )
        store.insert_approval(tx, approval)
        self._tell(tx, approval, "approval.requested", requested_data(approval), now_ms, expires_at_ms)
        self._record(tx, AuditEvent.APPROVAL_REQUESTED, approval, now_ms, facts={"risk": asked.risk})
        return approval

    # -- deciding

    def decide(
        self, tx: Transaction, principal: Principal, answer: Answer, signature: str, now_ms: int
    ) -> Approval | Problem:
        """Take a device's signed decision; the first one wins, and rings for the run that waits.

        A refusal is returned, not raised, so that its audit entry is committed: `approval_already_decided`,
        `approval_expired`, `hash_mismatch`, `signature_invalid`, `action_not_presentable` or `invalid`.
        Raises `not_found` (also for another user's) and `forbidden` for a caller that has no key to sign with.
        """
        if principal.device_id is None:
            raise Problem(Code.FORBIDDEN, "Decisions are signed by a paired device; the local socket has no key.")
        self._devices.guard(tx, principal)
        approval = self.get(tx, principal.user_id, answer.approval_id)
        try:
            check_open(approval, now_ms)
            payload = self._verified(tx, principal.device_id, signature)
            edited = check_answer(approval, answer, payload, audience=self._audience, now_ms=now_ms)
            risk = approval.risk if edited is None else self._judge_edit(approval, edited)
            decided = self._decided(principal, approval, answer, now_ms)
            if answer.rule is not None:
                self._make_rule(tx, principal, decided, parse_wish(answer.rule), risk, now_ms)
        except Problem as problem:
            return self._refused(tx, principal, approval, problem, now_ms)
        won = store.leave_pending(tx, decided)
        assert won, "the row was pending in this very unit"
        self._tell_decided(tx, decided, principal.user_id, now_ms)
        self._record_decision(tx, principal, decided, answer, signature, now_ms)
        if not self.go_on(tx, decided.run_id, now_ms):
            self._ring(tx, decided)
        return decided

    def _decided(self, principal: Principal, approval: Approval, answer: Answer, now_ms: int) -> Approval:
        return replace(
            approval,
            state=ApprovalState.APPROVED if answer.decision is Decision.APPROVE else ApprovalState.DENIED,
            edited_action=answer.edited_action,
            reason=answer.reason,
            decided_at_ms=now_ms,
            decided_by_device_id=principal.device_id,
        )

    def _judge_edit(self, approval: Approval, edited: Action) -> Risk:
        """What is at stake now. Raises `edit_too_risky` for more than people were asked about, and what the tool says."""
        risk = self._judge(edited.tool, edited.args)
        if RANK[risk] > RANK[approval.risk]:
            raise Problem(
                Code.EDIT_TOO_RISKY,
                f"With these arguments the call is of {risk} risk, and you were asked about one of {approval.risk} risk. "
                "Deny it, and let the agent ask for this.",
            )
        return risk

    def _make_rule(
        self, tx: Transaction, principal: Principal, decided: Approval, wish: Wish, risk: Risk, now_ms: int
    ) -> None:
        if decided.state is not ApprovalState.APPROVED:
            raise Problem(Code.INVALID, "A rule is made with an approval, not with a denial.")
        self.rules.make(tx, principal, decided, wish, risk, now_ms)

    def _record_decision(
        self, tx: Transaction, principal: Principal, decided: Approval, answer: Answer, signature: str, now_ms: int
    ) -> None:
        facts: dict[str, Fact] = {"decision": answer.decision, "edited": answer.edited_action is not None}
        # A reason is a person's text: then the signature that spells it out is kept where it can be erased.
        personal = {} if answer.reason is None else {"signature": signature}
        facts |= {} if personal else {"signature": signature}
        self._record(tx, AuditEvent.APPROVAL_DECIDED, decided, now_ms, actor=principal, facts=facts, personal=personal)

    def _verified(self, tx: Transaction, device_id: str, signature: str) -> dict[str, object]:
        key = self._devices.public_key(tx, device_id)
        try:
            return verify_compact(
                signature, key, typ=SIGNATURE_TYPE, header_members=SIGNATURE_HEADER, max_bytes=MAX_SIGNATURE_BYTES
            )
        except SignatureRefused:
            raise Problem(Code.SIGNATURE_INVALID, "The signature is not one by this device's key.") from None

    def _refused(
        self, tx: Transaction, principal: Principal, approval: Approval, problem: Problem, now_ms: int
    ) -> Problem:
        is_late = problem.code is Code.APPROVAL_ALREADY_DECIDED
        event = AuditEvent.APPROVAL_ALREADY_DECIDED if is_late else AuditEvent.APPROVAL_REFUSED
        self._record(
            tx, event, approval, now_ms, actor=principal, outcome=Outcome.DENIED, facts={"code": str(problem.code)}
        )
        return problem

    # -- ending without a person's answer

    async def expire(self, database: Database, now_ms: int) -> int:
        """Close what nobody decided in time, and ring for the runs. Returns how many."""
        total = 0
        while expired := await database.write(lambda tx: self._expire_some(tx, now_ms)):
            total += expired
        return total

    def _expire_some(self, tx: Transaction, now_ms: int) -> int:
        overdue = store.overdue(tx, now_ms, SWEEP_COUNT)
        for approval in overdue:
            self._close(tx, approval, ApprovalState.EXPIRED, AuditEvent.APPROVAL_EXPIRED, now_ms)
        return len(overdue)

    def cancel_for_run(self, tx: Transaction, run_id: str, now_ms: int) -> None:
        """Close what a run that ended still asks for."""
        for approval in store.pending_of_run(tx, run_id):
            self._close(tx, approval, ApprovalState.CANCELLED, AuditEvent.APPROVAL_CANCELLED, now_ms)

    def _close(self, tx: Transaction, approval: Approval, state: ApprovalState, event: AuditEvent, now_ms: int) -> None:
        closed = replace(approval, state=state, decided_at_ms=now_ms)
        if store.leave_pending(tx, closed):
            self._tell_decided(tx, closed, BY_GATEWAY, now_ms)
            self._record(tx, event, closed, now_ms)
            self._ring(tx, closed)

    # -- reading

    def guard(self, tx: Transaction, principal: Principal) -> None:
        """Refuse a caller whose credentials have ended since."""
        self._devices.guard(tx, principal)

    def get(self, tx: Transaction, user_id: str, approval_id: str) -> Approval:
        """Raises `not_found`, also for another user's approval."""
        approval = store.find_approval_of(tx, user_id, approval_id)
        if approval is None:
            raise Problem(Code.NOT_FOUND, "There is no such approval.")
        return approval

    def find(self, tx: Transaction, approval_id: str) -> Approval | None:
        """For the gateway's own work: whoever's it is."""
        return store.find_approval(tx, approval_id)

    def list(
        self, tx: Transaction, user_id: str, *, only_pending: bool, cursor: str | None, limit: int
    ) -> tuple[list[Approval], str | None]:
        """A page, newest first, and the cursor of the next. Actions are large: a page also ends at MAX_PAGE_BYTES."""
        limit = max(1, min(limit, MAX_PAGE))
        rows = store.page(tx, user_id, cursor or store.LAST, limit + 1, only_pending=only_pending)
        count = _fitting(rows[:limit], MAX_PAGE_BYTES)
        return rows[:count], rows[count - 1].approval_id if len(rows) > count else None

    def pending(self, tx: Transaction, user_id: str, limit: int) -> "list[Approval]":
        """What waits for an answer, newest first, as a snapshot shows it: up to MAX_PENDING_BYTES of actions."""
        rows = store.page(tx, user_id, store.LAST, limit, only_pending=True)
        return rows[: _fitting(rows, MAX_PENDING_BYTES)]

    def count_pending(self, tx: Transaction) -> int:
        """What waits for an answer, of all users."""
        return store.count_pending(tx)

    # -- telling

    def _ring(self, tx: Transaction, approval: Approval) -> None:
        bell = approval.run_id.encode("ascii")
        tx.after_commit(lambda: self._bus.publish(topics.WORK_APPROVALS, bell))

    def _tell_decided(self, tx: Transaction, approval: Approval, by: str, now_ms: int) -> None:
        data: dict[str, object] = {
            "approval_id": approval.approval_id,
            "decision": approval.decision,
            "by": by,
            "device_id": approval.decided_by_device_id,
            "at": rfc3339(now_ms),
        }
        self._tell(tx, approval, "approval.decided", data, now_ms)
        waited = self._meters.histogram(Metric.APPROVAL_WAIT_SECONDS, outcome=approval.state)
        tx.after_commit(lambda: waited.observe((now_ms - approval.created_at_ms) / 1000))

    def _tell(
        self,
        tx: Transaction,
        approval: Approval,
        kind: str,
        data: dict[str, object],
        now_ms: int,
        expires_at_ms: int | None = None,
    ) -> None:
        self._stream.append(
            tx,
            approval.user_id,
            {"type": kind, "data": data},
            topic=topics.APPROVALS,
            scope=Scope.APPROVE,
            now_ms=now_ms,
            expires_at_ms=expires_at_ms,
        )

    def _record(
        self,
        tx: Transaction,
        event: AuditEvent,
        approval: Approval,
        now_ms: int,
        *,
        actor: Principal | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        facts: dict[str, Fact] | None = None,
        personal: dict[str, str] | None = None,
    ) -> None:
        known: dict[str, Fact] = {
            "run_id": approval.run_id,
            "tool": approval.tool,
            "action_sha256": approval.action_sha256,
        }
        self._audit.record(
            tx,
            event,
            now_ms=now_ms,
            outcome=outcome,
            actor=actor,
            subject=approval.approval_id,
            facts=known | (facts or {}),
            personal=personal,
        )


def _fitting(rows: "list[Approval]", max_bytes: int) -> int:
    """How many of the rows fit: at least one, where there is one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row.action.encode("utf-8"))
        if count and size > max_bytes:
            return count
    return len(rows)
