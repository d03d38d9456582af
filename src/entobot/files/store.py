"""The tables of files and of their parts. Bytes are read and written one part at a time."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from entobot.files.model import File, State
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

files = Table(
    "files",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("device_id", Text),
    Column("name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("message_id", Text),
    Column("conversation_id", Text),
    Index("ix_files_user", "user_id", "file_id"),
)
file_parts = Table(
    "file_parts",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
LAST = "~"
"""Sorts after every id: where a first page begins."""

_INSERT = insert(files)
_BY_ID = select(files).where(files.c.file_id == bindparam("file"))
_PAGE = (
    select(files)
    .where(files.c.user_id == bindparam("user"), files.c.file_id < bindparam("before"), files.c.state == State.KEPT)
    .order_by(files.c.file_id.desc())
    .limit(bindparam("n"))
)
_SIZE = func.coalesce(func.sum(files.c.size), 0).label("bytes")
_OF_PERSON = select(_SIZE).where(files.c.user_id == bindparam("user"))
_IN_ALL = select(_SIZE)
_FINISH = (
    update(files)
    .where(files.c.file_id == bindparam("file"), files.c.state == State.ARRIVING)
    .values(state=State.KEPT, media_type=bindparam("type"))
)
_ATTACH = (
    update(files)
    .where(
        files.c.file_id == bindparam("file"),
        files.c.user_id == bindparam("user"),
        files.c.state == State.KEPT,
        files.c.message_id.is_(None),
    )
    .values(message_id=bindparam("to_message"), conversation_id=bindparam("to_conversation"))
)
_DROP = (
    update(files)
    .where(files.c.file_id == bindparam("file"), files.c.state != State.DROPPED)
    .values(state=State.DROPPED)
)
_FORGET = delete(files).where(files.c.file_id == bindparam("file"), files.c.state == State.DROPPED)
_LEFT_OVER = (
    select(files)
    .where(
        files.c.message_id.is_(None),
        ((files.c.state == State.ARRIVING) & (files.c.created_at_ms < bindparam("arriving_before")))
        | ((files.c.state == State.KEPT) & (files.c.created_at_ms < bindparam("kept_before"))),
    )
    .order_by(files.c.file_id)
    .limit(bindparam("n"))
)
_DROPPED = select(files.c.file_id).where(files.c.state == State.DROPPED).limit(bindparam("n"))
_PUT_PART = upsert(file_parts).on_conflict_do_nothing()
_PART = select(file_parts.c.data).where(
    file_parts.c.file_id == bindparam("file"), file_parts.c.number == bindparam("number")
)
_NUMBERS = select(file_parts.c.number).where(file_parts.c.file_id == bindparam("file")).order_by(file_parts.c.number)
_ERASE_PART = delete(file_parts).where(
    file_parts.c.file_id == bindparam("file"), file_parts.c.number == bindparam("number")
)


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes, kept or announced."""

    of_person: int
    in_all: int


def insert_file(tx: Transaction, file: File) -> None:
    tx.run(
        _INSERT,
        {
            "file_id": file.file_id,
            "user_id": file.user_id,
            "device_id": file.device_id,
            "name": file.name,
            "media_type": file.media_type,
            "size": file.size,
            "state": file.state,
            "created_at_ms": file.created_at_ms,
            "message_id": file.message_id,
            "conversation_id": file.conversation_id,
        },
    )


def find(tx: Transaction, file_id: str) -> File | None:
    row = tx.first(_BY_ID, {"file": file_id})
    return None if row is None else _file(row)


def page(tx: Transaction, user_id: str, before: str, count: int) -> list[File]:
    """Newest first."""
    return [_file(row) for row in tx.rows(_PAGE, {"user": user_id, "before": before, "n": count})]


def kept(tx: Transaction, user_id: str) -> Kept:
    person, total = tx.first(_OF_PERSON, {"user": user_id}), tx.first(_IN_ALL)
    assert person is not None, "a sum has a row"
    assert total is not None, "a sum has a row"
    return Kept(int(person["bytes"]), int(total["bytes"]))


def finish(tx: Transaction, file_id: str, media_type: str) -> bool:
    return tx.run(_FINISH, {"file": file_id, "type": media_type}) == 1


def attach(tx: Transaction, user_id: str, file_id: str, message_id: str, conversation_id: str) -> bool:
    """False when it is not theirs, not whole, or another message's."""
    to = {"to_message": message_id, "to_conversation": conversation_id}
    return tx.run(_ATTACH, {"file": file_id, "user": user_id, **to}) == 1


def drop(tx: Transaction, file_id: str) -> bool:
    return tx.run(_DROP, {"file": file_id}) == 1


def forget(tx: Transaction, file_id: str) -> None:
    tx.run(_FORGET, {"file": file_id})


def left_over(tx: Transaction, arriving_before_ms: int, kept_before_ms: int, count: int) -> list[File]:
    limits = {"arriving_before": arriving_before_ms, "kept_before": kept_before_ms, "n": count}
    return [_file(row) for row in tx.rows(_LEFT_OVER, limits)]


def dropped(tx: Transaction, count: int) -> list[str]:
    return [row["file_id"] for row in tx.rows(_DROPPED, {"n": count})]


def put_part(tx: Transaction, file_id: str, number: int, data: bytes) -> None:
    """Where it is there already, that one stays."""
    tx.run(_PUT_PART, {"file_id": file_id, "number": number, "data": data})


def part(tx: Transaction, file_id: str, number: int) -> bytes | None:
    row = tx.first(_PART, {"file": file_id, "number": number})
    return None if row is None else bytes(row["data"])


def numbers(tx: Transaction, file_id: str) -> list[int]:
    return [int(row["number"]) for row in tx.rows(_NUMBERS, {"file": file_id})]


def erase_part(tx: Transaction, file_id: str, number: int) -> None:
    tx.run(_ERASE_PART, {"file": file_id, "number": number})


def _file(row: Row) -> File:
    return File(
        file_id=row["file_id"],
        user_id=row["user_id"],
        device_id=row["device_id"],
        name=row["name"],
        media_type=row["media_type"],
        size=int(row["size"]),
        state=State(row["state"]),
        created_at_ms=int(row["created_at_ms"]),
        message_id=row["message_id"],
        conversation_id=row["conversation_id"],
    )
