"""Searching by everything at once finds what a look at each entry finds, page by page, by an index."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from entobot.audit import searching
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Found
from entobot.audit.searching import Filters
from entobot.core.principal import Principal
from entobot.storage.compiled import StatementCache
from entobot.storage.database import Database
from entobot.storage.migrations import upgrade_sqlite
from tests.audit.conftest import Log
from tests.support.time import ManualClock

ON_EVERY_STORE = True
EVENTS = [AuditEvent.DEVICE_PAIRED, AuditEvent.DEVICE_RENAMED, AuditEvent.INVITE_CREATED, AuditEvent.INVITE_DENIED]
ACTORS = [
    Principal("usr_a", frozenset(), "dev_a"),
    Principal("usr_a", frozenset()),
    Principal("usr_b", frozenset()),
    None,
]
ENTRIES = 120


async def record_some(log: Log) -> list[Found]:
    """Entries of every kind, at times of a clock that is set back now and then; as the log has them, newest first."""

    def unit(tx: Any) -> None:
        at_ms = log.clock.now_ms()
        for n in range(ENTRIES):
            at_ms += -25 if n % 31 == 30 else 10
            log.audit.record(
                tx,
                EVENTS[n * 7 % 4],
                now_ms=at_ms,
                outcome=list(Outcome)[n % 3],
                actor=ACTORS[n * 5 % 4],
                subject=f"dev_{n % 6}",
                facts={"reason": f'Because of 100 % "{n % 9}"', "late": True, "n": n},
                personal={"device_name": f"Änn's phone_{n % 10}"} if n % 2 else None,
            )

    await log.database.write(unit)
    page = await log.database.read(lambda tx: log.audit.find(tx, limit=500))
    return page.entries


def meets(one: Found, filters: Filters) -> bool:
    entry, actor = one.entry, one.entry.actor
    name = filters.event
    who = [] if actor is None else [actor.user_id, actor.device_id]
    words = [entry.event, entry.subject, *who, *entry.facts.values(), *(one.personal or {}).values()]
    said = [str(word).lower() for word in words if word is not None and word is not True]
    return all(
        (
            name is None or (entry.event.startswith(name) if name.endswith(".") else entry.event == name),
            filters.actor is None or filters.actor in who,
            filters.subject is None or filters.subject == entry.subject,
            filters.outcome is None or filters.outcome == entry.outcome,
            filters.since_ms is None or filters.since_ms <= entry.at_ms,
            filters.until_ms is None or entry.at_ms < filters.until_ms,
            filters.text is None or any(filters.text.lower() in word for word in said),
        )
    )


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


START_MS = ManualClock().now_ms()
times = st.integers(START_MS, START_MS + 10 * ENTRIES)
asked = st.builds(
    Filters,
    event=maybe(st.sampled_from([*EVENTS, "device.", "invite.", "invite.c", "nothing."])),
    actor=maybe(st.sampled_from(["usr_a", "dev_a", "usr_b", "usr_c"])),
    subject=maybe(st.sampled_from(["dev_1", "dev_5", "dev_9"])),
    outcome=maybe(st.sampled_from(Outcome)),
    since_ms=maybe(times),
    until_ms=maybe(times),
    text=maybe(
        st.sampled_from(["PHONE_3", '100 % "4', "Änn", "usr_B", "salt", "reason", "invite", "true", "7", "_", "\\"])
    ),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=asked, limit=st.integers(1, 40), most=st.sampled_from([7, 50, 10_000]), is_upward=st.booleans())
async def test_whatever_is_asked_for_is_found_page_by_page(
    log: Log, filters: Filters, limit: int, most: int, is_upward: bool
) -> None:
    there = await stored(log)
    expected = [one.entry.seq for one in there if meets(one, filters)]
    seqs: list[int] = []
    cursor: int | None = 0 if is_upward else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "MAX_CANDIDATES", most)
        for _ in range(ENTRIES + 2):
            where = {"after": cursor} if is_upward else {"before": cursor}
            page = await log.database.read(lambda tx, w=where: log.audit.find(tx, filters, limit=limit, **w))
            assert len(page.entries) <= limit
            seqs += [one.entry.seq for one in page.entries]
            cursor = page.next
            if cursor is None:
                break
    assert cursor is None, "every page goes on"
    assert seqs == (expected[::-1] if is_upward else expected)


async def stored(log: Log) -> list[Found]:
    page = await log.database.read(lambda tx: log.audit.find(tx, limit=500))
    return page.entries or await record_some(log)


async def test_a_prefix_of_many_events_is_looked_for_as_well(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    there = await record_some(log)
    monkeypatch.setattr(searching, "MAX_LEGS", 1)
    page = await log.database.read(lambda tx: log.audit.find(tx, Filters(event="invite."), limit=500))
    assert [one.entry.seq for one in page.entries] == [
        one.entry.seq for one in there if one.entry.event.startswith("invite.")
    ]


FILTERS = [
    Filters(event="device.paired"),
    Filters(event="device."),
    Filters(actor="usr_a"),
    Filters(subject="dev_1"),
    Filters(outcome=Outcome.DENIED),
    Filters(since_ms=5),
    Filters(until_ms=5),
    Filters(event="device.", outcome=Outcome.DENIED, text="phone", since_ms=1, until_ms=9),
    Filters(text="phone"),
    Filters(),
]


class Explained:
    """A transaction that asks for the plan of each query before it runs it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._statements = StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))
        self.plans: list[str] = []

    def rows(self, statement: Any, parameters: Any = None) -> list[Any]:
        sql, values = self._statements.render(statement, parameters)
        self.plans += [row["detail"] for row in self._connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        return self._connection.execute(sql, values).fetchall()

    def first(self, statement: Any, parameters: Any = None) -> Any:
        return next(iter(self.rows(statement, parameters)), None)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
async def test_no_search_reads_the_whole_log_or_sorts_it(
    filters: Filters, tmp_path: Path, store_kind: str, database: Database, clock: ManualClock
) -> None:
    if store_kind != "sqlite":
        pytest.skip("a plan depends on statistics there: benchmarks/audit_log.py measures it")
    await record_some(Log(database, clock, tmp_path))
    with closing(sqlite3.connect(tmp_path / "entobot.db")) as connection:
        connection.row_factory = sqlite3.Row
        for is_upward in (False, True):
            tx = Explained(connection)
            after = 0 if is_upward else None
            searching.find_page(tx, filters, after=after, before=None, limit=20)  # pyright: ignore[reportArgumentType]  what it calls
            looked_up = [plan for plan in tx.plans if "audit_log" in plan]
            assert looked_up
            assert all(plan.startswith("SEARCH") or plan == "SEARCH audit_log" for plan in looked_up), tx.plans
            assert not any("TEMP B-TREE" in plan for plan in tx.plans), tx.plans
            if filters.subject or filters.actor or filters.event:
                assert any("ix_audit_log" in plan for plan in tx.plans), tx.plans
            if filters.since_ms or filters.until_ms:
                assert any("COVERING INDEX ix_audit_log_at" in plan for plan in tx.plans), tx.plans


def test_the_migrated_store_has_these_indexes(tmp_path: Path) -> None:
    upgrade_sqlite(tmp_path / "entobot.db")
    with closing(sqlite3.connect(tmp_path / "entobot.db")) as connection:
        names = {row[1] for row in connection.execute("PRAGMA index_list('audit_log')")}
    assert {
        f"ix_audit_log_{name}" for name in ("actor_device", "actor_user", "at", "event", "outcome", "subject")
    } <= names


def test_filters_that_are_not_given_are_none() -> None:
    assert Filters().given() == {}
    assert replace(Filters(), event="device.").given() == {"event": "device."}
