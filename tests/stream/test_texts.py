"""Texts that are being written, between their first and last live event."""

import json
from typing import Any

import pytest

from entobot.bus.bus_local import LocalBus
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import Scope
from entobot.gateway.live import Live, Piece
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.service import MAX_EVENT_BYTES, Stream
from entobot.stream.texts import Texts

USER, TOPIC = "usr_1", "conversation:cnv_1"


def follow(texts: Texts, kind: str, message_id: str = "msg_1", *, topic: str = TOPIC, **more: Any) -> Piece | None:
    event = {"type": f"TEXT_MESSAGE_{kind}", "messageId": message_id} | more
    return texts.follow(USER, event, topic=topic, scope=Scope.CHAT, now_ms=1)


def written(texts: Texts) -> dict[str, str]:
    found: dict[str, str] = {}
    for writing in texts.writing(USER):
        start, *contents = [json.loads(event) for event in writing.events]
        assert start["type"] == "TEXT_MESSAGE_START"
        found[writing.message_id] = "".join(content["delta"] for content in contents)
        assert writing.length == len(found[writing.message_id])
    return found


def test_pieces_say_where_they_stand() -> None:
    texts = Texts()
    assert follow(texts, "START") == Piece("msg_1", 0, 0, is_first=True)
    assert follow(texts, "CONTENT", delta="") == Piece("msg_1", 0, 0)
    assert follow(texts, "CONTENT", delta="grüß") == Piece("msg_1", 0, 4)
    assert follow(texts, "CONTENT", delta="!") == Piece("msg_1", 4, 1)
    assert written(texts) == {"msg_1": "grüß!"}
    assert follow(texts, "END") == Piece("msg_1", 5, 0, is_last=True)
    assert written(texts) == {}


def test_a_piece_of_an_unknown_text_and_other_events_have_no_place() -> None:
    texts = Texts()
    assert follow(texts, "CONTENT", delta="x") is None
    assert follow(texts, "END") is None
    assert texts.follow(USER, {"type": "TOOL_CALL_START"}, topic=TOPIC, scope=None, now_ms=1) is None


def test_other_users_do_not_see_it() -> None:
    texts = Texts()
    follow(texts, "START")
    assert texts.writing("usr_2") == []


@pytest.mark.parametrize("kind", ["RUN_FINISHED", "RUN_ERROR"])
def test_the_end_of_a_run_ends_its_texts_and_no_others(kind: str) -> None:
    texts = Texts()
    follow(texts, "START", "msg_1")
    follow(texts, "START", "msg_2", topic="conversation:cnv_2")
    texts.settle(USER, {"type": kind}, TOPIC)
    assert set(written(texts)) == {"msg_2"}


def test_the_stored_message_ends_its_text_so_that_nobody_is_shown_it_as_unfinished() -> None:
    texts = Texts()
    follow(texts, "START", "msg_1")
    follow(texts, "START", "msg_2")
    texts.settle(USER, {"type": "message.created", "data": {"message_id": "msg_1"}}, TOPIC)
    assert set(written(texts)) == {"msg_2"}


@pytest.mark.parametrize("event", [{"type": "message.created"}, {"type": "message.created", "data": 1}, {"type": "x"}])
def test_other_events_end_nothing(event: dict[str, object]) -> None:
    texts = Texts()
    follow(texts, "START")
    texts.settle(USER, event, TOPIC)
    assert set(written(texts)) == {"msg_1"}


def test_nothing_is_kept_of_texts_that_are_over() -> None:
    texts = Texts()
    for n in range(3):
        follow(texts, "START", f"msg_{n}")
    follow(texts, "END", "msg_0")
    texts.settle(USER, {"type": "RUN_ERROR"}, TOPIC)
    assert texts._by_user == {}


# -- events that no frame can carry


async def test_an_event_that_fits_no_frame_is_refused_before_it_is_stored(
    database: SqliteDatabase, ids: RandomIds
) -> None:
    """Stored, it would end every connection that comes to it, for ever."""
    stream = Stream(LocalBus(), ids)
    await database.write(lambda tx: stream.open(tx, USER))

    def append(size: int, character: str = "x"):  # noqa: ANN202
        def unit(tx: Transaction) -> int:
            event = {"type": "note", "pad": character * size}
            return stream.append(tx, USER, event, topic=TOPIC, scope=None, now_ms=1)

        return unit

    room = MAX_EVENT_BYTES - len('{"type":"note","pad":""}')
    assert await database.write(append(room)) == 1
    for too_large in (append(room + 1), append(room // 6 + 1, "\x01"), append(room // 2 + 1, "ü")):
        with pytest.raises(Problem) as refusal:
            await database.write(too_large)
        assert refusal.value.code is Code.TOO_LARGE
    assert await database.write(append(1)) == 2


async def test_positions_of_an_emptied_log(database: SqliteDatabase, ids: RandomIds) -> None:
    stream = Stream(LocalBus(), ids)
    await database.write(lambda tx: stream.open(tx, USER))
    assert await database.read(lambda tx: stream.after(tx, USER, 0)) == []


# -- texts that another node writes


def heard(texts: Texts, piece: Piece, event: dict[str, Any]) -> None:
    texts.hear(USER, Live(1, Scope.CHAT, TOPIC, json.dumps(event), piece))


def test_what_another_node_writes_is_shown_as_far_as_it_was_heard_whole() -> None:
    texts = Texts()
    heard(texts, Piece("msg_1", 0, 0, is_first=True), {"type": "TEXT_MESSAGE_START", "messageId": "msg_1"})
    heard(texts, Piece("msg_1", 0, 2), {"delta": "ab"})
    assert written(texts) == {"msg_1": "ab"}
    heard(texts, Piece("msg_1", 3, 1), {"delta": "d"})
    assert written(texts) == {}, "a piece was missed: parts of a text are worth nothing"
    heard(texts, Piece("msg_1", 4, 1), {"delta": "e"})
    assert written(texts) == {}


@pytest.mark.parametrize("ended", ["msg_1", TOPIC])
def test_what_another_node_writes_ends_with_its_message_its_run_or_in_silence(ended: str) -> None:
    texts = Texts()
    start = (Piece("msg_1", 0, 0, is_first=True), {"type": "TEXT_MESSAGE_START", "messageId": "msg_1"})
    heard(texts, *start)
    texts.hear_end(USER, ended)
    assert written(texts) == {}
    heard(texts, *start)
    for _ in range(3):
        texts.tick()
    assert written(texts) == {"msg_1": ""}
    texts.tick()
    assert written(texts) == {}, "its end may have been missed"
    follow(texts, "START")
    for _ in range(9):
        texts.tick()
    assert written(texts) == {"msg_1": ""}, "the end of what is written here cannot be missed"
