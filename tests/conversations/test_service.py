"""Conversations over a real database."""

import pytest

from entobot.accounts.service import Accounts
from entobot.bus.bus_local import LocalBus
from entobot.conversations.model import MAX_CONTENT_BYTES, PREVIEW_CHARACTERS, MessageRole, Preview
from entobot.conversations.searching import SCANNED
from entobot.conversations.service import Conversations
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import ALL_SCOPES
from entobot.core.principal import Principal
from entobot.files.service import Files
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.service import Stream
from tests.support.agency import ROOM, HeardAudit
from tests.support.time import ManualClock

ON_EVERY_STORE = True


@pytest.fixture
def stream(ids: RandomIds) -> Stream:
    return Stream(LocalBus(), ids)


@pytest.fixture
def conversations(ids: RandomIds, stream: Stream) -> Conversations:
    files = Files(ids=ids, audit=HeardAudit(), guard=lambda _tx, _who: None, room=ROOM)
    return Conversations(ids, stream, LocalBus(), files)


@pytest.fixture
async def owner(database: SqliteDatabase, ids: RandomIds, stream: Stream, clock: ManualClock) -> Principal:
    user = await database.write(lambda tx: Accounts(ids, stream).ensure_owner(tx, clock.now_ms()))
    return Principal(user.user_id, ALL_SCOPES, device_id="dev_1")


STRANGER = Principal("usr_other", ALL_SCOPES)


async def test_a_first_message_opens_a_conversation_named_after_it(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "Is the garage\nwarm?", 1))
    found = await database.read(lambda tx: conversations.get(tx, owner.user_id, sent.conversation_id))
    assert found.title == "Is the garage warm?"


async def test_a_message_stands_in_the_stream_with_the_sender_stamped(
    database: SqliteDatabase, conversations: Conversations, stream: Stream, owner: Principal
) -> None:
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "hello", 1))
    events = await database.read(lambda tx: stream.after(tx, owner.user_id, 0))
    assert [event.seq for event in events] == [sent.seq]
    assert '"sender_device_id":"dev_1"' in events[0].event


async def test_another_users_conversation_is_not_found(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "mine", 1))
    for act in (
        lambda tx: conversations.send_message(tx, STRANGER, sent.conversation_id, "yours?", 2),
        lambda tx: conversations.rename(tx, STRANGER.user_id, sent.conversation_id, "x"),
        lambda tx: conversations.history(tx, STRANGER.user_id, sent.conversation_id, None, 10),
    ):
        with pytest.raises(Problem) as refusal:
            await database.write(act)
        assert refusal.value.code is Code.NOT_FOUND


async def test_a_message_is_taken_by_one_run_only(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "work", 1))
    assert await database.read(conversations.awaiting) == [sent.conversation_id]
    taken = [await database.write(lambda tx, n=n: conversations.take(tx, sent.message_id, f"run_{n}")) for n in (1, 2)]
    assert taken == [True, False]
    assert await database.read(conversations.awaiting) == []


async def test_history_pages_backwards_without_gap_or_repeat(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    first = await database.write(lambda tx: conversations.send_message(tx, owner, None, "0", 1))
    for n in range(1, 7):
        await database.write(lambda tx, n=n: conversations.send_message(tx, owner, first.conversation_id, str(n), n))
    seen: list[str] = []
    before: str | None = None
    while True:
        page, before = await database.read(
            lambda tx, b=before: conversations.history(tx, owner.user_id, first.conversation_id, b, 3)
        )
        seen += [message.content for message in page]
        if before is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


async def test_conversations_are_listed_by_last_use_in_pages(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    sent = [
        await database.write(lambda tx, n=n: conversations.send_message(tx, owner, None, f"topic {n}", n))
        for n in range(5)
    ]
    await database.write(lambda tx: conversations.send_message(tx, owner, sent[0].conversation_id, "again", 9))
    rows, cursor = await database.read(lambda tx: conversations.list(tx, owner.user_id, None, 3))
    more, end = await database.read(lambda tx: conversations.list(tx, owner.user_id, cursor, 3))
    assert [row.title for row, _ in rows + more] == ["topic 0", "topic 4", "topic 3", "topic 2", "topic 1"]
    assert end is None


async def test_a_listed_conversation_shows_the_beginning_of_its_last_message(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    await database.write(lambda tx: conversations.create(tx, owner.user_id, "empty", 1))
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "first", 2))
    last = await database.write(
        lambda tx: conversations.send_message(tx, owner, sent.conversation_id, "ä" * 300, 3),
    )
    rows, _ = await database.read(lambda tx: conversations.list(tx, owner.user_id, None, 10))
    previews = [preview for _, preview in rows]
    assert previews == [Preview(last.message_id, MessageRole.USER, "ä" * PREVIEW_CHARACTERS, 3), None]


async def test_only_answers_after_the_seen_position_are_unread(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "hi", 1))

    def answer(text: str):  # noqa: ANN202
        return lambda tx: conversations.reply(
            tx,
            user_id=owner.user_id,
            conversation_id=sent.conversation_id,
            message_id=f"msg_{text}",
            content=text,
            run_id="run_1",
            now_ms=2,
        )

    seen = await database.write(answer("first"))
    await database.write(answer("second"))
    assert seen.role is MessageRole.ASSISTANT
    assert await database.read(lambda tx: conversations.unread(tx, owner.user_id, seen.seq)) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", Code.INVALID),
        ("  \n", Code.INVALID),
        ("a\x00b", Code.INVALID),
        ("\ud800", Code.INVALID),
        ("x" * (MAX_CONTENT_BYTES + 1), Code.TOO_LARGE),
    ],
)
async def test_an_unusable_message_is_refused_and_changes_nothing(
    database: SqliteDatabase, conversations: Conversations, owner: Principal, content: str, code: Code
) -> None:
    with pytest.raises(Problem) as refusal:
        await database.write(lambda tx: conversations.send_message(tx, owner, None, content, 1))
    assert refusal.value.code is code
    assert await database.read(lambda tx: conversations.list(tx, owner.user_id, None, 10)) == ([], None)


async def test_a_page_of_long_messages_ends_before_it_outgrows_a_frame(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    first = await database.write(lambda tx: conversations.send_message(tx, owner, None, "0" * MAX_CONTENT_BYTES, 1))
    for n in range(3):
        text = str(n) * MAX_CONTENT_BYTES
        await database.write(lambda tx, t=text: conversations.send_message(tx, owner, first.conversation_id, t, 2))
    seen: list[str] = []
    before: str | None = None
    pages = 0
    while pages == 0 or before is not None:
        page, before = await database.read(
            lambda tx, b=before: conversations.history(tx, owner.user_id, first.conversation_id, b, 100)
        )
        pages += 1
        assert sum(len(message.content) for message in page) <= 2 * MAX_CONTENT_BYTES
        seen += [message.content[0] for message in page]
    assert seen == ["2", "1", "0", "0"]


async def test_where_nobody_answers_a_message_is_kept_and_waits_for_no_agent(
    database: SqliteDatabase, conversations: Conversations, owner: Principal
) -> None:
    conversations.is_answered = lambda *_: False
    sent = await database.write(lambda tx: conversations.send_message(tx, owner, None, "for people", 1))
    conversations.is_answered = lambda *_: True
    assert await database.read(conversations.awaiting) == []
    rows, _ = await database.read(lambda tx: conversations.history(tx, owner.user_id, sent.conversation_id, None, 10))
    assert [row.content for row in rows] == ["for people"]


async def found(
    database: SqliteDatabase, conversations: Conversations, user_id: str, query: str
) -> list[tuple[str, str | None]]:
    """Title and excerpt of everything, over all pages."""
    rows: list[tuple[str, str | None]] = []
    cursor: str | None = None
    while True:
        asked = cursor
        hits, cursor = await database.read(lambda tx: conversations.search(tx, user_id, query, asked))  # noqa: B023  awaited at once
        rows += [(hit.conversation.title, None if hit.message is None else hit.excerpt) for hit in hits]
        if cursor is None:
            return rows


async def test_one_finds_what_one_has_said_and_nobody_else_does(
    database: SqliteDatabase, conversations: Conversations, owner: Principal, stream: Stream
) -> None:
    await database.write(lambda tx: stream.open(tx, STRANGER.user_id))

    async def say(title: str, *texts: str, who: Principal = owner) -> None:
        def unit(tx: Transaction) -> None:
            made = conversations.create(tx, who.user_id, title, 1)
            for text in texts:
                conversations.send_message(tx, who, made.conversation_id, text, 1)

        await database.write(unit)

    await say("Garden", "The Äpfel are ripe", "100% of them", "and ripe again")
    await say("Ripe bananas", "nothing")
    await say("Path", r"C:\temp_x", who=owner)
    await say("Theirs", "ripe, but not yours", who=STRANGER)
    for at in range(SCANNED + 3):
        await say(f"Filler {at}", "-" * 500 + " needle " + "-" * 500 if at == 0 else "hay")

    async def search(query: str) -> list[tuple[str, str | None]]:
        return sorted(await found(database, conversations, owner.user_id, query))

    assert await search("RIPE") == [("Garden", "and ripe again"), ("Ripe bananas", None)]
    assert [title for title, _ in await search("äpfel")] == ["Garden"]
    assert [title for title, _ in await search("0%")] == ["Garden"]
    assert [title for title, _ in await search(r"\temp_")] == ["Path"]
    assert await search("r_pe") == await search("%%") == []
    ((_, excerpt),) = await search("needle")
    assert excerpt is not None
    assert excerpt.startswith("…-")
    assert " needle " in excerpt
    assert len(excerpt) < 200
    assert await found(database, conversations, STRANGER.user_id, "bananas") == []


@pytest.mark.parametrize("query", ["", " a ", "x" * 101, "a\x00b"])
async def test_a_search_for_too_little_or_too_much_is_refused(
    database: SqliteDatabase, conversations: Conversations, owner: Principal, query: str
) -> None:
    with pytest.raises(Problem) as refusal:
        await database.read(lambda tx: conversations.search(tx, owner.user_id, query, None))
    assert refusal.value.code is Code.INVALID
