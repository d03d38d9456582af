"""Carry out what rules want done: each action once, in the commit that notes it, with the rights of the rule's maker."""

import json
import logging
from dataclasses import dataclass, replace

from entobot.approvals.model import Approval, ApprovalState, Question, risen
from entobot.approvals.service import Approvals
from entobot.automations import firing_store, store
from entobot.automations.model import MAX_ASKED_MS, MAX_LATE_MS, Action, ActionState, Firing
from entobot.automations.model import Kind as ActionKind
from entobot.automations.rules import Rule, RuleThen
from entobot.automations.watching import Watcher
from entobot.automations.wording import note_text, prompt_text
from entobot.conversations.service import Conversations
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from entobot.notifications.model import Kind, Note, Priority
from entobot.notifications.service import Notifications, Recipients
from entobot.notifications.wording import one_line, paragraph
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.things.service import Reach, Things
from entobot.things.tools import COMMAND, CommandArguments

log = logging.getLogger("entobot.automations")

AT_ONCE = 50
ADDRESS = "automation"
LATE = "The gateway was away for too long. It was not done late."


@dataclass(frozen=True, slots=True)
class _Job:
    """An action with what it stands on: the rights are those of now."""

    by: Principal
    rule: Rule
    firing: Firing
    action: Action
    now_ms: int

    @property
    def then(self) -> RuleThen:
        return RuleThen.model_validate_json(self.action.body)


class Doer:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        watcher: Watcher,
        things: Things,
        approvals: Approvals,
        conversations: Conversations,
        notifications: Notifications,
        meters: Meters,
    ) -> None:
        self._database = database
        self._clock = clock
        self._watcher = watcher
        self._things = things
        self._approvals = approvals
        self._conversations = conversations
        self._notifications = notifications
        self._meters = meters

    async def look(self) -> None:
        """Carry out what waits. Of several nodes each action is carried out by one."""
        while found := await self._database.read(self._ready, is_small=True):
            for action in found:
                await self._one(action)
            if len(found) < AT_ONCE:
                return

    def _ready(self, tx: Transaction) -> list[Action]:
        decided = [one for one in firing_store.asked(tx) if self._is_decided(tx, one)]
        return [*decided, *firing_store.queued(tx, AT_ONCE)][:AT_ONCE]

    def _is_decided(self, tx: Transaction, one: Action) -> bool:
        approval = None if one.approval_id is None else self._approvals.find(tx, one.approval_id)
        return approval is None or approval.state is not ApprovalState.PENDING

    async def _one(self, action: Action) -> None:
        now_ms = self._clock.now_ms()
        try:
            await self._things.carry_out(lambda tx: self._do(tx, action, now_ms))
        except StorageFailed:
            raise
        except AlreadyDone:
            return
        except Problem as problem:
            text = problem.detail
            await self._database.write(lambda tx: self._end(tx, action, ActionState.REFUSED, text, now_ms))
        except Exception as error:
            log.exception("an automation's action failed")
            text = f"It failed unexpectedly ({type(error).__name__}). Nothing of it was done."
            await self._database.write(lambda tx: self._end(tx, action, ActionState.FAILED, text, now_ms))

    def _do(self, tx: Transaction, action: Action, now_ms: int) -> None:
        """Raises Problem, with nothing done."""
        rule = store.find_rule(tx, action.automation_id)
        firing = firing_store.find_firing(tx, action.firing_id)
        if rule is None or firing is None:
            raise Problem(Code.NOT_FOUND, "The automation was removed.")
        if not rule.is_on:
            raise Problem(Code.INVALID, "The automation was switched off.")
        principal = Principal(
            rule.user_id, self._watcher.scopes_of(tx, rule), session_id=rule.automation_id, address=ADDRESS
        )
        job = _Job(principal, rule, firing, action, now_ms)
        if action.state is ActionState.ASKED:
            self._decided(tx, job)
            return
        if now_ms - action.made_at_ms > MAX_LATE_MS:
            raise Problem(Code.INVALID, LATE)
        do = {ActionKind.ASK: self._ask, ActionKind.COMMAND: self._command, ActionKind.NOTIFY: self._notify}
        do[action.kind](tx, job)

    def _end(
        self, tx: Transaction, action: Action, state: ActionState, outcome: str, now_ms: int, ref: str = ""
    ) -> None:
        ended = replace(action, state=state, outcome=outcome, ref=ref, ended_at_ms=now_ms)
        if not firing_store.move(tx, ended, action.state):
            raise AlreadyDone
        if action.approval_id is not None:
            self._approvals.consumed(tx, action.approval_id, now_ms)
        counter = self._meters.counter(Metric.AUTOMATION_ACTIONS, state=state.value)
        tx.after_commit(counter.add)

    # -- what is done

    def _notify(self, tx: Transaction, job: _Job) -> None:
        job.by.require(Scope.NOTIFY)
        then, said = job.then, note_text(job.firing.cause)
        note = Note(
            job.by.user_id,
            Kind.NOTICE,
            then.title or job.rule.body.name,
            body=paragraph(f"{then.text}\n{said}"),
            priority=Priority(then.priority),
            link=f"/automations/{job.rule.automation_id}",
            sender=job.rule.automation_id,
        )
        posted = self._notifications.send_within(tx, job.by, note, recipients(then.to), job.now_ms)
        if isinstance(posted, Problem):
            self._end(tx, job.action, ActionState.REFUSED, posted.detail, job.now_ms)
        else:
            self._end(tx, job.action, ActionState.DONE, "", job.now_ms, posted[0].notification_id)

    def _ask(self, tx: Transaction, job: _Job) -> None:
        job.by.require(Scope.CHAT)
        user_id, rule, conversation_id = job.by.user_id, job.rule, job.then.conversation
        if conversation_id is None:
            own = self._conversations.open_own(tx, user_id, rule.automation_id, rule.body.name, job.now_ms)
            conversation_id = own.conversation_id
        if not self._conversations.is_answered(tx, user_id, conversation_id):
            raise Problem(Code.INVALID, "No agent answers there at present.")
        text = prompt_text(job.then.text, job.firing.cause)
        sent = self._conversations.send_message(tx, job.by, conversation_id, text, job.now_ms)
        self._end(tx, job.action, ActionState.DONE, "", job.now_ms, sent.message_id)

    def _command(self, tx: Transaction, job: _Job) -> None:
        """What the type says is at stake decides whether a person is asked, as it does for the agent."""
        job.by.require(Scope.APPROVE)
        then, action = job.then, job.action
        assert then.thing is not None and then.command is not None  # noqa: PT018  the rule was checked
        args = CommandArguments(thing=then.thing, command=then.command, args=then.args)
        seen = self._things.view(tx, Reach.of(job.by.user_id, job.by.scopes), then.thing)
        risk = self._things.risk_of(seen, then.command, then.args)
        if risk is None:
            self._carry_out(tx, job, args)
            return
        if any(one.position == action.position for one in firing_store.asked_of_rule(tx, action.automation_id)):
            raise Problem(Code.INVALID, "An earlier one still waits for somebody's leave.")
        question = Question(
            user_id=job.by.user_id,
            run_id=action.action_id,
            conversation_id="",
            tool_call_id="",
            tool=COMMAND,
            args_json=json.dumps(args.model_dump(), ensure_ascii=False),
            title=one_line(f"{job.rule.body.name}: {seen.name}: {then.command}"),
            risk=risk,
            takes_edits=False,
        )
        found = self._approvals.ask(tx, question, expires_at_ms=job.now_ms + MAX_ASKED_MS, now_ms=job.now_ms)
        if not isinstance(found, Approval):
            self._carry_out(tx, job, args)
            return
        if not firing_store.move(
            tx, replace(action, state=ActionState.ASKED, approval_id=found.approval_id), action.state
        ):
            raise AlreadyDone

    def _decided(self, tx: Transaction, job: _Job) -> None:
        approval_id = job.action.approval_id
        approval = None if approval_id is None else self._approvals.find(tx, approval_id)
        if approval is None or approval.state is not ApprovalState.APPROVED:
            word = "gone" if approval is None else str(approval.state)
            self._end(tx, job.action, ActionState.REFUSED, f"The leave that it needs was {word}.", job.now_ms)
            return
        if approval.decided_at_ms is not None and job.now_ms - approval.decided_at_ms > MAX_LATE_MS:
            raise Problem(Code.INVALID, LATE)
        # From here on only the text that was signed exists.
        self._carry_out(tx, job, CommandArguments.model_validate(approval.approved_action().args), approval)

    def _carry_out(self, tx: Transaction, job: _Job, args: CommandArguments, approval: Approval | None = None) -> None:
        job.by.require(Scope.APPROVE)
        reach = Reach.of(job.by.user_id, job.by.scopes)
        seen = self._things.view(tx, reach, args.thing)
        if approval is not None and (why := risen(approval, self._things.risk_of(seen, args.command, args.args))):
            raise Problem(Code.INVALID, why)
        via, now_ms = job.rule.automation_id, job.now_ms
        made = self._things.command(tx, reach, seen, args.command, args.args, via=via, actor=None, now_ms=now_ms)
        self._end(tx, job.action, ActionState.DONE, "", now_ms, made.command_id)


class AlreadyDone(Exception):  # noqa: N818  reads as what happened
    """Another node has it: nothing of this unit happens."""


def recipients(to: str) -> Recipients:
    if to == "me":
        return Recipients()
    return Recipients(role=Role(to)) if to in set(Role) else Recipients(user_id=to)


def is_about_others(then: RuleThen, user_id: str) -> bool:
    return then.do == "notify" and then.to not in ("me", user_id)
