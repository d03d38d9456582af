"""Delivery over a real log: replay, live, resets, back-pressure, texts being written."""

from typing import Any

import pytest

from entobot.core.permissions import Scope
from entobot.gateway.delivery import MAX_BUFFERED_BYTES
from entobot.gateway.wire import MAX_FRAME_BYTES, Close
from entobot.storage.database import StorageFailed
from entobot.stream import store
from tests.support.gateway import USER, ManualLink, Reader, World, device, quiet
from tests.support.time import ManualClock

CHAT = frozenset({Scope.CHAT})


async def reader(world: World, name: str = "dev_1", after: int | None = 0, link: ManualLink | None = None) -> Reader:
    return await Reader(world, device(name, CHAT), link).open(after)


def kinds(link: ManualLink) -> list[str]:
    return [frame["type"] for frame in link.frames]


# -- opening


async def test_a_resume_replays_what_came_after_and_then_says_so(world: World) -> None:
    await world.append(5)
    one = await reader(world, after=2)
    assert kinds(one.link) == ["event", "event", "event", "resume_done"]
    assert one.link.seqs == [3, 4, 5]
    assert one.link.frames[-1]["seq"] == 5
    await world.append()
    await quiet()
    assert one.link.seqs == [3, 4, 5, 6]


async def test_a_resume_with_nothing_missed_is_done_at_once(world: World) -> None:
    await world.append(2)
    one = await reader(world, after=2)
    assert one.link.frames == [{"type": "resume_done", "seq": 2}]


async def test_an_event_that_comes_while_nothing_had_to_be_replayed_follows_the_end_of_the_replay(
    world: World,
) -> None:
    await world.append(2)
    await reader(world, "dev_other", after=2)  # its channel is open
    one = Reader(world, device("dev_1", CHAT))
    opening = await one.read_opening(2)
    await world.append()
    await quiet()
    assert one.channel is not None
    one.delivery.open(opening, one.channel)
    await quiet()
    assert [(frame["type"], frame["seq"]) for frame in one.link.frames] == [("resume_done", 2), ("event", 3)]


async def test_without_a_position_everything_up_to_now_is_a_snapshot(world: World) -> None:
    await world.append(3)
    world.snapshot = {"conversations": [{"id": "cnv_1"}], "unread": 1}
    one = await reader(world, after=None)
    assert one.link.frames == [
        {"type": "reset", "reason": "none"},
        {"type": "snapshot", "seq": 3, "conversations": [{"id": "cnv_1"}], "unread": 1},
    ]
    await world.append()
    await quiet()
    assert one.link.seqs == [4]


async def test_a_position_ahead_of_the_log_gets_a_snapshot(world: World) -> None:
    await world.append(3)
    one = await reader(world, after=4)
    assert kinds(one.link) == ["reset", "snapshot"]
    assert one.link.frames[0]["reason"] == "ahead"


async def retain(world: World, first_kept: int) -> None:
    await world.database.write(lambda tx: store.trim(tx, USER, first_kept - 1))


@pytest.mark.parametrize(("after", "reason"), [(2, "expired"), (3, None), (5, None)])
async def test_a_position_before_what_is_kept_gets_a_snapshot_and_no_partial_replay(
    world: World, after: int, reason: str | None
) -> None:
    await world.append(5)
    await retain(world, 4)
    one = await reader(world, after=after)
    if reason is None:
        assert one.link.seqs == list(range(after + 1, 6))
    else:
        assert (kinds(one.link), one.link.frames[0]["reason"]) == (["reset", "snapshot"], reason)


async def test_when_retention_took_every_event_an_old_position_is_expired_and_not_silently_up_to_date(
    world: World,
) -> None:
    await world.append(5)
    await retain(world, 6)
    assert (await reader(world, after=2)).link.frames[0] == {"type": "reset", "reason": "expired"}
    assert kinds((await reader(world, "dev_2", after=5)).link) == ["resume_done"]


async def test_a_doorbell_between_reading_the_position_and_starting_is_not_lost(world: World) -> None:
    one = Reader(world, device("dev_1", CHAT))
    opening = await one.read_opening(0)
    await world.append()
    await quiet()
    assert one.channel is not None
    one.delivery.open(opening, one.channel)
    await quiet()
    assert one.link.seqs == [1]


async def test_one_that_opens_beyond_its_channel_gets_the_rest_and_the_others_too(world: World) -> None:
    first = await reader(world)
    world.bus.is_deaf = True
    await world.append(3)
    world.bus.is_deaf = False
    second = await reader(world, "dev_2")
    assert second.link.seqs == [1, 2, 3]
    assert first.link.seqs == [1, 2, 3]


async def test_a_long_replay_is_read_in_pages(world: World) -> None:
    await world.append(700)
    one = await reader(world)
    while one.link.seqs[-1] < 700:
        one.delivery.acknowledged(one.link.seqs[-1])
        await quiet()
    assert one.link.seqs == list(range(1, 701))
    assert [frame["type"] for frame in one.link.frames].index("resume_done") == 700


async def test_events_outside_the_scopes_are_left_out_and_do_not_hold_up_the_end_of_the_replay(world: World) -> None:
    await world.append(scope=Scope.CHAT)
    await world.append(300, scope=Scope.APPROVE)
    await world.append(scope=None)
    await world.append(300, scope=Scope.APPROVE)
    one = await reader(world)
    assert one.link.seqs == [1, 302]
    assert one.link.frames[-1] == {"type": "resume_done", "seq": 602}


async def test_a_snapshot_larger_than_the_buffer_waits_for_the_reader(world: World) -> None:
    rows: list[object] = [{"action": "a" * 60_000} for _ in range(40)]
    world.snapshot = {"pending_approvals": rows, "unread": 0}
    link = ManualLink(is_reading=False)
    one = await reader(world, after=None, link=link)
    await world.append()
    for _ in range(30):
        link.flush(MAX_FRAME_BYTES)
        one.delivery.writable()
        await quiet()
    assert link.max_buffered <= MAX_BUFFERED_BYTES + MAX_FRAME_BYTES
    pages = link.of_type("snapshot")
    assert sum(len(page["pending_approvals"]) for page in pages) == 40
    assert [page.get("more", False) for page in pages] == [True] * (len(pages) - 1) + [False]
    assert kinds(link)[-1] == "event"


# -- flow control


async def test_sending_pauses_until_it_is_acknowledged(world: World) -> None:
    one = await reader(world)
    await world.append(400)
    await quiet()
    assert one.link.seqs == list(range(1, 257))
    assert one.delivery.acknowledged(100)
    await quiet()
    assert one.link.seqs == list(range(1, 357))


async def test_acknowledging_what_was_never_sent_is_refused(world: World) -> None:
    await world.append(300)
    one = await reader(world)
    assert not one.delivery.acknowledged(257)
    assert one.delivery.acknowledged(256)


async def test_what_another_connection_of_the_device_acknowledged_opens_this_window_as_far_as_it_got(
    world: World,
) -> None:
    await world.append(300)
    one = await reader(world)
    one.delivery.device_has(300)
    await quiet()
    assert one.link.seqs == list(range(1, 301))


def codes(one: Reader) -> list[Close]:
    return [code for code, _, _ in one.ended]


async def test_thirty_seconds_of_pause_let_the_client_go_at_that_moment(world: World) -> None:
    one = await reader(world)
    world.timers.advance(100)
    await world.append(256)
    await quiet()
    world.timers.advance(29.9)
    assert codes(one) == []
    world.timers.advance(0.1)
    assert codes(one) == [Close.SLOW_CONSUMER]


async def test_pauses_that_end_in_time_are_not_added_up(world: World) -> None:
    one = await reader(world)
    for _ in range(4):
        await world.append(256)
        await quiet()
        world.timers.advance(20)
        assert one.delivery.acknowledged(one.link.seqs[-1])
    assert codes(one) == []
    await world.append(256)
    await quiet()
    world.timers.advance(29.9)
    assert codes(one) == []
    world.timers.advance(0.2)
    assert codes(one) == [Close.SLOW_CONSUMER]


async def test_more_than_1024_events_during_a_pause_let_the_client_go_after_a_second(world: World) -> None:
    one = await reader(world)
    await world.append(256)
    await quiet()
    await world.append(1024)
    await quiet()
    world.timers.advance(5)
    assert codes(one) == []
    await world.append(1)
    await quiet()
    assert codes(one) == [Close.SLOW_CONSUMER]


async def test_an_acknowledgement_has_a_second_to_travel_however_much_comes(world: World) -> None:
    one = await reader(world)
    await world.append(3000)
    await quiet()
    assert codes(one) == []
    world.timers.advance(0.9)
    assert codes(one) == []
    world.timers.advance(0.1)
    assert codes(one) == [Close.SLOW_CONSUMER]


async def test_what_waits_from_before_does_not_count_against_one_that_catches_up(world: World) -> None:
    await world.append(3000)
    one = await reader(world)
    while one.link.seqs[-1] < 3000:
        world.timers.advance(20)
        assert one.delivery.acknowledged(one.link.seqs[-1])
        await quiet()
    assert codes(one) == []
    assert one.link.seqs == list(range(1, 3001))


async def test_a_client_whose_events_were_trimmed_while_it_was_paused_comes_back_for_a_snapshot(world: World) -> None:
    one = await reader(world)
    await world.append(1500)
    await quiet()
    await retain(world, 600)
    one.delivery.acknowledged(256)
    await quiet()
    assert one.link.seqs == list(range(1, 257))
    assert codes(one) == [Close.SLOW_CONSUMER]
    again = await reader(world, after=256)
    assert again.link.frames[0] == {"type": "reset", "reason": "expired"}


async def test_a_client_that_is_paused_at_the_edge_of_what_is_kept_goes_on(world: World) -> None:
    one = await reader(world)
    await world.append(1500)
    await quiet()
    await retain(world, 257)
    one.delivery.acknowledged(256)
    await quiet()
    assert one.link.seqs == list(range(1, 513))
    assert codes(one) == []


async def test_a_node_that_slept_through_more_than_is_kept_sends_its_clients_for_a_snapshot(world: World) -> None:
    one = await reader(world)
    world.bus.is_deaf = True
    await world.append(5)
    world.hub._channels[USER]._read_to = 0  # as on a node that did not write them itself
    world.hub._channels[USER]._recent.clear()
    await retain(world, 4)
    await world.hub.sweep()
    await quiet()
    assert codes(one) == [Close.DRAINING]
    assert one.link.seqs == []


# -- expiry


async def test_an_event_that_expired_is_left_out_of_a_replay_and_the_rest_is_in_order(
    world: World, clock: ManualClock
) -> None:
    await world.append(2)
    await world.append(2, expires_at_ms=clock.now_ms() + 1000)
    await world.append(1, expires_at_ms=clock.now_ms() + 1001)
    await world.append(1, expires_at_ms=clock.now_ms() + 1000)
    clock.advance(1)
    one = await reader(world)
    assert one.link.seqs == [1, 2, 5]
    assert one.link.frames[-1] == {"type": "resume_done", "seq": 6}
    await world.append()
    await quiet()
    assert one.link.seqs == [1, 2, 5, 7]


async def test_an_event_that_expires_while_its_client_is_paused_is_left_out(world: World, clock: ManualClock) -> None:
    one = await reader(world)
    await world.append(256)
    await world.append(2, expires_at_ms=clock.now_ms() + 1000)
    await world.append()
    await quiet()
    clock.advance(1)
    one.delivery.acknowledged(256)
    await quiet()
    assert one.link.seqs == [*range(1, 257), 259]


async def test_an_event_that_has_not_expired_is_delivered_as_any_other(world: World, clock: ManualClock) -> None:
    one = await reader(world)
    await world.append(3, expires_at_ms=clock.now_ms() + 1)
    await quiet()
    assert one.link.seqs == [1, 2, 3]
    assert one.delivery.acknowledged(3)


# -- the others


async def test_a_stuck_reader_holds_little_memory_delays_nobody_and_is_let_go(world: World) -> None:
    stuck = await reader(world, "dev_1", link=ManualLink(is_reading=False))
    quick = await reader(world, "dev_2")
    for n in range(40):
        await world.append(size=50_000)
        await quiet()
        assert quick.delivery.acknowledged(n + 1)
        await quiet()
    assert quick.link.seqs == list(range(1, 41))
    assert stuck.link.max_buffered <= MAX_BUFFERED_BYTES + MAX_FRAME_BYTES
    world.timers.advance(30)
    assert quick.ended == []
    assert [code for code, _, _ in stuck.ended] == [Close.SLOW_CONSUMER]


async def test_a_slow_reader_that_goes_on_reading_is_kept(world: World) -> None:
    link = ManualLink(is_reading=False)
    one = await reader(world, link=link)
    await world.append(15, size=60_000)
    await quiet()
    for _ in range(20):
        world.timers.advance(29)
        link.flush(60_000)
        if link.seqs:
            one.delivery.acknowledged(link.seqs[-1])
    assert one.ended == []
    assert link.seqs == list(range(1, 16))


async def test_a_kernel_that_takes_everything_at_once_and_never_says_writable_does_not_stall_the_replay(
    world: World,
) -> None:
    """The link hands its queue over once a loop tick; `writable` only follows a pause of the transport."""
    await world.append(20, size=50_000)
    one = await reader(world, link=ManualLink(is_coalescing=True))
    assert one.link.seqs == list(range(1, 21))


@pytest.mark.parametrize("fault", [StorageFailed("disk"), RuntimeError("bug")])
async def test_a_store_that_fails_during_a_replay_ends_the_connection_instead_of_leaving_it_deaf(
    world: World, fault: Exception
) -> None:
    await world.append(3)
    one = Reader(world, device("dev_1", CHAT))
    opening = await one.read_opening(0)
    channel = one.channel
    assert channel is not None

    async def fails(seq: int) -> Any:
        raise fault

    channel.page_after = fails  # pyright: ignore[reportAttributeAccessIssue]  a store that fails now
    one.delivery.open(opening, channel)
    await quiet()
    assert [code for code, _, _ in one.ended] == [Close.DRAINING]


async def test_nothing_is_sent_after_stop(world: World) -> None:
    one = await reader(world)
    one.delivery.stop()
    await world.append()
    world.show("TEXT_MESSAGE_START")
    await quiet()
    assert one.link.frames == [{"type": "resume_done", "seq": 0}]


async def test_scopes_narrowed_at_reauthentication_hold_from_then_on(world: World) -> None:
    one = await reader(world)
    one.delivery.reauthenticated(device("dev_1", frozenset({Scope.NOTIFY})))
    await world.append(scope=Scope.CHAT)
    await world.append(scope=Scope.NOTIFY)
    world.show("TEXT_MESSAGE_START", scope=Scope.CHAT)
    await quiet()
    assert one.link.seqs == [2]
    assert one.link.live == []
