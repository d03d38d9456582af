"""Use cases of approvals. Methods that take a transaction are units, or parts of them."""

from collections.abc import Callable
from dataclasses import replace

from entobot.accounts.service import Accounts
from entobot.approvals import asking_store, store
from entobot.approvals.action import Args, parse_args
from entobot.approvals.asking import Asker
from entobot.approvals.code_model import Reply, Writer
from entobot.approvals.deciding import BY_GATEWAY, Decider
from entobot.approvals.model import Answer, Approval, ApprovalState, Question, Risk, View, check_open
from entobot.approvals.policy import Judged, judge
from entobot.approvals.rule_model import Rule
from entobot.approvals.rules import Rules
from entobot.approvals.telling import Telling
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.config_approvals import ApprovalsSettings
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy
from entobot.devices.service import Devices
from entobot.notifications.service import Notifications
from entobot.signin.passkeys import Passkeys
from entobot.storage.database import Database, Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters

SWEEP_COUNT = 100
MAX_PAGE = 100
MAX_PAGE_BYTES = 80 * 1024
"""Of actions on one page: escaped once more inside a frame they stay under its 256 KiB."""
MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Of actions in one snapshot."""
CONSUMED_WITHIN_MS = 10_000
"""A decision that its run has not taken up by then is told of."""

JudgeTool = Callable[[str, Args], Risk]
"""Port, filled by the composition root: what is at stake when this tool runs with these arguments? Raises Problem when
it cannot run with them."""

GoOn = Callable[[Transaction, str, int], bool]
"""Port, filled by the composition root: bring this run on at this time, in the unit that has decided for it. False when
that has to wait for a bell."""


OnOutsideEnd = Callable[[Transaction, str, int], None]
"""Port, filled by the composition root: the request of an agent that runs elsewhere has ended, in this unit."""


def _nobody_waits(_tx: Transaction, _request_id: str, _now_ms: int) -> None:
    return None


def _later(_tx: Transaction, _run_id: str, _now_ms: int) -> bool:
    return False


class Approvals:
    """`audience` is the gateway's origin, as devices sign it. `settings` are read at each question."""

    def __init__(
        self,
        *,
        ids: Ids,
        entropy: Entropy,
        stream: Stream,
        bus: Bus,
        audit: Audit,
        devices: Devices,
        accounts: Accounts,
        audience: str,
        judge_tool: JudgeTool,
        settings: Callable[[], ApprovalsSettings] = ApprovalsSettings,
        notifications: Notifications | None = None,
        passkeys: Passkeys | None = None,
        meters: Meters | None = None,
    ) -> None:
        self.go_on: GoOn = _later
        self.on_outside_end: OnOutsideEnd = _nobody_waits
        self._devices = devices
        self._judge_tool = judge_tool
        self._settings = settings
        self._passkeys = passkeys
        meters = meters or Meters()
        self._telling = Telling(
            stream=stream, bus=bus, audit=audit, accounts=accounts, meters=meters, notifications=notifications
        )
        self.rules = Rules(ids=ids, stream=stream, audit=audit, devices=devices, accounts=accounts, meters=meters)
        self._asker = Asker(ids=ids, entropy=entropy, accounts=accounts, telling=self._telling, settings=settings)
        self._decider = Decider(
            accounts=accounts,
            devices=devices,
            rules=self.rules,
            telling=self._telling,
            judge=self._judge_edit,
            audience=audience,
            passkeys=passkeys,
        )

    def _judge(self, tool: str, args: Args, risk: Risk) -> Judged:
        return judge(self._settings(), tool, args, risk)

    def _judge_edit(self, approval: Approval, args: Args) -> Judged:
        """With other arguments. What an agent elsewhere can do is not known here: no less than when it asked."""
        risk = approval.risk if approval.is_outside else self._judge_tool(approval.tool, args)
        return self._judge(approval.tool, args, risk)

    # -- asking

    def ask(self, tx: Transaction, asked: Question, *, expires_at_ms: int, now_ms: int) -> Rule | Approval:
        """Let a tool call through by a rule, in the unit that makes it ready, or put it to people.

        Raises `action_not_presentable`.
        """
        judged = self._judge(asked.tool, parse_args(asked.args_json), asked.risk)
        judged = replace(judged, terms=replace(judged.terms, takes_edits=asked.takes_edits))
        rule = self.rules.allow(tx, replace(asked, risk=judged.risk), judged.terms, now_ms)
        if rule is not None:
            return rule
        if judged.terms.needs_verification and self._passkeys is not None:
            tx.after_commit(self._passkeys.warm)
        return self._asker.request(tx, asked, judged, expires_at_ms=expires_at_ms, now_ms=now_ms)

    # -- deciding

    def decide(
        self, tx: Transaction, principal: Principal, answer: Answer, signature: str, now_ms: int
    ) -> View | Problem:
        """Take one person's signed answer. The first no ends it, and so does the yes that is enough; then the run that
        waits is rung for.

        A refusal is returned, not raised, so that its audit entry is committed: `approval_already_decided`,
        `approval_already_answered`, `approval_expired`, `hash_mismatch`, `signature_invalid`, `edit_too_risky`,
        `number_required`, `number_wrong`, `user_verification_required`, `rule_not_allowed`, `action_not_presentable`, `forbidden` or `invalid`.
        Raises `not_found` (also for whoever was not asked) and `forbidden` for a caller that has no key to sign with.
        """
        if principal.is_local or principal.is_by_sms:
            raise Problem(Code.FORBIDDEN, "Decisions are signed by a paired device. Open the app.")
        self._devices.guard(tx, principal)
        approval = self._find_seen(tx, principal.user_id, answer.approval_id)
        after = self._decider.decide(tx, principal, approval, answer, signature, now_ms)
        return self._answered(tx, principal, approval, after, now_ms)

    def decide_by_sms(self, tx: Transaction, by: Writer, reply: Reply, now_ms: int) -> View | Problem:
        """Take an answer for which `Codes` vouches. A refusal is returned: `approval_already_decided`,
        `approval_expired`, `hash_mismatch`, `forbidden` (also for what is not decided so). Raises `not_found`.
        """
        approval = self._find_seen(tx, by.principal.user_id, reply.approval_id)
        after = self._decider.decide_by_sms(tx, by, approval, reply, now_ms)
        return self._answered(tx, by.principal, approval, after, now_ms)

    def may_answer(self, tx: Transaction, user_id: str, approval: Approval, now_ms: int) -> bool:
        """Whether this person, as they are now, could decide on it."""
        return self._decider.may_answer(tx, Principal(user_id, frozenset()), approval, now_ms)

    def _answered(
        self, tx: Transaction, principal: Principal, approval: Approval, after: Approval | Problem, now_ms: int
    ) -> View | Problem:
        stored = store.find_approval(tx, approval.approval_id)
        is_ended = stored is not None and approval.state is ApprovalState.PENDING is not stored.state
        if is_ended and (approval.is_outside or not self.go_on(tx, approval.run_id, now_ms)):
            self._ring(tx, approval, now_ms)
        return after if isinstance(after, Problem) else self.get(tx, principal.user_id, approval.approval_id)

    def check_edit(
        self, tx: Transaction, principal: Principal, approval_id: str, edited_action: str, now_ms: int
    ) -> Risk:
        """What would be at stake with other arguments, for whoever is about to sign them. Nothing is decided.

        Raises `not_found`, and what `decide` would refuse: `approval_already_decided`, `approval_expired`, `forbidden`,
        `approval_already_answered`, `edit_too_risky`, `action_not_presentable`, and `invalid` by the tool.
        """
        approval = self._find_seen(tx, principal.user_id, approval_id)
        return self._decider.check_edit(tx, principal, approval, edited_action, now_ms).risk

    def number_for(self, tx: Transaction, principal: Principal, approval_id: str) -> str | None:
        """The digits that whoever approves has to type, for the side that asked; None where none are wanted.

        Raises `not_found`, and `forbidden` for every other device: it must learn them from a person.
        """
        approval = self._find_seen(tx, principal.user_id, approval_id)
        is_asking_side = principal.device_id in (None, approval.asked_by_device_id)
        if principal.user_id != approval.user_id or not is_asking_side:
            raise Problem(Code.FORBIDDEN, "The digits are shown where this was asked for, and nowhere else.")
        return approval.number

    # -- ending without a person's answer

    async def sweep(self, database: Database, now_ms: int) -> None:
        """Expire, escalate, remind, ask aloud whose turn has come, and tell of decisions that nobody takes up."""
        await self.expire(database, now_ms)
        if not await database.read(lambda tx: self._is_anything_due(tx, now_ms)):
            return
        await self._asker.sweep(database, now_ms)
        while await database.write(lambda tx: self._warn_some(tx, now_ms)) >= SWEEP_COUNT:
            pass

    def _is_anything_due(self, tx: Transaction, now_ms: int) -> bool:
        """A look, so that nothing is written while nothing is due."""
        return self._asker.is_anything_due(tx, now_ms) or bool(store.unconsumed(tx, now_ms - CONSUMED_WITHIN_MS, 1))

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
        """Close what a run that ended still asks for; what was decided for it is not taken up any more."""
        for approval in store.pending_of_run(tx, run_id):
            self._close(tx, approval, ApprovalState.CANCELLED, AuditEvent.APPROVAL_CANCELLED, now_ms)
        store.drop_of_run(tx, run_id, now_ms)

    def withdraw(self, tx: Transaction, approval: Approval | None, now_ms: int, *, by: Principal) -> None:
        """Whoever asked does not need it any more; None was let through by a rule. Raises `approval_already_decided`,
        `approval_expired`.
        """
        if approval is None:
            raise Problem(Code.APPROVAL_ALREADY_DECIDED, "A rule has let this through.", extra={"decision": "approve"})
        check_open(approval, now_ms)
        self._close(tx, approval, ApprovalState.CANCELLED, AuditEvent.APPROVAL_CANCELLED, now_ms, by)
        store.note_consumed(tx, approval.approval_id, now_ms)

    def _close(
        self,
        tx: Transaction,
        approval: Approval,
        state: ApprovalState,
        event: AuditEvent,
        now_ms: int,
        by: Principal | None = None,
    ) -> None:
        closed = replace(approval, state=state, decided_at_ms=now_ms)
        if store.leave_pending(tx, closed):
            self._telling.decided(tx, closed, BY_GATEWAY, now_ms)
            self._telling.record(tx, event, closed, now_ms, actor=by)
            self._ring(tx, closed, now_ms)

    def _ring(self, tx: Transaction, approval: Approval, now_ms: int) -> None:
        if approval.is_outside:
            self.on_outside_end(tx, approval.run_id, now_ms)
        self._telling.ring(tx, approval)

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves: their rules end, they decide on nothing, and what they agreed to waits for others."""
        self.rules.end_all(tx, principal, user_id, now_ms)
        asking_store.shut_out(tx, user_id)
        asking_store.forget_pending_votes(tx, user_id)

    # -- what became of a decision

    def delivered(self, tx: Transaction, approval_id: str, now_ms: int) -> None:
        """Its run has taken the decision up."""
        store.note_delivered(tx, approval_id, now_ms)

    def consumed(self, tx: Transaction, approval_id: str, now_ms: int) -> None:
        """The call has begun, or its refusal was told."""
        store.note_consumed(tx, approval_id, now_ms)

    def _warn_some(self, tx: Transaction, now_ms: int) -> int:
        found = store.unconsumed(tx, now_ms - CONSUMED_WITHIN_MS, SWEEP_COUNT)
        for approval in found:
            if store.note_warned(tx, approval.approval_id, now_ms):
                self._telling.unconsumed(tx, approval, now_ms)
                self._telling.record(tx, AuditEvent.APPROVAL_UNCONSUMED, approval, now_ms)
        return len(found)

    # -- reading

    def guard(self, tx: Transaction, principal: Principal) -> None:
        """Refuse a caller whose credentials have ended since."""
        self._devices.guard(tx, principal)

    def get(self, tx: Transaction, user_id: str, approval_id: str) -> View:
        """Raises `not_found`, also for what this person was not asked and does not ask for."""
        return self._views(tx, user_id, [self._find_seen(tx, user_id, approval_id)])[0]

    def _find_seen(self, tx: Transaction, user_id: str, approval_id: str) -> Approval:
        approval = store.find_approval_of(tx, user_id, approval_id)
        if approval is None:
            raise Problem(Code.NOT_FOUND, "There is no such approval.")
        return approval

    def pending_of_run(self, tx: Transaction, run_id: str) -> "list[Approval]":
        """For the gateway's own work: what this run waits for."""
        return store.pending_of_run(tx, run_id)

    def find(self, tx: Transaction, approval_id: str) -> Approval | None:
        """For the gateway's own work: whoever's it is."""
        return store.find_approval(tx, approval_id)

    def list(
        self,
        tx: Transaction,
        user_id: str,
        *,
        state: ApprovalState | None,
        tool: str = "",
        cursor: str | None,
        limit: int,
    ) -> tuple[list[View], str | None]:
        """A page of one state (None: all) and tool (empty: all), newest first, and the cursor of the next.

        Actions are large: a page also ends at MAX_PAGE_BYTES.
        """
        limit = max(1, min(limit, MAX_PAGE))
        before = cursor or store.LAST
        if tool or state not in (None, ApprovalState.PENDING):
            rows = store.filtered_page(tx, user_id, before, limit + 1, state=state, tool=tool)
        else:
            rows = store.page(tx, user_id, before, limit + 1, only_pending=state is not None)
        count = _fitting(rows[:limit], MAX_PAGE_BYTES)
        shown = self._views(tx, user_id, rows[:count])
        return shown, rows[count - 1].approval_id if len(rows) > count else None

    def pending(self, tx: Transaction, user_id: str, limit: int) -> "list[View]":
        """What waits for an answer, newest first, as a snapshot shows it: up to MAX_PENDING_BYTES of actions."""
        rows = store.page(tx, user_id, store.LAST, limit, only_pending=True)
        return self._views(tx, user_id, rows[: _fitting(rows, MAX_PENDING_BYTES)])

    def _views(self, tx: Transaction, user_id: str, rows: "list[Approval]") -> "list[View]":
        if not rows:
            return []
        first, last = min(row.approval_id for row in rows), max(row.approval_id for row in rows)
        askings = {one.approval_id: one for one in asking_store.askings_between(tx, user_id, first, last)}
        votes = asking_store.votes_between(tx, user_id, first, last)
        names = self._telling.names(tx, {vote.user_id for vote in votes} | {row.user_id for row in rows})
        return [
            View(
                row,
                askings[row.approval_id],
                tuple(vote for vote in votes if vote.approval_id == row.approval_id),
                names,
            )
            for row in rows
        ]

    def count_pending(self, tx: Transaction) -> int:
        """What waits for an answer, of all users."""
        return store.count_pending(tx)

    def count_unconsumed(self, tx: Transaction, now_ms: int) -> int:
        """Decisions that nobody has taken up in ten seconds, of all users."""
        return store.count_unconsumed(tx, now_ms - CONSUMED_WITHIN_MS)


def _fitting(rows: "list[Approval]", max_bytes: int) -> int:
    """How many of the rows fit: at least one, where there is one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row.action.encode("utf-8"))
        if count and size > max_bytes:
            return count
    return len(rows)
