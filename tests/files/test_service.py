"""Files over a real database: they arrive whole or not at all, are bounded, and belong to one person."""

from dataclasses import replace
from datetime import timedelta

import pytest

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.files import store
from entobot.files.model import ARRIVES_WITHIN, PART_BYTES, WAITS_FOR, File, Room, State, checked_name
from entobot.files.service import Files
from entobot.storage.database import Database, Transaction
from tests.support.agency import HeardAudit
from tests.support.time import ManualClock

ON_EVERY_STORE = True
ME = Principal("usr_1", DEFAULT_DEVICE_SCOPES, device_id="dev_1")
MY_TABLET = replace(ME, device_id="dev_2")
MY_PROGRAM = replace(ME, device_id="dev_3", scopes=frozenset({Scope.NOTIFY}))
STRANGER = Principal("usr_2", DEFAULT_DEVICE_SCOPES, device_id="dev_9")
ROOM = Room(max_file=3 * PART_BYTES, max_person=4 * PART_BYTES, max_total=6 * PART_BYTES)
CONTENT = bytes(range(256)) * (PART_BYTES // 256) + b"the end"


class Shelf:
    """Files of one gateway, and short words for what is done to them."""

    def __init__(self, database: Database, ids: RandomIds, clock: ManualClock, types: tuple[str, ...] = ()) -> None:
        self.audit = HeardAudit()
        self.files = Files(ids=ids, audit=self.audit, guard=lambda _tx, _who: None, room=ROOM, types=types)
        self.database, self.clock = database, clock

    async def announce(self, size: int, who: Principal = ME, name: str = "a.bin") -> File:
        return await self.database.write(lambda tx: self.files.announce(tx, who, name, size, self.clock.now_ms()))

    async def put(self, file: File, number: int, data: bytes, who: Principal = ME) -> None:
        await self.database.write(lambda tx: self.files.put_part(tx, who, file.file_id, number, data))

    async def finish(self, file: File, who: Principal = ME) -> File | Problem:
        return await self.database.write(lambda tx: self.files.finish(tx, who, file.file_id, self.clock.now_ms()))

    async def keep(self, content: bytes = CONTENT, who: Principal = ME) -> File:
        file = await self.announce(len(content), who)
        for number in range(file.parts):
            await self.put(file, number, content[number * PART_BYTES : (number + 1) * PART_BYTES], who)
        kept = await self.finish(file, who)
        assert isinstance(kept, File)
        return kept

    async def attach(self, *files: File, message_id: str = "msg_1", user_id: str = ME.user_id) -> object:
        ids = [file.file_id for file in files]
        return await self.database.write(lambda tx: self.files.attach(tx, user_id, ids, message_id, "cnv_1"))

    async def get(self, file: File, who: Principal = ME) -> File:
        return await self.database.read(lambda tx: self.files.get(tx, who, file.file_id))

    async def read(self, file: File) -> bytes:
        return b"".join([part async for part in self.files.content(self.database, file)])

    async def sweep(self) -> int:
        return await self.files.sweep(self.database, self.clock.now_ms())

    async def rows(self) -> int:
        def unit(tx: Transaction) -> int:
            return len(tx.rows(store.files.select())) + len(tx.rows(store.file_parts.select()))

        return await self.database.read(unit)


@pytest.fixture
def shelf(database: Database, ids: RandomIds, clock: ManualClock) -> Shelf:
    return Shelf(database, ids, clock)


async def refused(code: Code, work: object) -> Problem:
    with pytest.raises(Problem) as caught:
        await work  # pyright: ignore[reportGeneralTypeIssues]  a coroutine of any kind
    assert caught.value.code is code
    return caught.value


async def test_a_file_is_whole_when_all_its_parts_are_there_in_any_order(shelf: Shelf) -> None:
    file = await shelf.announce(len(CONTENT))
    assert (file.parts, file.state) == (2, State.ARRIVING)
    await shelf.put(file, 1, CONTENT[PART_BYTES:])
    problem = await refused(Code.FILE_NOT_WHOLE, shelf.finish(file))
    assert problem.extra == {"missing": [0]}
    await refused(Code.FILE_NOT_WHOLE, shelf.attach(file))
    await shelf.put(file, 0, CONTENT[:PART_BYTES])
    await shelf.put(file, 0, CONTENT[:PART_BYTES])
    kept = await shelf.finish(file)
    assert isinstance(kept, File)
    assert kept.media_type == "application/octet-stream"
    assert await shelf.finish(file) == kept
    await shelf.put(file, 1, b"another")
    assert await shelf.read(kept) == CONTENT
    assert len(shelf.audit.of(AuditEvent.FILE_ADDED)) == 1


async def test_a_part_of_another_size_or_place_is_refused(shelf: Shelf) -> None:
    file = await shelf.announce(len(CONTENT))
    await refused(Code.INVALID, shelf.put(file, 0, b"short"))
    await refused(Code.INVALID, shelf.put(file, 2, b"x"))
    await refused(Code.INVALID, shelf.put(file, 1, b"x"))


async def test_room_is_bounded_by_file_by_person_and_in_all_and_announcing_takes_it(shelf: Shelf) -> None:
    await refused(Code.TOO_LARGE, shelf.announce(ROOM.max_file + 1))
    await refused(Code.INVALID, shelf.announce(0))
    first = await shelf.announce(ROOM.max_file)
    await refused(Code.QUOTA_EXCEEDED, shelf.announce(ROOM.max_person - ROOM.max_file + 1))
    await shelf.announce(ROOM.max_total - ROOM.max_file, STRANGER)
    await refused(Code.STORAGE_FULL, shelf.announce(1))
    await shelf.database.write(lambda tx: shelf.files.delete(tx, ME, first.file_id, shelf.clock.now_ms()))
    await shelf.files.erase(shelf.database, first.file_id)
    await shelf.announce(1)


async def test_others_do_not_see_it_and_cannot_add_to_it(shelf: Shelf) -> None:
    file = await shelf.announce(len(CONTENT))
    await refused(Code.NOT_FOUND, shelf.put(file, 0, CONTENT[:PART_BYTES], STRANGER))
    await refused(Code.NOT_FOUND, shelf.put(file, 0, CONTENT[:PART_BYTES], MY_TABLET))
    kept = await shelf.keep(b"mine")
    await refused(Code.NOT_FOUND, shelf.get(kept, STRANGER))
    await refused(Code.NOT_FOUND, shelf.get(kept, MY_PROGRAM))
    await refused(Code.NOT_FOUND, shelf.attach(kept, user_id=STRANGER.user_id))
    assert await shelf.get(kept, MY_TABLET) == kept
    theirs = await shelf.keep(b"of a program", MY_PROGRAM)
    assert await shelf.get(theirs, MY_PROGRAM) == theirs


async def test_a_file_belongs_to_one_message(shelf: Shelf) -> None:
    file = await shelf.keep()
    await refused(Code.INVALID, shelf.attach(file, file))
    await shelf.attach(file)
    await refused(Code.INVALID, shelf.attach(file, message_id="msg_2"))
    assert (await shelf.get(file)).message_id == "msg_1"


async def test_what_nobody_finished_or_sent_is_swept_and_what_was_sent_stays(shelf: Shelf) -> None:
    await shelf.announce(len(CONTENT))
    sent = await shelf.keep(b"sent")
    await shelf.keep(b"forgotten")
    await shelf.attach(sent)
    assert await shelf.sweep() == 0
    shelf.clock.advance(ARRIVES_WITHIN.total_seconds() + 1)
    assert await shelf.sweep() == 1
    shelf.clock.advance((WAITS_FOR - ARRIVES_WITHIN + timedelta(seconds=1)).total_seconds())
    assert await shelf.sweep() == 1
    assert await shelf.rows() == 2
    assert await shelf.read(sent) == b"sent"


async def test_a_deleted_file_leaves_nothing_even_when_the_process_dies_in_between(shelf: Shelf) -> None:
    file = await shelf.keep()
    await shelf.database.write(lambda tx: shelf.files.delete(tx, ME, file.file_id, shelf.clock.now_ms()))
    await refused(Code.NOT_FOUND, shelf.get(file))
    await refused(Code.NOT_FOUND, shelf.attach(file))
    assert await shelf.sweep() == 1
    assert await shelf.rows() == 0


async def test_a_kind_that_is_not_taken_is_dropped_and_told(
    database: Database, ids: RandomIds, clock: ManualClock
) -> None:
    shelf = Shelf(database, ids, clock, types=("image/*", "text/plain"))
    await shelf.keep(b"words")
    file = await shelf.announce(4)
    await shelf.put(file, 0, b"\0\1\2\3")
    problem = await shelf.finish(file)
    assert isinstance(problem, Problem)
    assert problem.code is Code.TYPE_REFUSED
    await refused(Code.NOT_FOUND, shelf.get(file))
    assert shelf.audit.of(AuditEvent.FILE_REFUSED)[0]["reason"] == "type_refused"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a b.txt", "a b.txt"),
        ("x\r\nSet-Cookie: y", "xSet-Cookie: y"),
        ("\u202etxt.exe", "txt.exe"),
        ("n" * 300 + ".tar", "n" * 196 + ".tar"),
    ],
    ids=["path", "windows path", "header", "right to left", "long"],
)
def test_a_name_is_one_printable_line(given: str, kept: str) -> None:
    assert checked_name(given) == kept


@pytest.mark.parametrize("name", ["", "..", "/", "\u200b"], ids=["empty", "dots", "folder", "invisible"])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(Problem):
        checked_name(name)
