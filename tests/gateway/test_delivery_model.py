"""Delivery against a model: random appends, texts, connects, acknowledgements, stalls and lost doorbells."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entobot.core.permissions import Scope
from entobot.gateway.delivery import MAX_BUFFERED_BYTES
from entobot.gateway.wire import MAX_FRAME_BYTES
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.gateway import ManualLink, Reader, World, device, quiet
from tests.support.stores import create_tables
from tests.support.time import ManualClock

CHAT = frozenset({Scope.CHAT})


def kinds(link: ManualLink) -> list[str]:
    return [frame["type"] for frame in link.frames]


@dataclass
class Phone:
    """A client and what it must have got."""

    reader: Reader
    opened_at: int
    is_reset: bool
    scopes: frozenset[Scope]
    acked: int = 0


@dataclass
class Model:
    world: World
    log: list[Scope | None] = field(default_factory=list[Scope | None])
    phones: list[Phone] = field(default_factory=list[Phone])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    open_texts: list[str] = field(default_factory=list[str])
    stored: dict[str, int] = field(default_factory=dict[str, int])

    async def do(self, name: str, a: int, b: int) -> None:  # noqa: C901, PLR0912  one branch a step
        world = self.world
        phone = self.phones[a % len(self.phones)] if self.phones else None
        match name:
            case "append":
                scope = [Scope.CHAT, Scope.CHAT, Scope.APPROVE, None][b % 4]
                count = [1, 1, 2, 3, 40, 290][a % 6]
                await world.append(count, scope=scope, size=[0, 0, 0, 9000][b % 4] if count < 4 else 0)
                self.log += [scope] * count
            case "start":
                name = f"msg_{len(self.texts)}"
                self.texts[name] = ""
                self.open_texts.append(name)
                world.show("TEXT_MESSAGE_START", name)
            case "piece" if self.open_texts:
                name = self.open_texts[a % len(self.open_texts)]
                delta = f"<{len(self.texts[name])}:{b}>"
                self.texts[name] += delta
                world.write_text(name, delta)
            case "finish" if self.open_texts:
                name = self.open_texts.pop(a % len(self.open_texts))
                if b % 3:
                    world.show("TEXT_MESSAGE_END", name)
                self.stored[name] = await world.append(type="message.created", data={"message_id": name})
                self.log.append(Scope.CHAT)
            case "connect" if len(self.phones) < 6:
                await self.connect(a, b)
            case "ack" if phone is not None and phone.reader.link.seqs:
                upto = phone.reader.link.seqs[-1 - b % min(3, len(phone.reader.link.seqs))]
                phone.acked = max(phone.acked, upto)
                assert phone.reader.delivery.acknowledged(upto)
            case "stall" if phone is not None:
                phone.reader.link.is_reading = False
            case "drink" if phone is not None:
                phone.reader.link.flush(b * 10_000)
                if phone.reader.link.buffered_bytes < 16_384:
                    phone.reader.delivery.writable()
            case "read" if phone is not None:
                self.read_again(phone)
            case "deaf":
                world.bus.is_deaf = True
            case "hearing":
                world.bus.is_deaf = False
            case "sweep":
                await world.hub.sweep()
            case "quiet":
                await quiet()
            case _:
                pass

    async def connect(self, a: int, b: int) -> None:
        scopes = frozenset({Scope.CHAT, Scope.APPROVE}) if b % 2 else CHAT
        after = None if a % 4 == 0 else max(0, len(self.log) - [0, 1, 5, 300, 1000][b % 5])
        reader = Reader(self.world, device(f"dev_{len(self.phones)}", scopes))
        opening = await reader.read_opening(after)
        if a % 3 == 0:
            await self.do("append", b, a)  # between reading the position and starting
        if a % 3 == 1:
            await quiet()
        assert reader.channel is not None
        reader.delivery.open(opening, reader.channel)
        self.phones.append(Phone(reader, opening.after, after is None, scopes))

    def read_again(self, phone: Phone) -> None:
        phone.reader.link.is_reading = True
        phone.reader.link.flush()
        phone.reader.delivery.writable()

    async def settle(self) -> None:
        """Everybody reads and acknowledges, and what the bus lost is swept up, until nothing moves."""
        self.world.bus.is_deaf = False
        await self.world.hub.sweep()
        before = -1
        while before != (before := sum(len(phone.reader.link.sent) for phone in self.phones)):
            for phone in self.phones:
                self.read_again(phone)
                if phone.reader.link.seqs:
                    assert phone.reader.delivery.acknowledged(phone.reader.link.seqs[-1])
            await quiet()

    def check(self) -> None:
        for phone in self.phones:
            link = phone.reader.link
            assert phone.reader.ended == []
            due = [
                seq
                for seq, scope in enumerate(self.log, 1)
                if seq > phone.opened_at and (scope is None or scope in phone.scopes)
            ]
            assert link.seqs == due
            assert link.max_buffered <= MAX_BUFFERED_BYTES + MAX_FRAME_BYTES
            self.check_opening(phone)
            self.check_texts(link)

    def check_opening(self, phone: Phone) -> None:
        types = kinds(phone.reader.link)
        if phone.is_reset:
            assert types[:2] == ["reset", "snapshot"]
            assert "resume_done" not in types
            return
        assert types.count("resume_done") == 1
        at = types.index("resume_done")
        reached = phone.reader.link.frames[at]["seq"]
        before = phone.reader.link.frames[:at]
        assert all(frame["seq"] <= reached for frame in before)
        assert all(frame.get("seq", reached + 1) > reached for frame in phone.reader.link.frames[at + 1 :])

    def check_texts(self, link: ManualLink) -> None:
        shown: dict[str, str] = {}
        over: set[str] = set()
        for frame in link.of_type("event"):
            event = frame["event"]
            if event["type"] == "message.created":
                over.add(event["data"]["message_id"])
            name = event.get("messageId")
            if name is None:
                continue
            assert name not in over, "a piece after the stored message"
            if event["type"] == "TEXT_MESSAGE_START":
                shown[name] = ""
            elif event["type"] == "TEXT_MESSAGE_CONTENT":
                shown[name] += event["delta"]
                assert self.texts[name].startswith(shown[name])
            else:
                assert shown[name] == self.texts[name]


NAMES = [
    "append", "append", "append", "start", "piece", "piece", "piece", "finish", "connect", "connect", "ack", "ack",
    "stall", "drink", "read", "deaf", "hearing", "sweep", "quiet", "quiet",
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 59), st.integers(0, 59)), min_size=5, max_size=40)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "empty.db"
    create_tables(path)
    return path


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_every_client_sees_every_event_once_in_order_and_texts_without_gap_or_repetition(
    template: Path, steps: list[tuple[str, int, int]]
) -> None:
    async def run(folder: Path) -> None:
        path = folder / "entobot.db"
        shutil.copy(template, path)
        database = SqliteDatabase(path, lambda _: None)
        await database.start()
        try:
            model = Model(await World(database, ManualClock()).start())
            for step in steps:
                await model.do(*step)
            await model.settle()
            model.check()
        finally:
            await database.stop()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
