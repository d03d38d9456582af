"""Use cases of runs. Every method is a unit of work, or a part of one; the worker carries out what they decide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from entobot.agents import store
from entobot.agents.events import RunEvents
from entobot.agents.lines import lines_of, outcome_of, refusal_text
from entobot.agents.model import (
    CallState,
    Execute,
    Run,
    RunState,
    Step,
    Think,
    ToolCall,
    Wait,
    clean_text,
    is_executing,
    is_waiting,
    next_ready,
)
from entobot.agents.runner import RETRYABLE, Line, RunErrorCode, RunFailed, ToolOutcome
from entobot.agents.tools import Toolbox
from entobot.approvals.action import MAX_RAW_BYTES, action_args_json, parse_args
from entobot.approvals.model import Approval, ApprovalState
from entobot.approvals.service import Approvals
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.bus.bus import Bus
from entobot.conversations.model import Message
from entobot.conversations.service import Conversations
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids
from entobot.core.principal import Principal
from entobot.storage.database import Transaction

TRANSCRIPT_MESSAGES = 60
RUNS_BEFORE = 5
RESTARTED = "The gateway was stopped while the answer was being written. Ask again to get it."
AGENT_STOPPED = "The agent was stopped while it waited for an answer to its question. Ask again."
MAX_LEAVES = 500
"""How often an agent outside may ask for leave in one run; what it does in between is not counted here."""
OUTCOME_UNKNOWN = (
    "The gateway was stopped while this ran. Whether it took effect is not known; it is not run again by itself."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_iterations` model calls a run; `max_busy_per_user` runs at a time, not counting those that wait.

    A run of this node that nothing here drives any more is taken up again when it did not move for `abandoned_after`.
    """

    max_iterations: int = 20
    max_busy_per_user: int = 32
    approval_timeout: timedelta = timedelta(hours=24)
    abandoned_after: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Claimed:
    """`agent` is who shall answer; empty: the gateway's own. `before` as in TurnRequest."""

    run: Run
    transcript: tuple[Line, ...]
    agent: str = ""
    before: str | None = None


@dataclass(frozen=True, slots=True)
class UserBusy:
    """The user has as many runs under way as one may."""

    user_id: str


@dataclass(frozen=True, slots=True)
class Requested:
    """A tool call of a turn, with the ids it got. `args_json` is the model's, unchecked."""

    tool_call_id: str
    model_call_id: str
    name: str
    args_json: str
    asks_leave: bool = False


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    message_id: str
    text: str
    calls: tuple[Requested, ...]
    runner_state: str


OnAnswer = Callable[[Transaction, Message, int], None]
"""Port, filled by the composition root: a run has said its last, in the unit that stores it."""


AgentOf = Callable[[Transaction, str, str], str]
"""Port, filled by the composition root: who answers this user in this conversation; empty: the gateway's own."""


def _the_own(_tx: Transaction, _user_id: str, _conversation_id: str) -> str:
    return ""


OnFailure = Callable[[Transaction, Run, RunFailed, int, int], None]
"""Port, filled by the composition root: a run has failed, which its event of this number says, in the unit that ends it."""


def _nobody_knows(_tx: Transaction, _run: Run, _failure: RunFailed, _event_seq: int, _now_ms: int) -> None:
    return None


class Agents:
    """`alive` reads the ids of the nodes that live; this one is `node_id`, a new one with every start."""

    def __init__(
        self,
        *,
        ids: Ids,
        bus: Bus,
        audit: Audit,
        events: RunEvents,
        conversations: Conversations,
        approvals: Approvals,
        tools: Toolbox,
        limits: Limits,
        node_id: str,
        alive: Callable[[Transaction], frozenset[str]],
    ) -> None:
        self.on_failure: OnFailure = _nobody_knows
        self.on_answer: list[OnAnswer] = []
        self.agent_of: AgentOf = _the_own
        self._node_id = node_id
        self._alive = alive
        self._ids = ids
        self._bus = bus
        self._audit = audit
        self._events = events
        self._conversations = conversations
        self._approvals = approvals
        self._tools = tools
        self._limits = limits

    # -- a run begins

    def claim(self, tx: Transaction, conversation_id: str, run_id: str, now_ms: int) -> Claimed | UserBusy | None:
        """Give the oldest unanswered message to a new run. None when there is none or a run is active there."""
        if store.find_active_run(tx, conversation_id) is not None:
            return None
        return self.claim_next(tx, conversation_id, run_id, now_ms)

    def claim_next(self, tx: Transaction, conversation_id: str, run_id: str, now_ms: int) -> Claimed | UserBusy | None:
        """The same, in a unit that knows that no run is active there: for one, because it has just ended it."""
        prompt = self._conversations.next_unanswered(tx, conversation_id)
        if prompt is None:
            return None
        if store.count_busy(tx, prompt.user_id) >= self._limits.max_busy_per_user:
            return UserBusy(prompt.user_id)
        if not self._conversations.take(tx, prompt.message_id, run_id):
            return None
        run = Run(
            run_id=run_id,
            user_id=prompt.user_id,
            conversation_id=conversation_id,
            message_id=prompt.message_id,
            state=RunState.THINKING,
            iterations=1,
            runner_state=None,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            node_id=self._node_id,
        )
        store.insert_run(tx, run)
        self._events.started(tx, run, now_ms)
        known = self._conversations.transcript(tx, conversation_id, TRANSCRIPT_MESSAGES)
        agent = self.agent_of(tx, prompt.user_id, conversation_id)
        before = _state_before(tx, known, run_id) if agent else None
        return Claimed(run, lines_of(known, prompt), agent, before)

    # -- a turn ends

    def finish_turn(
        self, tx: Transaction, run: Run, turn: TurnOutcome, now_ms: int
    ) -> tuple[Run, tuple[ToolCall, ...]] | None:
        """Store what the model said and asked for: the run and its calls as they stand now.

        None when the run is no longer thinking (cancelled meanwhile).
        """
        after = replace(run, runner_state=turn.runner_state, state=RunState.ACTING if turn.calls else RunState.FINISHED)
        if not store.move_run(tx, after, from_state=RunState.THINKING, now_ms=now_ms):
            return None
        if turn.text.strip():
            message = self._conversations.reply(
                tx,
                user_id=run.user_id,
                conversation_id=run.conversation_id,
                message_id=turn.message_id,
                content=turn.text,
                run_id=run.run_id,
                now_ms=now_ms,
            )
            if not turn.calls:
                for hear in self.on_answer:
                    hear(tx, message, now_ms)
        calls: list[ToolCall] = []
        for position, requested in enumerate(turn.calls):
            call = self._admit(tx, run, position, requested, now_ms)
            store.insert_call(tx, call, now_ms)
            calls.append(call)
            if call.state is CallState.REFUSED:
                self._events.tool_result(tx, run, call, now_ms)
        if not turn.calls:
            self._events.finished(tx, run, now_ms)
        return after, tuple(calls)

    def _admit(self, tx: Transaction, run: Run, position: int, requested: Requested, now_ms: int) -> ToolCall:
        """Check a call that the model made, and ask for approval where its tool needs it."""
        call = ToolCall(
            tool_call_id=requested.tool_call_id,
            run_id=run.run_id,
            iteration=run.iterations,
            position=position,
            model_call_id=clean_text(requested.model_call_id),
            name=clean_text(requested.name),
            args_json=clean_text(requested.args_json[:MAX_RAW_BYTES]),
            state=CallState.READY,
        )
        spec = self._tools.find(requested.name)
        if spec is None or spec.asks_leave is not requested.asks_leave:
            return replace(call, state=CallState.REFUSED, result="There is no such tool.")
        try:
            args = parse_args(requested.args_json)
            risk = self._tools.weigh(tx, spec, args, run.user_id)
            if risk is None:
                return call
            by = self._conversations.sender_of(tx, run.message_id)
            asked = replace(self._tools.question(tx, spec, run, call, risk), asked_by_device_id=by)
            call = replace(call, args_json=asked.args_json)
            expires_at_ms = now_ms + to_ms(self._limits.approval_timeout)
            found = self._approvals.ask(tx, asked, expires_at_ms=expires_at_ms, now_ms=now_ms)
        except Problem as problem:
            return replace(call, state=CallState.REFUSED, result=f"{problem.code}: {problem.detail}")
        if isinstance(found, Approval):
            return replace(call, state=CallState.WAITING, approval_id=found.approval_id)
        return call  # a rule lets it through

    # -- tool calls

    def advance(self, tx: Transaction, run_id: str, now_ms: int) -> Step | None:
        """What comes next for a run whose model has spoken; None when it is not this caller's to bring on.

        A call that is returned to be executed is `executing` in the same commit, so however often a run is woken, on
        however many nodes, and whenever the power goes: each call starts at most once.
        """
        run = store.find_run(tx, run_id)
        if run is None or run.state not in (RunState.ACTING, RunState.WAITING):
            return None
        stored = store.calls_of(tx, run)
        if self._is_held_elsewhere(tx, run, stored):
            return None
        calls = [self._with_decision(tx, call) for call in stored]
        ready = next_ready(calls)
        for before, call in zip(stored, calls, strict=True):
            if call is not before and call is not ready:
                self._keep_decision(tx, run, call, now_ms)
        if ready is None:
            return self.go_on(tx, run, calls, now_ms)
        before = next(call for call in stored if call.tool_call_id == ready.tool_call_id)
        return self._begin(tx, run, ready, before.state, now_ms)

    def go_on(self, tx: Transaction, run: Run, calls: Sequence[ToolCall], now_ms: int) -> Step | None:
        """What comes next for a run, and calls, that stand so in this very unit; None when a call is being executed."""
        if is_executing(calls):
            return None
        ready = next_ready(calls)
        if ready is not None:
            return self._begin(tx, run, ready, ready.state, now_ms)
        if is_waiting(calls):
            self._move(tx, run, RunState.WAITING, now_ms)
            return Wait()
        most = MAX_LEAVES if self._asks_leave(calls) else self._limits.max_iterations
        if run.iterations >= most:
            text = f"The agent stopped after {run.iterations} steps, which is the limit for one answer."
            self.fail(tx, run.run_id, RunFailed(RunErrorCode.ITERATION_LIMIT, text), now_ms)
            return None
        thinking = replace(run, iterations=run.iterations + 1)
        return Think(
            self._move(tx, thinking, RunState.THINKING, now_ms), tuple(self._outcome(tx, call) for call in calls)
        )

    def _outcome(self, tx: Transaction, call: ToolCall) -> ToolOutcome:
        return outcome_of(call, None if call.approval_id is None else self._approvals.find(tx, call.approval_id))

    def resume(self, tx: Transaction, run_id: str, now_ms: int) -> tuple[Run | None, Step | None]:
        """`advance`, and where nothing comes next the run as it stands then."""
        step = self.advance(tx, run_id, now_ms)
        return (store.find_run(tx, run_id) if step is None else None), step

    def _with_decision(self, tx: Transaction, call: ToolCall) -> ToolCall:
        """The call as its approval leaves it; the very same one where nothing was decided. Nothing is written."""
        if call.state is not CallState.WAITING or call.approval_id is None:
            return call
        approval = self._approvals.find(tx, call.approval_id)
        assert approval is not None, "an approval is stored with the call that waits for it"
        if approval.state is ApprovalState.PENDING:
            return call
        objection = self._tools.objection(tx, approval)
        if approval.state is ApprovalState.APPROVED and not objection:
            # From here on only the text that was signed exists.
            return replace(call, state=CallState.READY, args_json=action_args_json(approval.approved_action()))
        return replace(call, state=CallState.REFUSED, result=objection or refusal_text(approval))

    def _keep_decision(self, tx: Transaction, run: Run, decided: ToolCall, now_ms: int) -> None:
        if not store.move_call(tx, decided, from_state=CallState.WAITING, now_ms=now_ms):
            return
        assert decided.approval_id is not None, "it waited for one"
        if decided.result is None:
            self._approvals.delivered(tx, decided.approval_id, now_ms)
            return
        self._approvals.consumed(tx, decided.approval_id, now_ms)
        self._events.tool_result(tx, run, decided, now_ms)

    def _begin(self, tx: Transaction, run: Run, call: ToolCall, from_state: CallState, now_ms: int) -> Execute:
        executing = replace(call, state=CallState.EXECUTING)
        begun = store.move_call(tx, executing, from_state=from_state, now_ms=now_ms)
        assert begun, "the call was read in this very unit"
        if call.approval_id is not None:
            self._approvals.consumed(tx, call.approval_id, now_ms)
        return Execute(self._move(tx, run, RunState.ACTING, now_ms), executing)

    def record_result(
        self, tx: Transaction, run: Run, call: ToolCall, *, state: CallState, result: str, now_ms: int
    ) -> None:
        """Note how an execution ended. Also when the run was cancelled meanwhile: what was done was done."""
        ended = replace(call, state=state, result=clean_text(result))
        if not store.move_call(tx, ended, from_state=CallState.EXECUTING, now_ms=now_ms):
            return
        self._events.tool_result(tx, run, ended, now_ms)
        self._record_execution(tx, run, ended, now_ms)

    # -- a run ends early

    def fail(self, tx: Transaction, run_id: str, failure: RunFailed, now_ms: int) -> bool:
        """End an active run with RUN_ERROR. False when it had ended before."""
        run = store.find_run(tx, run_id)
        if run is None or not run.is_active:
            return False
        self._end(tx, run, RunState.FAILED, now_ms, error_code=failure.code)
        self._conversations.fail(tx, run.message_id, failure.code, failure.message)
        seq = self._events.failed(tx, run, failure, now_ms, retry=failure.code in RETRYABLE)
        self.on_failure(tx, run, failure, seq, now_ms)
        return True

    def cancel(self, tx: Transaction, principal: Principal, run_id: str, now_ms: int) -> RunState:
        """End a run because its user says so; the worker drops the model call when it hears. Returns the state.

        A tool that is being executed is not interrupted; its result is recorded. Raises `not_found`.
        """
        run = store.find_run(tx, run_id)
        if run is None or run.user_id != principal.user_id:
            raise Problem(Code.NOT_FOUND, "There is no such run.")
        if not run.is_active:
            return run.state
        self._cancel(tx, principal, run, now_ms)
        return RunState.CANCELLED

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """End every run of a person who leaves, and what they wrote last without an answer."""
        self._conversations.drop_awaiting(tx, user_id)
        for run in store.active_runs(tx):
            if run.user_id == user_id:
                self._cancel(tx, principal, run, now_ms)

    def _cancel(self, tx: Transaction, principal: Principal, run: Run, now_ms: int) -> None:
        self._end(tx, run, RunState.CANCELLED, now_ms)
        self._conversations.fail(tx, run.message_id, "cancelled", "The answer was stopped.")
        self._events.cancelled(tx, run, now_ms)
        self._audit.record(tx, AuditEvent.RUN_CANCELLED, now_ms=now_ms, actor=principal, subject=run.run_id)

    def _end(self, tx: Transaction, run: Run, state: RunState, now_ms: int, error_code: str | None = None) -> None:
        ended = store.move_run(
            tx, replace(run, state=state), from_state=run.state, now_ms=now_ms, error_code=error_code
        )
        assert ended, "the run was active in this very unit"
        for call in store.calls_of(tx, run):
            if call.state in (CallState.READY, CallState.WAITING):
                cancelled = replace(call, state=CallState.CANCELLED, result="The run ended before this was done.")
                store.move_call(tx, cancelled, from_state=call.state, now_ms=now_ms)
        self._approvals.cancel_for_run(tx, run.run_id, now_ms)
        bell = run.run_id.encode("ascii")
        tx.after_commit(lambda: self._bus.publish(topics.WORK_RUNS, bell))

    # -- after a restart, and for what was missed

    def recover(self, tx: Transaction, now_ms: int, *, held: frozenset[str] = frozenset()) -> list[str]:
        """End what cannot go on and return the runs that can.

        A run cut while its model spoke fails as `gateway_restarted`. A tool call found `executing` may or may not have
        happened: it becomes `unknown` and its run fails as `tool_outcome_unknown`, because a model that is told so
        tends to call the tool again, and whether to repeat it is for a person to say. Waiting runs stay.
        `held` are the runs that this process drives. Those of other nodes are theirs for as long as they live.
        """
        alive = self._alive(tx)
        for call in store.executing_calls(tx):
            run = store.find_run(tx, call.run_id)
            if run is not None and run.run_id not in held and self._is_cut(run, alive, now_ms):
                self._mark_unknown(tx, run, call, now_ms)
        resumable: list[str] = []
        for run in store.active_runs(tx):
            if run.run_id in held:
                continue
            is_cut = self._is_cut(run, alive, now_ms)
            if run.state is RunState.WAITING:
                if run.node_id not in alive | {self._node_id} and self._is_held(store.calls_of(tx, run)):
                    self.fail(tx, run.run_id, RunFailed(RunErrorCode.GATEWAY_RESTARTED, AGENT_STOPPED), now_ms)
                elif self._has_news(tx, run):
                    resumable.append(run.run_id)
            elif is_cut and run.state is RunState.THINKING:
                self.fail(tx, run.run_id, RunFailed(RunErrorCode.GATEWAY_RESTARTED, RESTARTED), now_ms)
            elif is_cut:
                resumable.append(run.run_id)
        return resumable

    def ended(self, tx: Transaction, run_ids: Sequence[str]) -> list[str]:
        """Which of these runs are over."""
        found = [store.find_run(tx, run_id) for run_id in run_ids]
        return [run.run_id for run in found if run is not None and not run.is_active]

    def _asks_leave(self, calls: Sequence[ToolCall]) -> bool:
        return any(self._tools.asks_leave(call.name) for call in calls)

    def _is_held(self, calls: Sequence[ToolCall]) -> bool:
        return any(self._tools.is_held(call.name) for call in calls)

    def _is_held_elsewhere(self, tx: Transaction, run: Run, calls: Sequence[ToolCall]) -> bool:
        """Whether an agent waits for leave on another node, the only one that can give it."""
        return run.node_id != self._node_id and self._is_held(calls) and run.node_id in self._alive(tx)

    def _is_cut(self, run: Run, alive: frozenset[str], now_ms: int) -> bool:
        if run.node_id == self._node_id:
            return now_ms - run.updated_at_ms >= to_ms(self._limits.abandoned_after)
        return run.node_id not in alive

    def _has_news(self, tx: Transaction, run: Run) -> bool:
        waiting = [call.approval_id for call in store.calls_of(tx, run) if call.state is CallState.WAITING]
        found = [self._approvals.find(tx, approval_id) for approval_id in waiting if approval_id is not None]
        return not found or any(a is not None and a.state is not ApprovalState.PENDING for a in found)

    def _mark_unknown(self, tx: Transaction, run: Run, call: ToolCall, now_ms: int) -> None:
        unknown = replace(call, state=CallState.UNKNOWN, result=OUTCOME_UNKNOWN)
        if not store.move_call(tx, unknown, from_state=CallState.EXECUTING, now_ms=now_ms):
            return
        self._events.tool_result(tx, run, unknown, now_ms)
        self._record_execution(tx, run, unknown, now_ms)
        failure = RunFailed(RunErrorCode.TOOL_OUTCOME_UNKNOWN, f"{call.name}: {OUTCOME_UNKNOWN}")
        self.fail(tx, run.run_id, failure, now_ms)

    # -- small parts

    def _record_execution(self, tx: Transaction, run: Run, call: ToolCall, now_ms: int) -> None:
        is_known = call.state is not CallState.UNKNOWN
        self._audit.record(
            tx,
            AuditEvent.TOOL_EXECUTED if is_known else AuditEvent.TOOL_OUTCOME_UNKNOWN,
            now_ms=now_ms,
            outcome=Outcome.SUCCESS if call.state is CallState.DONE else Outcome.FAILURE,
            subject=call.tool_call_id,
            facts={"run_id": run.run_id, "tool": call.name, "approval_id": call.approval_id},
        )

    def _move(self, tx: Transaction, run: Run, state: RunState, now_ms: int) -> Run:
        moved = replace(run, state=state, node_id=self._node_id)
        done = store.move_run(tx, moved, from_state=run.state, now_ms=now_ms)
        assert done, "the run was read in this very unit"
        return moved


def _state_before(tx: Transaction, known: Sequence[Message], run_id: str) -> str | None:
    """What the runner keeps of the last run here that came to an end of a turn, of the last few."""
    run_ids = dict.fromkeys(one.run_id for one in reversed(known) if one.run_id is not None and one.run_id != run_id)
    found = (store.find_run(tx, one) for one in list(run_ids)[:RUNS_BEFORE])
    return next((run.runner_state for run in found if run is not None and run.runner_state is not None), None)
