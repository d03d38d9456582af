"""Every state against every change."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, WEAKLY_CONFIRMED_SCOPES, Scope
from entobot.devices.model import Platform
from entobot.pairing.model import (
    ENDED,
    LIVE,
    MAX_BAD_CLAIMS,
    MAX_WRONG_CODES,
    Claim,
    Confirm,
    DeviceInfo,
    Invite,
    Inviter,
    Kind,
    Reason,
    State,
)

NOW = 1_000_000
CLAIM = Claim("clm_1", "{}", "thumb", DeviceInfo("Phone", Platform.IOS, "1"), "192.0.2.1", NOW)
OPEN = Invite(
    invite_id="inv_1",
    kind=Kind.CODE,
    state=State.OPEN,
    user_id="usr_1",
    inviter=Inviter("usr_1", None),
    label="",
    scopes=DEFAULT_DEVICE_SCOPES,
    confirm=Confirm.TYPE,
    created_at_ms=NOW,
    deadline_ms=NOW + 300_000,
    secret_digest="digest",
    code_mark="mark",
)
CLAIMED = OPEN.claimed(CLAIM, NOW)
CONFIRMED = CLAIMED.confirmed("clm_1", "dev_1", NOW)
INVITES = {
    State.OPEN: OPEN,
    State.CLAIMED: CLAIMED,
    State.CONFIRMED: CONFIRMED,
    State.PAIRED: CONFIRMED.paired(NOW),
    State.EXPIRED: OPEN.at(OPEN.deadline_ms),
    State.CANCELLED: OPEN.cancelled(Reason.OPERATOR, NOW),
    State.BURNED: OPEN.burned(Reason.BAD_CLAIMS, NOW),
    State.DENIED: CLAIMED.denied("clm_1", NOW),
}
Change = Callable[[Invite, int], Invite]
CHANGES: dict[str, tuple[Change, dict[State, State]]] = {
    "claimed": (lambda invite, now: invite.claimed(CLAIM, now), {State.OPEN: State.CLAIMED}),
    "confirmed": (
        lambda invite, now: invite.confirmed("clm_1", "dev_1", now),
        {State.CLAIMED: State.CONFIRMED},
    ),
    "paired": (lambda invite, now: invite.paired(now), {State.CONFIRMED: State.PAIRED}),
    "denied": (lambda invite, now: invite.denied("clm_1", now), {State.CLAIMED: State.DENIED}),
    "cancelled": (lambda invite, now: invite.cancelled(Reason.OPERATOR, now), dict.fromkeys(LIVE, State.CANCELLED)),
    "burned": (lambda invite, now: invite.burned(Reason.BAD_CLAIMS, now), dict.fromkeys(LIVE, State.BURNED)),
    "with_bad_claim": (lambda invite, now: invite.with_bad_claim(now), {State.OPEN: State.OPEN}),
    "with_wrong_code": (lambda invite, now: invite.with_wrong_code(now), {State.OPEN: State.OPEN}),
}
REFUSALS = {
    State.OPEN: Code.CLAIM_CHANGED,
    State.CLAIMED: Code.INVITE_USED,
    State.CONFIRMED: Code.INVITE_USED,
    State.PAIRED: Code.INVITE_USED,
    State.EXPIRED: Code.INVITE_EXPIRED,
    State.CANCELLED: Code.PAIRING_DENIED,
    State.BURNED: Code.INVITE_BURNED,
    State.DENIED: Code.PAIRING_DENIED,
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_allowed_from_its_state_and_refused_from_all_others(state: State, name: str) -> None:
    change, allowed = CHANGES[name]
    invite = INVITES[state]
    if state in allowed:
        after = change(invite, NOW + 1)
        assert after.state is allowed[state]
        assert after.secret_digest is None or after.state is State.OPEN
        assert (after.ended_at_ms is not None) == (after.state in ENDED)
        return
    with pytest.raises(Problem) as refusal:
        change(invite, NOW + 1)
    # An open invite has no claim that a confirmation could mean; every other refusal says what became of it.
    expected = Code.CLAIM_CHANGED if invite.claim is None and name in ("confirmed", "denied") else REFUSALS[state]
    assert refusal.value.code is expected


@pytest.mark.parametrize("state", sorted(LIVE))
@pytest.mark.parametrize("name", CHANGES)
def test_nothing_happens_to_a_live_invite_at_its_deadline_but_expiry(state: State, name: str) -> None:
    invite = INVITES[state]
    change, allowed = CHANGES[name]
    if state in allowed:
        change(invite, invite.deadline_ms - 1)
    with pytest.raises(Problem):
        change(invite, invite.deadline_ms)
    assert invite.at(invite.deadline_ms - 1) is invite
    assert invite.at(invite.deadline_ms).state is State.EXPIRED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_end_is_an_end_at_any_time(state: State) -> None:
    invite = INVITES[state]
    assert invite.at(invite.deadline_ms * 2) is invite


def test_each_step_has_its_own_time() -> None:
    assert OPEN.claimed(CLAIM, NOW + 7).deadline_ms == NOW + 7 + 5 * 60_000
    assert CLAIMED.confirmed("clm_1", "dev_1", NOW + 7).deadline_ms == NOW + 7 + 10 * 60_000
    assert CONFIRMED.paired(NOW + 7).deadline_ms == CONFIRMED.deadline_ms


@pytest.mark.parametrize("invite", [OPEN, CLAIMED, CONFIRMED], ids=lambda invite: invite.state)
def test_a_decision_is_about_one_claim(invite: Invite) -> None:
    for decide in (lambda: invite.confirmed("clm_2", "dev_1", NOW), lambda: invite.denied("clm_2", NOW)):
        with pytest.raises(Problem) as refusal:
            decide()
        assert refusal.value.code is Code.CLAIM_CHANGED


def test_the_last_allowed_failure_burns() -> None:
    invite = OPEN
    for _ in range(MAX_BAD_CLAIMS - 1):
        invite = invite.with_bad_claim(NOW)
        assert invite.state is State.OPEN
    assert invite.with_bad_claim(NOW).reason is Reason.BAD_CLAIMS
    for _ in range(MAX_WRONG_CODES - 1):
        invite = invite.with_wrong_code(NOW)
        assert invite.state is State.OPEN
    assert invite.with_wrong_code(NOW).reason is Reason.WRONG_CODES


@pytest.mark.parametrize(
    ("invite", "changes"),
    [
        (OPEN, {"secret_digest": None}),
        (OPEN, {"claim": CLAIM}),
        (OPEN, {"scopes": frozenset()}),
        (OPEN, {"confirm": Confirm.APPROVE}),
        (OPEN, {"confirm": Confirm.NONE, "scopes": WEAKLY_CONFIRMED_SCOPES}),
        (OPEN, {"kind": Kind.QR}),
        (OPEN, {"ended_at_ms": NOW}),
        (CLAIMED, {"secret_digest": "digest"}),
        (CLAIMED, {"claim": None}),
        (CLAIMED, {"state": State.CONFIRMED}),
        (CONFIRMED, {"device_id": None}),
        (CONFIRMED, {"state": State.PAIRED}),
        (INVITES[State.DENIED], {"ended_at_ms": None}),
    ],
)
def test_what_cannot_be_cannot_be_built(invite: Invite, changes: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        replace(invite, **changes)  # pyright: ignore[reportArgumentType]  wrong on purpose


def test_an_invite_shows_no_digest() -> None:
    assert "digest" not in repr(OPEN).replace("secret_digest", "")
    assert "mark'" not in repr(OPEN)


def test_weak_confirmation_gives_weak_scopes_only() -> None:
    qr = replace(OPEN, kind=Kind.QR, code_mark=None, scopes=frozenset({Scope.CHAT}), confirm=Confirm.NONE)
    with pytest.raises(AssertionError):
        replace(qr, scopes=DEFAULT_DEVICE_SCOPES)
