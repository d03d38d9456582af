"""What every adapter that sends SMS must do, against providers on loopback that check what they get."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from entobot.app.texting import sender_of
from entobot.config_sms import SmsSettings
from entobot.notifications.sms import Sms, SmsNotTaken, SmsOutcomeUnknown, SmsRefused, SmsSender
from tests.support.carrier import SECRETS, Carrier
from tests.support.time import ManualClock

CLOCK = ManualClock()
NUMBER = "+14155550123"
TEXT = "Ada's gateway: pair this phone.\nhttps://gate.example/pair#v=1&i=inv_1&s=a_b-c\n\n@gate.example #4K70W9X1"
SMS = Sms("sms_1", NUMBER, TEXT, CLOCK.now_ms() + 600_000)
REAL = ("sns", "twilio", "webhook")


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: object) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Files, names and TLS stay off the event loop."""


@pytest.fixture(params=REAL)
async def carrier(request: pytest.FixtureRequest) -> AsyncIterator[Carrier]:
    carrier = Carrier(request.param)
    yield carrier
    await asyncio.to_thread(carrier.stop)


@pytest.fixture
async def sender(carrier: Carrier, tmp_path: Path) -> SmsSender:
    return await sender_to(carrier, tmp_path)


async def sender_to(carrier: Carrier, folder: Path, **changes: Any) -> SmsSender:
    file = folder / "secret"
    await asyncio.to_thread(file.write_text, SECRETS[carrier.provider] + "\n")
    settings = SmsSettings.model_validate(carrier.settings | {"secret_file": file} | changes)
    return sender_of(settings, "", CLOCK)[0]


async def test_a_message_arrives_as_it_was_given(carrier: Carrier, sender: SmsSender) -> None:
    taken = await sender.send(SMS)
    assert carrier.faults == []
    assert carrier.sent == [(NUMBER, TEXT)]
    assert (sender.name, sender.is_real) == (carrier.provider, True)
    assert taken.provider_id == ("" if carrier.provider == "webhook" else carrier.ids[0])


async def test_two_calls_are_two_messages_unless_a_repeat_is_known(carrier: Carrier, sender: SmsSender) -> None:
    await sender.send(SMS)
    await sender.send(SMS)
    assert len(carrier.sent) == (1 if sender.knows_repeats else 2)


async def test_what_is_refused_is_refused_for_good_and_names_nobody(carrier: Carrier, sender: SmsSender) -> None:
    carrier.script = ["refuse"]
    with pytest.raises(SmsRefused) as refused:
        await sender.send(SMS)
    assert not refused.value.is_stopped
    assert NUMBER[1:] not in str(refused.value)
    assert carrier.sent == []


async def test_whoever_said_stop_is_told_apart(carrier: Carrier, sender: SmsSender) -> None:
    carrier.script = ["stop"]
    with pytest.raises(SmsRefused) as refused:
        await sender.send(SMS)
    assert refused.value.is_stopped


async def test_a_provider_that_is_busy_has_surely_not_taken_it(carrier: Carrier, sender: SmsSender) -> None:
    carrier.script = ["busy"]
    with pytest.raises(SmsNotTaken):
        await sender.send(SMS)


async def test_a_provider_that_is_away_has_surely_not_taken_it(carrier: Carrier, sender: SmsSender) -> None:
    await asyncio.to_thread(carrier.stop)
    with pytest.raises(SmsNotTaken, match="cannot be reached"):
        await sender.send(SMS)


@pytest.mark.parametrize("act", ["hang up", "error", "garbage"])
async def test_an_answer_that_is_lost_or_makes_no_sense_is_no_answer(
    carrier: Carrier, sender: SmsSender, act: str
) -> None:
    carrier.script = [act]
    if carrier.provider == "webhook" and act == "garbage":
        pytest.skip("any answer of 2xx is a yes, and its body is not looked at")
    with pytest.raises(SmsOutcomeUnknown):
        await sender.send(SMS)
    assert carrier.sent == [(NUMBER, TEXT)]  # it had taken the message


async def test_a_redirect_is_not_followed(carrier: Carrier, sender: SmsSender) -> None:
    carrier.script = ["redirect"]
    with pytest.raises(SmsOutcomeUnknown):
        await sender.send(SMS)
    assert (carrier.sent, carrier.faults) == ([], [])


async def test_a_wrong_secret_is_refused(carrier: Carrier, tmp_path: Path) -> None:
    sender = await sender_to(carrier, tmp_path)
    wrong = {"webhook": "whsec_" + "B" * 44}.get(carrier.provider, "wrong")
    await asyncio.to_thread((tmp_path / "secret").write_text, wrong)  # read at each use
    with pytest.raises(SmsRefused):
        await sender.send(SMS)
    assert len(carrier.faults) == 1


async def test_a_secret_that_cannot_be_read_keeps_the_message(carrier: Carrier, tmp_path: Path) -> None:
    sender = await sender_to(carrier, tmp_path)
    await asyncio.to_thread((tmp_path / "secret").unlink)
    with pytest.raises(SmsNotTaken, match="secret_file"):
        await sender.send(SMS)


async def test_the_console_sends_nothing_and_says_so() -> None:
    sender, readers = sender_of(SmsSettings(provider="console"), "https://gate.example", CLOCK)
    assert (await sender.send(SMS)).provider_id == ""
    assert (sender.is_real, readers) == (False, {})
