"""Delivery against a model: appends, texts, connects, acknowledgements, stalls, lost doorbells, retention, expiry, time."""

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
from entobot.gateway.wire import MAX_FRAME_BYTES, Close
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream import store
from tests.support.gateway import USER, ManualLink, Reader, World, device, quiet
from tests.support.stores import create_tables
from tests.support.time import ManualClock

CHAT = frozenset({Scope.CHAT})


def kinds(link: ManualLink) -> list[str]:
    return [frame["type"] for frame in link.frames]


@dataclass
class Entry:
    """One durable event."""

    scope: Scope | None
    expires_at_ms: int | None = None


@dataclass
class Phone:
    """A client's connection and what it must have got."""

    reader: Reader
    opened_at: int
    opened_at_ms: int
    is_reset: bool
    scopes: frozenset[Scope]
    acked: int = 0

    @property
    def position(self) -> int:
        return max([self.opened_at, *self.reader.link.seqs[-1:]])


@dataclass
class Model:
    world: World
    log: list[Entry] = field(default_factory=list[Entry])
    trimmed_to: int = 0
    may_end: bool = False
    gone: list[Phone] = field(default_factory=list[Phone])
    """Connections that the gateway has ended; each was followed by another one of its device."""
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
                self.log += [Entry(scope)] * count
            case "append_expiring":
                expires_at_ms = world.clock.now_ms() + 1000 * (1 + b)
                await world.append(1 + a % 3, expires_at_ms=expires_at_ms)
                self.log += [Entry(Scope.CHAT, expires_at_ms)] * (1 + a % 3)
            case "wait":
                self.may_end = True  # of patience with one that is paused
                world.timers.advance([1, 5, 29, 31][a % 4])
            case "trim":
                self.may_end = True
                self.trimmed_to = max(self.trimmed_to, len(self.log) - [0, 1, 5, 50, 300, 600][b % 6])
                await world.database.write(lambda tx: store.trim(tx, USER, self.trimmed_to))
            case "return" if phone is not None and phone.reader.ended:
                await self.come_back(phone)
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
                self.log.append(Entry(Scope.CHAT))
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
        self.phones.append(await self.open(f"dev_{len(self.phones)}", scopes, after, a, b))

    async def open(self, name: str, scopes: frozenset[Scope], after: int | None, a: int, b: int) -> Phone:
        is_reset = after is None or after < self.trimmed_to
        reader = Reader(self.world, device(name, scopes))
        opening = await reader.read_opening(after)
        assert opening.reset == (None if not is_reset else "none" if after is None else "expired")
        phone = Phone(reader, opening.after, self.world.clock.now_ms(), is_reset, scopes)
        if a % 3 == 0:
            await self.do("append", b, a)  # between reading the position and starting
        if a % 3 == 1:
            await quiet()
        if a % 5 == 4:
            await self.do("trim", a, b)
        assert reader.channel is not None
        reader.delivery.open(opening, reader.channel)
        return phone

    async def come_back(self, phone: Phone) -> None:
        """A device whose connection was ended asks for what came after the last event that it got."""
        place = self.phones.index(phone)
        self.gone.append(phone)
        name = phone.reader.principal.device_id
        assert name is not None
        self.phones[place] = await self.open(name, phone.scopes, phone.position, 2, 0)

    def read_again(self, phone: Phone) -> None:
        phone.reader.link.is_reading = True
        phone.reader.link.flush()
        phone.reader.delivery.writable()

    async def settle(self) -> None:
        """Everybody reads and acknowledges, and what the bus lost is swept up, until nothing moves."""
        self.world.bus.is_deaf = False
        await self.world.hub.sweep()
        before = -1
        while before != (before := self.moves()):
            for phone in tuple(self.phones):
                if phone.reader.ended:
                    await self.come_back(phone)
            for phone in self.phones:
                self.read_again(phone)
                if phone.reader.link.seqs:
                    assert phone.reader.delivery.acknowledged(phone.reader.link.seqs[-1])
            await quiet()

    def moves(self) -> int:
        everybody = [*self.phones, *self.gone]
        return sum(len(one.reader.link.sent) + len(one.reader.ended) for one in everybody)

    def check(self) -> None:
        for phone in self.phones:
            assert phone.reader.ended == []
            self.check_events(phone, len(self.log))
            self.check_opening(phone)
        for phone in self.gone:
            ((code, _, _),) = phone.reader.ended
            assert self.may_end, phone.reader.ended
            assert code in (Close.SLOW_CONSUMER, Close.DRAINING)
            self.check_events(phone, phone.position)
        for phone in [*self.phones, *self.gone]:
            assert phone.reader.link.max_buffered <= MAX_BUFFERED_BYTES + MAX_FRAME_BYTES
            self.check_texts(phone.reader.link)

    def check_events(self, phone: Phone, up_to: int) -> None:
        """Everything up to there, in order, once; expired events may be missing, and those of before must be."""
        got = phone.reader.link.seqs
        assert got == sorted(set(got))
        now_ms = self.world.clock.now_ms()
        due = {
            seq: entry
            for seq, entry in enumerate(self.log, 1)
            if phone.opened_at < seq <= up_to and (entry.scope is None or entry.scope in phone.scopes)
        }
        must = {seq for seq, entry in due.items() if entry.expires_at_ms is None or entry.expires_at_ms > now_ms}
        may = {
            seq for seq, entry in due.items() if entry.expires_at_ms is None or entry.expires_at_ms > phone.opened_at_ms
        }
        assert must <= set(got) <= may

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
    "append", "append", "append", "append_expiring", "wait", "trim", "return", "start", "piece", "piece", "piece", "finish", "connect", "connect", "ack", "ack",
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
