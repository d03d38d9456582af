"""Commands and events over plain HTTP."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette

from entobot.core.errors import Code, Problem
from entobot.core.ids import ulid
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.gateway.commands import Command, command_table
from entobot.gateway.executor import Executor
from entobot.gateway.feed import Standing
from entobot.gateway.http import EventParts, EventStream, add_routes
from entobot.gateway.wire import Close, Resume
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream import commands as stream_commands
from entobot.stream import store
from entobot.web.authentication import Presented
from entobot.web.idempotency import Idempotency
from entobot.web.routes import Api
from tests.support.gateway import USER, World, device, until
from tests.support.time import ManualClock, SeededEntropy

CHAT = frozenset({Scope.CHAT})
PHONE = device("dev_1", CHAT)


class Inbox:
    """Reads an event stream as a client would, one chunk when asked."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self.body = stream.body()
        self.chunks: list[bytes] = []

    async def read(self) -> list[bytes]:
        """Everything that is there without waiting for more."""
        new: list[bytes] = []
        while True:
            step = asyncio.ensure_future(anext(self.body, None))
            for _ in range(3):
                await asyncio.sleep(0)
            if not step.done():
                self.pending = step
                break
            chunk = step.result()
            if chunk is None:
                break
            new.append(chunk)
        self.chunks += new
        return new

    async def more(self) -> list[bytes]:
        """What came since `read` ran dry."""
        for _ in range(20):
            await asyncio.sleep(0)
        if not self.pending.done():
            return []
        first = self.pending.result()
        if first is None:
            return []
        self.chunks.append(first)
        return [first, *await self.read()]


def parsed(chunk: bytes) -> tuple[str | None, dict[str, Any]]:
    lines = chunk.decode().splitlines()
    position = next((line[4:] for line in lines if line.startswith("id: ")), None)
    return position, json.loads(next(line[6:] for line in lines if line.startswith("data: ")))


def parts(world: World) -> EventParts:
    return EventParts(world.database, world.clock, world.hub, world.feed, world.timers)


async def listen(world: World, principal: Principal = PHONE, after: int | None = 0) -> Inbox:
    stream = EventStream(parts(world), principal, "")
    await stream.open(None if after is None else Resume(await world.stream_id(), after))
    return Inbox(stream)


async def test_only_what_was_reached_bears_a_position(world: World) -> None:
    await world.append(2)
    world.show("TEXT_MESSAGE_START")
    inbox = await listen(world)
    await until(lambda: len(inbox.stream._queue) >= 5)
    name = await world.stream_id()
    got = [parsed(chunk) for chunk in await inbox.read()]
    assert [(position, frame["type"]) for position, frame in got] == [
        (None, "ready"),
        (f"{name}:1", "event"),
        (f"{name}:2", "event"),
        (f"{name}:2", "resume_done"),
        (None, "event"),
    ]
    inbox.stream.release()


async def test_only_the_last_page_of_a_snapshot_bears_a_position(world: World) -> None:
    await world.append(4)
    world.snapshot = {"conversations": list[object]([{"pad": "x" * 90_000}] * 5), "unread": 0}
    inbox = await listen(world, after=None)
    got = [parsed(chunk) for chunk in await inbox.read()]
    positions = [position for position, frame in got if frame["type"] == "snapshot"]
    assert positions == [None] * (len(positions) - 1) + [f"{await world.stream_id()}:4"]
    assert len(positions) > 1
    inbox.stream.release()


async def test_a_comment_comes_every_fifteen_quiet_seconds(world: World) -> None:
    inbox = await listen(world)
    await inbox.read()
    world.timers.advance(14.9)
    assert await inbox.more() == []
    world.timers.advance(0.1)
    assert await inbox.more() == [b":\n\n"]
    world.timers.advance(15)
    assert await inbox.more() == [b":\n\n"]
    inbox.stream.release()


async def test_it_ends_with_the_token(world: World, clock: ManualClock) -> None:
    inbox = await listen(world, replace(PHONE, expires_at_ms=clock.now_ms() + 20_000))
    (ready, *_) = await inbox.read()
    assert parsed(ready)[1]["expires_in"] == 20
    world.timers.advance(19.9)
    assert await inbox.more() == [b":\n\n"]
    world.timers.advance(0.1)
    assert await inbox.more() == [b": 4003 the token expired\n\n"]
    assert world.hub.connection_count == 0


async def test_credentials_without_an_end_do_not_look_as_if_they_ended_in_seconds(world: World) -> None:
    inbox = await listen(world)
    (ready, *_) = await inbox.read()
    assert parsed(ready)[1]["expires_in"] > 86_400
    inbox.stream.release()


async def revoke(world: World) -> None:
    world.standings["dev_1"] = Standing(Close.REVOKED, "revoked")
    world.bus.publish("control.devices", b"dev_1")
    await until(lambda: not world.hub.is_online("dev_1"))


async def test_it_ends_on_a_revoke(world: World) -> None:
    inbox = await listen(world)
    await inbox.read()
    await revoke(world)
    assert await inbox.more() == [b": 4501 revoked\n\n"]


async def test_what_was_queued_for_a_device_is_not_sent_once_it_is_revoked(world: World) -> None:
    inbox = await listen(world)
    await world.append(5)
    await until(lambda: len(inbox.stream._queue) >= 5)
    await revoke(world)
    assert await inbox.read() == [b": 4501 revoked\n\n"]


@pytest.mark.parametrize(("after", "first"), [(2, "reset"), (3, "event")])
async def test_a_stream_over_http_begins_at_the_edge_of_what_is_kept_or_with_a_snapshot(
    world: World, after: int, first: str
) -> None:
    await world.append(5)
    await world.database.write(lambda tx: store.trim(tx, USER, 3))
    inbox = await listen(world, after=after)
    await until(lambda: len(inbox.stream._queue) >= 3)
    ready, opening, *_ = [json.loads(chunk.split(b"data: ")[1]) for chunk in await inbox.read()]
    assert (ready["type"], opening["type"]) == ("ready", first)
    assert opening.get("reason", "expired") == "expired"


async def test_draining_says_when_to_come_back(world: World) -> None:
    inbox = await listen(world)
    await inbox.read()
    await world.hub.drain()
    assert await inbox.more() == [b"retry: 5500\n: 4000 the gateway stops\n\n"]
    with pytest.raises(Problem) as refusal:
        await listen(world)
    assert refusal.value.code is Code.DRAINING


async def test_a_reader_that_stopped_reading_holds_neither_memory_nor_one_of_the_devices_places(world: World) -> None:
    stalled = [await listen(world) for _ in range(8)]
    assert world.hub.connection_count == 4
    assert [len(one.stream._queue) for one in stalled] == [0, 0, 0, 0, 2, 2, 2, 2]
    await world.append(40, size=50_000)
    await until(lambda: all(one.stream.buffered_bytes > 512 * 1024 for one in stalled[4:]))
    world.timers.advance(30)
    world.timers.advance(30)
    assert world.hub.connection_count == 0
    assert [one.stream.buffered_bytes for one in stalled] == [0] * 8


async def test_a_suspended_device_is_told_so(world: World) -> None:
    for code, expected in ((Close.SUSPENDED, Code.DEVICE_SUSPENDED), (Close.REVOKED, Code.UNAUTHENTICATED)):
        world.standings["dev_1"] = Standing(code, "no")
        with pytest.raises(Problem) as problem:
            await listen(world)
        assert problem.value.code is expected
    assert world.hub.connection_count == 0


# -- through the routes


class Always:
    """An authenticator for which every caller is the phone."""

    async def authenticate(self, presented: Presented) -> Principal:
        return PHONE

    async def local_owner(self) -> Principal:
        return PHONE


class Say(msgspec.Struct, forbid_unknown_fields=True):
    what: str


def say(tx: Transaction, caller: Principal, data: Say, now_ms: int) -> object:
    return {"said": data.what}


@pytest.fixture
def app(world: World, database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy) -> Starlette:
    api = Api(Always(), Idempotency(database, clock, entropy))
    commands = [Command("message.send", Say, say), *stream_commands.commands(world.stream, world.hub.acknowledged)]
    add_routes(api, Executor(database, clock, command_table(commands), lambda _tx, _caller: None), parts(world))
    return Starlette(routes=api.routes, exception_handlers={Problem: _problem})


def _problem(_: Any, error: Any) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(error.to_json(), error.status)


async def call(
    app: Starlette, method: str, path: str, body: bytes = b"", query: str = "", **headers: str
) -> tuple[int, list[bytes], asyncio.Task[None], asyncio.Event]:
    """Start an ASGI request; chunks go on arriving until the returned event says that the client left."""
    chunks: list[bytes] = []
    status = asyncio.get_running_loop().create_future()
    gone, is_sent = asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal is_sent
        if not is_sent:
            is_sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.set_result(message["status"])
        elif message.get("body"):
            chunks.append(message["body"])

    fields = {"content-type": "application/json", "content-length": str(len(body))} if body else {}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in (fields | headers).items()],
        "client": ("192.0.2.1", 5),
        "server": ("gateway.example", 443),
        "scheme": "https",
    }
    task = asyncio.create_task(app(scope, receive, send))
    return await status, chunks, task, gone


async def post(app: Starlette, body: bytes) -> tuple[int, dict[str, Any]]:
    status, chunks, task, _ = await call(app, "POST", "/api/v1/commands", body)
    await task
    return status, json.loads(b"".join(chunks))


def command(n: int, name: str, **data: Any) -> bytes:
    return json.dumps({"id": ulid(1, n.to_bytes(10, "big")), "name": name, "data": data}).encode()


async def test_a_command_over_http_answers_with_its_id_and_data(app: Starlette) -> None:
    status, answer = await post(app, command(1, "message.send", what="hi"))
    assert (status, answer["data"]) == (200, {"said": "hi"})
    assert answer["id"] == ulid(1, (1).to_bytes(10, "big"))
    assert (await post(app, command(1, "message.send", what="other")))[1]["code"] == "idempotency_mismatch"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"id":"x","name":"a"}',
        b'{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"\xff"}',
        b'{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"message.send","data":{"what":"\xff"}}',
        b'{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"message.send","user_id":"usr_2"}',
    ],
)
async def test_a_body_that_is_no_command_is_invalid_and_no_internal_error(app: Starlette, body: bytes) -> None:
    status, answer = await post(app, body)
    assert (status, answer["code"]) == (422, "invalid")


async def test_an_acknowledgement_by_command_opens_the_window_again(app: Starlette, world: World) -> None:
    await world.append(300)
    status, chunks, task, gone = await call(
        app, "GET", "/api/v1/events", query=f"stream={await world.stream_id()}&after=0"
    )
    assert status == 200
    await until(lambda: b"".join(chunks).count(b'"seq":') >= 257)
    assert (await post(app, command(1, "events.ack", seq=301)))[0] == 422
    assert (await post(app, command(2, "events.ack", seq=300)))[1]["data"] == {"seq": 300}
    await until(lambda: b"resume_done" in b"".join(chunks))
    assert await world.database.read(lambda tx: world.stream.seen(tx, USER, "dev_1")) == 300
    gone.set()
    await task
    assert world.hub.connection_count == 0


async def test_a_reader_that_leaves_before_the_first_byte_leaves_nothing_behind(app: Starlette, world: World) -> None:
    async def never(message: Any) -> None:
        raise OSError("gone")

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": "/api/v1/events",
        "query_string": b"",
        "headers": [],
        "client": None,
        "server": None,
    }
    with pytest.raises(Exception):  # noqa: B017  whatever the server makes of it
        await app(scope, receive, never)
    assert world.hub.connection_count == 0


@pytest.mark.parametrize(
    ("query", "last", "first"),
    [
        ("stream={0}&after=1", None, 2),
        ("", "{0}:2", 3),
        ("stream={0}&after=1", "{0}:2", 3),
    ],
)
async def test_last_event_id_wins_over_the_address_that_a_reader_asks_for_again(
    app: Starlette, world: World, query: str, last: str | None, first: int
) -> None:
    await world.append(3)
    name = await world.stream_id()
    headers = {} if last is None else {"last_event_id": last.format(name)}
    _, chunks, task, gone = await call(app, "GET", "/api/v1/events", b"", query.format(name), **headers)
    await until(lambda: b"resume_done" in b"".join(chunks))
    assert parsed(chunks[1])[1]["seq"] == first
    gone.set()
    await task


@pytest.mark.parametrize(
    "query",
    ["after=1", "stream=s", "stream=s&after=-1", "stream=s&after=x", "stream=s&after=" + "9" * 16, "stream=&after=1"],
)
async def test_a_position_of_the_wrong_shape_is_invalid(app: Starlette, query: str) -> None:
    status, _, task, _ = await call(app, "GET", "/api/v1/events", query=query)
    await task
    assert status == 422
