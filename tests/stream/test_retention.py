"""Old events go, in bounded batches, and whoever needed one of them is told."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from entobot.bus.bus_local import LocalBus
from entobot.core.ids import RandomIds
from entobot.core.permissions import Scope
from entobot.gateway.feed import EventsGone
from entobot.storage.database import Database, Transaction
from entobot.stream import store
from entobot.stream.model import Retention, StreamEvent
from entobot.stream.retention import BATCH, Backlog, backlog, trim
from entobot.stream.service import MAX_PAGE_CHARACTERS, Stream

ON_EVERY_STORE = True
NOW = 1_790_000_000_000
DAY_MS = 24 * 3600 * 1000
USERS = ("usr_1", "usr_2", "usr_3")


@pytest.fixture
async def stream(database: Database, ids: RandomIds) -> Stream:
    stream = Stream(LocalBus(), ids)

    def unit(tx: Transaction) -> None:
        for user_id in USERS:
            stream.open(tx, user_id)

    await database.write(unit)
    return stream


async def append(
    database: Database,
    stream: Stream,
    count: int,
    user_id: str = "usr_1",
    *,
    at_ms: int = NOW,
    expires_at_ms: int | None = None,
) -> None:
    def unit(tx: Transaction) -> None:
        for _ in range(count):
            stream.append(
                tx,
                user_id,
                {"type": "x"},
                topic="devices",
                scope=Scope.CHAT,
                now_ms=at_ms,
                expires_at_ms=expires_at_ms,
            )

    await database.write(unit)


async def kept(database: Database, user_id: str = "usr_1") -> list[int]:
    """What stands in the table; the floor must say the same."""

    def unit(tx: Transaction) -> tuple[list[int], int, int]:
        head = store.find_head(tx, user_id)
        assert head is not None
        rows = store.events_after(tx, user_id, 0, 10_000)
        return [row.seq for row in rows], head.trimmed_to, head.seq

    seqs, trimmed_to, head_seq = await database.read(unit)
    assert seqs == list(range(trimmed_to + 1, head_seq + 1))
    return seqs


async def test_of_each_user_the_newest_are_kept(database: Database, stream: Stream) -> None:
    await append(database, stream, 40)
    await append(database, stream, 9, "usr_2")
    assert await trim(database, Retention(keep_events=8), NOW) == 32
    assert await kept(database) == list(range(33, 41))
    assert await kept(database, "usr_2") == list(range(1, 10))  # within the slack


async def large(database: Database, stream: Stream, count: int, characters: int) -> None:
    def unit(tx: Transaction) -> None:
        for _ in range(count):
            event = {"type": "x", "pad": "x" * characters}
            stream.append(tx, "usr_1", event, topic="devices", scope=Scope.CHAT, now_ms=NOW)

    await database.write(unit)


async def page_after(database: Database, stream: Stream, after: int) -> list[StreamEvent]:
    return await database.read(lambda tx: stream.after(tx, "usr_1", after))


@pytest.mark.parametrize(("characters", "on_a_page"), [(250_000, 4), (100_000, 10), (3_000, 300)])
async def test_a_page_of_large_events_is_short_and_leaves_none_out(
    database: Database, stream: Stream, characters: int, on_a_page: int
) -> None:
    """It used to hold 300 of any size: 75 MB for a device that came back after long."""
    await large(database, stream, 310 if characters < 10_000 else 25, characters)
    last = (await database.read(lambda tx: stream.head(tx, "usr_1"))).seq
    seqs: list[int] = []
    sizes: list[int] = []
    while page := await page_after(database, stream, len(seqs)):
        seqs += [one.seq for one in page]
        sizes.append(len(page))
        assert sum(len(one.event) for one in page) <= MAX_PAGE_CHARACTERS
    assert seqs == list(range(1, last + 1))
    assert sizes[0] == on_a_page


async def test_small_events_after_large_ones_do_not_wait_for_pages_of_their_own(
    database: Database, stream: Stream
) -> None:
    await large(database, stream, 3, 250_000)
    await append(database, stream, 200)
    assert len(await database.read(lambda tx: stream.after(tx, "usr_1", 0))) == 203


async def test_the_backlog_is_what_the_next_sweep_takes_by_count_and_since_when_the_oldest_waits(
    database: Database, stream: Stream
) -> None:
    retention = Retention(keep_events=8)
    assert await database.read(lambda tx: backlog(tx, retention)) == Backlog(0, None)
    await append(database, stream, 9, "usr_2", at_ms=NOW - 7)  # within the slack
    await append(database, stream, 40)
    found = await database.read(lambda tx: backlog(tx, retention))
    assert found == Backlog(32, NOW - 7)
    assert await trim(database, retention, NOW) == found.events
    assert await database.read(lambda tx: backlog(tx, retention)) == Backlog(0, NOW - 7)


async def test_old_events_go_whatever_their_number(database: Database, stream: Stream) -> None:
    await append(database, stream, 3, at_ms=NOW - 2 * DAY_MS - 1)
    await append(database, stream, 2, at_ms=NOW - 2 * DAY_MS)
    await append(database, stream, 2, "usr_2", at_ms=NOW - 5 * DAY_MS)
    assert await trim(database, Retention(keep_for=timedelta(days=2)), NOW) == 5
    assert await kept(database) == [4, 5]
    assert await kept(database, "usr_2") == []
    assert await database.read(lambda tx: stream.after(tx, "usr_2", 2)) == []


async def test_a_clock_that_was_ahead_keeps_nothing_for_ever(database: Database, stream: Stream) -> None:
    await append(database, stream, 2, at_ms=NOW + 900 * DAY_MS)
    await append(database, stream, 1, at_ms=NOW - 3 * DAY_MS)
    await append(database, stream, 1, at_ms=NOW)
    await trim(database, Retention(keep_for=timedelta(days=2)), NOW)
    assert await kept(database) == [4]


async def test_a_batch_is_bounded_and_all_of_them_take_everything(
    database: Database, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in USERS:
        await append(database, stream, 2 * BATCH + 7, user_id)
    biggest, write = 0, database.write

    async def watched(unit: Callable[[Transaction], object]) -> object:
        nonlocal biggest

        def counting(tx: Transaction) -> object:
            nonlocal biggest
            before = sum(store.find_head(tx, user_id).trimmed_to for user_id in USERS)  # type: ignore[union-attr]
            done = unit(tx)
            after = sum(store.find_head(tx, user_id).trimmed_to for user_id in USERS)  # type: ignore[union-attr]
            biggest = max(biggest, after - before)
            return done

        return await write(counting)

    monkeypatch.setattr(database, "write", watched)
    assert await trim(database, Retention(keep_events=8), NOW) == 3 * (2 * BATCH - 1)
    assert biggest == BATCH
    for user_id in USERS:
        assert len(await kept(database, user_id)) == 8


async def test_many_nodes_may_sweep_at_once(database: Database, stream: Stream) -> None:
    for user_id in USERS:
        await append(database, stream, BATCH + 50, user_id, at_ms=NOW - 9 * DAY_MS)
        await append(database, stream, BATCH, user_id)
    retention = Retention(keep_events=300, keep_for=timedelta(days=2))
    await asyncio.gather(*(trim(database, retention, NOW) for _ in range(4)))
    for user_id in USERS:
        assert len(await kept(database, user_id)) == 300


async def test_a_read_from_before_what_is_kept_is_refused_and_never_partial(database: Database, stream: Stream) -> None:
    await append(database, stream, 20)
    await trim(database, Retention(keep_events=8), NOW)
    assert [one.seq for one in await database.read(lambda tx: stream.after(tx, "usr_1", 12, 2))] == [13, 14]
    for after in (0, 11):
        with pytest.raises(EventsGone):
            await database.read(lambda tx, after=after: stream.after(tx, "usr_1", after))
    await database.write(lambda tx: store.trim(tx, "usr_1", 20))
    assert await database.read(lambda tx: stream.after(tx, "usr_1", 20)) == []
    with pytest.raises(EventsGone):
        await database.read(lambda tx: stream.after(tx, "usr_1", 19))


# -- what devices have seen


async def test_what_a_device_did_not_acknowledge_within_ten_seconds_is_unseen(
    database: Database, stream: Stream
) -> None:
    await append(database, stream, 3)
    await append(database, stream, 1, expires_at_ms=NOW + 10_000)
    await append(database, stream, 1, at_ms=NOW + 1)

    async def unseen(now_ms: int) -> list[int]:
        found = await database.read(lambda tx: stream.unseen(tx, "usr_1", "dev_1", now_ms))
        return [event.seq for event in found]

    assert await unseen(NOW + 9_999) == []
    assert await unseen(NOW + 10_000) == [1, 2, 3]  # the fourth expired at that moment
    await database.write(lambda tx: stream.acknowledge(tx, "dev_1", "usr_1", 2, NOW))
    assert await unseen(NOW + 10_001) == [3, 5]
    await database.write(lambda tx: store.trim(tx, "usr_1", 3))
    assert await unseen(NOW + 10_001) == [5]


async def test_a_cursor_beyond_the_head_is_taken_back_to_where_the_device_is(
    database: Database, stream: Stream
) -> None:
    """After a restore from a backup the log may end before what a device had."""
    await append(database, stream, 5)
    await database.write(lambda tx: store.create_cursor(tx, "dev_1", "usr_1", 100, NOW))
    assert await database.read(lambda tx: stream.seen(tx, "usr_1", "dev_1")) == 5
    await database.write(lambda tx: stream.acknowledge(tx, "dev_1", "usr_1", 4, NOW))
    await append(database, stream, 200)
    assert await database.read(lambda tx: stream.seen(tx, "usr_1", "dev_1")) == 4


async def test_a_device_that_is_not_known_any_more_gets_no_cursor(database: Database, stream: Stream) -> None:
    await append(database, stream, 5)

    def acknowledge(seq: int, *, is_known: bool) -> Callable[[Transaction], None]:
        return lambda tx: stream.acknowledge(tx, "dev_1", "usr_1", seq, NOW, is_known=lambda: is_known)

    await database.write(acknowledge(2, is_known=True))
    await database.write(lambda tx: stream.forget_device(tx, "dev_1"))
    await database.write(acknowledge(3, is_known=False))
    assert await database.read(lambda tx: store.find_cursor(tx, "dev_1")) is None
