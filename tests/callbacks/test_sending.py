"""What was asked has ended: it is posted, signed, to where the settings allow, until it arrives; by one node each."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entobot.audit.events import AuditEvent
from entobot.bus.bus_local import LocalBus
from entobot.callbacks import store
from entobot.callbacks.folders import is_within
from entobot.callbacks.model import BACKOFF_S, Callback, Kind, State
from entobot.callbacks.sending import Sender
from entobot.callbacks.service import CUT_OFF, Callbacks
from entobot.config_callbacks import CallbackSettings
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.networks import Networks
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.webhook_signing import verify
from entobot.outgoing.guarded_http import GuardedHttp
from entobot.storage.database import Database, Transaction
from tests.support.agency import HeardAudit
from tests.support.hooks import Hook, hook
from tests.support.stores import new_database
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True
SECRET = b"s" * 32
PROGRAM = Principal("usr_1", frozenset({Scope.NOTIFY}), device_id="dev_1")


@pytest.fixture
def receiver() -> Iterator[Hook]:
    with hook() as made:
        yield made


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = new_database(tmp_path)
    await made.start()
    yield made
    await made.stop()


class World:
    def __init__(self, folder: Path, database: Database, clock: ManualClock, receiver: Hook, *, inside: bool) -> None:
        self.database, self.clock, self.receiver = database, clock, receiver
        self.audit = HeardAudit()
        self.delivered: list[str] = []
        self.alive = frozenset({"nod_1", "nod_2"})
        (folder / "secret").write_text("whsec_" + base64.b64encode(SECRET).decode())
        networks = ["127.0.0.1/32"] if inside else []
        self.settings = CallbackSettings.model_validate(
            {"urls": [f"{receiver.origin}/hooks/"], "secret_file": folder / "secret", "private_networks": networks}
        )
        self.callbacks = Callbacks(
            ids=RandomIds(clock, SeededEntropy("callbacks")), bus=LocalBus(), settings=self.settings
        )

    def sender(self, node_id: str = "nod_1") -> Sender:
        def describe(_: Transaction, one: Callback) -> dict[str, object] | None:
            return None if one.subject == "qst_gone" else {"question_id": one.subject, "answer": "at seven"}

        return Sender(
            GuardedHttp(Networks(self.settings.private_networks), ssl.create_default_context, setting="callbacks"),
            database=self.database,
            clock=self.clock,
            audit=self.audit,
            node_id=node_id,
            alive=lambda _: self.alive,
            secret_file=self.settings.secret_file,
            describe=describe,
            delivered=lambda _tx, one, _now: self.delivered.append(one.subject),
        )

    async def ask(self, subject: str = "qst_1", path: str = "/hooks/a", principal: Principal = PROGRAM) -> None:
        url, now_ms = self.receiver.origin + path, self.clock.now_ms()
        await self.database.write(
            lambda tx: self.callbacks.register(tx, principal, Kind.QUESTION, subject, url, now_ms)
        )

    async def end(self, subject: str = "qst_1") -> None:
        await self.database.write(lambda tx: self.callbacks.ended(tx, subject, self.clock.now_ms()))

    async def row(self, subject: str = "qst_1") -> Callback:
        found = await self.database.read(lambda tx: store.find_of(tx, subject))
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path, database: Database, clock: ManualClock, receiver: Hook) -> World:
    return World(tmp_path, database, clock, receiver, inside=True)


async def test_the_answer_is_posted_once_it_is_there_and_signed(world: World) -> None:
    await world.ask()
    await world.sender().look()
    assert world.receiver.posted.empty(), "nobody has answered yet"
    await world.end()
    await world.sender().look()
    posted = world.receiver.posted.get_nowait()
    row = await world.row()
    now_s = world.clock.now_ms() // 1000
    assert verify(SECRET, posted.headers, posted.body, now_s) == row.callback_id
    told = json.loads(posted.body)
    assert (posted.path, told["type"]) == ("/hooks/a", "question.closed")
    assert told["data"] == {"question_id": "qst_1", "answer": "at seven"}
    assert (row.state, row.tries, world.delivered) == (State.DELIVERED, 1, ["qst_1"])
    await world.end()
    await world.sender().look()
    assert world.receiver.posted.empty(), "it ends once"


async def test_what_does_not_arrive_is_tried_again_later_and_later_and_then_told_of(world: World) -> None:
    await world.ask()
    await world.end()
    world.receiver.answers = [500] * (len(BACKOFF_S) + 1)
    for wait_s in BACKOFF_S:
        await world.sender().look()
        row = await world.row()
        assert (row.state, row.reason) == (State.DUE, "the receiver answered 500")
        await world.sender().look()
        world.clock.advance(wait_s)
    assert world.receiver.posted.qsize() == len(BACKOFF_S), "not before its time"
    await world.sender().look()
    assert (await world.row()).state is State.FAILED
    (told,) = world.audit.of(AuditEvent.CALLBACK_FAILED)
    assert told["reason"] == "the receiver answered 500"
    ids = {world.receiver.posted.get_nowait().headers["webhook-id"] for _ in range(len(BACKOFF_S) + 1)}
    assert len(ids) == 1, "a repeat is known as one"


async def test_a_receiver_that_is_gone_is_left_alone(world: World) -> None:
    await world.ask()
    await world.end()
    world.receiver.answers = [410]
    await world.sender().look()
    assert (await world.row()).state is State.FAILED


async def test_of_two_nodes_one_posts_it_and_what_a_dead_one_had_is_posted_again(world: World) -> None:
    await world.ask()
    await world.end()
    await asyncio.gather(world.sender("nod_1").look(), world.sender("nod_2").look())
    assert world.receiver.posted.qsize() == 1
    await world.ask("qst_2")
    await world.end("qst_2")
    due = await world.row("qst_2")
    held = replace(due, state=State.SENDING, tries=1, node="nod_2", next_at_ms=None)
    await world.database.write(lambda tx: store.move(tx, due, held))
    await world.sender("nod_1").sweep()
    assert (await world.row("qst_2")).state is State.SENDING, "it lives"
    world.alive = frozenset({"nod_1"})
    await world.sender("nod_1").sweep()
    world.clock.advance(BACKOFF_S[0])
    await world.sender("nod_1").look()
    row = await world.row("qst_2")
    assert (row.state, row.tries) == (State.DELIVERED, 2)


async def test_addresses_inside_are_not_reached_unless_the_settings_allow_them(
    tmp_path: Path, database: Database, clock: ManualClock, receiver: Hook
) -> None:
    world = World(tmp_path, database, clock, receiver, inside=False)
    await world.ask()
    await world.end()
    await world.sender().look()
    row = await world.row()
    assert (row.state, receiver.posted.empty()) == (State.FAILED, True)
    assert "callbacks.private_networks" in row.reason


async def test_a_url_elsewhere_is_refused_when_it_is_asked_for(world: World) -> None:
    for path in ("/other", "/hooks", "/hooks/../other", "/hooks/%2e%2e/other"):
        with pytest.raises(Problem) as refused:
            await world.ask(path=path)
        assert refused.value.code is Code.ADDRESS_REFUSED


async def test_a_program_that_was_cut_off_is_told_nothing(world: World) -> None:
    await world.ask()
    await world.database.write(lambda tx: world.callbacks.end_of_device(tx, "dev_1", world.clock.now_ms()))
    await world.end()
    await world.sender().look()
    row = await world.row()
    assert (row.state, row.reason, world.receiver.posted.empty()) == (State.FAILED, CUT_OFF, True)


async def test_programs_see_their_own_and_people_those_of_their_programs(world: World) -> None:
    await world.ask("qst_1")
    await world.ask("qst_2", principal=replace(PROGRAM, device_id="dev_2"))
    await world.ask("qst_3", principal=replace(PROGRAM, user_id="usr_2"))

    async def seen(principal: Principal) -> set[str]:
        rows, _ = await world.database.read(lambda tx: world.callbacks.list(tx, principal, cursor=None, limit=10))
        return {one.subject for one in rows}

    assert await seen(PROGRAM) == {"qst_1"}
    assert await seen(replace(PROGRAM, device_id=None)) == {"qst_1", "qst_2"}


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://ci.example.org/hooks/a", True),
        ("https://ci.example.org/hooks/a?b=c", True),
        ("https://ci.example.org/hooks/", True),
        ("https://ci.example.org/hooks", False),
        ("https://ci.example.org:444/hooks/a", False),
        ("https://ci.example.org.evil.example/hooks/a", False),
        ("https://ci.example.org@evil.example/hooks/a", False),
        ("https://evil.example/https://ci.example.org/hooks/a", False),
        ("http://ci.example.org/hooks/a", False),
        ("https://ci.example.org/hooks/../admin", False),
        ("https://ci.example.org/hooks/%2e%2E/admin", False),
        ("https://ci.example.org/hooks/..%2fadmin", False),
        ("https://ci.example.org/hooks\\..\\admin", False),
        ("https://ci.example.org/hooks/a#b", False),
        ("https://ci.example.org/hooks/ä", False),
        ("https://ci.example.org:x/hooks/a", False),
        ("https://ci.example.org/hooks/" + "a" * 1024, False),
    ],
    ids=lambda value: value[:48].encode("ascii", "replace").decode() if isinstance(value, str) else None,
)
def test_which_urls_lie_in_a_folder(url: str, *, is_allowed: bool) -> None:
    assert is_within(url, ["https://ci.example.org/hooks/"]) is is_allowed
