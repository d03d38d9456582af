import asyncio
import json

import msgspec
import pytest

from entobot.bus.bus_local import LocalBus
from entobot.core import topics
from entobot.core.ids import RandomIds
from entobot.core.permissions import Scope
from entobot.gateway.live import Live
from entobot.storage.database import Database, Transaction
from entobot.stream.model import Head, Position, ResetReason, reset_reason
from entobot.stream.service import Stream

ON_EVERY_STORE = True
NOW = 1_790_000_000_000


@pytest.fixture
def bus() -> LocalBus:
    return LocalBus()


@pytest.fixture
async def stream(database: Database, bus: LocalBus, ids: RandomIds) -> Stream:
    stream = Stream(bus, ids)

    def open_both(tx: Transaction) -> None:
        stream.open(tx, "usr_1")
        stream.open(tx, "usr_2")

    await database.write(open_both)
    return stream


async def append(database: Database, stream: Stream, user: str = "usr_1", **event: object) -> int:
    return await database.write(
        lambda tx: stream.append(tx, user, {"type": "x"} | event, topic="devices", scope=Scope.CHAT, now_ms=NOW)
    )


async def test_numbers_grow_by_one_for_each_user_alone(database: Database, stream: Stream) -> None:
    assert [await append(database, stream) for _ in range(3)] == [1, 2, 3]
    assert [await append(database, stream, "usr_2") for _ in range(2)] == [1, 2]
    assert await append(database, stream) == 4
    head = await database.read(lambda tx: stream.head(tx, "usr_1"))
    assert head.seq == 4


async def test_concurrent_appends_leave_no_gap_and_no_double(database: Database, stream: Stream) -> None:
    numbers = await asyncio.gather(*(append(database, stream) for _ in range(100)))
    assert sorted(numbers) == list(range(1, 101))


async def test_a_number_of_a_failed_unit_is_used_again(database: Database, stream: Stream) -> None:
    def fail(tx: Transaction) -> None:
        stream.append(tx, "usr_1", {"type": "lost"}, topic="devices", scope=None, now_ms=NOW)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await database.write(fail)
    assert await append(database, stream) == 1


async def test_every_stream_has_an_id_of_its_own(database: Database, stream: Stream) -> None:
    first = await database.read(lambda tx: stream.head(tx, "usr_1"))
    second = await database.read(lambda tx: stream.head(tx, "usr_2"))
    assert first.stream_id.startswith("str_")
    assert first.stream_id != second.stream_id
    assert (first.seq, second.seq) == (0, 0)


async def test_events_are_read_in_order_after_a_number_for_their_user_alone(database: Database, stream: Stream) -> None:
    for number in range(5):
        await append(database, stream, n=number)
        await append(database, stream, "usr_2", n=99)
    page = await database.read(lambda tx: stream.after(tx, "usr_1", 1, 3))
    assert [(event.seq, json.loads(event.event)["n"]) for event in page] == [(2, 1), (3, 2), (4, 3)]
    assert await database.read(lambda tx: stream.after(tx, "usr_1", 5)) == []


async def test_an_event_keeps_what_a_device_filter_needs(database: Database, stream: Stream) -> None:
    scopes = (Scope.APPROVE, None, Scope.CHAT)

    def unit(tx: Transaction) -> None:
        for scope in scopes:
            stream.append(tx, "usr_1", {"type": "ä\n"}, topic="conversation:cnv_1", scope=scope, now_ms=NOW)

    await database.write(unit)
    events = await database.read(lambda tx: stream.after(tx, "usr_1", 0))
    assert tuple(event.scope for event in events) == scopes
    assert {(event.topic, event.at_ms, event.event) for event in events} == {
        ("conversation:cnv_1", NOW, '{"type":"ä\\n"}')
    }


async def test_the_bell_rings_after_the_commit_and_only_then(database: Database, stream: Stream, bus: LocalBus) -> None:
    rung: list[str] = []
    bus.subscribe("user.*", lambda topic, _: rung.append(topic))

    def fail(tx: Transaction) -> None:
        stream.append(tx, "usr_2", {"type": "lost"}, topic="devices", scope=None, now_ms=NOW)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await database.write(fail)
    await append(database, stream)
    await asyncio.sleep(0)
    assert rung == [topics.user("usr_1")]


async def test_a_live_event_is_shown_and_not_kept(database: Database, stream: Stream, bus: LocalBus) -> None:
    heard: list[Live] = []
    bus.subscribe(topics.user("usr_1"), lambda _, payload: heard.append(msgspec.json.decode(payload, type=Live)))
    stream.show("usr_1", {"type": "TEXT"}, topic="conversation:cnv_1", scope=Scope.CHAT, now_ms=NOW)
    await asyncio.sleep(0)
    assert heard == [Live(NOW, Scope.CHAT, "conversation:cnv_1", '{"type":"TEXT"}')]
    assert await database.read(lambda tx: stream.after(tx, "usr_1", 0)) == []


async def test_a_cursor_only_moves_forward(database: Database, stream: Stream) -> None:
    for _ in range(5):
        await append(database, stream)
    seen: list[int] = []
    for seq in (2, 1, 4, 4, 3, 0, -1):
        await database.write(lambda tx, seq=seq: stream.acknowledge(tx, "dev_1", "usr_1", seq, NOW))
        seen.append(await database.read(lambda tx: stream.seen(tx, "usr_1", "dev_1")))
    assert seen == [2, 2, 4, 4, 4, 4, 4]


async def test_nobody_can_have_seen_more_than_there_is(database: Database, stream: Stream) -> None:
    await append(database, stream)
    await database.write(lambda tx: stream.acknowledge(tx, "dev_1", "usr_1", 10**9, NOW))
    assert await database.read(lambda tx: stream.seen(tx, "usr_1", "dev_1")) == 1


async def test_devices_have_cursors_of_their_own(database: Database, stream: Stream) -> None:
    await append(database, stream)
    await database.write(lambda tx: stream.acknowledge(tx, "dev_1", "usr_1", 1, NOW))
    assert await database.read(lambda tx: (stream.seen(tx, "usr_1", "dev_1"), stream.seen(tx, "usr_1", "dev_2"))) == (
        1,
        0,
    )


@pytest.mark.parametrize(
    ("position", "trimmed_to", "reason"),
    [
        (None, 0, ResetReason.NONE),
        (Position("str_2", 10), 0, ResetReason.STREAM),
        (Position("str_2", 99), 0, ResetReason.STREAM),
        (Position("str_1", 11), 0, ResetReason.AHEAD),
        (Position("str_1", 10), 0, None),
        (Position("str_1", 0), 0, None),
        (Position("str_1", 4), 4, None),
        (Position("str_1", 3), 4, ResetReason.EXPIRED),
        (Position("str_1", -1), 0, ResetReason.EXPIRED),
        (Position("str_1", 10), 10, None),
    ],
)
def test_a_replay_is_whole_or_refused(position: Position | None, trimmed_to: int, reason: ResetReason | None) -> None:
    assert reset_reason(position, Head("str_1", 10, trimmed_to)) is reason
