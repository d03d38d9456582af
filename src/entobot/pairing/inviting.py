"""What may be asked of an invite. Pure."""

from collections.abc import Sequence

from entobot.core.errors import Code, Problem
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, WEAKLY_CONFIRMED_SCOPES, Scope, narrow, scope_text
from entobot.pairing.model import (
    BEARER_SCOPES,
    MAX_LABEL_CHARACTERS,
    MAX_OPEN_CODES,
    MAX_OPEN_INVITES,
    MAX_TTL,
    MIN_TTL,
    Confirm,
    Invite,
    Kind,
)
from entobot.pairing.requests import InviteRequest


def check_request(request: InviteRequest) -> None:
    if not MIN_TTL <= request.lives <= MAX_TTL:
        raise Problem(
            Code.INVALID,
            f"An invite lives {MIN_TTL.seconds} to {MAX_TTL.seconds} seconds: a secret that lives longer ends up in "
            "chat logs and screenshots.",
        )
    if len(request.label) > MAX_LABEL_CHARACTERS or not request.label.isprintable():
        raise Problem(Code.INVALID, f"A label has at most {MAX_LABEL_CHARACTERS} visible characters.")
    if request.kind is not Kind.SMS and request.phone_number is not None:
        raise Problem(Code.INVALID, "A phone_number is for kind 'sms'.")
    if request.way is Confirm.NONE and request.kind is Kind.SMS:
        raise Problem(Code.INVALID, "Others may read an SMS, so somebody must confirm it: use 'approve' or 'type'.")
    if request.way is Confirm.NONE and request.kind is Kind.CODE:
        raise Problem(Code.INVALID, "A code can be guessed, so somebody must confirm it: use 'type' or 'approve'.")
    if request.allow_bearer and (request.kind is not Kind.QR or request.way is Confirm.NONE):
        raise Problem(
            Code.INVALID, "A bearer device is paired by kind 'qr', and somebody must confirm it: 'type' or 'approve'."
        )
    if request.allow_bearer and request.scopes is not None and not request.scopes >= BEARER_SCOPES:
        raise Problem(Code.INVALID, f"A bearer device gets {scope_text(BEARER_SCOPES)} and nothing else: name it.")
    if request.scopes is not None and not request.scopes:
        raise Problem(Code.INVALID, "Name at least one scope, or leave scopes out for the usual ones.")


def granted(request: InviteRequest, held: frozenset[Scope], of_user: frozenset[Scope]) -> frozenset[Scope]:
    """What the device will hold. Asking for more than may be given is refused, never cut down in silence."""
    is_weak = request.way is not Confirm.TYPE
    if request.scopes is None:
        wanted = narrow(DEFAULT_DEVICE_SCOPES, WEAKLY_CONFIRMED_SCOPES if is_weak else DEFAULT_DEVICE_SCOPES)
        usual = narrow(wanted, held, of_user)
        if not usual:
            raise Problem(Code.FORBIDDEN, "You hold none of the scopes that a phone needs, so you cannot give them.")
        return usual
    if narrow(request.scopes, held, of_user) != request.scopes:
        missing = scope_text(request.scopes - narrow(request.scopes, held, of_user))
        raise Problem(Code.FORBIDDEN, f"You or this user do not hold: {missing}. An invite cannot give more.")
    if is_weak and not request.scopes <= WEAKLY_CONFIRMED_SCOPES:
        raise Problem(
            Code.INVALID,
            f"Without typing the code an invite gives at most: {scope_text(WEAKLY_CONFIRMED_SCOPES)}. Confirm by 'type'.",
        )
    return request.scopes


def check_room(still_open: Sequence[Invite], kind: Kind, now_ms: int) -> None:
    codes = [invite for invite in still_open if invite.kind is Kind.CODE]
    for group, most, words in (
        (still_open, MAX_OPEN_INVITES, "invites"),
        (codes if kind is Kind.CODE else [], MAX_OPEN_CODES, "codes"),
    ):
        if len(group) >= most:
            soonest_ms = min(invite.deadline_ms for invite in group)
            raise Problem(
                Code.RATE_LIMITED,
                f"There are {most} open {words} already. Cancel one, or wait until one expires.",
                retry_after_s=max(1, -(-(soonest_ms - now_ms) // 1000)),
            )
