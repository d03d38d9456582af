"""What time does to things: they fall silent, and what they read long ago becomes hours."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from entobot.core.clock import Clock
from entobot.storage.database import Database, Transaction
from entobot.things import command_store, history_store, store
from entobot.things.intake import OnStatus, forget_thing
from entobot.things.model import KNOWN_BATCH_MS, MAX_EVENTS, Thing

log = logging.getLogger("entobot.things")

AT_ONCE = 100
GAP_MS = 60_000
"""Where so long passed between two looks, nobody listened meanwhile: the machine slept, or the store was away."""
FOLD_AT_ONCE = 2000
"""Readings of one unit: what else is written waits for it."""
FOLDS_AT_ONCE = 24
"""Units of one series in one look: a board that sends what is years old does not keep others from their turn."""
FOLD_S = 30.0
"""After so long a look ends; the next one goes on where it was."""
SERIES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Keep:
    readings_ms: int
    hours_ms: int
    commands_ms: int


class Keeping:
    """`on_status` is called in the unit in which a thing falls silent. Of several nodes one notes it."""

    def __init__(self, database: Database, clock: Clock, keep: Keep, on_status: list[OnStatus]) -> None:
        self._database = database
        self._clock = clock
        self._keep = keep
        self._on_status = on_status
        self.listens_since_ms = clock.now_ms()
        """Nobody is silent to somebody who does not listen: who was heard before has its time anew."""
        self._looked_ms = self.listens_since_ms
        self._folded = 0
        """The series up to which the last look came."""
        self._unfolded: set[int] = set()
        """Series that failed, and the log has it."""

    async def look(self) -> None:
        """Note who has fallen silent."""
        count = AT_ONCE
        while count >= AT_ONCE:
            now_ms = self._clock.now_ms()
            if abs(now_ms - self._looked_ms) > GAP_MS:
                self.listens_since_ms = now_ms
            fall = partial(self._fall, now_ms=now_ms, since_ms=self.listens_since_ms)
            find = partial(store.fallen, now_ms=now_ms, listens_since_ms=self.listens_since_ms, count=1)
            count = await self._database.write(fall) if await self._database.read(find) else 0
            self._looked_ms = now_ms

    def _fall(self, tx: Transaction, now_ms: int, since_ms: int) -> int:
        found = store.fallen(tx, now_ms, since_ms, AT_ONCE)
        for one in found:
            status = one.status_at(now_ms, since_ms)
            if status is not one.status and store.fall(tx, one, status, now_ms):
                forget_thing(tx, one.device_id)
                for tell in self._on_status:
                    tell(tx, one.device_id, status, now_ms)
        return len(found)

    async def tidy(self) -> None:
        """Old readings become part of their hours, old hours, batches, commands and events are forgotten."""
        now_ms = self._clock.now_ms()
        await self._fold_all(now_ms)
        await self._database.write(lambda tx: history_store.forget_batches(tx, now_ms - KNOWN_BATCH_MS))
        await self._database.write(lambda tx: command_store.delete_old(tx, now_ms - self._keep.commands_ms))
        await self._trim_events()

    async def _fold_all(self, now_ms: int) -> None:
        end_s = self._clock.monotonic() + FOLD_S
        while True:
            numbers = await self._database.read(lambda tx: history_store.series_after(tx, self._folded, SERIES_AT_ONCE))
            for number in numbers:
                await self._fold_or_step_past(number, now_ms)
                self._folded = number
                if self._clock.monotonic() >= end_s:
                    break
            done = [number for number in numbers if number <= self._folded]
            if done:
                await self._database.write(_dropping(done, now_ms - self._keep.hours_ms))
            if len(done) < len(numbers):
                return
            if len(numbers) < SERIES_AT_ONCE:
                self._folded = 0
                return

    async def _fold_or_step_past(self, number: int, now_ms: int) -> None:
        """One that cannot be folded is its board's, and keeps neither others nor what comes after from their turn."""
        try:
            await self._fold(number, now_ms)
        except Exception as error:
            if self._database.trouble():
                raise  # it is nobody's in particular
            if number not in self._unfolded:
                log.warning("old readings of series %d could not become hours, and are kept: %s", number, error)
            self._unfolded.add(number)

    async def _fold(self, number: int, now_ms: int) -> None:
        before_ms = now_ms - self._keep.readings_ms
        before_ms -= before_ms % history_store.HOUR_MS
        for _ in range(FOLDS_AT_ONCE):
            at_ms = await self._oldest(number)
            if at_ms is None or at_ms >= before_ms:
                return
            await self._database.write(_folding(number, at_ms))

    async def _oldest(self, number: int) -> int | None:
        return await self._database.read(lambda tx: history_store.first_reading_ms(tx, number))

    async def _trim_events(self) -> None:
        after = ""
        while True:
            found: list[Thing] = await self._database.read(lambda tx, after=after: store.page(tx, None, after, AT_ONCE))
            if not found:
                return
            after = found[-1].device_id
            crowded = await self._database.read(
                lambda tx, found=found: [
                    one for one in found if history_store.has_more_events(tx, one.device_id, MAX_EVENTS)
                ]
            )
            for one in crowded:
                await self._database.write(lambda tx, one=one: history_store.trim_events(tx, one.device_id, MAX_EVENTS))


def _folding(number: int, at_ms: int) -> Callable[[Transaction], None]:
    return lambda tx: history_store.fold(tx, number, at_ms, FOLD_AT_ONCE)


def _dropping(numbers: list[int], before_ms: int) -> Callable[[Transaction], None]:
    def unit(tx: Transaction) -> None:
        for one in numbers:
            history_store.delete_hours(tx, one, before_ms)

    return unit
