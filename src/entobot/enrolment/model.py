"""Enrolment keys: who made them, what the devices get that they make, and when they are over. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from entobot.core.ids import Prefix
from entobot.core.permissions import Scope
from entobot.core.topic_limits import NO_LIMITS, TopicLimits
from entobot.devices.api_keys import KeyKind

ENROLMENT_KEY = KeyKind("ent_enr_", Prefix.ENROLMENT_KEY)
MAX_USES = 10_000
DEFAULT_LIFE_S = 24 * 3600
MAX_LIFE_S = 365 * 24 * 3600
MAX_OPEN = 100
"""Of one person."""
MAX_LISTED = 200
NONCE_CHARACTERS = 43
"""32 bytes in base64url."""
REPEATS_FOR_MS = 3600_000
"""So long a board that lost the answer may ask again."""


class State(StrEnum):
    EXPIRED = "expired"
    OPEN = "open"
    REVOKED = "revoked"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class EnrolmentKey:
    """`digest` is keyed. `key_life_s` is how long the API keys live that it makes; None has no end. `made_by` is the
    device or person that made it.
    """

    key_id: str
    user_id: str
    made_by: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    device_type: str
    tags: tuple[str, ...]
    max_uses: int
    uses: int
    key_life_s: int | None
    created_at_ms: int
    expires_at_ms: int
    last_used_at_ms: int | None = None
    revoked_at_ms: int | None = None
    topics: TopicLimits = NO_LIMITS

    @property
    def key_life_ms(self) -> int | None:
        return None if self.key_life_s is None else self.key_life_s * 1000

    def state(self, now_ms: int) -> State:
        if self.revoked_at_ms is not None:
            return State.REVOKED
        if now_ms >= self.expires_at_ms:
            return State.EXPIRED
        return State.SPENT if self.uses >= self.max_uses else State.OPEN


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One use of a key. `hardware_id` is what the board says of itself; nothing rests on it."""

    device_id: str
    key_id: str
    nonce_digest: str
    hardware_id: str
    enrolled_at_ms: int

    def may_repeat(self, now_ms: int) -> bool:
        return now_ms - self.enrolled_at_ms < REPEATS_FOR_MS
