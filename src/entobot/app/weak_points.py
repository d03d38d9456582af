"""What is not ideal, and how to fix it: the words for it."""

from dataclasses import dataclass
from enum import StrEnum


class Topic(StrEnum):
    """What is looked at. A topic without a weak point is in order."""

    ADDRESS = "address"
    AGENT = "agent"
    AUDIT = "audit"
    BACKUP = "backup"
    BUS = "bus"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    LIMITS = "limits"
    NETWORKS = "networks"
    ORIGINS = "origins"
    PUSH = "push"
    SECRETS = "secrets"
    SETTINGS = "settings"
    SIGN_IN = "sign_in"
    SMS = "sms"
    STORE = "store"


class Grade(StrEnum):
    """How much it matters: to be known, to be put right, to be put right now."""

    NOTE = "note"
    WARN = "warn"
    BAD = "bad"


COST = {Grade.NOTE: 2, Grade.WARN: 10, Grade.BAD: 30}
"""Of the hundred points of the score; a topic costs what its worst point does."""


@dataclass(frozen=True, slots=True)
class WeakPoint:
    topic: Topic
    grade: Grade
    what: str
    fix: str
