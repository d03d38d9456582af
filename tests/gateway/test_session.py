"""Sessions: the state machine, the hub and the executor together, over a link in the test's hand."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from entobot.core.errors import Code, Problem
from entobot.core.ids import ulid
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.rates import Allowance, Rate
from entobot.gateway.authentication import Refused
from entobot.gateway.commands import Command
from entobot.gateway.feed import Standing
from entobot.gateway.rates import Rates
from entobot.gateway.session import MAX_REFUSED_FRAMES
from entobot.gateway.wire import MAX_FRAME_BYTES, Close
from entobot.storage.database import StorageFailed, Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import USER, ManualLink, World, device, frame, quiet
from tests.support.time import ManualClock


class Say(msgspec.Struct, forbid_unknown_fields=True):
    what: str = ""
    size: int = 0


def say(tx: Transaction, caller: Principal, data: Say, now_ms: int) -> object:
    if data.what == "refuse":
        raise Problem(Code.NOT_FOUND, "There is no such thing.")
    if data.what == "break":
        raise RuntimeError("the password is hunter2")
    if data.what == "full":
        raise StorageFailed("disk full at /secret/path")
    return {"said": data.what + "x" * data.size, "by": caller.device_id}


@pytest.fixture
async def world(database: SqliteDatabase, clock: ManualClock) -> World:
    return await World(database, clock, [Command("message.send", Say, say)]).start()


def command(n: int, **data: Any) -> bytes:
    return frame("command", id=ulid(1, n.to_bytes(10, "big")), name="message.send", data=data)


async def test_a_connection_from_hello_to_a_result(world: World) -> None:
    link, session = await world.connect("dev_1")
    hello, ready, reset, snapshot = link.frames
    assert (hello["type"], hello["heartbeat_s"], hello["server"]) == ("hello", 30, "entobot/test")
    assert world.door.nonces == [hello["nonce"]]
    assert len(hello["nonce"]) == 22
    assert (ready["type"], ready["device_id"], ready["user_id"], ready["seq"]) == ("ready", "dev_1", "usr_1", 0)
    assert ready["stream"] == await world.stream_id()
    assert (reset["reason"], snapshot["type"]) == ("none", "snapshot")
    session.text(command(1, what="hi"))
    await quiet()
    assert link.frames[-1]["data"] == {"said": "hi", "by": "dev_1"}
    assert link.max_message_bytes == MAX_FRAME_BYTES


async def test_a_stranger_keeps_the_small_cap_and_never_joins(world: World) -> None:
    link, session = world.session()
    session.opened()
    session.text(frame("auth", api_key="wrong"))
    await quiet()
    assert (link.close_code, link.max_message_bytes) == (Close.BAD_CREDENTIALS, 8192)
    assert world.refused == [("unknown", "192.0.2.1")]
    assert world.hub.connection_count == 0


@pytest.mark.parametrize("fault", [StorageFailed("disk at /secret"), RuntimeError("the password is hunter2")])
async def test_an_authentication_that_breaks_asks_to_come_back_and_tells_nothing(
    world: World, fault: Exception
) -> None:
    world.door.refusals["k"] = fault
    link, session = world.session()
    session.opened()
    session.text(frame("auth", api_key="k"))
    await quiet()
    assert link.close_code == Close.DRAINING
    assert "secret" not in str(link.closed)
    assert "hunter2" not in str(link.closed)


async def test_a_start_that_breaks_ends_the_connection_instead_of_leaving_it_without_ready(world: World) -> None:
    world.door.admit("k", device("dev_1", user_id="usr_without_a_stream"))
    link, session = world.session()
    session.opened()
    session.text(frame("auth", api_key="k"))
    await quiet()
    assert (link.close_code, world.hub.connection_count) == (Close.DRAINING, 0)


async def test_an_eleventh_waiting_connection_of_an_address_is_turned_away(world: World) -> None:
    waiting = [world.session() for _ in range(11)]
    for _, session in waiting:
        session.opened()
    assert [link.close_code for link, _ in waiting] == [None] * 10 + [Close.RATE_LIMITED]
    waiting[10][1].text(frame("auth", api_key="k"))
    waiting[10][1].closed(4004)
    waiting[0][1].closed(1000)
    assert world.waiting.held == 9
    link, session = world.session()
    session.opened()
    assert link.close_code is None


async def test_a_connection_that_says_nothing_makes_room_for_one_that_comes_later(world: World) -> None:
    silent = [world.session() for _ in range(10)]
    for _, session in silent:
        session.opened()
    world.clock.advance(2)
    link, session = world.session()
    session.opened()
    session.text(frame("auth", api_key="k"))
    await quiet()
    assert link.close_code == Close.BAD_CREDENTIALS, "it was heard"
    error = silent[0][0].frames[-1]
    assert (error["code"], error["retry"], error["retry_after_s"]) == ("rate_limited", True, 0.5)
    assert [link.close_code for link, _ in silent] == [Close.RATE_LIMITED] + [None] * 9


async def test_an_address_that_opens_too_many_connections_is_told_when_to_come_back(world: World) -> None:
    allowance = {Rate.CONNECTIONS: Allowance(0.5, 2)}
    world.parts = replace(world.parts, rates=Rates(allowance, monotonic=world.clock.monotonic))
    links = []
    for _ in range(3):
        link, session = world.session()
        session.opened()
        session.closed(1000)
        links.append(link)
    assert [link.close_code for link in links] == [None, None, Close.RATE_LIMITED]
    error = links[2].frames[-1]
    assert (error["type"], error["code"], error["retry_after_s"]) == ("error", "rate_limited", 2.0)
    world.clock.advance(2)
    link, session = world.session()
    session.opened()
    assert link.close_code is None


async def test_an_authenticated_connection_waits_no_longer(world: World) -> None:
    _, session = await world.connect()
    assert world.waiting.held == 0
    session.closed(1000)
    assert world.waiting.held == 0


async def test_frames_before_ready_are_counted_and_refused(world: World) -> None:
    world.door.gate = asyncio.Event()
    link, session = world.session()
    session.opened()
    session.text(frame("auth", api_key="k"))
    session.text(command(1, what="early"))
    assert link.close_code == Close.PROTOCOL_ERROR
    world.door.gate.set()
    await quiet()
    assert [one["type"] for one in link.frames] == ["hello"]


async def test_a_link_that_closes_while_authenticating_never_joins_and_evicts_nobody(world: World) -> None:
    four = [await world.connect("dev_1") for _ in range(4)]
    _, session = world.session()
    world.door.just_before_answering = lambda: asyncio.get_running_loop().call_soon(session.closed, 1006)
    session.opened()
    session.text(frame("auth", api_key="dev_1"))
    await quiet()
    assert [link.close_code for link, _ in four] == [None] * 4
    assert world.hub.connection_count == 4


async def test_a_closed_link_leaves_the_hub(world: World) -> None:
    _, session = await world.connect()
    session.closed(1001)
    assert world.hub.connection_count == 0
    world.timers.advance(1000)


# -- commands


@pytest.mark.parametrize(("what", "code"), [("refuse", "not_found"), ("break", "internal"), ("full", "internal")])
async def test_a_command_that_fails_answers_with_a_code_and_no_internals(world: World, what: str, code: str) -> None:
    link, session = await world.connect()
    session.text(command(1, what=what))
    await quiet()
    answer = link.frames[-1]
    assert (answer["type"], answer["code"], answer["id"][-1]) == ("error", code, "1")
    assert "hunter2" not in answer["message"]
    assert "secret" not in answer["message"]
    assert link.close_code is None


async def test_a_result_that_fits_no_frame_is_an_error_and_does_not_cut_the_link(world: World) -> None:
    link, session = await world.connect()
    session.text(command(1, size=MAX_FRAME_BYTES))
    await quiet()
    assert (link.frames[-1]["type"], link.frames[-1]["code"]) == ("error", "too_large")
    assert max(map(len, link.sent)) <= MAX_FRAME_BYTES


async def test_commands_of_one_connection_are_committed_in_the_order_they_were_sent(world: World) -> None:
    link, session = await world.connect()
    for n in range(50):
        session.text(command(n, what=str(n)))
    await quiet()
    assert [one["data"]["said"] for one in link.of_type("result")] == [str(n) for n in range(50)]


async def test_too_many_frames_are_refused_before_they_are_parsed_and_then_end_it(world: World) -> None:
    link, session = await world.connect()
    for _ in range(400):
        session.text(frame("ping"))
    session.text(b"not even JSON")
    assert link.frames[-1]["code"] == "rate_limited"
    assert link.frames[-1]["retry_after_s"] > 0
    for _ in range(MAX_REFUSED_FRAMES - 1):
        session.text(frame("ping"))
    assert link.close_code is None
    session.text(frame("ping"))
    assert link.close_code == Close.RATE_LIMITED


async def test_a_flood_that_has_a_frame_admitted_now_and_then_is_cut_as_well(world: World) -> None:
    link, session = await world.connect()
    for _ in range(400):
        session.text(frame("ping"))
    rounds = 0
    while link.close_code is None and rounds < 100:
        rounds += 1
        world.clock.advance(0.01)  # room for one
        for _ in range(5):
            session.text(frame("ping"))
    assert link.close_code == Close.RATE_LIMITED
    assert rounds == -(-(MAX_REFUSED_FRAMES + 1) // 3), "four refused, one taken back"


# -- acknowledgements


async def test_acknowledging_what_was_never_sent_is_a_protocol_error(world: World) -> None:
    link, session = await world.connect(after=0)
    await world.append(2)
    await quiet()
    session.text(frame("ack", seq=2))
    assert link.close_code is None
    session.text(frame("ack", seq=3))
    assert link.close_code == Close.PROTOCOL_ERROR


async def test_an_acknowledgement_is_noted_for_the_device(world: World) -> None:
    _, session = await world.connect(after=0)
    await world.append(2)
    await quiet()
    session.text(frame("ack", seq=2))
    await world.hub.stop()
    assert await world.database.read(lambda tx: world.stream.seen(tx, USER, "dev_1")) == 2


# -- time


def alive(world: World, link: ManualLink, session: Any, seconds: int) -> None:
    """Time passes; the client answers every ping."""
    for _ in range(seconds):
        world.timers.advance(1)
        if link.pings:
            link.pings = 0
            session.pong()


async def test_five_seconds_without_auth(world: World) -> None:
    link, session = world.session()
    session.opened()
    world.timers.advance(4.99)
    assert link.close_code is None
    world.timers.advance(0.01)
    assert link.close_code == Close.SILENCE


async def test_a_client_that_answers_pings_stays_and_one_that_does_not_goes_after_75_s(world: World) -> None:
    link, session = await world.connect()
    alive(world, link, session, 600)
    assert link.close_code is None
    session.pong()
    world.timers.advance(74.9)
    assert link.close_code is None
    world.timers.advance(0.1)
    assert link.close_code == Close.SILENCE


async def test_bytes_that_are_no_message_yet_are_life_too(world: World) -> None:
    """A ping of the client's own, or a large frame on a slow network."""
    link, _ = await world.connect()
    for _ in range(20):
        world.timers.advance(29)
        link.received_bytes += 1000
    assert link.close_code is None
    world.timers.advance(30 + 75)
    assert link.close_code == Close.SILENCE


async def test_a_slow_consumer_goes_thirty_seconds_after_its_window_closed(world: World) -> None:
    link, session = await world.connect(after=0)
    world.timers.advance(7)
    session.pong()
    await world.append(256)
    await quiet()
    world.timers.advance(29.9)
    assert link.close_code is None
    world.timers.advance(0.1)
    assert link.close_code == Close.SLOW_CONSUMER
    assert world.hub.connection_count == 0


async def connect_with_token(world: World, lasts_s: float, **more: Any) -> tuple[ManualLink, Any]:
    link, session = world.session()
    world.door.admit("t", device("dev_1", **more), world.clock.now_ms() + round(lasts_s * 1000))
    session.opened()
    session.text(frame("auth", token="t", proof="p"))
    await quiet()
    return link, session


async def test_a_token_is_renewed_on_the_open_connection(world: World) -> None:
    link, session = await connect_with_token(world, 300)
    assert link.of_type("ready")[0]["expires_in"] == 300
    alive(world, link, session, 239)
    assert link.of_type("reauth") == []
    alive(world, link, session, 1)
    (asked,) = link.of_type("reauth")
    assert asked["nonce"] not in world.door.nonces
    world.door.admit("t2", device("dev_1", frozenset({Scope.NOTIFY})), world.clock.now_ms() + 300_000)
    session.text(frame("auth", token="t2", proof="p"))
    await quiet()
    assert world.door.nonces[-1] == asked["nonce"]
    assert link.of_type("reauthed") == [{"type": "reauthed", "expires_in": 300}]
    alive(world, link, session, 200)
    assert link.close_code is None
    await world.append(scope=Scope.CHAT)
    await world.append(scope=Scope.NOTIFY)
    await quiet()
    assert link.seqs == [2], "the narrower scopes of the new token hold for events, too"


async def test_thirty_seconds_without_an_answer_to_reauth(world: World) -> None:
    link, session = await connect_with_token(world, 300)
    alive(world, link, session, 269)
    assert link.close_code is None
    alive(world, link, session, 1)
    assert link.close_code == Close.TOKEN_EXPIRED


async def test_a_reauth_that_is_refused_ends_with_the_refusals_code(world: World) -> None:
    link, session = await connect_with_token(world, 300)
    alive(world, link, session, 240)
    world.door.refusals["t"] = Refused(Close.REVOKED, "revoked")
    session.text(frame("auth", token="t", proof="p"))
    await quiet()
    assert (link.close_code, world.hub.connection_count) == (Close.REVOKED, 0)


async def test_a_reauth_as_another_device_ends_it(world: World) -> None:
    link, session = await connect_with_token(world, 300)
    alive(world, link, session, 240)
    world.door.admit("t", device("dev_2"), world.clock.now_ms() + 300_000)
    session.text(frame("auth", token="t", proof="p"))
    await quiet()
    assert link.close_code == Close.BAD_CREDENTIALS


async def test_a_suspended_device_is_told_at_once_when_it_connects(world: World) -> None:
    world.standings["dev_1"] = Standing(Close.SUSPENDED, "suspended")
    link, _ = await world.connect()
    assert (link.close_code, link.of_type("ready")) == (Close.SUSPENDED, [])


async def test_a_device_that_comes_back_with_a_position_has_seen_everything_up_to_there(world: World) -> None:
    """Its acknowledgement may have been lost with the gateway that got it."""
    await world.append(5)
    await world.connect("dev_1", after=3)
    await world.connect("dev_2", after=None)
    await world.hub.stop()

    async def seen(device_id: str) -> int:
        return await world.database.read(lambda tx: world.stream.seen(tx, USER, device_id))

    assert (await seen("dev_1"), await seen("dev_2")) == (3, 0)


async def test_a_command_that_breaks_is_logged_with_its_connection_and_device(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.connect("dev_other")
    _, session = await world.connect()
    session.text(command(1, what="break"))
    await quiet()
    (record,) = [record for record in caplog.records if record.message == "a command failed"]
    assert (record.__dict__["connection_id"], record.__dict__["device_id"]) == (2, "dev_1")
