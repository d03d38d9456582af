"""The README's walk: pair, chat, approve, refresh, survive a kill, resume, suspend, revoke."""

import asyncio
from typing import Any

import pytest

from entobot.core.errors import Code, Problem
from tests.support.phone import Phone, connected
from tests.support.process import GatewayProcess

ON_EVERY_STORE = True


async def chat(phone: Phone, text: str, **more: Any) -> str:
    await phone.say(text, **more)
    await phone.until_event("RUN_FINISHED")
    return [event["data"]["content"] for event in phone.events("message.created")][-1]


async def test_a_phone_is_paired_chats_approves_survives_a_crash_and_is_cut_off(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Pixel")

    async with connected(gateway, device) as phone:
        assert await chat(phone, "hello there") == "hello there"
        streamed = "".join(event["delta"] for event in phone.events("TEXT_MESSAGE_CONTENT"))
        assert streamed == "hello there"
        await phone.say("!note buy milk")
        asked = (await phone.until_event("approval.requested"))["data"]
        await asyncio.to_thread(device.decide, asked, "approve")
        await phone.until_event("RUN_FINISHED")
        assert phone.events("message.created")[-1]["data"]["content"] == "noted: buy milk"
        ready = phone.frames[0]
        position = {"stream": ready["stream"], "after": phone.seen}

    await asyncio.to_thread(device.refresh)

    async with connected(gateway, device, position) as phone:
        sent = await phone.say("!note eggs")
        waiting = (await phone.until_event("approval.requested"))["data"]
        position["after"] = phone.seen
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)

    async with connected(gateway, device, position) as phone:
        await phone.until(lambda frame: frame["type"] == "resume_done")
        await asyncio.to_thread(device.decide, waiting, "deny")
        await phone.until_event("RUN_FINISHED")
        answer = phone.events("message.created")[-1]["data"]
        assert answer["conversation_id"] == sent["conversation_id"]
        assert answer["content"].startswith("not noted: eggs")
        numbers = [frame["seq"] for frame in phone.frames if frame["type"] == "event" and "seq" in frame]
        assert numbers == list(range(position["after"] + 1, position["after"] + 1 + len(numbers)))

        suspending = asyncio.to_thread(gateway.ask, "devices", "suspend", "Pixel")
        _, code = await asyncio.gather(suspending, phone.closed())
        assert code == 4502
    with pytest.raises(Problem) as refusal:
        await asyncio.to_thread(device.refresh)
    assert refusal.value.code is Code.DEVICE_SUSPENDED

    await asyncio.to_thread(gateway.ask, "devices", "reactivate", "Pixel")
    await asyncio.to_thread(device.refresh)
    async with connected(gateway, device) as phone:
        revoking = asyncio.to_thread(gateway.ask, "devices", "revoke", "Pixel")
        _, code = await asyncio.gather(revoking, phone.closed())
        assert code == 4501

    for _ in ("at once", "after a restart too"):
        with pytest.raises(Problem) as refusal:
            await asyncio.to_thread(device.refresh)
        assert refusal.value.code is Code.REFRESH_INVALID
        with pytest.raises(Problem) as refusal:
            await asyncio.to_thread(device.command, "conversation.list", {})
        assert refusal.value.code is Code.UNAUTHENTICATED
        assert await asyncio.to_thread(gateway.stop) == 0
        await asyncio.to_thread(gateway.start)

    verified = await asyncio.to_thread(gateway.ask, "audit", "verify")
    assert verified["ok"]


async def test_plain_up_prints_no_secret(gateway: GatewayProcess) -> None:
    assert "#v=1" not in gateway.banner
    assert "pair" not in gateway.banner.lower().replace("paired", "")


async def test_up_with_pair_but_no_terminal_shows_the_link_and_keeps_running(gateway: GatewayProcess) -> None:
    await asyncio.to_thread(gateway.stop)
    await asyncio.to_thread(gateway.start, "--pair")
    line = ""
    while "#v=1" not in line:
        line = await asyncio.to_thread(gateway.read_line)
    assert gateway.origin in line
    assert (await asyncio.to_thread(gateway.ask, "devices", "list")) == []
