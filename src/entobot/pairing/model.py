"""An invite and its legal changes. Pure: time comes in as an argument, a change returns a new value or raises.

    open → claimed → confirmed → paired
      └────────┴─────────┴→ expired | cancelled | burned | denied

`deadline_ms` is the end of the present state; whoever acts at or after it finds the invite expired.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.names import clean_name
from entobot.core.permissions import WEAKLY_CONFIRMED_SCOPES, Scope, narrow
from entobot.devices.model import Platform, clean_version

DEFAULT_TTL = timedelta(minutes=5)
"""Long enough to fetch the phone and install the page, short enough that a photograph of the screen goes stale."""
MIN_TTL = timedelta(seconds=30)
"""Less and a slow camera loses against the clock."""
SMS_TTL = timedelta(minutes=15)
"""A message takes its time, and the phone is somewhere else than the operator."""
MAX_TTL = timedelta(minutes=15)
"""Pairing is done with both parties at hand; a secret that lives for hours ends up in chat logs and screenshots."""
CONFIRM_WITHIN = timedelta(minutes=5)
"""After the claim: the operator reads six digits off the phone. A claim nobody watches must not linger."""
COLLECT_WITHIN = timedelta(minutes=10)
"""After the confirmation: the phone polls, so only one that lost its network needs more than seconds."""
MAX_BAD_CLAIMS = 3
"""A phone that read the QR is right at once; 2⁻²⁵⁶ a guess needs no more, a mangled link no more than a few."""
MAX_WRONG_CODES = 10
"""A code has 40 bits: ten guesses against three open codes succeed with 3·10⁻¹¹, ten typing errors are rare."""
MAX_OPEN_INVITES = 20
MAX_LABEL_CHARACTERS = 64
MAX_OPEN_CODES = 3
"""Every open code is one more that a guess may hit."""
CODE_LENGTH = 8
CONFIRMATION_DIGITS = 6
"""One try in a million: a wrong one burns the invite."""
BEARER_SCOPES = frozenset({Scope.CHAT})
"""What a device without a key of its own may have at most: whoever reads its credential is that device."""
KEEP_ENDED = timedelta(days=7)
"""Ended invites stay on the list that long; the audit log keeps what happened."""


class Kind(StrEnum):
    CODE = "code"
    QR = "qr"
    SMS = "sms"


class Confirm(StrEnum):
    APPROVE = "approve"
    NONE = "none"
    TYPE = "type"


class State(StrEnum):
    BURNED = "burned"
    CANCELLED = "cancelled"
    CLAIMED = "claimed"
    CONFIRMED = "confirmed"
    DENIED = "denied"
    EXPIRED = "expired"
    OPEN = "open"
    PAIRED = "paired"


LIVE = frozenset({State.OPEN, State.CLAIMED, State.CONFIRMED})
ENDED = frozenset(State) - LIVE
_HAS_CLAIM = frozenset({State.CLAIMED, State.CONFIRMED, State.PAIRED, State.DENIED})


class Reason(StrEnum):
    """Why an invite ended before its device was paired."""

    BAD_CLAIMS = "bad_claims"
    DEVICE_LEFT = "device_left"
    KEY_KNOWN = "key_known"
    OPERATOR = "operator"
    RIGHT_LOST = "right_lost"
    TIME = "time"
    WRONG_CODES = "wrong_codes"
    WRONG_CONFIRMATION = "wrong_confirmation"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the phone says about itself: shown to the operator, believed by nobody."""

    device_name: str
    platform: Platform
    app_version: str
    os_version: str = ""

    def cleaned(self) -> "DeviceInfo":
        """The same in a form that can be shown. Raises `invalid`."""
        return DeviceInfo(
            clean_name(self.device_name),
            self.platform,
            clean_version(self.app_version),
            clean_version(self.os_version),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A device's hold on an invite. `public_jwk` is the JSON text of its key, `thumbprint` its RFC 7638 name; a bearer
    claim has neither.
    """

    claim_id: str
    public_jwk: str | None
    thumbprint: str | None
    device: DeviceInfo
    address: str
    claimed_at_ms: int

    @property
    def is_bearer(self) -> bool:
        return self.thumbprint is None


@dataclass(frozen=True, slots=True)
class Inviter:
    """Whose rights the invite hands on; `device_id` None is the owner at the local socket."""

    user_id: str
    device_id: str | None


@dataclass(frozen=True, slots=True)
class Invite:
    """One invitation. Illegal combinations cannot be built (AssertionError).

    `secret_digest` exists only while the invite is open. `code_mark` is the lookup key of a typed code and stays, so
    that a late second typist is told what happened; it opens nothing then.
    """

    invite_id: str
    kind: Kind
    state: State
    user_id: str
    inviter: Inviter
    label: str
    scopes: frozenset[Scope]
    confirm: Confirm
    created_at_ms: int
    deadline_ms: int
    secret_digest: str | None = field(repr=False)
    code_mark: str | None = field(default=None, repr=False)
    bad_claims: int = 0
    wrong_codes: int = 0
    is_contested: bool = False
    claim: Claim | None = None
    device_id: str | None = None
    confirmed_at_ms: int | None = None
    ended_at_ms: int | None = None
    reason: Reason | None = None
    allow_bearer: bool = False
    sends: int = 0
    """How often it was sent, for kind `sms`; the last time at `sent_at_ms`."""
    sent_at_ms: int | None = None

    def __post_init__(self) -> None:
        assert self.scopes, "a device without any scope is of no use"
        assert self.confirm is Confirm.TYPE or self.scopes <= WEAKLY_CONFIRMED_SCOPES
        assert self.kind is Kind.QR or self.confirm is not Confirm.NONE
        assert (self.kind is Kind.QR) == (self.code_mark is None)
        assert (self.kind is Kind.SMS) == (self.sent_at_ms is not None)
        assert not self.allow_bearer or (self.kind is Kind.QR and self.confirm is not Confirm.NONE)
        assert self.claim is None or not self.claim.is_bearer or (self.allow_bearer and self.scopes <= BEARER_SCOPES)
        assert (self.state is State.OPEN) == (self.secret_digest is not None)
        assert (self.state in ENDED) == (self.ended_at_ms is not None)
        assert self.state is not State.OPEN or self.claim is None
        assert self.state not in _HAS_CLAIM or self.claim is not None
        assert self.device_id is not None or self.state not in (State.CONFIRMED, State.PAIRED)

    def at(self, now_ms: int) -> "Invite":
        """The invite as it stands at a moment: expired once its deadline is reached."""
        return self.expired(now_ms) if self.is_overdue(now_ms) else self

    def is_overdue(self, now_ms: int) -> bool:
        return self.state in LIVE and now_ms >= self.deadline_ms

    # -- forward

    def claimed(self, claim: Claim, now_ms: int) -> "Invite":
        """The one device this invite will ever have. Raises the refusal when it is not open, `forbidden` for a bearer
        claim that it does not allow. A bearer gets no more scopes than a bearer may have.
        """
        self._need(State.OPEN, now_ms)
        if claim.is_bearer and not self.allow_bearer:
            raise Problem(
                Code.FORBIDDEN, "This invite is for devices with a key. Ask for one that allows a bearer credential."
            )
        deadline_ms = now_ms + to_ms(CONFIRM_WITHIN)
        scopes = narrow(self.scopes, BEARER_SCOPES) if claim.is_bearer else self.scopes
        return replace(
            self, state=State.CLAIMED, claim=claim, scopes=scopes, secret_digest=None, deadline_ms=deadline_ms
        )

    def confirmed(self, claim_id: str, device_id: str, now_ms: int) -> "Invite":
        """The operator said yes to exactly this claim; its device id is reserved. Raises `claim_changed`."""
        self.need_claim(claim_id)
        self._need(State.CLAIMED, now_ms)
        deadline_ms = now_ms + to_ms(COLLECT_WITHIN)
        return replace(
            self, state=State.CONFIRMED, device_id=device_id, confirmed_at_ms=now_ms, deadline_ms=deadline_ms
        )

    def paired(self, now_ms: int) -> "Invite":
        """The device exists. The deadline stays: until then a lost answer may be asked for again."""
        self._need(State.CONFIRMED, now_ms)
        return replace(self, state=State.PAIRED, ended_at_ms=now_ms)

    def resent(self, secret_digest: str, code_mark: str, deadline_ms: int, now_ms: int) -> "Invite":
        """With a new secret and a new code; what was sent before opens nothing."""
        assert self.kind is Kind.SMS
        self._need(State.OPEN, now_ms)
        return replace(
            self,
            secret_digest=secret_digest,
            code_mark=code_mark,
            deadline_ms=deadline_ms,
            bad_claims=0,
            wrong_codes=0,
            sends=self.sends + 1,
            sent_at_ms=now_ms,
        )

    # -- ends

    def expired(self, now_ms: int) -> "Invite":
        assert self.is_overdue(now_ms)
        return self._ended(State.EXPIRED, Reason.TIME, now_ms)

    def cancelled(self, reason: Reason, now_ms: int) -> "Invite":
        """Raises the refusal when there is nothing left to cancel."""
        self._need_live(now_ms)
        return self._ended(State.CANCELLED, reason, now_ms)

    def denied(self, claim_id: str, now_ms: int) -> "Invite":
        """The operator said no to this claim. Raises `claim_changed`."""
        self.need_claim(claim_id)
        self._need(State.CLAIMED, now_ms)
        return self._ended(State.DENIED, Reason.OPERATOR, now_ms)

    def burned(self, reason: Reason, now_ms: int) -> "Invite":
        self._need_live(now_ms)
        return self._ended(State.BURNED, reason, now_ms)

    # -- failures

    def with_bad_claim(self, now_ms: int) -> "Invite":
        """One more claim of this invite failed; burned at the last allowed one."""
        self._need(State.OPEN, now_ms)
        counted = replace(self, bad_claims=self.bad_claims + 1)
        return counted if counted.bad_claims < MAX_BAD_CLAIMS else counted.burned(Reason.BAD_CLAIMS, now_ms)

    def with_wrong_code(self, now_ms: int) -> "Invite":
        """Somebody typed a code that fits no invite; it may have been meant for this one.

        Of an invite by SMS only the code is void after the last one: its link cannot be guessed, so that no stranger
        can end it by typing nonsense.
        """
        self._need(State.OPEN, now_ms)
        assert self.kind is not Kind.QR
        if self.kind is Kind.SMS:
            return replace(self, wrong_codes=min(MAX_WRONG_CODES, self.wrong_codes + 1))
        counted = replace(self, wrong_codes=self.wrong_codes + 1)
        return counted if counted.wrong_codes < MAX_WRONG_CODES else counted.burned(Reason.WRONG_CODES, now_ms)

    @property
    def takes_codes(self) -> bool:
        """Whether a code still opens it."""
        return self.state is State.OPEN and self.kind is not Kind.QR and self.wrong_codes < MAX_WRONG_CODES

    # -- refusals

    def need_claim(self, claim_id: str) -> None:
        """Raise `claim_changed` unless this is the claim that holds the invite."""
        if self.claim is None or self.claim.claim_id != claim_id:
            raise Problem(
                Code.CLAIM_CHANGED,
                "This is not the device that holds the invite. Look at the invite again before confirming.",
            )

    def refusal(self) -> Problem:
        """Why a device or an operator cannot go on with an invite in this state."""
        match self.state:
            case State.EXPIRED:
                return Problem(Code.INVITE_EXPIRED, "This invite has expired. Ask for a new one.")
            case State.BURNED:
                return Problem(
                    Code.INVITE_BURNED, "This invite was burned after a wrong secret or code. Ask for a new one."
                )
            case State.CANCELLED | State.DENIED:
                return Problem(Code.PAIRING_DENIED, "The operator ended this pairing. Ask for a new invite.")
            case State.CLAIMED | State.CONFIRMED | State.PAIRED:
                return Problem(Code.INVITE_USED, "This invite has been used by a device. Ask for a new one.")
            case State.OPEN:
                return Problem(Code.CLAIM_CHANGED, "No device has claimed this invite yet.")

    def _need(self, state: State, now_ms: int) -> None:
        seen = self.at(now_ms)
        if seen.state is not state:
            raise seen.refusal()

    def _need_live(self, now_ms: int) -> None:
        seen = self.at(now_ms)
        if seen.state not in LIVE:
            raise seen.refusal()

    def _ended(self, state: State, reason: Reason, now_ms: int) -> "Invite":
        return replace(self, state=state, reason=reason, secret_digest=None, ended_at_ms=now_ms)
