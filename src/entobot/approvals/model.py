"""An approval: pending → approved | denied | expired | cancelled. Pure; time comes in as an argument."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from entobot.approvals.action import Action, parse_action
from entobot.core.errors import Code, Problem
from entobot.core.secrets import sha256_b64u

SIGNATURE_TYPE = "entobot-approval+jwt"
SIGNATURE_HEADER = frozenset({"alg", "typ"})
MAX_SIGNATURE_BYTES = 8 * 1024
MAX_REASON_CHARACTERS = 1000
MAX_JTI_CHARACTERS = 64
MAX_WRONG_NUMBERS = 3
CLOCK_TOLERANCE_MS = 60_000
OUTSIDE = "outside:"
"""Begins the name of every tool of an agent that runs elsewhere, so that none passes for one of the gateway's own."""


class ApprovalState(StrEnum):
    APPROVED = "approved"
    CANCELLED = "cancelled"
    DENIED = "denied"
    EXPIRED = "expired"
    PENDING = "pending"


class Decision(StrEnum):
    APPROVE = "approve"
    DENY = "deny"


class Risk(StrEnum):
    HIGH = "high"
    LOW = "low"
    MEDIUM = "medium"


RANK = {Risk.LOW: 0, Risk.MEDIUM: 1, Risk.HIGH: 2}


@dataclass(frozen=True, slots=True)
class Approval:
    """`action` is the text that was shown, `edited_action` the one that a person signed instead of it.

    `user_id` is the person for whom the agent works. `remind_at_ms` and `escalate_at_ms` are None once that was done.
    A decision is *delivered* when the run has taken it up, *consumed* when the call has begun or its refusal was told,
    *dropped* when the run ended before. `number` is what the asking side shows and the person who approves types.
    """

    approval_id: str
    user_id: str
    run_id: str
    conversation_id: str
    tool_call_id: str
    tool: str
    action: str
    title: str
    risk: Risk
    state: ApprovalState
    created_at_ms: int
    expires_at_ms: int
    edited_action: str | None = None
    reason: str | None = None
    decided_at_ms: int | None = None
    decided_by_device_id: str | None = None
    terms_json: str | None = None
    remind_at_ms: int | None = None
    escalate_at_ms: int | None = None
    escalated_at_ms: int | None = None
    asked_by_device_id: str | None = None
    number: str | None = None
    wrong_numbers: int = 0
    delivered_at_ms: int | None = None
    consumed_at_ms: int | None = None
    dropped_at_ms: int | None = None

    @property
    def action_sha256(self) -> str:
        return sha256_b64u(self.action)

    @property
    def is_outside(self) -> bool:
        """Whether an agent elsewhere asks: `run_id` is its request then, and there is no conversation."""
        return self.tool.startswith(OUTSIDE)

    @property
    def decision(self) -> str | None:
        """What the wire calls the outcome: `approve`, `deny`, `expired` or `cancelled`; None while pending."""
        return _OUTCOME[self.state]

    def approved_action(self) -> Action:
        """What may be executed. Only an approved approval has one."""
        assert self.state is ApprovalState.APPROVED, "only what a person approved is ever executed"
        return self.signed_action()

    def signed_action(self) -> Action:
        """The text that was signed, parsed."""
        return parse_action(self.action if self.edited_action is None else self.edited_action)


_OUTCOME: dict[ApprovalState, str | None] = {
    ApprovalState.APPROVED: "approve",
    ApprovalState.CANCELLED: "cancelled",
    ApprovalState.DENIED: "deny",
    ApprovalState.EXPIRED: "expired",
    ApprovalState.PENDING: None,
}


@dataclass(frozen=True, slots=True)
class Question:
    """A tool call that an agent wants to make. `args_json` as the model wrote it, `title` sums it up for people.

    `risk` is what the tool says; the policy may say more. `asked_by_device_id` is the device whose message it serves,
    or the agent's own where it runs elsewhere. `takes_edits`: other arguments than these would be carried out as well.
    """

    user_id: str
    run_id: str
    conversation_id: str
    tool_call_id: str
    tool: str
    args_json: str
    title: str
    risk: Risk
    asked_by_device_id: str | None = None
    takes_edits: bool = True

    @property
    def is_outside(self) -> bool:
        return self.tool.startswith(OUTSIDE)


@dataclass(frozen=True, slots=True)
class Asking:
    """One person who sees an approval. `is_queued`: asked, but not aloud yet. `prompt_at_ms`: when to ask aloud next."""

    approval_id: str
    user_id: str
    may_decide: bool
    since_ms: int
    prompt_at_ms: int | None = None
    prompts: int = 0

    @property
    def is_queued(self) -> bool:
        return self.may_decide and self.prompts == 0


class Verified(StrEnum):
    """What a person showed beside being asked."""

    KEY = "key"
    """A signature by the device's key."""
    PASSKEY = "passkey"
    """A passkey, after the device has checked who holds it."""
    SMS = "sms"
    """A code that went to their number by SMS, and came back from it: nothing is signed."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's answer; there is one of each. `address` is where it came from, as the gateway saw it."""

    approval_id: str
    user_id: str
    decision: Decision
    device_id: str | None
    session_id: str | None
    address: str
    verified: Verified
    reason: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class View:
    """An approval as one person sees it. `names` are those of the people in it."""

    approval: Approval
    asking: Asking
    votes: tuple[Vote, ...]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An `approval.decide` as it arrived, apart from the signature."""

    approval_id: str
    decision: Decision
    action_sha256: str
    edited_action: str | None = None
    reason: str | None = None
    number: str | None = None
    assertion: dict[str, Any] | None = None
    """`PublicKeyCredential.toJSON()` of a passkey."""
    rule: str | None = None
    """The text of a rule that is to be made with it: see `matching.parse_wish`."""


def risen(approval: Approval, risk: Risk | None) -> str:
    """Why its leave does not cover what is at stake by now; empty where it does."""
    if risk is None or RANK[risk] <= RANK[approval.risk]:
        return ""
    return f"More is at stake by now than was approved: {risk}, not {approval.risk}. It was not done."


def check_open(approval: Approval, now_ms: int) -> None:
    """Raises `approval_already_decided`, or `approval_expired` also when the sweep has not been by yet."""
    if approval.state is ApprovalState.EXPIRED or (
        approval.state is ApprovalState.PENDING and now_ms >= approval.expires_at_ms
    ):
        raise Problem(Code.APPROVAL_EXPIRED, "The time to decide this has passed; nothing was executed.")
    if approval.state is not ApprovalState.PENDING:
        raise Problem(
            Code.APPROVAL_ALREADY_DECIDED,
            "This was decided already; the first answer counts.",
            extra={"decision": approval.decision},
        )


def check_answer(
    approval: Approval, answer: Answer, payload: Mapping[str, object], *, audience: str, now_ms: int
) -> Action | None:
    """Compare a verified signature's payload with our row and the frame; nothing in it is believed by itself.

    Returns the edited action, parsed, when there is one. Raises `hash_mismatch` when the device saw another text,
    `signature_invalid` when any signed value is not the one of the row and the frame, `invalid` for an edit that
    is not allowed.
    """
    if answer.action_sha256 != approval.action_sha256:
        raise Problem(Code.HASH_MISMATCH, "This device was shown another text than the one that waits here.")
    edited = answer.edited_action
    expected: dict[str, object] = {
        "aud": audience,
        "approval_id": approval.approval_id,
        "decision": str(answer.decision),
        "action_sha256": approval.action_sha256,
        "edited_sha256": None if edited is None else _hash_of(edited),
        "reason": answer.reason,
    }
    if answer.number is not None:
        expected["number"] = answer.number
    if answer.rule is not None:
        expected["rule_sha256"] = _hash_of(answer.rule)
    if set(payload) != {*expected, "iat", "jti"}:
        raise _refused("it does not sign exactly the agreed members")
    for name, value in expected.items():
        if type(payload[name]) is not type(value) or payload[name] != value:
            raise _refused(f"its '{name}' is not that of this decision")
    _check_freshness(approval, payload, now_ms)
    if edited is None:
        return None
    if answer.decision is not Decision.APPROVE:
        raise Problem(Code.INVALID, "A denial cannot carry an edited action.")
    return checked_edit(approval, edited)


def _check_freshness(approval: Approval, payload: Mapping[str, object], now_ms: int) -> None:
    jti, iat = payload["jti"], payload["iat"]
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_CHARACTERS:
        raise _refused("its 'jti' is missing or too long")
    if type(iat) is not int or abs(iat) > 2**53:
        raise _refused("its 'iat' is no time")
    asked_ms = min(approval.created_at_ms, now_ms)  # a clock set back may say that it was not asked yet
    if not asked_ms - CLOCK_TOLERANCE_MS <= iat * 1000 <= now_ms + CLOCK_TOLERANCE_MS:
        raise _refused("it was made at another time; check the clock of the device")


def checked_edit(approval: Approval, edited: str) -> Action:
    """The edited action, parsed. Raises `invalid` where more than the arguments changed, `action_not_presentable`."""
    action = parse_action(edited)
    if (action.approval_id, action.run_id, action.tool) != (approval.approval_id, approval.run_id, approval.tool):
        raise Problem(Code.INVALID, "An edit may change the arguments only.")
    return action


def _hash_of(text: str) -> str:
    try:
        return sha256_b64u(text)
    except UnicodeEncodeError:
        raise Problem(Code.INVALID, "What was edited or added is not valid Unicode text.") from None


def _refused(why: str) -> Problem:
    return Problem(Code.SIGNATURE_INVALID, f"The signature does not stand for this decision: {why}.")
