"""Sessions of the simple protocol over a link in the test's hand: time, limits, answers, slow readers."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.core.rates import Allowance, Rate
from entobot.gateway.commands import Command
from entobot.gateway.connection import Execute, Pair
from entobot.gateway.feed import Standing
from entobot.gateway.rates import Rates
from entobot.gateway.simple import MAX_WAITING, SimpleConnection
from entobot.gateway.simple_session import MAX_BUFFERED_BYTES, Claim, Greeting, SimpleSession
from entobot.gateway.wire import MAX_FRAME_BYTES, Close
from entobot.storage.database import StorageFailed, Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import TOPIC, USER, ManualLink, World, device, frame, quiet, until
from tests.support.time import ManualClock


class Said(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    conversation_id: str


class Desk:
    """Remembers who was given a conversation; `TOPIC` is the one that there is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.conversation_id: str | None = None
        self.opened = 0
        self.said: list[str] = []
        self.fault: Callable[[], Exception] | None = None

    def greet(self, tx: Transaction, principal: Principal) -> Greeting:
        return Greeting("Board", self.conversation_id, self.world.stream.head(tx, USER).seq)

    def open(self, tx: Transaction, principal: Principal, now_ms: int) -> str:
        self.opened += 1
        self.conversation_id = TOPIC.removeprefix("conversation:")
        return self.conversation_id

    def send(self, tx: Transaction, caller: Principal, data: Said, now_ms: int) -> object:
        if self.fault is not None:
            raise self.fault()
        assert data.conversation_id == self.conversation_id
        self.said.append(data.content)
        return {"message_id": f"msg_{len(self.said)}"}


class NoPairing:
    """`PairingDesk` in the test's hand: claims succeed unless `fault` is set, and wait for `key`."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.key: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.abandoned: list[str] = []

    async def claim(self, pair: Pair, address: str) -> Claim:
        if self.fault is not None:
            raise self.fault
        return Claim("clm_1", "402918", 300.0)

    async def collect(self, claim_id: str) -> str:
        return await asyncio.shield(self.key)

    async def abandon(self, claim_id: str) -> None:
        self.abandoned.append(claim_id)


PAIR = frame("pair", session_id="inv_1", temp_token="secret", device_info={"device_name": "Board"})


async def pairing(world: World, fault: Exception | None = None) -> tuple[ManualLink, SimpleSession, NoPairing]:
    link, desk = ManualLink(subprotocol=None), NoPairing()
    desk.fault = fault
    session = SimpleSession(link, world.parts, None, desk_of(world), desk)
    session.opened()
    session.text(PAIR)
    await until(lambda: bool(link.sent) or link.closed is not None)
    return link, session, desk


class SimpleWorld(World):
    def __init__(self, database: SqliteDatabase, clock: ManualClock) -> None:
        self.desk = Desk(self)
        super().__init__(database, clock, [Command("message.send", Said, self.desk.send)])


@pytest.fixture
async def world(database: SqliteDatabase, clock: ManualClock) -> World:
    return await SimpleWorld(database, clock).start()


def desk_of(world: World) -> Desk:
    assert isinstance(world, SimpleWorld)
    return world.desk


def opened(world: World, link: ManualLink | None = None) -> tuple[ManualLink, SimpleSession]:
    link = link or ManualLink(subprotocol=None)
    session = SimpleSession(link, world.parts, None, desk_of(world), NoPairing())
    session.opened()
    return link, session


async def connect(
    world: World, *, expires_at_ms: int | None = None, scopes: frozenset[Scope] = DEFAULT_DEVICE_SCOPES
) -> tuple[ManualLink, SimpleSession]:
    link, session = opened(world)
    world.door.admit("key", device("dev_1", scopes), expires_at_ms)
    session.text(frame("auth", api_key="key"))
    await quiet()
    return link, session


def message(role: str, content: str) -> dict[str, Any]:
    return {"type": "message.created", "data": {"role": role, "content": content, "message_id": "msg_1"}}


async def test_the_server_speaks_second(world: World) -> None:
    link, _ = opened(world)
    assert link.sent == []
    link, _ = await connect(world)
    assert link.frames == [
        {"type": "auth_success", "device_id": "dev_1", "device_name": "Board", "message": "Authenticated."}
    ]
    assert link.max_message_bytes == MAX_FRAME_BYTES
    assert world.waiting.held == 1  # the first one, which has said nothing


async def test_who_says_nothing_for_five_seconds_is_ended(world: World) -> None:
    link, session = opened(world)
    world.timers.advance(4.99)
    assert link.closed is None
    world.timers.advance(0.01)
    assert link.close_code == Close.SILENCE
    session.closed(4001)
    assert world.waiting.held == 0


async def test_caps_on_the_unauthenticated_hold(world: World) -> None:
    links = [opened(world)[0] for _ in range(11)]
    assert [link.close_code for link in links] == [None] * 10 + [Close.RATE_LIMITED]


async def test_heartbeat_and_silence_are_as_for_everybody(world: World) -> None:
    link, session = await connect(world)
    world.timers.advance(31)
    assert link.pings == 1
    session.pong()
    world.timers.advance(74.9)
    assert link.closed is None
    world.timers.advance(0.2)
    assert link.close_code == Close.SILENCE


async def test_it_ends_with_its_key_and_is_never_asked_to_renew(world: World) -> None:
    link, session = await connect(world, expires_at_ms=world.clock.now_ms() + 40_000)
    world.timers.advance(39.9)
    assert [sent["type"] for sent in link.frames] == ["auth_success"]
    assert link.closed is None
    world.timers.advance(0.2)
    assert link.close_code == Close.TOKEN_EXPIRED
    session.closed(4003)
    assert world.hub.connection_count == 0


async def test_a_message_is_acknowledged_once_it_is_stored(world: World) -> None:
    link, session = await connect(world)
    for content in ("one", "two"):
        session.text(frame("message", content=content))
    await quiet()
    desk = desk_of(world)
    assert desk.said == ["one", "two"]
    assert desk.opened == 1
    assert link.frames[1:] == [{"type": "ack", "message_id": "msg_1"}, {"type": "ack", "message_id": "msg_2"}]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Problem(Code.FORBIDDEN, "You may not."), "forbidden"),
        (RuntimeError("the password is hunter2"), "internal"),
        (StorageFailed("disk full at /secret/path"), "internal"),
    ],
)
async def test_what_went_wrong_is_told_without_inner_words(world: World, fault: Exception, code: str) -> None:
    link, session = await connect(world)
    desk_of(world).fault = lambda: fault
    session.text(frame("message", content="x"))
    await quiet()
    told = link.frames[-1]
    assert (told["type"], told["code"]) == ("error", code)
    assert "hunter2" not in told["message"]
    assert "secret" not in told["message"]
    desk_of(world).fault = None
    session.text(frame("message", content="y"))
    await quiet()
    assert link.frames[-1]["type"] == "ack"


async def test_only_answers_of_its_own_conversation_are_told(world: World) -> None:
    desk_of(world).conversation_id = TOPIC.removeprefix("conversation:")
    await world.append(**message("assistant", "before it came"))
    link, _ = await connect(world)
    await world.append(**message("user", "somebody else wrote this here"))
    await world.append(**message("assistant", "an answer"))
    await world.append(type="RUN_FINISHED", outcome={"type": "success"})
    await world.append(type="RUN_ERROR", code="provider_timeout", message="The model did not answer in time.")
    await world.append(type="RUN_FINISHED", outcome={"type": "cancelled"})
    world.write_text("msg_9", "being ", "written")
    other = message("assistant", f"names {TOPIC}")

    def elsewhere(tx: Transaction) -> None:
        world.stream.append(tx, USER, other, topic=TOPIC + "2", scope=Scope.CHAT, now_ms=0)

    await world.database.write(elsewhere)
    await quiet()
    assert link.frames[1:] == [
        {"type": "message", "content": "an answer"},
        {"type": "error", "message": "The model did not answer in time.", "code": "provider_timeout"},
        {"type": "error", "message": "The answer was stopped.", "code": "cancelled"},
    ]


async def test_a_device_without_the_scope_hears_no_answers(world: World) -> None:
    desk_of(world).conversation_id = TOPIC.removeprefix("conversation:")
    link, _ = await connect(world, scopes=frozenset({Scope.NOTIFY}))
    await world.append(**message("assistant", "an answer"))
    await quiet()
    assert len(link.frames) == 1


async def test_many_answers_at_once_arrive_in_order(world: World) -> None:
    desk_of(world).conversation_id = TOPIC.removeprefix("conversation:")
    link, _ = await connect(world)

    def unit(tx: Transaction) -> None:
        for n in range(1500):  # more than are kept in memory
            world.stream.append(tx, USER, message("assistant", str(n)), topic=TOPIC, scope=Scope.CHAT, now_ms=0)

    await world.database.write(unit)
    await quiet()
    assert [sent["content"] for sent in link.of_type("message")] == [str(n) for n in range(1500)]


async def test_who_does_not_read_is_ended_before_memory_grows(world: World) -> None:
    desk_of(world).conversation_id = TOPIC.removeprefix("conversation:")
    link, _ = await connect(world)
    link.is_reading = False
    for _ in range(20):
        await world.append(**message("assistant", "x" * 60_000))
    await quiet()
    assert link.close_code == Close.SLOW_CONSUMER
    assert link.max_buffered <= MAX_BUFFERED_BYTES + 61_000


async def test_a_revoke_between_authentication_and_joining_is_seen(world: World) -> None:
    world.door.just_before_answering = lambda: world.standings.update(dev_1=Standing(Close.REVOKED, "revoked"))
    link, _ = await connect(world)
    assert link.frames == []
    assert link.close_code == Close.REVOKED
    assert world.hub.connection_count == 0


async def test_a_frame_before_success_ends_it(world: World) -> None:
    link, session = opened(world)
    world.door.admit("key", device("dev_1"))
    session.text(frame("auth", api_key="key"))
    session.text(frame("message", content="too early"))
    await quiet()
    assert link.close_code == Close.PROTOCOL_ERROR
    assert desk_of(world).said == []


async def test_frames_over_the_rate_are_told_in_this_protocols_words(world: World) -> None:
    link, session = await connect(world)
    for _ in range(401):
        session.text(frame("ping"))
    assert link.frames[-1]["code"] == "rate_limited"
    assert set(link.frames[-1]) == {"type", "code", "message", "retry_after_s"}


def test_the_machine_takes_so_many_messages_at_a_time(world: World) -> None:
    connection = SimpleConnection(now_s=0.0, pace=world.parts.pace)
    connection.text(frame("auth", api_key="key"), 0.0)
    connection.authenticated(device("dev_1"), 1e9, 0.0)
    connection.joined()
    effects = [connection.text(frame("message", content="x"), 0.0)[0] for _ in range(MAX_WAITING + 1)]
    assert [type(effect).__name__ for effect in effects] == ["Execute"] * MAX_WAITING + ["Send"]
    first = effects[0]
    assert isinstance(first, Execute)
    connection.executed(first.frame, b"{}")
    assert type(connection.text(frame("message", content="x"), 0.0)[0]).__name__ == "Execute"


# -- pairing


async def test_a_board_waits_for_the_operator_and_is_in(world: World) -> None:
    link, session, desk = await pairing(world)
    assert link.frames == [{"type": "pairing_pending", "confirmation_code": "402918"}]
    assert world.waiting.held == 0, "it is no stranger any more"
    for _ in range(4):
        world.timers.advance(30)
        session.pong()
    assert (link.pings, link.closed) == (4, None)
    world.door.admit("minted", device("dev_1"))
    desk.key.set_result("minted")
    await until(lambda: len(link.sent) > 1)
    success = link.frames[-1]
    assert (success["type"], success["jwt_token"]) == ("auth_success", "minted")
    session.text(frame("message", content="hello"))
    await until(lambda: bool(link.of_type("ack")))
    assert desk.abandoned == []


async def test_a_board_that_leaves_gives_its_claim_up(world: World) -> None:
    _, session, desk = await pairing(world)
    session.closed(1006)
    await until(lambda: desk.abandoned == ["clm_1"])


@pytest.mark.parametrize(
    ("fault", "code", "close"),
    [
        (Problem(Code.INVITE_USED, "used"), "invite_used", Close.BAD_CREDENTIALS),
        (Problem(Code.RATE_LIMITED, "wait", retry_after_s=9), "rate_limited", Close.RATE_LIMITED),
        (StorageFailed("disk"), "draining", Close.DRAINING),
        (RuntimeError("boom secret text"), "internal", Close.DRAINING),
    ],
)
async def test_a_claim_that_fails_is_told_and_closed(world: World, fault: Exception, code: str, close: Close) -> None:
    link, _, desk = await pairing(world, fault)
    assert (link.frames[-1]["code"], link.close_code) == (code, close)
    assert "boom" not in str(link.frames)
    assert desk.abandoned == []


async def test_while_it_waits_only_pings_are_taken_and_not_for_ever(world: World) -> None:
    link, session, _ = await pairing(world)
    for _ in range(100):
        session.text(frame("ping"))
    assert len(link.of_type("pong")) == 100
    session.text(frame("ping"))
    assert link.close_code == Close.RATE_LIMITED
    link, session, _ = await pairing(world)
    session.text(frame("message", content="early"))
    assert link.close_code == Close.PROTOCOL_ERROR


async def test_a_store_that_never_answers_does_not_hold_the_connection_for_ever(world: World) -> None:
    link, session, desk = await pairing(world)
    for _ in range(11):
        world.timers.advance(30)
        session.pong()
    assert link.close_code == Close.DRAINING
    session.closed(4000)
    await until(lambda: desk.abandoned == ["clm_1"])


async def test_claims_are_limited_by_address_as_over_http(world: World) -> None:
    rates = Rates({Rate.PAIRING: Allowance(1, 1)}, monotonic=world.clock.monotonic)
    world.parts = replace(world.parts, rates=rates)
    assert (await pairing(world))[0].closed is None
    link, _, _ = await pairing(world)
    assert (link.frames[-1]["code"], link.close_code) == ("rate_limited", Close.RATE_LIMITED)
