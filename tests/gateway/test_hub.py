"""The hub: who is here, who must go, what is noted, and how everybody is asked to leave."""

import asyncio
from typing import Any

import pytest

from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.gateway.channel import MAX_WAITING, RECENT_BYTES
from entobot.gateway.feed import Standing
from entobot.gateway.hub import MAX_CONNECTIONS_PER_DEVICE
from entobot.gateway.live import Live
from entobot.gateway.wire import Close
from entobot.storage.database import StorageFailed
from entobot.stream.model import StreamEvent
from tests.support.gateway import USER, ManualLink, Reader, World, device, frame, quiet, until

REVOKED = Standing(Close.REVOKED, "revoked")
SUSPENDED = Standing(Close.SUSPENDED, "suspended")


async def reader(world: World, name: str = "dev_1", heard_s: float = 0.0) -> Reader:
    one = Reader(world, device(name))
    one.last_heard_s = heard_s
    return await one.open(0)


def codes(one: Reader) -> list[Close]:
    return [code for code, _, _ in one.ended]


# -- who is here


async def test_a_device_is_online_while_one_connection_is_left(world: World) -> None:
    first, second = await reader(world), await reader(world)
    assert (world.hub.is_online("dev_1"), world.hub.connection_count) == (True, 2)
    world.hub.leave(first)
    world.hub.leave(first)
    assert world.hub.is_online("dev_1")
    world.hub.leave(second)
    assert (world.hub.is_online("dev_1"), world.hub.connection_count) == (False, 0)


async def test_a_fifth_connection_ends_the_one_that_was_silent_longest(world: World) -> None:
    four = [await reader(world, heard_s=heard) for heard in (40, 10, 30, 20)]
    assert [codes(one) for one in four] == [[], [], [], []]
    fifth = await reader(world, heard_s=5)
    assert [codes(one) for one in four] == [[], [Close.TOO_MANY_CONNECTIONS], [], []]
    assert codes(fifth) == []


async def test_other_devices_do_not_count(world: World) -> None:
    five = [await reader(world, f"dev_{n}") for n in range(5)]
    assert [codes(one) for one in five] == [[]] * 5


async def test_connections_that_are_slow_to_end_do_not_lift_the_cap(world: World) -> None:
    class Stuck(Reader):
        def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> None:
            self.ended.append((code, reason, retry_after_s))

    ten = [Stuck(world, device("dev_1")) for _ in range(10)]
    for one in ten:
        await one.open(0)
    assert world.hub.connection_count == MAX_CONNECTIONS_PER_DEVICE == 4
    assert [len(one.ended) for one in ten].count(1) == 6


# -- who must go


@pytest.mark.parametrize("standing", [REVOKED, SUSPENDED, Standing(Close.TOKEN_EXPIRED, "old epoch")])
async def test_a_change_of_standing_ends_all_connections_of_the_device_with_its_code(
    world: World, standing: Standing
) -> None:
    mine, also_mine, other = await reader(world), await reader(world), await reader(world, "dev_2")
    world.standings["dev_1"] = standing
    world.bus.publish(topics.CONTROL_DEVICES, b"dev_1")
    await quiet()
    assert [codes(one) for one in (mine, also_mine, other)] == [[standing.code], [standing.code], []]


async def test_a_lost_doorbell_is_made_good_by_the_sweep(world: World) -> None:
    mine, other = await reader(world), await reader(world, "dev_2")
    world.standings["dev_1"] = REVOKED
    await quiet()
    assert codes(mine) == []
    await world.hub.sweep()
    assert [codes(one) for one in (mine, other)] == [[Close.REVOKED], []]


async def test_the_sweep_checks_more_devices_than_one_read_holds(world: World) -> None:
    many = [await reader(world, f"dev_{n}") for n in range(405)]
    for n in (0, 199, 200, 404):
        world.standings[f"dev_{n}"] = REVOKED
    await world.hub.sweep()
    assert [n for n, one in enumerate(many) if one.ended] == [0, 199, 200, 404]


async def test_a_device_that_is_gone_is_let_go_and_hides_no_revoked_one(world: World) -> None:
    gone, mine = await reader(world, "dev_gone"), await reader(world)
    world.standings["dev_1"] = REVOKED
    world.standing_fault = Problem(Code.NOT_FOUND, "There is no such device.")
    await world.hub.sweep()
    assert (codes(gone), codes(mine)) == ([Close.REVOKED], [Close.REVOKED])


async def test_a_store_that_does_not_answer_leaves_the_check_to_the_sweep(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await reader(world, "dev_gone")
    world.standing_fault = StorageFailed("disk")
    world.bus.publish(topics.CONTROL_DEVICES, b"dev_gone")
    await quiet()
    assert "sweep" in caplog.text


async def test_a_revoke_between_authentication_and_joining_is_seen(world: World) -> None:
    world.door.gate = asyncio.Event()
    link, session = world.session()
    world.door.admit("k", device("dev_1"))
    session.opened()
    session.text(frame("auth", api_key="k"))
    await asyncio.sleep(0)
    world.standings["dev_1"] = REVOKED
    world.bus.publish(topics.CONTROL_DEVICES, b"dev_1")  # nobody has joined yet: nobody hears it
    for _ in range(5):
        await asyncio.sleep(0)
    world.door.gate.set()
    await quiet()
    assert link.close_code == Close.REVOKED
    assert [one["type"] for one in link.frames] == ["hello"]
    assert world.hub.connection_count == 0


async def test_a_revoke_after_the_standing_was_read_is_heard_by_who_is_joining(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = world.database.read

    async def revoked_meanwhile(unit: Any, **how: Any) -> Any:
        found = await read(unit, **how)
        if not world.standings:
            world.standings["dev_1"] = REVOKED
            world.bus.publish(topics.CONTROL_DEVICES, b"dev_1")
            await until(lambda: link.closed is not None)
        return found

    link = ManualLink()
    monkeypatch.setattr(world.database, "read", revoked_meanwhile)
    await world.connect("dev_1", link=link)
    assert link.close_code == Close.REVOKED
    assert link.of_type("ready") == []
    assert world.hub.connection_count == 0


# -- events


async def test_lost_doorbells_of_the_log_are_made_good_by_the_sweep(world: World) -> None:
    one = await reader(world)
    world.bus.is_deaf = True
    await world.append(3)
    world.bus.is_deaf = False
    await quiet()
    assert one.link.seqs == []
    await world.hub.sweep()
    await quiet()
    assert one.link.seqs == [1, 2, 3]


async def test_one_subscriber_that_fails_costs_the_others_nothing(world: World) -> None:
    class Broken(Reader):
        def news(self) -> None:
            raise RuntimeError("bug")

        def show(self, live: Live, payload: bytes) -> None:
            raise RuntimeError("bug")

    broken, shown = await Broken(world, device("dev_1")).open(0), await Broken(world, device("dev_3")).open(0)
    fine = await reader(world, "dev_2")
    await world.append(2)
    world.show("TEXT_MESSAGE_START")
    await quiet()
    assert fine.link.seqs == [1, 2]
    assert len(fine.link.live) == 1
    assert codes(broken)[0] is codes(shown)[0] is Close.DRAINING


async def test_a_store_that_failed_delays_events_until_the_sweep(world: World) -> None:
    one = await reader(world)
    assert one.channel is not None
    page_after = one.channel.page_after

    async def fails(seq: int) -> Any:
        raise StorageFailed("disk")

    one.channel.page_after = fails  # pyright: ignore[reportAttributeAccessIssue]  a store that fails now
    await world.append()
    await quiet()
    assert one.link.seqs == []
    one.channel.page_after = page_after  # pyright: ignore[reportAttributeAccessIssue]  and works again
    await world.hub.sweep()
    await quiet()
    assert one.link.seqs == [1]


async def test_what_this_node_commits_is_told_without_reading_the_log(world: World) -> None:
    world.stream.appended = world.hub.appended
    one = await reader(world)
    assert one.channel is not None

    async def fails(seq: int) -> Any:
        raise StorageFailed("disk")

    one.channel.page_after = fails  # pyright: ignore[reportAttributeAccessIssue]  nothing can be read now
    await world.append(2)
    await quiet()
    assert one.link.seqs == [1, 2]


async def test_an_event_that_is_committed_while_the_log_is_read_is_told_once(world: World) -> None:
    one = await reader(world)
    gate = asyncio.Event()
    assert one.channel is not None
    page_after = one.channel.page_after

    async def slow(seq: int) -> Any:
        await gate.wait()
        return await page_after(seq)

    one.channel.page_after = slow  # pyright: ignore[reportAttributeAccessIssue]  a store that is slow now
    await world.append()
    await asyncio.sleep(0)
    world.stream.appended = world.hub.appended
    one.channel.append(StreamEvent(1, 0, Scope.CHAT, "conversation:cnv_1", '{"type":"note"}'))
    await world.append()
    gate.set()
    await quiet()
    await world.append()
    await quiet()
    assert one.link.seqs == [1, 2, 3]


async def test_an_event_after_a_gap_is_not_told_before_what_is_missing(world: World) -> None:
    appended, to_nobody = world.hub.appended, world.stream.appended
    one = await reader(world)
    world.stream.appended = appended
    await world.append()
    await quiet()
    world.bus.is_deaf, world.stream.appended = True, to_nobody  # as if another node had written it
    await world.append()
    world.bus.is_deaf, world.stream.appended = False, appended
    await world.append()
    await quiet()
    assert one.link.seqs == [1, 2, 3]


async def test_live_events_that_wait_for_a_slow_store_are_bounded(world: World) -> None:
    one = await reader(world)
    gate = asyncio.Event()
    assert one.channel is not None
    page_after = one.channel.page_after

    async def slow(seq: int) -> Any:
        await gate.wait()
        return await page_after(seq)

    one.channel.page_after = slow  # pyright: ignore[reportAttributeAccessIssue]  a store that is slow now
    await world.append()
    for _ in range(5):
        await asyncio.sleep(0)
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", *["x"] * (MAX_WAITING * 2))
    await asyncio.sleep(0)
    assert len(one.channel._work) <= MAX_WAITING
    gate.set()
    await quiet()
    world.write_text("msg_1", "end")
    await quiet()
    starts = [n for n, event in enumerate(one.link.live) if event["type"] == "TEXT_MESSAGE_START"]
    assert "".join(event.get("delta", "") for event in one.link.live[starts[-1] :]) == "x" * (MAX_WAITING * 2) + "end"


async def test_what_a_channel_remembers_is_bounded_in_bytes(world: World) -> None:
    one = await reader(world)
    for _ in range(8):
        await world.append(5, size=60_000)
        await quiet()
        one.delivery.device_has(10**6)
    assert one.channel is not None
    assert sum(len(item.payload) for item in one.channel._recent) <= RECENT_BYTES
    await quiet()
    assert one.link.seqs == list(range(1, 41))


async def test_another_users_events_are_not_heard(world: World) -> None:
    await world.database.write(lambda tx: world.stream.open(tx, "usr_2"))
    other = Reader(world, device("dev_2", user_id="usr_2"))
    await other.open(None)
    await world.append()
    world.show("TEXT_MESSAGE_START")
    await quiet()
    assert [one["type"] for one in other.link.frames] == ["reset", "snapshot"]


# -- what devices have seen


async def seen(world: World, device_id: str = "dev_1") -> int:
    return await world.database.read(lambda tx: world.stream.seen(tx, USER, device_id))


async def test_acknowledgements_are_noted_together_and_never_move_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.append(10)
    writes = 0
    write = world.database.write

    async def counted(unit: Any, **how: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(unit, **how)

    monkeypatch.setattr(world.database, "write", counted)
    for seq in (3, 7, 5, 1):
        world.hub.seen("dev_1", USER, seq)
        world.hub.seen("dev_2", USER, seq + 1)
    world.hub._write_seen()
    await quiet()
    assert (await seen(world), await seen(world, "dev_2"), writes) == (7, 8, 1)
    world.hub.seen("dev_1", USER, 4)
    world.hub._write_seen()
    await quiet()
    assert await seen(world) == 7
    await world.hub.stop()


async def test_what_was_seen_is_written_when_the_hub_stops(world: World) -> None:
    await world.append(3)
    world.hub.seen("dev_1", USER, 2)
    await world.hub.stop()
    assert await seen(world) == 2


async def test_a_user_who_is_gone_does_not_cost_others_their_acknowledgements(world: World) -> None:
    await world.append(3)
    world.hub.seen("dev_gone", "usr_gone", 2)
    world.hub.seen("dev_1", USER, 2)
    await world.hub.stop()
    assert await seen(world) == 2


async def test_a_stopped_hub_hears_nothing(world: World) -> None:
    one = await reader(world)
    await world.hub.stop()
    await world.append()
    await quiet()
    assert one.link.seqs == []
