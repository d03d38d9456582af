"""One smallest real call of a model provider, and what is to be done when it fails."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from entobot.agents.choice import EXTRA, Endpoint
from entobot.agents.runner import Line, RunErrorCode, RunFailed, Runner, Speaker, TurnEnd, TurnEvent, TurnRequest
from entobot.agents.threads import in_daemon_thread
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem

WITHIN_S = 20.0
MAX_AT_ONCE = 3
"""Threads that build a runner for a try, those counted that hang after their try was given up."""
FIXES: dict[RunErrorCode, str] = {
    RunErrorCode.PROVIDER_OUT_OF_CREDIT: "Add credit at the provider, or use another one.",
    RunErrorCode.PROVIDER_RATE_LIMITED: "Wait, or raise the account's limit at the provider.",
    RunErrorCode.PROVIDER_REJECTED: "Choose a model that this key may use.",
    RunErrorCode.PROVIDER_TIMEOUT: "Try again, or choose a faster model.",
    RunErrorCode.PROVIDER_UNAUTHORIZED: "Make a new key at the provider and set it here.",
    RunErrorCode.PROVIDER_UNREACHABLE: "Check the address, its certificate, and this machine's way to it.",
}

BuildRunner = Callable[[Endpoint], Runner]
"""A runner that gives up soon and says little. Blocks. Raises RunFailed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """`code` is one of `RunErrorCode`, empty when it answered."""

    ok: bool
    model: str
    latency_ms: int
    code: str = ""
    problem: str = ""
    fix: str = ""


def not_installed() -> Tried:
    text = "The extra 'agent', which speaks to models, is not installed."
    return Tried(ok=False, model="", latency_ms=0, code="agent_not_ready", problem=text, fix=f"Install it: {EXTRA}")


def places() -> threading.BoundedSemaphore:
    """For `try_endpoint`; one for all tries."""
    return threading.BoundedSemaphore(MAX_AT_ONCE)


async def try_endpoint(
    build: BuildRunner, endpoint: Endpoint, clock: Clock, run_id: str, places: threading.BoundedSemaphore
) -> Tried:
    """Ask for one word. Raises nothing for what the provider does, `rate_limited` while all places are taken."""
    if not places.acquire(blocking=False):
        raise Problem(Code.RATE_LIMITED, "Earlier tries still hang. Ask again in a while.", retry_after_s=30)

    def built() -> Runner:
        try:
            return build(endpoint)
        finally:
            places.release()

    model, began_s = endpoint.model, clock.monotonic()
    try:
        async with asyncio.timeout(WITHIN_S):
            runner = await in_daemon_thread(built, "provider-try")
            began_s = clock.monotonic()
            try:
                await _turn(runner, run_id)
            finally:
                await runner.close()
        model = runner.name
        failed = None
    except RunFailed as failure:
        failed = failure
    except TimeoutError:
        failed = RunFailed(RunErrorCode.PROVIDER_TIMEOUT, f"There was no answer within {WITHIN_S:.0f} seconds.")
    latency_ms = round((clock.monotonic() - began_s) * 1000)
    if failed is None:
        return Tried(ok=True, model=model, latency_ms=latency_ms)
    fix = FIXES.get(failed.code, "Try again later.")
    return Tried(False, model, latency_ms, code=str(failed.code), problem=failed.message, fix=fix)


async def _turn(runner: Runner, run_id: str) -> None:
    asked = TurnRequest(run_id, (Line(Speaker.USER, "Say: ok"),), None, (), ())
    turn = cast("AsyncGenerator[TurnEvent, None]", runner.turn(asked))
    async with aclosing(turn) as events:
        async for event in events:
            if isinstance(event, TurnEnd):
                return
