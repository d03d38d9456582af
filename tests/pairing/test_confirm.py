"""The operator says yes or no to exactly the device that holds the invite."""

import json
from typing import Any

import pytest

from entobot.accounts import store as accounts_store
from entobot.audit.events import AuditEvent
from entobot.core.errors import Code
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.pairing.model import Confirm, Reason, State
from tests.pairing.gatehouse import Gatehouse, minutes, refused
from tests.pairing.phones import NewPhone

ON_EVERY_STORE = True
PAIRER = DEFAULT_DEVICE_SCOPES | {Scope.PAIR}


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


async def test_the_right_digits_reserve_the_device(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    device_id = await gate.confirm(created, claimed)
    invite = await gate.look(created)
    assert (invite.state, invite.device_id) == (State.CONFIRMED, device_id)
    assert invite.deadline_ms == gate.now_ms + 10 * 60_000
    assert await gate.all_devices() == [], "the device comes into being when it collects"


async def test_one_wrong_code_burns_the_invite(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    wrong = other_than(claimed.confirmation_code)
    with refused(Code.INVITE_BURNED):
        await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, code=wrong)
    with refused(Code.INVITE_BURNED):
        await gate.confirm(created, claimed)
    with refused(Code.INVITE_BURNED):
        await gate.collect(phone, claimed)
    invite = await gate.look(created)
    assert (invite.state, invite.reason) == (State.BURNED, Reason.WRONG_CONFIRMATION)
    assert AuditEvent.INVITE_BURNED in gate.audit.events()


async def test_another_claim_than_the_one_shown_is_not_confirmed(gate: Gatehouse) -> None:
    mine, other = await gate.invite(), await gate.invite()
    claimed, others = await gate.claim(NewPhone(), mine), await gate.claim(NewPhone(), other)
    answers: list[dict[str, Any]] = [{"code": others.confirmation_code}, {"approve": False}]
    for answer in answers:
        with refused(Code.CLAIM_CHANGED):
            await gate.pairing.confirm_invite(gate.owner, mine.invite.invite_id, others.claim_id, **answer)
    await gate.confirm(mine, claimed)


async def test_what_nobody_claimed_cannot_be_confirmed(gate: Gatehouse) -> None:
    created = await gate.invite()
    answers: list[dict[str, Any]] = [{"code": "123456"}, {"approve": False}]
    for answer in answers:
        with refused(Code.CLAIM_CHANGED):
            await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, "clm_x", **answer)
    assert (await gate.look(created)).state is State.OPEN


async def test_a_lost_answer_may_be_asked_for_again(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    device_id = await gate.confirm(created, claimed)
    assert await gate.confirm(created, claimed) == device_id
    await gate.collect(phone, claimed)
    assert await gate.confirm(created, claimed) == device_id
    wrong = other_than(claimed.confirmation_code)
    with refused(Code.INVITE_USED):
        await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, code=wrong)


async def test_approving_needs_no_digits_where_the_invite_says_so(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite(confirm=Confirm.APPROVE)
    claimed = await gate.claim(phone, created)
    with refused(Code.INVALID):
        await gate.confirm(created, claimed)
    device_id = await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, approve=True)
    assert (await gate.collect(phone, claimed)).device_id == device_id


async def test_approving_does_not_stand_in_for_the_digits(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    with refused(Code.INVALID):
        await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, approve=True)
    answers: list[dict[str, Any]] = [{}, {"code": claimed.confirmation_code, "approve": True}]
    for answer in answers:
        with refused(Code.INVALID):
            await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, **answer)
    assert (await gate.look(created)).state is State.CLAIMED


@pytest.mark.parametrize("confirm", [Confirm.APPROVE, Confirm.TYPE])
async def test_no_ends_the_pairing_in_every_mode(gate: Gatehouse, phone: NewPhone, confirm: Confirm) -> None:
    created = await gate.invite(confirm=confirm)
    claimed = await gate.claim(phone, created)
    said = await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, approve=False)
    assert said is None
    assert (await gate.look(created)).state is State.DENIED
    with refused(Code.PAIRING_DENIED):
        await gate.collect(phone, claimed)
    with refused(Code.PAIRING_DENIED):
        await gate.confirm(created, claimed)
    with refused(Code.PAIRING_DENIED):
        await gate.claim(phone, created)
    assert AuditEvent.INVITE_DENIED in gate.audit.events()


async def test_no_after_yes_is_too_late(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)
    await gate.confirm(created, claimed)
    with refused(Code.INVITE_USED):
        await gate.pairing.confirm_invite(gate.owner, created.invite.invite_id, claimed.claim_id, approve=False)
    await gate.collect(phone, claimed)


async def test_the_confirmation_has_five_minutes(gate: Gatehouse) -> None:
    early, late = await gate.invite(), await gate.invite()
    gate.clock.advance(minutes(4))
    first, second = await gate.claim(NewPhone(), early), await gate.claim(NewPhone(), late)
    gate.clock.at_ms += 5 * 60_000 - 1
    await gate.confirm(early, first)
    gate.clock.at_ms += 1
    with refused(Code.INVITE_EXPIRED):
        await gate.confirm(late, second)
    assert (await gate.look(late)).state is State.EXPIRED


async def test_who_confirms_cannot_give_more_than_they_hold(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite(scopes=frozenset({Scope.CHAT, Scope.AUDIT}))
    claimed = await gate.claim(phone, created)
    with refused(Code.FORBIDDEN):
        await gate.confirm(created, claimed, by=await gate.device_principal(PAIRER))
    assert (await gate.look(created)).state is State.CLAIMED
    await gate.confirm(created, claimed)


@pytest.mark.parametrize("step", ["claimed", "confirmed"])
async def test_losing_the_right_to_invite_cancels_what_is_not_collected(
    gate: Gatehouse, phone: NewPhone, step: str
) -> None:
    operator = await gate.device_principal(PAIRER)
    assert operator.device_id is not None
    created = await gate.invite(by=operator)
    claimed = await gate.claim(phone, created)
    if step == "confirmed":
        await gate.confirm(created, claimed)
    await gate.devices.suspend(gate.owner, operator.device_id)
    if step == "claimed":
        with refused(Code.PAIRING_DENIED):
            await gate.confirm(created, claimed)
    with refused(Code.PAIRING_DENIED):
        await gate.collect(phone, claimed)
    invite = await gate.look(created)
    assert (invite.state, invite.reason) == (State.CANCELLED, Reason.RIGHT_LOST)
    await gate.devices.reactivate(gate.owner, operator.device_id)
    with refused(Code.PAIRING_DENIED):
        await gate.collect(phone, claimed)
    assert [device.device_id for device in await gate.all_devices()] == [operator.device_id]


async def test_an_unconfirmed_mode_asks_for_the_right_at_the_claim(gate: Gatehouse, phone: NewPhone) -> None:
    operator = await gate.device_principal(PAIRER)
    assert operator.device_id is not None
    created = await gate.invite(by=operator, confirm=Confirm.NONE)
    await gate.devices.revoke(gate.owner, operator.device_id)
    with refused(Code.PAIRING_DENIED):
        await gate.claim(phone, created)
    assert (await gate.look(created)).state is State.CANCELLED


async def test_a_key_that_became_a_device_meanwhile_is_not_paired_twice(gate: Gatehouse, phone: NewPhone) -> None:
    one, two, three = [await gate.invite() for _ in range(3)]
    first, second, third = [await gate.claim(phone, created) for created in (one, two, three)]
    await gate.confirm(one, first)
    await gate.confirm(two, second)
    await gate.collect(phone, first)
    with refused(Code.KEY_KNOWN):
        await gate.collect(phone, second)
    with refused(Code.KEY_KNOWN):
        await gate.confirm(three, third)
    assert (await gate.look(two)).reason is Reason.KEY_KNOWN
    assert len(await gate.all_devices()) == 1


async def test_the_users_other_devices_are_told_at_the_confirmation(gate: Gatehouse, phone: NewPhone) -> None:
    created = await gate.invite()
    claimed = await gate.claim(phone, created)

    async def told() -> list[dict[str, str]]:
        rows = await gate.database.read(lambda tx: gate.house.stream.after(tx, gate.owner.user_id, 0))
        events = [json.loads(row.event) for row in rows]
        return [event["data"] for event in events if event["type"] == "device.changed"]

    assert await told() == []
    device_id = await gate.confirm(created, claimed)
    assert await told() == [{"device_id": device_id, "change": "pairing"}]
    await gate.collect(phone, claimed)
    assert (await told())[1:] == [{"device_id": device_id, "change": "paired"}]


async def test_whoever_has_risen_above_the_inviter_is_not_paired_for(gate: Gatehouse, phone: NewPhone) -> None:
    admin, bob = await gate.add_user(Role.ADMIN), await gate.add_user()
    inviter = Principal(admin.user_id, admin.scopes)
    created = await gate.invite(by=inviter, user_id=bob.user_id)
    claimed = await gate.claim(phone, created)
    await gate.database.write(lambda tx: accounts_store.change_user(tx, bob.given(Role.OWNER)))
    with refused(Code.PAIRING_DENIED):
        await gate.confirm(created, claimed, by=inviter)
    invite = await gate.look(created)
    assert (invite.state, invite.reason) == (State.CANCELLED, Reason.RIGHT_LOST)
