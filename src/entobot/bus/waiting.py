"""Long polls: wait until something happened to one thing. Wakes on the bus, at a time limit, or at shutdown."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from entobot.bus.bus import Bus


class Turn:
    """One waiting call. Entered before the first look, so that nothing between look and wait is missed."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self.is_over = False
        """A newer call waits for the same thing, or the gateway stops: look once more, and answer."""

    def wake(self) -> None:
        self._woken.set()

    def end(self) -> None:
        self.is_over = True
        self.wake()

    async def wait(self, timeout_s: float) -> bool:
        """Return when woken (True) or after `timeout_s`; the caller looks again either way."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Waiting:
    """At most one turn a thing: a newer call ends the older one, so that waiting costs a bounded amount.

    On `topic` comes the id of what something happened to.
    """

    def __init__(self, bus: Bus, topic: str) -> None:
        self._bus = bus
        self._topic = topic
        self._turns: dict[str, Turn] = {}
        self._is_stopped = False

    @contextmanager
    def turn(self, thing_id: str) -> Generator[Turn]:
        turn = Turn()
        if self._is_stopped:
            turn.end()
        earlier = self._turns.get(thing_id)
        if earlier is not None:
            earlier.end()
        self._turns[thing_id] = turn
        wanted = thing_id.encode("ascii")

        def heard(_: str, payload: bytes) -> None:
            if payload == wanted:
                turn.wake()

        unsubscribe = self._bus.subscribe(self._topic, heard)
        try:
            yield turn
        finally:
            unsubscribe()
            if self._turns.get(thing_id) is turn:
                del self._turns[thing_id]

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._is_stopped = True
        for turn in self._turns.values():
            turn.end()
