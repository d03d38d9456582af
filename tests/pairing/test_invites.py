"""The operator opens, sees and cancels invites; nobody gives what they do not hold."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code
from entobot.core.permissions import (
    ALL_SCOPES,
    DEFAULT_DEVICE_SCOPES,
    WEAKLY_CONFIRMED_SCOPES,
    Role,
    Scope,
)
from entobot.core.principal import Principal
from entobot.core.secrets import CROCKFORD
from entobot.pairing.model import MAX_LABEL_CHARACTERS, Confirm, Kind, Reason, State
from entobot.pairing.store import failures, invites
from entobot.storage.database import Transaction
from tests.devices.phone import ORIGIN
from tests.pairing.gatehouse import SPKI, Gatehouse, minutes, refused
from tests.pairing.phones import NewPhone

CHAT = frozenset({Scope.CHAT})
PAIRER = DEFAULT_DEVICE_SCOPES | {Scope.PAIR}


async def test_a_qr_invite_shows_its_secret_behind_the_hash_of_the_link(gate: Gatehouse) -> None:
    created = await gate.invite()
    assert created.url is not None
    parts = urlsplit(created.url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{ORIGIN}/pair"
    assert parts.query == ""
    assert parse_qs(parts.fragment) == {
        "v": ["1"],
        "i": [created.invite.invite_id],
        "s": [created.secret],
        "g": [SPKI],
        "x": [str(created.invite.deadline_ms // 1000)],
    }
    assert created.secret is not None
    assert len(created.secret) == 43
    assert created.qr_svg is not None
    assert created.code is None


async def test_a_code_invite_shows_eight_characters_and_no_link(gate: Gatehouse) -> None:
    created = await gate.invite(kind=Kind.CODE)
    assert created.code is not None
    assert len(created.code) == 8
    assert set(created.code) <= set(CROCKFORD)
    assert (created.secret, created.url, created.qr_svg) == (None, None, None)


async def test_the_defaults_are_five_minutes_typed_digits_and_the_usual_scopes(gate: Gatehouse) -> None:
    invite = (await gate.invite()).invite
    assert invite.deadline_ms - invite.created_at_ms == 5 * 60_000
    assert (invite.confirm, invite.scopes, invite.user_id) == (
        Confirm.TYPE,
        DEFAULT_DEVICE_SCOPES,
        gate.owner.user_id,
    )


async def test_a_lookup_never_shows_the_secret_again(gate: Gatehouse) -> None:
    created = await gate.invite()
    assert created.secret is not None
    assert created.secret not in str(asdict(await gate.look(created)))


@pytest.mark.parametrize("seconds", [0, 29, 901, 86_400])
async def test_a_life_out_of_bounds_is_refused(gate: Gatehouse, seconds: int) -> None:
    with refused(Code.INVALID):
        await gate.invite(ttl=timedelta(seconds=seconds))


@pytest.mark.parametrize("label", ["x" * (MAX_LABEL_CHARACTERS + 1), "two\nlines", "\u202eback"])
async def test_a_label_that_cannot_be_shown_is_refused(gate: Gatehouse, label: str) -> None:
    with refused(Code.INVALID):
        await gate.invite(label=label)


async def test_pairing_is_never_started_without_the_right(gate: Gatehouse) -> None:
    chatter = await gate.device_principal(DEFAULT_DEVICE_SCOPES)
    created = await gate.invite()
    claimed = await gate.claim(NewPhone(), created)
    for attempt in (
        gate.invite(by=chatter),
        gate.pairing.list_invites(chatter),
        gate.pairing.get_invite(chatter, created.invite.invite_id),
        gate.pairing.cancel_invite(chatter, created.invite.invite_id),
        gate.confirm(created, claimed, by=chatter),
    ):
        with refused(Code.FORBIDDEN):
            await attempt
    assert (await gate.look(created)).state is State.CLAIMED


# -- scopes


@pytest.mark.parametrize("extra", sorted(ALL_SCOPES - PAIRER))
async def test_an_inviter_cannot_give_a_scope_it_does_not_hold(gate: Gatehouse, extra: Scope) -> None:
    operator = await gate.device_principal(PAIRER)
    with refused(Code.FORBIDDEN):
        await gate.invite(by=operator, scopes=CHAT | {extra})
    await gate.invite(by=operator, scopes=PAIRER)


async def test_a_token_that_claims_more_than_its_device_holds_gives_no_more(gate: Gatehouse) -> None:
    honest = await gate.device_principal(PAIRER)
    inflated = Principal(honest.user_id, ALL_SCOPES, honest.device_id, honest.epoch, honest.key_thumbprint)
    with refused(Code.FORBIDDEN):
        await gate.invite(by=inflated, scopes=frozenset({Scope.AUDIT}))


async def test_a_device_never_holds_more_than_its_user(gate: Gatehouse) -> None:
    member = await gate.add_user(Role.MEMBER)
    with refused(Code.FORBIDDEN):
        await gate.invite(user_id=member.user_id, scopes=CHAT | {Scope.PAIR})
    assert (await gate.invite(user_id=member.user_id)).invite.scopes == DEFAULT_DEVICE_SCOPES


async def test_inviting_for_somebody_else_needs_to_manage_users(gate: Gatehouse) -> None:
    member = await gate.add_user()
    operator = await gate.device_principal(PAIRER)
    with refused(Code.FORBIDDEN):
        await gate.invite(by=operator, user_id=member.user_id)
    with refused(Code.FORBIDDEN):
        await gate.invite(by=operator, user_id="usr_00000000000000000000000000")
    manager = await gate.device_principal(PAIRER | {Scope.USERS_MANAGE})
    assert (await gate.invite(by=manager, user_id=member.user_id)).invite.user_id == member.user_id
    with refused(Code.NOT_FOUND):
        await gate.invite(by=manager, user_id="usr_00000000000000000000000000")


@pytest.mark.parametrize("confirm", [Confirm.APPROVE, Confirm.NONE])
@pytest.mark.parametrize("extra", sorted(ALL_SCOPES - WEAKLY_CONFIRMED_SCOPES))
async def test_without_typed_digits_only_chat_and_notify_are_given(
    gate: Gatehouse, confirm: Confirm, extra: Scope
) -> None:
    with refused(Code.INVALID):
        await gate.invite(confirm=confirm, scopes=CHAT | {extra})
    assert (await gate.invite(confirm=confirm)).invite.scopes == WEAKLY_CONFIRMED_SCOPES


async def test_a_code_always_needs_a_confirmation(gate: Gatehouse) -> None:
    with refused(Code.INVALID):
        await gate.invite(kind=Kind.CODE, confirm=Confirm.NONE)
    await gate.invite(kind=Kind.CODE, confirm=Confirm.APPROVE)


async def test_an_invite_without_scopes_is_refused(gate: Gatehouse) -> None:
    with refused(Code.INVALID):
        await gate.invite(scopes=frozenset())
    bare = await gate.device_principal(frozenset({Scope.PAIR}))
    with refused(Code.FORBIDDEN):
        await gate.invite(by=bare)


async def test_a_suspended_operator_cannot_invite(gate: Gatehouse) -> None:
    operator = await gate.device_principal(PAIRER)
    assert operator.device_id is not None
    await gate.devices.suspend(gate.owner, operator.device_id)
    with refused(Code.DEVICE_SUSPENDED):
        await gate.invite(by=operator)
    with refused(Code.DEVICE_SUSPENDED):
        await gate.pairing.list_invites(operator)


# -- how many


async def test_twenty_invites_may_be_open_and_no_more(gate: Gatehouse) -> None:
    first = await gate.invite()
    gate.clock.advance(10)
    for _ in range(19):
        await gate.invite()
    with refused(Code.RATE_LIMITED) as refusal:
        await gate.invite()
    assert refusal.value.retry_after_s == 290
    await gate.claim(NewPhone(), first)
    await gate.invite()


async def test_three_codes_may_be_open_and_no_more(gate: Gatehouse) -> None:
    created = [await gate.invite(kind=Kind.CODE) for _ in range(3)]
    with refused(Code.RATE_LIMITED):
        await gate.invite(kind=Kind.CODE)
    await gate.invite()
    await gate.pairing.cancel_invite(gate.owner, created[0].invite.invite_id)
    await gate.invite(kind=Kind.CODE)


async def test_expired_invites_make_room_without_a_sweep(gate: Gatehouse) -> None:
    for _ in range(3):
        await gate.invite(kind=Kind.CODE)
    gate.clock.advance(minutes(5))
    await gate.invite(kind=Kind.CODE)


# -- seeing and cancelling


async def test_other_peoples_invites_do_not_exist(gate: Gatehouse) -> None:
    other_owner = await gate.add_user(Role.OWNER)
    stranger = await gate.device_principal(PAIRER, other_owner.user_id)
    created = await gate.invite()
    claimed = await gate.claim(NewPhone(), created)
    assert await gate.pairing.list_invites(stranger) == []
    for attempt in (
        gate.pairing.get_invite(stranger, created.invite.invite_id),
        gate.pairing.cancel_invite(stranger, created.invite.invite_id),
        gate.confirm(created, claimed, by=stranger),
    ):
        with refused(Code.INVITE_NOT_FOUND):
            await attempt
    manager = await gate.device_principal(PAIRER | {Scope.USERS_MANAGE}, other_owner.user_id)
    assert [invite.invite_id for invite in await gate.pairing.list_invites(manager)] == [created.invite.invite_id]


async def test_the_list_is_newest_first_and_shows_the_present_state(gate: Gatehouse) -> None:
    old = await gate.invite()
    gate.clock.advance(minutes(4))
    new = await gate.invite(label="kitchen tablet")
    gate.clock.advance(minutes(2))
    rows = await gate.pairing.list_invites(gate.owner)
    assert [(row.invite_id, row.state) for row in rows] == [
        (new.invite.invite_id, State.OPEN),
        (old.invite.invite_id, State.EXPIRED),
    ]
    assert rows[0].label == "kitchen tablet"


async def test_looking_changes_nothing(gate: Gatehouse) -> None:
    created = await gate.invite()
    await gate.invite()
    gate.clock.advance(minutes(6))
    before = await gate.database.read(dump)
    heard = len(gate.audit.heard)
    await gate.look(created)
    await gate.pairing.list_invites(gate.owner)
    await gate.pairing.refuse_if_blocked("192.0.2.1")
    assert await gate.database.read(dump) == before
    assert len(gate.audit.heard) == heard


def dump(tx: Transaction) -> list[list[tuple[Any, ...]]]:
    return [
        [tuple(row[column.name] for column in table.columns) for row in tx.rows(select(table))]
        for table in (invites, failures)
    ]


async def test_cancelling_ends_an_invite_once_and_for_all(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    await gate.pairing.cancel_invite(gate.owner, created.invite.invite_id)
    await gate.pairing.cancel_invite(gate.owner, created.invite.invite_id)
    invite = await gate.look(created)
    assert (invite.state, invite.reason) == (State.CANCELLED, Reason.OPERATOR)
    with refused(Code.PAIRING_DENIED):
        await gate.confirm(created, claimed)
    with refused(Code.PAIRING_DENIED):
        await gate.collect(phone, claimed)
    assert gate.audit.events().count(AuditEvent.INVITE_CANCELLED) == 1


async def test_a_paired_device_is_not_cancelled_but_revoked(gate: Gatehouse, phone: NewPhone) -> None:
    created, _, _ = await gate.pair(phone)
    with refused(Code.INVITE_USED):
        await gate.pairing.cancel_invite(gate.owner, created.invite.invite_id)


async def test_ended_invites_are_forgotten_after_a_week(gate: Gatehouse) -> None:
    ended, running = await gate.invite(), await gate.invite(ttl=timedelta(minutes=15))
    await gate.pairing.cancel_invite(gate.owner, ended.invite.invite_id)
    gate.clock.advance(minutes(10))
    await gate.pairing.expire()
    assert len(await gate.pairing.list_invites(gate.owner)) == 2
    gate.clock.advance(minutes(7 * 24 * 60))
    assert await gate.pairing.expire() == 1
    rows = await gate.pairing.list_invites(gate.owner)
    assert [row.invite_id for row in rows] == [running.invite.invite_id]


async def test_every_step_is_in_the_audit_log(gate: Gatehouse, phone: NewPhone) -> None:
    await gate.pair(phone)
    assert gate.audit.events() == [
        AuditEvent.INVITE_CREATED,
        AuditEvent.INVITE_CLAIMED,
        AuditEvent.INVITE_CONFIRMED,
        AuditEvent.DEVICE_PAIRED,
    ]
    for _, details in gate.audit.heard:
        assert phone.name not in str(details["facts"])
        assert "198.51.100.7" not in str(details["facts"])
