"""Commands: checked, once only, effect and result in one unit."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from sqlalchemy import Column, MetaData, Table, Text, insert, select

from entobot.core.access import COMMANDS, Open
from entobot.core.errors import Code, Problem
from entobot.core.ids import ulid
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.gateway import store
from entobot.gateway.commands import Command, command_table
from entobot.gateway.executor import Executor
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import device
from tests.support.stores import create_tables
from tests.support.time import ManualClock

notes = Table("test_notes", MetaData(), Column("text", Text, nullable=False))
PHONE = device("dev_1")


class Note(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    times: Annotated[int, Meta(ge=1, le=3)] = 1


def add(tx: Transaction, caller: Principal, data: Note, now_ms: int) -> object:
    for _ in range(data.times):
        tx.run(insert(notes), {"text": data.text})
    if data.text == "bad":
        raise Problem(Code.INVALID, "bad")
    if data.text == "broken":
        raise RuntimeError("bug")
    return {"stored": len(tx.rows(select(notes.c.text)))}


def list_(tx: Transaction, caller: Principal, data: Note, now_ms: int) -> object:
    return [row["text"] for row in tx.rows(select(notes.c.text))]


TABLE = command_table([Command("message.send", Note, add), Command("conversation.list", Note, list_, writes=False)])


def create(path: Path) -> None:
    from sqlalchemy import create_engine

    create_tables(path)
    engine = create_engine(f"sqlite:///{path}")
    notes.metadata.create_all(engine)
    engine.dispose()


class Guard:
    """Refuses the devices it was told of."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def __call__(self, tx: Transaction, principal: Principal) -> None:
        assert isinstance(tx.first(select(notes.c.text)), object | None), "the guard stands inside the unit"
        if principal.device_id in self.refused:
            raise Problem(Code.DEVICE_SUSPENDED, "suspended")


@pytest.fixture
async def database(tmp_path: Path):  # noqa: ANN201
    database = SqliteDatabase(tmp_path / "notes.db", create)
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def executor(database: SqliteDatabase, clock: ManualClock, guard: Guard) -> Executor:
    return Executor(database, clock, TABLE, guard)


def new_id(n: int) -> str:
    return ulid(1, n.to_bytes(10, "big"))


async def send(executor: Executor, n: int, text: str = "hi", *, who: Principal = PHONE, **more: Any) -> Any:
    data = json.dumps({"text": text} | more).encode()
    return json.loads(await executor.execute(who, new_id(n), "message.send", data))


async def stored(database: SqliteDatabase) -> list[str]:
    return await database.read(lambda tx: [row["text"] for row in tx.rows(select(notes.c.text))])


async def refusal(executor: Executor, n: int = 1, text: str = "hi", **more: Any) -> Code:
    with pytest.raises(Problem) as problem:
        await send(executor, n, text, **more)
    return problem.value.code


async def test_a_repeated_command_gets_the_first_result_and_has_one_effect(
    executor: Executor, database: SqliteDatabase
) -> None:
    first = await send(executor, 1)
    await send(executor, 2, "other")
    assert await send(executor, 1) == first == {"stored": 1}
    assert await stored(database) == ["hi", "other"]


async def test_a_hundred_at_once_have_one_effect_and_one_result(executor: Executor, database: SqliteDatabase) -> None:
    results = await asyncio.gather(*(send(executor, 1) for _ in range(100)))
    assert results == [{"stored": 1}] * 100
    assert await stored(database) == ["hi"]


async def test_the_result_outlives_a_restart(
    executor: Executor, database: SqliteDatabase, clock: ManualClock, guard: Guard, tmp_path: Path
) -> None:
    first = await send(executor, 1)
    await database.stop()
    reopened = SqliteDatabase(tmp_path / "notes.db", lambda _: None)
    await reopened.start()
    again = Executor(reopened, clock, TABLE, guard)
    assert await send(again, 1) == first
    assert await refusal(again, 1, "other") is Code.IDEMPOTENCY_MISMATCH
    assert await stored(reopened) == ["hi"]
    await reopened.stop()


async def test_an_early_id_from_before_a_restart_is_known_after_a_later_one_of_its_device_and_of_others(
    executor: Executor, database: SqliteDatabase, clock: ManualClock, guard: Guard, tmp_path: Path
) -> None:
    """What is remembered of ids begins anew with the process; what stands in the table does not."""
    other = device("dev_other")
    first = {n: await send(executor, n, f"from before {n}") for n in (3, 7)}
    others = await send(executor, 5, "somebody else's", who=other)
    await database.stop()
    reopened = SqliteDatabase(tmp_path / "notes.db", lambda _: None)
    await reopened.start()
    again = Executor(reopened, clock, TABLE, guard)
    assert await send(again, 4, "an id of an earlier time") == {"stored": 4}
    assert await send(again, 9, "later than all", who=other) == {"stored": 5}
    assert {n: await send(again, n, f"from before {n}") for n in (3, 7)} == first
    assert await send(again, 5, "somebody else's", who=other) == others
    assert len(await stored(reopened)) == 5
    await reopened.stop()


async def test_the_latest_id_is_known_after_an_earlier_one_was_executed(
    executor: Executor, database: SqliteDatabase
) -> None:
    latest = await send(executor, 9, "later")
    await send(executor, 4, "an id of an earlier time")
    assert await send(executor, 9, "later") == latest
    assert await stored(database) == ["later", "an id of an earlier time"]


@pytest.mark.parametrize("other", [{"text": "other"}, {"text": "hi", "times": 2}])
async def test_other_data_under_a_used_id_is_a_mismatch_and_changes_nothing(
    executor: Executor, database: SqliteDatabase, other: dict[str, Any]
) -> None:
    await send(executor, 1)
    assert await refusal(executor, 1, **other) is Code.IDEMPOTENCY_MISMATCH
    assert await stored(database) == ["hi"]


async def test_the_same_data_in_another_spelling_is_the_same_command(executor: Executor) -> None:
    first = await executor.execute(PHONE, new_id(1), "message.send", b'{"text":"hi","times":1}')
    again = await executor.execute(PHONE, new_id(1), "message.send", b'{ "times": 1, "text": "\\u0068i" }')
    assert first == again


async def test_an_id_belongs_to_its_device(executor: Executor, database: SqliteDatabase) -> None:
    await send(executor, 1)
    assert await send(executor, 1, "theirs", who=device("dev_2")) == {"stored": 2}


async def test_ids_of_the_owner_at_the_local_socket_are_once_only_too(
    executor: Executor, database: SqliteDatabase
) -> None:
    owner = Principal("usr_1", ALL_SCOPES)
    assert await send(executor, 1, who=owner) == await send(executor, 1, who=owner)
    assert await stored(database) == ["hi"]


async def test_the_guard_stands_inside_the_unit_and_before_an_earlier_result(
    executor: Executor, database: SqliteDatabase, guard: Guard
) -> None:
    await send(executor, 1)
    guard.refused.add("dev_1")
    assert await refusal(executor, 1) is Code.DEVICE_SUSPENDED
    assert await refusal(executor, 2) is Code.DEVICE_SUSPENDED
    with pytest.raises(Problem):
        await executor.execute(PHONE, new_id(3), "conversation.list", b'{"text":""}')
    assert await stored(database) == ["hi"]


async def test_a_command_that_fails_leaves_nothing_and_may_be_tried_again(
    executor: Executor, database: SqliteDatabase
) -> None:
    assert await refusal(executor, 1, "bad") is Code.INVALID
    with pytest.raises(RuntimeError):
        await send(executor, 1, "broken")
    assert await stored(database) == []
    assert await send(executor, 1, "good") == {"stored": 1}


async def test_an_unknown_command_is_not_found(executor: Executor) -> None:
    with pytest.raises(Problem) as problem:
        await executor.execute(PHONE, new_id(1), "message.delete" + "x" * 200, b"{}")
    assert problem.value.code is Code.NOT_FOUND
    assert len(problem.value.detail) < 100


@pytest.mark.parametrize("wrong", ["", "x", "0" * 25 + "l", "8" + "0" * 25, "dev_1", "0" * 27])
async def test_a_command_id_is_a_ulid(executor: Executor, wrong: str) -> None:
    with pytest.raises(Problem) as problem:
        await executor.execute(PHONE, wrong, "message.send", b'{"text":"hi"}')
    assert problem.value.code is Code.INVALID


BAD_DATA = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"text":1}',
    b'{"text":"a","times":0}',
    b'{"text":"a","user_id":"usr_2"}',
    b'{"text":"\\ud800"}',
    b'{"text":"\xff"}',
    b'{"\xff":1}',
    b'{"text":' + b"[" * 100_000 + b"]",
    b'{"text":"a"} x',
]


@pytest.mark.parametrize("data", BAD_DATA, ids=lambda data: repr(data[:30]))
async def test_data_of_the_wrong_shape_is_invalid_and_no_internal_error(
    executor: Executor, database: SqliteDatabase, data: bytes
) -> None:
    with pytest.raises(Problem) as problem:
        await executor.execute(PHONE, new_id(1), "message.send", data)
    assert problem.value.code is Code.INVALID
    assert len(problem.value.detail) < 300
    assert await stored(database) == []


async def test_a_reading_command_cannot_write_and_keeps_no_result(executor: Executor, database: SqliteDatabase) -> None:
    await send(executor, 1)
    data = b'{"text":""}'
    assert json.loads(await executor.execute(PHONE, new_id(2), "conversation.list", data)) == ["hi"]
    await send(executor, 3, "more")
    assert json.loads(await executor.execute(PHONE, new_id(2), "conversation.list", data)) == ["hi", "more"]
    assert await database.read(lambda tx: store.find_result(tx, "dev_1", new_id(2))) is None


async def test_results_are_forgotten_after_24_hours_and_not_before(
    executor: Executor, database: SqliteDatabase, clock: ManualClock
) -> None:
    await send(executor, 1)
    clock.advance(24 * 3600)
    await executor.sweep()
    assert await send(executor, 1) == {"stored": 1}
    clock.advance(0.001)
    await executor.sweep()
    assert await send(executor, 1) == {"stored": 2}


async def test_results_are_forgotten_in_bounded_batches(database: SqliteDatabase) -> None:
    def fill(tx: Transaction) -> None:
        for n in range(12):
            store.insert_result(
                tx, device_id="dev_1", command_id=str(n), digest=b"", result=b"{}", now_ms=[n, 6][5 <= n <= 7]
            )

    await database.write(fill)
    took = [await database.write(lambda tx: store.forget_results(tx, 10, 4)) for _ in range(4)]
    assert took == [4, 4, 2, 0]
    assert await database.read(lambda tx: store.find_result(tx, "dev_1", "10")) is not None


# -- scopes


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_every_command_needs_the_scope_that_the_table_names(
    database: SqliteDatabase, clock: ManualClock, guard: Guard, name: str
) -> None:
    ran: list[frozenset[Scope]] = []

    def run(tx: Transaction, caller: Principal, data: Nothing, now_ms: int) -> object:
        ran.append(caller.scopes)
        return None

    executor = Executor(database, clock, command_table([Command(name, Nothing, run)]), guard)
    access = COMMANDS[name]
    assert access is not Open.ANYONE
    needed = frozenset({access}) if isinstance(access, Scope) else frozenset[Scope]()
    await executor.execute(device("dev_1", needed), new_id(1), name, b"{}")
    assert len(ran) == 1
    if needed:
        with pytest.raises(Problem) as problem:
            await executor.execute(device("dev_1", ALL_SCOPES - needed), new_id(2), name, b"{}")
        assert problem.value.code is Code.FORBIDDEN
        with pytest.raises(Problem) as problem:
            await executor.execute(device("dev_1", ALL_SCOPES - needed), new_id(1), name, b"{}")
        assert problem.value.code is Code.FORBIDDEN
    assert len(ran) == 1


def test_the_protocols_commands_have_the_protocols_scopes() -> None:
    for name, access in COMMANDS.items():
        feature = name.partition(".")[0]
        scopes: dict[str, Scope] = dict.fromkeys(("conversation", "events", "message", "run"), Scope.CHAT)
        scopes |= dict.fromkeys(("approval", "approval_rule"), Scope.APPROVE)
        scopes |= dict.fromkeys(("notification", "push", "question"), Scope.NOTIFY)
        assert access is scopes.get(feature, Open.AUTHENTICATED), name


def test_a_command_that_the_table_does_not_list_or_that_comes_twice_cannot_be_registered() -> None:
    with pytest.raises(KeyError):
        command_table([Command("message.delete", Nothing, add)])
    with pytest.raises(ValueError, match="two handlers"):
        command_table([Command("message.send", Nothing, add)] * 2)
