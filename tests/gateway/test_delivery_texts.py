"""Delivery of texts that are being written: without gap or repetition, whoever connects when."""

import asyncio
from typing import Any

from entobot.core.permissions import Scope
from entobot.gateway.delivery import MAX_BUFFERED_BYTES
from entobot.gateway.wire import MAX_FRAME_BYTES
from tests.support.gateway import ManualLink, Reader, World, device, quiet

CHAT = frozenset({Scope.CHAT})


async def reader(world: World, name: str = "dev_1", after: int | None = 0, link: ManualLink | None = None) -> Reader:
    return await Reader(world, device(name, CHAT), link).open(after)


def text_shown(link: ManualLink, message_id: str = "msg_1") -> str | None:
    """What a client shows: START begins anew, the stored message ends it. None when there is nothing."""
    text: str | None = None
    for frame in link.of_type("event"):
        event = frame["event"]
        if event.get("messageId") == message_id:
            if event["type"] == "TEXT_MESSAGE_START":
                text = ""
            elif event["type"] == "TEXT_MESSAGE_CONTENT":
                assert text is not None, "content without a start"
                text += event["delta"]
    return text


async def test_a_text_is_shown_as_it_is_written(world: World) -> None:
    one = await reader(world)
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "Hel", "lo")
    world.show("TEXT_MESSAGE_END")
    await quiet()
    assert [event["type"].removeprefix("TEXT_MESSAGE_") for event in one.link.live] == [
        "START",
        "CONTENT",
        "CONTENT",
        "END",
    ]
    assert text_shown(one.link) == "Hello"


async def test_who_connects_meanwhile_gets_one_start_and_the_text_so_far(world: World) -> None:
    await reader(world)
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "Hel", "lo")
    late = await reader(world, "dev_2")
    assert [event["type"] for event in late.link.live] == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
    world.write_text("msg_1", " you")
    await quiet()
    assert text_shown(late.link) == "Hello you"
    assert len(late.link.live) == 3


async def test_pieces_that_were_published_before_the_text_was_shown_whole_are_not_repeated(world: World) -> None:
    await reader(world)
    late = Reader(world, device("dev_2", CHAT))
    opening = await late.read_opening(0)
    assert late.channel is not None
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "Hel", "lo")
    late.delivery.open(opening, late.channel)
    await quiet()
    assert text_shown(late.link) == "Hello"


async def test_a_gap_on_the_bus_makes_the_text_be_shown_anew(world: World) -> None:
    one = await reader(world)
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "a")
    await quiet()
    world.bus.is_deaf = True
    world.write_text("msg_1", "b")
    world.bus.is_deaf = False
    world.write_text("msg_1", "c", "d")
    await quiet()
    assert text_shown(one.link) == "abcd"


async def test_an_end_after_a_gap_does_not_call_the_text_complete(world: World) -> None:
    one = await reader(world)
    world.show("TEXT_MESSAGE_START")
    await quiet()
    world.bus.is_deaf = True
    world.write_text("msg_1", "lost")
    world.bus.is_deaf = False
    world.show("TEXT_MESSAGE_END")
    await quiet()
    assert [event["type"] for event in one.link.live] == ["TEXT_MESSAGE_START"]


async def test_pieces_of_a_text_that_is_over_do_not_show_another_text_again_and_again(world: World) -> None:
    await reader(world)
    late = Reader(world, device("dev_2", CHAT))
    opening = await late.read_opening(0)
    assert late.channel is not None
    world.show("TEXT_MESSAGE_START", "msg_2")
    world.write_text("msg_2", "other")
    await quiet()
    world.show("TEXT_MESSAGE_START", "msg_1")
    world.write_text("msg_1", *"abcdefgh")
    world.show("TEXT_MESSAGE_END", "msg_1")
    late.delivery.open(opening, late.channel)
    await quiet()
    assert [event["type"] for event in late.link.live].count("TEXT_MESSAGE_START") <= 2
    assert text_shown(late.link, "msg_2") == "other"


async def test_an_empty_first_delta_is_not_taken_for_a_start(world: World) -> None:
    one = await reader(world)
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "", "a", "", "b")
    await quiet()
    assert [event["type"] for event in one.link.live].count("TEXT_MESSAGE_START") == 1
    assert text_shown(one.link) == "ab"


async def test_a_reader_that_does_not_read_is_not_sent_the_whole_text_again_with_every_piece(world: World) -> None:
    link = ManualLink(is_reading=False)
    one = await reader(world, link=link)
    await world.append(11, size=50_000)
    await quiet()
    assert link.buffered_bytes > MAX_BUFFERED_BYTES
    world.show("TEXT_MESSAGE_START")
    for _ in range(50):
        world.write_text("msg_1", "x" * 10_000)
        await quiet()
    assert link.max_buffered <= MAX_BUFFERED_BYTES + MAX_FRAME_BYTES
    link.flush()
    one.delivery.writable()
    link.flush()
    assert text_shown(link) == "x" * 500_000


async def test_live_events_outside_the_scopes_are_not_shown(world: World) -> None:
    one = await reader(world)
    world.show("TEXT_MESSAGE_START", "msg_1", scope=Scope.APPROVE)
    world.write_text("msg_1", "secret")
    world.show("TEXT_MESSAGE_START", "msg_2", scope=None)
    late = await reader(world, "dev_2")
    await quiet()
    assert [event["messageId"] for event in one.link.live] == ["msg_2"]
    assert [event["messageId"] for event in late.link.live] == ["msg_2"]


async def test_a_very_long_text_is_shown_in_frames_that_fit(world: World) -> None:
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", *(["\x01" * 30_000] * 4))
    late = await reader(world)
    assert all(len(payload) <= MAX_FRAME_BYTES for payload in late.link.sent)
    assert text_shown(late.link) == "\x01" * 120_000


async def test_a_stored_message_comes_after_every_piece_that_was_shown_before_it(world: World) -> None:
    """Even when the store was so slow that the message was committed before an earlier event had been read."""
    one = await reader(world)
    gate = asyncio.Event()
    channel = one.channel
    assert channel is not None
    page_after = channel.page_after

    async def slow(seq: int) -> Any:
        await gate.wait()
        return await page_after(seq)

    channel.page_after = slow  # pyright: ignore[reportAttributeAccessIssue]  a store that is slow now
    await world.append()
    for _ in range(5):
        await asyncio.sleep(0)
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "Hello")
    world.show("TEXT_MESSAGE_END")
    await world.append(type="message.created", data={"message_id": "msg_1"})
    gate.set()
    await quiet()
    order = [frame["event"]["type"] for frame in one.link.of_type("event")]
    assert order == ["note", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "message.created"]


async def test_who_opened_ahead_of_the_channel_is_not_shown_pieces_of_a_message_it_has_already(world: World) -> None:
    one = await reader(world)
    gate, channel = asyncio.Event(), one.channel
    assert channel is not None
    page_after = channel.page_after

    async def slow(seq: int) -> Any:
        await gate.wait()
        return await page_after(seq)

    channel.page_after = slow  # pyright: ignore[reportAttributeAccessIssue]  a store that is slow now
    await world.append()
    world.show("TEXT_MESSAGE_START")
    world.write_text("msg_1", "Hello")
    world.show("TEXT_MESSAGE_END")
    await world.append(type="message.created", data={"message_id": "msg_1"})
    late = Reader(world, device("dev_2", CHAT))
    late.delivery.open(await late.read_opening(2), channel)
    gate.set()
    await quiet()
    assert late.link.frames == [{"type": "resume_done", "seq": 2}]
    world.show("TEXT_MESSAGE_START", "msg_2")
    await quiet()
    assert [event["messageId"] for event in late.link.live] == ["msg_2"]
