"""Forget old events, a bounded batch a commit. Any number of nodes may do it at once: they take the same ones."""

from dataclasses import dataclass

from entobot.core.clock import to_ms
from entobot.storage.database import Database, Transaction
from entobot.stream import store
from entobot.stream.model import Retention

BATCH = 500
"""Events that one commit takes: the writer is back after some milliseconds."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What retention has still to take by count, and since when the oldest event is kept."""

    events: int
    oldest_at_ms: int | None


def backlog(tx: Transaction, retention: Retention) -> Backlog:
    """Looks at every user's head."""
    oldest = store.oldest(tx, 1)
    return Backlog(
        store.excess(tx, retention.keep_events, retention.keep_events + retention.slack),
        oldest[0][2] if oldest else None,
    )


async def trim(database: Database, retention: Retention, now_ms: int) -> int:
    """Trim every user's stream; how many events went. A device that stands before them starts from a snapshot."""
    return await _trim_by_count(database, retention) + await _trim_by_age(database, now_ms - to_ms(retention.keep_for))


async def _trim_by_count(database: Database, retention: Retention) -> int:
    most = retention.keep_events + retention.slack
    total = 0
    while crowded := await database.read(lambda tx: store.crowded(tx, most, BATCH)):
        total += await _take(database, [(user_id, seq - retention.keep_events) for user_id, seq in crowded])
    return total


async def _trim_by_age(database: Database, before_ms: int) -> int:
    """In the order in which events were written. Of a user, one that is old makes all before it old: a clock that was
    ahead for a while does not keep what it stamped for ever.
    """
    total = 0
    while True:
        page = await database.read(lambda tx: store.oldest(tx, BATCH))
        took = await _take(database, list({user_id: seq for user_id, seq, at_ms in page if at_ms < before_ms}.items()))
        total += took
        if took < BATCH:  # the rest of the page is young
            return total


async def _take(database: Database, wanted: list[tuple[str, int]]) -> int:
    """Trim each named user up to the named `seq`."""
    total = 0
    while wanted:
        took, wanted = await database.write(lambda tx, wanted=wanted: _take_some(tx, wanted))
        total += took
    return total


def _take_some(tx: Transaction, wanted: list[tuple[str, int]]) -> tuple[int, list[tuple[str, int]]]:
    """At most BATCH events; how many, and who is left."""
    took = 0
    for done, (user_id, to_seq) in enumerate(wanted):
        head = store.find_head(tx, user_id)
        trimmed_to = 0 if head is None else head.trimmed_to
        reached = min(to_seq, trimmed_to + BATCH - took)
        if head is not None and reached > trimmed_to:
            store.trim(tx, user_id, reached)
            took += reached - trimmed_to
        if reached < to_seq or took >= BATCH:
            return took, wanted[done:] if reached < to_seq else wanted[done + 1 :]
    return took, []
