"""Invites by SMS: an invitation and nothing more, whoever reads it."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code
from entobot.core.permissions import Scope
from entobot.notifications import sms_store
from entobot.notifications.sms import Sms, Taken
from entobot.notifications.sms_model import Message, MessageState
from entobot.notifications.sms_text import is_gsm7, segments
from entobot.pairing.model import Confirm, Kind, Reason, State
from entobot.pairing.requests import CreatedInvite
from entobot.pairing.texting import invite_text
from entobot.storage.database import Transaction
from tests.pairing.gatehouse import NUMBER, Gatehouse, refused
from tests.pairing.phones import NewPhone

ON_EVERY_STORE = True


async def invite(gate: Gatehouse, **more: Any) -> CreatedInvite:
    return await gate.invite(kind=Kind.SMS, confirm=None, **more)


async def message_state(gate: Gatehouse, created: CreatedInvite) -> MessageState:
    found = await gate.pairing.by_sms.deliveries([await gate.look(created)])
    return found[created.invite.invite_id].message.state


def by_link(created: CreatedInvite) -> CreatedInvite:
    """The same to a phone that opens the link."""
    return replace(created, code=None)


async def test_an_invite_by_sms_lives_fifteen_minutes_and_waits_for_a_yes(gate: Gatehouse) -> None:
    made = (await invite(gate)).invite
    assert (made.kind, made.confirm, made.state) == (Kind.SMS, Confirm.APPROVE, State.OPEN)
    assert made.deadline_ms - made.created_at_ms == 900_000
    assert made.scopes == {Scope.CHAT, Scope.NOTIFY}


async def test_only_a_development_console_tells_the_operator_what_the_sms_says(gate: Gatehouse) -> None:
    class Real:
        name, knows_repeats, is_real = "real", False, True

        async def send(self, sms: Sms) -> Taken:
            return Taken()

    gate.pairing = gate.pairing_on(gate.house.bus, gate.outbox(Real()))
    created = await invite(gate)
    assert (created.secret, created.code, created.url, created.qr_svg) == (None, None, None, None)


@pytest.mark.parametrize("way", ["link", "code"])
async def test_link_and_code_open_the_same_invite_once(
    gate: Gatehouse, phone: NewPhone, thief: NewPhone, way: str
) -> None:
    created = await invite(gate)
    first, second = (by_link(created), created) if way == "link" else (created, by_link(created))
    claimed = await gate.claim(phone, first)
    with refused(Code.INVITE_USED):
        await gate.claim(thief, second)
    assert (await gate.look(created)).is_contested
    assert await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, approve=True)
    assert (await gate.collect(phone, claimed)).scopes == {Scope.CHAT, Scope.NOTIFY}


async def test_whoever_reads_the_sms_gets_nothing_without_the_yes(
    gate: Gatehouse, thief: NewPhone, phone: NewPhone
) -> None:
    created = await invite(gate)
    stolen = await gate.claim(thief, by_link(created))
    answer = await gate.pairing.collect(stolen.claim_id, thief.collect(stolen.claim_id, gate.now_ms), 0)
    assert type(answer).__name__ == "Pending"
    with refused(Code.INVITE_USED):
        await gate.claim(phone, by_link(created))  # the right person finds it used …
    seen = await gate.look(created)
    assert seen.is_contested  # … and the operator is told
    assert (
        gate.pairing.confirmation_code(seen) == stolen.confirmation_code
    )  # which the right person's phone does not show
    await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, stolen.claim_id, approve=False)
    with refused(Code.PAIRING_DENIED):
        await gate.pairing.collect(stolen.claim_id, thief.collect(stolen.claim_id, gate.now_ms), 0)
    assert [device.name for device in await gate.all_devices()] == []


async def test_digits_are_shown_to_the_operator_only_where_nobody_types_them(gate: Gatehouse, phone: NewPhone) -> None:
    typed = await gate.invite(kind=Kind.SMS, confirm=Confirm.TYPE)
    await gate.claim(phone, typed)
    assert gate.pairing.confirmation_code(await gate.look(typed)) is None


async def test_an_invite_by_sms_never_confirms_itself(gate: Gatehouse) -> None:
    with refused(Code.INVALID):
        await gate.invite(kind=Kind.SMS, confirm=Confirm.NONE)


async def test_more_than_chat_and_notify_needs_the_typed_digits(gate: Gatehouse) -> None:
    with refused(Code.INVALID):
        await invite(gate, scopes=frozenset({Scope.APPROVE}))
    made = await gate.invite(kind=Kind.SMS, confirm=Confirm.TYPE, scopes=frozenset({Scope.APPROVE}))
    assert made.invite.scopes == {Scope.APPROVE}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("4155550123", "with + and its country"),
        ("+1", "no telephone number"),
        ("+15555555555", "no such telephone number"),
        ("+14155550123;ext=9", "no such telephone number"),
        ("+19005551234", "no mobile number"),
        ("+18005550123", "no mobile number"),
        ("+4915112345678", "sms.countries"),
        ("+1415555012\u0663", "with + and its country"),
        ("+" + "1" * 40, "with + and its country"),
    ],
)
async def test_numbers_that_sms_may_not_go_to_are_refused_and_told(gate: Gatehouse, number: str, words: str) -> None:
    with refused(Code.NUMBER_REFUSED) as problem:
        await invite(gate, phone_number=number)
    assert words in problem.value.detail
    assert AuditEvent.SMS_REFUSED in gate.audit.events()
    assert await gate.pairing.list_invites(gate.owner) == []


async def test_a_limit_leaves_no_invite_behind(gate: Gatehouse) -> None:
    for _ in range(3):
        await invite(gate)
    with refused(Code.RATE_LIMITED):
        await invite(gate)
    assert len(await gate.pairing.list_invites(gate.owner)) == 3


async def test_without_a_provider_there_are_no_invites_by_sms(gate: Gatehouse) -> None:
    gate.pairing.by_sms._texting._outbox = None
    with refused(Code.SMS_UNAVAILABLE):
        await invite(gate)


# -- once more


async def test_what_is_sent_again_has_a_new_secret_and_new_time_and_the_old_one_is_void(
    gate: Gatehouse, phone: NewPhone, thief: NewPhone
) -> None:
    created = await invite(gate)
    gate.clock.advance(60)
    again = await gate.pairing.by_sms.resend(gate.owner, created.invite.invite_id)
    assert again.invite.deadline_ms == gate.now_ms + 900_000
    assert again.invite.sends == 2
    assert {again.secret, again.code}.isdisjoint({created.secret, created.code})
    for old in (by_link(created), created):
        with refused(Code.INVITE_NOT_FOUND):
            await gate.claim(thief, old)
    await gate.claim(phone, by_link(again))


async def test_the_message_that_waited_is_called_off_by_the_next(gate: Gatehouse) -> None:
    created = await invite(gate)
    gate.clock.advance(60)
    await gate.pairing.by_sms.resend(gate.owner, created.invite.invite_id)
    sent = await gate.database.read(lambda tx: [one.state for one in _messages(tx, created.invite.invite_id)])
    assert sent == [MessageState.QUEUED, MessageState.CANCELLED]


async def test_sending_again_has_to_wait_and_says_how_long(gate: Gatehouse) -> None:
    created = await invite(gate)
    gate.clock.advance(20)
    with refused(Code.RATE_LIMITED) as problem:
        await gate.pairing.by_sms.resend(gate.owner, created.invite.invite_id)
    assert problem.value.retry_after_s == 40


async def test_sending_again_counts_against_the_number(gate: Gatehouse) -> None:
    created = await invite(gate)
    await gate.database.write(lambda tx: _leave(tx, created.invite.invite_id))
    for _ in range(2):
        gate.clock.advance(60)
        await gate.pairing.by_sms.resend(gate.owner, created.invite.invite_id)
        await gate.database.write(lambda tx: _leave(tx, created.invite.invite_id))
    gate.clock.advance(60)
    with refused(Code.RATE_LIMITED) as problem:
        await gate.pairing.by_sms.resend(gate.owner, created.invite.invite_id)
    assert "sms.per_number_per_hour" in problem.value.detail


@pytest.mark.parametrize("end", ["cancelled", "claimed", "expired"])
async def test_an_invite_that_is_not_open_is_not_sent_again(gate: Gatehouse, phone: NewPhone, end: str) -> None:
    created = await invite(gate)
    if end == "cancelled":
        await gate.pairing.cancel_invite(gate.owner, created.invite.invite_id)
    if end == "claimed":
        await gate.claim(phone, created)
    gate.clock.advance(60 if end != "expired" else 901)
    with refused({"cancelled": Code.PAIRING_DENIED, "claimed": Code.INVITE_USED, "expired": Code.INVITE_EXPIRED}[end]):
        await gate.pairing.by_sms.resend(gate.owner, created.invite.invite_id)


async def test_the_number_is_forgotten_once_the_invite_is_used_or_over(gate: Gatehouse, phone: NewPhone) -> None:
    created, used = await invite(gate), await invite(gate)
    await gate.claim(phone, used)
    await gate.pairing.cancel_invite(gate.owner, created.invite.invite_id)
    assert await message_state(gate, created) is MessageState.CANCELLED
    for one in (created, used):
        assert await gate.database.read(lambda tx, about=one.invite.invite_id: _numbers(tx, about)) == [None]


async def test_neither_number_nor_secret_nor_code_stands_in_the_store(gate: Gatehouse) -> None:
    created = await invite(gate)
    assert created.secret
    assert created.code
    stored = gate.bytes_on_disk()
    for secret in (created.secret, created.code):
        assert secret.encode() not in stored
    personal = [
        details.get("personal", {}) for event, details in gate.audit.heard if event is AuditEvent.INVITE_CREATED
    ]
    assert personal == [{"phone_number": NUMBER}]  # the one place, from which it can be erased
    facts = [details.get("facts", {}) for _, details in gate.audit.heard]
    assert NUMBER[1:] not in repr(facts)


# -- codes


async def test_wrong_codes_void_the_code_and_not_the_link(gate: Gatehouse, phone: NewPhone, thief: NewPhone) -> None:
    created = await invite(gate)
    for number in range(10):
        with refused(Code.INVITE_NOT_FOUND):
            await gate.pairing.claim_invite(thief.claim_code("0000000Z", gate.now_ms), f"10.0.0.{number}")
    with refused(Code.INVITE_NOT_FOUND):
        await gate.claim(thief, created, "10.1.0.1")
    claimed = await gate.claim(phone, by_link(created), "10.1.0.2")
    assert claimed.confirmation_code


async def test_three_bad_secrets_burn_it(gate: Gatehouse, thief: NewPhone) -> None:
    created = await invite(gate)
    for _ in range(2):
        with refused(Code.INVITE_NOT_FOUND):
            await gate.claim(thief, by_link(replace(created, secret="x" * 43)))
    with refused(Code.INVITE_BURNED):
        await gate.claim(thief, by_link(replace(created, secret="x" * 43)))
    assert (await gate.look(created)).reason is Reason.BAD_CLAIMS
    assert await message_state(gate, created) is MessageState.CANCELLED


# -- the text


async def test_the_text_has_the_link_and_ends_in_a_code_for_this_origin_alone(gate: Gatehouse) -> None:
    created = await invite(gate, label="Buy now at evil.example")
    assert created.url
    text = invite_text("Ada's gateway", "https://gate.example:18790", created.url, created.code or "")
    link, last = text.splitlines()[1], text.splitlines()[-1]
    assert last == f"@gate.example #{created.code}"
    assert link == created.url
    parts = urlsplit(link)
    assert (parts.path, parts.query) == ("/pair", "")
    assert parse_qs(parts.fragment)["s"] == [created.secret]
    assert "evil" not in text
    assert segments(text) <= 2


def test_a_name_that_would_double_the_price_is_left_out() -> None:
    text = invite_text("Küche 🍳", "https://gate.example", "https://gate.example/pair#v=1", "4K70W9X1")
    assert text.startswith("Entobot: ")
    assert is_gsm7(text)
    assert invite_text("Küche", "https://gate.example", "https://g.example/pair#v=1", "4K70W9X1").startswith("Küche: ")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("🍳" * 35, 1),
        ("ж" * 71, 2),
    ],
)
def test_parts_are_counted_as_networks_count_them(text: str, parts: int) -> None:
    assert segments(text) == parts


def _messages(tx: Transaction, about: str) -> list[Message]:
    return sms_store.of_subject(tx, about)


def _numbers(tx: Transaction, about: str) -> list[bytes | None]:
    return [sms_store.find_sealed(tx, one.message_id)[0] for one in sms_store.of_subject(tx, about)]


def _leave(tx: Transaction, about: str) -> None:
    """A node begins to send what waits."""
    for one in sms_store.of_subject(tx, about):
        if one.state is MessageState.QUEUED:
            assert sms_store.move(tx, one, one.claimed("nod_a", one.made_at_ms))
