"""Codes that decide on an approval by SMS: what may be decided so, in which words, and what a code stands for. Pure.

An SMS proves no person and no device. So a code is for what the gateway's own tool holds to be of low risk, that one
person decides alone, and that fits into a message as a whole: nobody agrees to what they could not read.
"""

from dataclasses import dataclass
from datetime import timedelta

from entobot.approvals.action import action_args_json, parse_action
from entobot.approvals.model import Approval, ApprovalState, Decision, Risk
from entobot.approvals.policy import read_terms
from entobot.core.clock import to_ms
from entobot.core.principal import Principal
from entobot.core.secrets import b64u, keyed_digest

DIGITS = 6
LIFE_MS = to_ms(timedelta(minutes=15))
"""A code ends with its approval, and after this time at the latest."""
LEAST_LIFE_MS = 60_000
"""What ends sooner is not worth a message."""
MAX_WORDS_CHARACTERS = 140
"""Of tool and arguments; a longer call is decided in the app."""
MAX_WRONG = 5
"""Codes of one person that were wrong, in GUESSES_MS; then none of theirs counts until it is over."""
GUESSES_MS = to_ms(timedelta(days=1))
KEPT_MS = to_ms(timedelta(days=1))
"""How long a code that is over is known as one, and not as a guess."""


@dataclass(frozen=True, slots=True)
class Code:
    """`digest` binds approval, action, person and place. Of no use after `ends_at_ms`, or once it is spent."""

    digest: str
    approval_id: str
    user_id: str
    place_id: str
    action_sha256: str
    made_at_ms: int
    ends_at_ms: int
    spent_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a message says. `words` are the tool and all of its arguments."""

    words: str
    code: str
    ends_at_ms: int

    def text(self, now_ms: int) -> str:
        minutes = max(1, (self.ends_at_ms - now_ms) // 60_000)
        return f"{self.words} (low risk). Reply YES {self.code} or NO {self.code} within {minutes} min."


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote: `place_id` is the number that this person confirmed, `message_key` the provider's name of the SMS."""

    principal: Principal
    place_id: str
    e164: str
    message_key: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an SMS decides. `action_sha256` is that of the action which the code was made for."""

    approval_id: str
    decision: Decision
    action_sha256: str


def digest_of(key: bytes, code: str, *bound_to: str) -> str:
    """What is stored of a code. `bound_to`: approval, hash of its action, person, place; with others it is another."""
    return b64u(keyed_digest(key, "\n".join([code, *bound_to]).encode()))


def words_for(approval: Approval) -> str | None:
    """The call as an SMS says it; None for one that is decided in the app only."""
    terms = read_terms(approval.terms_json)
    is_weak_enough = (
        approval.state is ApprovalState.PENDING
        and approval.risk is Risk.LOW
        and not approval.is_outside  # an agent elsewhere says itself what is at stake
        and terms.is_for_one
        and not terms.needs_verification
        and not terms.needs_number
        and approval.number is None
    )
    if not is_weak_enough:
        return None
    action = parse_action(approval.action)
    words = f"{action.tool} {action_args_json(action)}" if action.args else action.tool
    is_whole = len(words) <= MAX_WORDS_CHARACTERS and words.isprintable() and words == " ".join(words.split())
    return words if is_whole else None
