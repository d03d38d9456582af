"""Long polls: wait until something happened to one claim. Wakes on the bus, at a time limit, or at shutdown."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from entobot.bus.bus import Bus
from entobot.core import topics


class Turn:
    """One waiting call. Entered before the first look, so that nothing between look and wait is missed."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Return when woken (True) or after `timeout_s`; the caller looks again either way."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True


class Waiting:
    """At most one turn a claim: a newer call ends the older one, so that waiting costs a bounded amount."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._turns: dict[str, Turn] = {}
        self._is_stopped = False

    @contextmanager
    def turn(self, claim_id: str) -> Generator[Turn]:
        turn = Turn()
        if self._is_stopped:
            turn.wake()
        earlier = self._turns.get(claim_id)
        if earlier is not None:
            earlier.wake()
        self._turns[claim_id] = turn
        wanted = claim_id.encode("ascii")

        def heard(_: str, payload: bytes) -> None:
            if payload == wanted:
                turn.wake()

        unsubscribe = self._bus.subscribe(topics.CONTROL_INVITES, heard)
        try:
            yield turn
        finally:
            unsubscribe()
            if self._turns.get(claim_id) is turn:
                del self._turns[claim_id]

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._is_stopped = True
        for turn in self._turns.values():
            turn.wake()
