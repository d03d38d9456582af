"""Carries runs out: claims unanswered messages, calls the model, executes tools, and takes up what was left."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import TypeVar, cast

from entobot.agents.attached import Attached
from entobot.agents.live import FLUSH_EVERY, LiveTurn
from entobot.agents.meters import OK, RunMeters
from entobot.agents.model import MAX_ANSWER_BYTES, CallState, Execute, Run, Step, Think, ToolCall, Wait, clean_text
from entobot.agents.runner import (
    Activity,
    LeaveRefused,
    RunErrorCode,
    RunFailed,
    Runner,
    TextDelta,
    ThoughtDelta,
    ToolOutcome,
    TurnEnd,
    TurnEvent,
    TurnRequest,
    Waiting,
)
from entobot.agents.service import RESTARTED, Agents, Claimed, Requested, TurnOutcome, UserBusy
from entobot.agents.tasks import Begun, Tasks
from entobot.agents.threads import KeptThreads
from entobot.agents.tools import Toolbox, ToolFailed
from entobot.agents.traces import CANCELLED, FAILED, STOPPED, RunTraces
from entobot.approvals.action import Args, parse_args
from entobot.approvals.service import Approvals
from entobot.bus.bus import Bus
from entobot.conversations.service import Conversations
from entobot.core import topics
from entobot.core.clock import Clock
from entobot.core.errors import Problem
from entobot.core.ids import Ids, Prefix
from entobot.storage.database import Database, StorageFailed, Transaction, Unit
from entobot.stream.service import Stream
from entobot.telemetry.log import bind, get_logger, unbind
from entobot.telemetry.meters import Meters
from entobot.telemetry.tracing import NoTracer, Tracer

T = TypeVar("T")

CLOSING_S = 1.0

log = get_logger("agents")


@dataclass(frozen=True, slots=True)
class Pace:
    """`turn_timeout` ends one model call, `sweep_every` is how late a missed bell is made up for."""

    turn_timeout: timedelta = timedelta(minutes=10)
    sweep_every: timedelta = timedelta(seconds=15)
    flush_every: timedelta = FLUSH_EVERY
    store_again: timedelta = timedelta(seconds=1)
    """From one attempt to commit an outcome to the next, while the store is away."""
    max_tasks: int = 64


class _Over(Enum):
    """How a stretch of a run ended where nobody has to look at its conversation."""

    QUIET = auto()
    """With an answer; nothing else waits there."""


_After = Step | Claimed | UserBusy | _Over | None
"""What a unit has decided. None: the run ended otherwise, or somebody else has it."""


class _Interrupt:
    """A model call under way, and the way to end it whatever the model does."""

    def __init__(self, live: LiveTurn) -> None:
        self.live = live
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def tell(self, *, is_stopping: bool) -> None:
        if not self.told.done():
            self.live.drop()
            self.told.set_result(is_stopping)


class Worker:
    """One per process. `start` takes up what an earlier process left; `stop` never waits longer than it is told."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        stream: Stream,
        conversations: Conversations,
        approvals: Approvals,
        agents: Agents,
        tools: Toolbox,
        runner: Runner,
        pace: Pace,
        waiting: Waiting | None = None,
        meters: Meters | None = None,
        tracer: Tracer | None = None,
        attached: Attached | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._stream = stream
        self._conversations = conversations
        self._approvals = approvals
        self._agents = agents
        self._tools = tools
        self._runner = runner
        self._pace = pace
        self._attached = attached
        self._waiting = waiting
        if waiting is not None:
            waiting.tell_lost(self._give_up)
        self._traces = RunTraces(tracer or NoTracer())
        self._meters = RunMeters(meters or Meters())
        self._threads = KeptThreads("tool")
        self._tasks = Tasks(self._serve, pace.max_tasks)
        self._meters.follow(
            active=lambda: len(self._driving),
            queued=lambda: self._tasks.queued,
            held_back=lambda: sum(map(len, tuple(self._held_back.values()))),
        )
        self._held_back: dict[str, set[str]] = {}
        self._driving: set[str] = set()
        self._turns: dict[str, _Interrupt] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._unsubscribe: list[Callable[[], None]] = []
        self._giving_up: set[asyncio.Task[bool]] = set()
        self._is_stopping = False

    # -- life

    async def start(self) -> None:
        """Hear bells, take up what was left, and sweep from now on."""
        self._is_stopping = False
        self._unsubscribe = [
            self._bus.subscribe(topics.WORK_MESSAGES, lambda _, payload: self._tasks.ring(payload.decode("ascii"))),
            self._bus.subscribe(topics.WORK_APPROVALS, lambda _, payload: self._tasks.ring(payload.decode("ascii"))),
            self._bus.subscribe(topics.WORK_RUNS, lambda _, payload: self._hear_end(payload.decode("ascii"))),
        ]
        await self.sweep()
        self._sweeper = asyncio.create_task(self._sweep_forever())

    async def stop(self, grace: timedelta) -> None:
        """Give up model calls, recording them as `gateway_restarted`; give tools `grace` to end. Never longer."""
        self._is_stopping = True
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._tasks.close()
        for turn in tuple(self._turns.values()):
            turn.tell(is_stopping=True)
        tasks = set(self._tasks.running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace.total_seconds())
            for task in late:
                task.cancel()
        self._threads.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._runner.close(), CLOSING_S)

    @property
    def is_running(self) -> bool:
        """Takes work and makes up for missed bells."""
        return not self._is_stopping and self._sweeper is not None and not self._sweeper.done()

    async def sweep(self) -> None:
        """Make up for missed bells: look after approvals, end or resume runs that nobody drives, serve waiting messages."""
        now_ms = self._clock.now_ms()
        await self._approvals.sweep(self._database, now_ms)
        held = self._tasks.begun | self._driving
        kept = held if self._waiting is None else held | self._waiting.runs()
        for run_id in await self._database.read(lambda tx: self._agents.ended(tx, sorted(kept))):
            self._hear_end(run_id)
        for run_id in await self._database.write(lambda tx: self._agents.recover(tx, now_ms, held=held)):
            self._tasks.ring(run_id)
        for conversation_id in await self._database.read(self._conversations.awaiting):
            self._tasks.ring(conversation_id)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._pace.sweep_every.total_seconds())
            try:
                await self.sweep()
            except Exception:
                log.exception("agent.sweep_failed")

    # -- ports: what begins in the unit that calls for it, so that nobody waits for a second commit

    def begin(self, tx: Transaction, conversation_id: str, now_ms: int) -> bool:
        """Claim a message in the unit that stores it; see `conversations.service.Begin`."""
        if not self.is_running or not self._tasks.has_room:
            return False
        claimed = self._agents.claim(tx, conversation_id, self._ids.new(Prefix.RUN), now_ms)
        if isinstance(claimed, Claimed):
            tx.after_commit(lambda: self._tasks.give(claimed.run.run_id, claimed))
        return not isinstance(claimed, UserBusy)  # behind a run that is active there, it is taken when that one ends

    def go_on(self, tx: Transaction, run_id: str, now_ms: int) -> bool:
        """Bring a run on in the unit that decides its approval; see `approvals.service.GoOn`."""
        if not self.is_running or not self._tasks.has_room:
            return False
        step = self._agents.advance(tx, run_id, now_ms)
        if step is None:
            return False
        tx.after_commit(lambda: self._tasks.give(run_id, step))
        return True

    # -- what was rung for

    async def _serve(self, key: str, begun: Begun | None) -> None:
        if begun is not None:
            await self._drive(begun)
        elif key.startswith(Prefix.RUN):
            await self._resume(key)
        else:
            await self._answer(key)

    async def _answer(self, conversation_id: str) -> None:
        run_id, now_ms = self._ids.new(Prefix.RUN), self._clock.now_ms()
        claimed = await self._database.write(
            lambda tx: self._agents.claim(tx, conversation_id, run_id, now_ms), is_small=True
        )
        if isinstance(claimed, UserBusy):
            self._hold_back(claimed, conversation_id)
        elif claimed is not None:
            await self._drive(claimed)

    async def _resume(self, run_id: str) -> None:
        now_ms = self._clock.now_ms()
        run, step = await self._database.write(lambda tx: self._agents.resume(tx, run_id, now_ms), is_small=True)
        if step is not None:
            await self._drive(step)
        elif run is not None and not run.is_active:
            self._tasks.ring(run.conversation_id)

    def _hold_back(self, busy: UserBusy, conversation_id: str) -> None:
        self._held_back.setdefault(busy.user_id, set()).add(conversation_id)

    def _hear_end(self, run_id: str) -> None:
        turn = self._turns.get(run_id)
        if turn is not None:
            turn.tell(is_stopping=False)
        self._let_go(run_id)
        self._tasks.ring(run_id)

    def _let_go(self, run_id: str) -> None:
        if self._waiting is not None:
            self._waiting.drop(run_id)

    def _give_up(self, run_id: str, failure: RunFailed) -> None:
        """What waited for this run is gone."""
        if self._is_stopping:  # found as one that nobody can bring on at the next start
            return
        now_ms = self._clock.now_ms()
        task = asyncio.create_task(self._keep(lambda tx: self._agents.fail(tx, run_id, failure, now_ms)))
        self._giving_up.add(task)
        task.add_done_callback(self._giving_up.discard)

    # -- one run, and those that follow it

    async def _drive(self, begun: Begun) -> None:
        """Bring a run on until it ends or waits for people; then the next of its conversation."""
        after: _After = begun
        while isinstance(after, Claimed | Think | Execute):
            conversation_id = after.run.conversation_id
            after = await self._drive_one(after)
            if isinstance(after, UserBusy):
                self._hold_back(after, conversation_id)
            elif after is None:
                self._tasks.ring(conversation_id)

    async def _drive_one(self, begun: Claimed | Think | Execute) -> _After:
        run = begun.run
        self._driving.add(run.run_id)
        self._traces.begin(run, is_resumed=not isinstance(begun, Claimed))
        bind(run_id=run.run_id)
        asked = begun if isinstance(begun, Claimed) else None
        after: _After = Think(run, ()) if isinstance(begun, Claimed) else begun
        try:
            if self._attached is not None and asked is not None:
                asked = replace(asked, transcript=await self._attached.read(asked.transcript))
            while isinstance(after, Think | Execute):
                if isinstance(after, Execute):
                    after = await self._execute(after.run, after.call)
                else:
                    after = await self._think(after.run, asked, after.outcomes)
        except BaseException:
            self._traces.settle(run, FAILED, is_failed=True)
            raise
        finally:
            unbind("run_id")
            self._traces.end(run, is_waiting=isinstance(after, Wait))
            self._driving.discard(run.run_id)
            for conversation_id in self._held_back.pop(run.user_id, ()):
                self._tasks.ring(conversation_id)
        return after

    async def _think(self, run: Run, asked: Claimed | None, outcomes: tuple[ToolOutcome, ...]) -> _After:
        """One model call, and what comes next. `asked` is what the run began with, where it began here."""
        if self._is_stopping:
            await self._fail(run, RunFailed(RunErrorCode.GATEWAY_RESTARTED, RESTARTED))
            return None
        live = LiveTurn(self._stream, self._clock, self._ids, run, flush_every=self._pace.flush_every)
        request = TurnRequest(run.run_id, (), run.runner_state, outcomes, self._tools.offers, run.conversation_id)
        if asked is not None:
            request = replace(request, transcript=asked.transcript, agent=asked.agent, before=asked.before)
        turn = self._turns[run.run_id] = _Interrupt(live)
        span = self._traces.turn(run)
        call = asyncio.create_task(_listen(self._runner, request, live))
        call.add_done_callback(_forget)
        begun_s = self._clock.monotonic()
        try:
            # Not asyncio.timeout: a runner that ignores being cancelled must not hold up the run.
            timeout = self._pace.turn_timeout.total_seconds()
            await asyncio.wait({call, turn.told}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._turns[run.run_id]
            call.cancel()
        spent_s = self._clock.monotonic() - begun_s
        if turn.told.done():
            self._meters.model_spoke(CANCELLED, spent_s)
            span.end(CANCELLED)
            self._traces.settle(run, CANCELLED)
            if turn.told.result():
                await self._fail(run, RunFailed(RunErrorCode.GATEWAY_RESTARTED, RESTARTED))
            return None
        live.close()
        try:
            end = _result(call, self._pace.turn_timeout)
        except RunFailed as failure:
            self._meters.model_spoke(failure.code, spent_s)
            span.end(failure.code, is_failed=True)
            await self._fail(run, failure)
            return None
        self._meters.model_spoke(OK, spent_s)
        span.end()
        outcome = _outcome(end, live, self._ids)
        now_ms, goes_on = self._clock.now_ms(), not self._is_stopping
        if outcome.calls and not goes_on:
            self._traces.settle(run, STOPPED)

        def unit(tx: Transaction) -> _After:
            ended = self._agents.finish_turn(tx, run, outcome, now_ms)
            if ended is None or not goes_on:
                return None
            if outcome.calls:
                return self._agents.go_on(tx, *ended, now_ms)
            next_id = self._ids.new(Prefix.RUN)
            return self._agents.claim_next(tx, run.conversation_id, next_id, now_ms) or _Over.QUIET

        return await self._keep(unit)

    async def _execute(self, run: Run, call: ToolCall) -> _After:
        """Carry out a call that is committed as `executing`; what comes next."""
        state, result = CallState.FAILED, ""
        span = self._traces.tool(run, call.name if self._tools.find(call.name) else "unknown")
        begun_s = self._clock.monotonic()
        try:
            args = parse_args(call.args_json)
            result = await self._carry_out(run, call, args)
            state = CallState.DONE
        except (ToolFailed, LeaveRefused) as failure:
            result = str(failure)
        except Problem as problem:
            result = problem.detail
        except Exception as error:
            log.exception("agent.tool_failed", tool=call.name)
            result = f"The tool failed unexpectedly ({type(error).__name__}); it may have taken effect in part."
        self._meters.tool_ended(state, self._clock.monotonic() - begun_s)
        span.end(OK if state is CallState.DONE else state, is_failed=state is not CallState.DONE)
        now_ms, goes_on = self._clock.now_ms(), not self._is_stopping
        if not goes_on:
            self._traces.settle(run, STOPPED)

        def unit(tx: Transaction) -> _After:
            self._agents.record_result(tx, run, call, state=state, result=result, now_ms=now_ms)
            return self._agents.advance(tx, run.run_id, now_ms) if goes_on else None

        return await self._keep(unit)

    async def _carry_out(self, run: Run, call: ToolCall, args: Args) -> str:
        if not self._tools.asks_leave(call.name):
            return await self._tools.carry_out(call.name, args, run.user_id, self._threads.run)
        if self._waiting is None:
            raise LeaveRefused("No agent waits for this.")
        self._waiting.allow(run.run_id, call.model_call_id, args, run.runner_state or "")
        return "The agent is told that it may do this once."

    async def _fail(self, run: Run, failure: RunFailed) -> None:
        self._traces.settle(run, failure.code, is_failed=True)
        now_ms = self._clock.now_ms()
        await self._keep(lambda tx: self._agents.fail(tx, run.run_id, failure, now_ms))

    async def _keep(self, unit: Unit[T]) -> T:
        """Commit what only this process knows: what a model said, what a tool did. While the store is away, again and
        again; a unit looks how its run stands, so one whose commit was made and not confirmed changes nothing.
        """
        is_told = False
        while True:
            try:
                return await self._database.write(unit, is_small=True)
            except StorageFailed as failure:
                if self._is_stopping:
                    raise
                if not is_told:
                    log.warning("agent.outcome_waits", why=str(failure))
                is_told = True
            await asyncio.sleep(self._pace.store_again.total_seconds())


async def _listen(runner: Runner, request: TurnRequest, live: LiveTurn) -> TurnEnd:
    """Show what the model writes and return how the turn ends. Raises RunFailed."""
    size = 0
    try:
        async with aclosing(cast("AsyncGenerator[TurnEvent, None]", runner.turn(request))) as events:
            async for event in events:
                if isinstance(event, TurnEnd):
                    _check_answer(event)
                    for call in event.tool_calls:
                        if not live.is_known(call.tool_call_id):
                            live.call(call.tool_call_id, call.name, call.args_json)
                    return event
                if isinstance(event, TextDelta):
                    size += len(event.text)
                    _check_size(size)
                    live.text(event.text)
                elif isinstance(event, ThoughtDelta):
                    live.thought(event.text)
                elif isinstance(event, Activity):
                    live.activity(event.key, event.kind, event.content)
                else:
                    live.call(event.tool_call_id, event.name, event.args)
    except (RunFailed, asyncio.CancelledError):
        raise
    except Exception as error:
        log.exception("agent.runner_failed", runner=runner.name)
        raise RunFailed(RunErrorCode.INTERNAL, f"The agent failed unexpectedly ({type(error).__name__}).") from None
    raise RunFailed(RunErrorCode.PROVIDER_ERROR, "The model's answer broke off.")


def _check_answer(end: TurnEnd) -> None:
    if not end.text.strip() and not end.tool_calls:
        raise RunFailed(RunErrorCode.EMPTY_ANSWER, "The model gave no answer.")
    _check_size(len(json.dumps(clean_text(end.text), ensure_ascii=False).encode("utf-8")))


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_ANSWER_BYTES:
        raise RunFailed(RunErrorCode.ANSWER_TOO_LARGE, f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")


def _result(call: asyncio.Task[TurnEnd], timeout: timedelta) -> TurnEnd:
    if not call.done():
        seconds = round(timeout.total_seconds())
        raise RunFailed(RunErrorCode.PROVIDER_TIMEOUT, f"The model did not finish within {seconds} s.")
    if call.cancelled():
        raise RunFailed(RunErrorCode.INTERNAL, "The model call was dropped.")
    return call.result()


def _outcome(end: TurnEnd, live: LiveTurn, ids: Ids) -> TurnOutcome:
    """Calls keep the id under which they were shown; a model that uses one id twice gets a second one."""
    used: set[str] = set()
    calls: list[Requested] = []
    for call in end.tool_calls:
        tool_call_id = live.id_of(call.tool_call_id)
        if tool_call_id in used:
            tool_call_id = ids.new(Prefix.TOOL_CALL)
        used.add(tool_call_id)
        calls.append(Requested(tool_call_id, call.tool_call_id, call.name, call.args_json, call.asks_leave))
    return TurnOutcome(live.message_id, clean_text(end.text), tuple(calls), end.state)


def _forget(task: asyncio.Task[TurnEnd]) -> None:
    """A call that was given up may fail later; nobody is left to be told."""
    if not task.cancelled():
        task.exception()
