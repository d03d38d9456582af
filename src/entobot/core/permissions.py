"""Scopes, the roles that hold them, and the one function that narrows them."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    APPROVE = "approve"
    AUDIT = "audit"
    CHAT = "chat"
    DEVICES_MANAGE = "devices.manage"
    METRICS = "metrics"
    NOTIFY = "notify"
    PAIR = "pair"
    SETTINGS = "settings"
    USERS_MANAGE = "users.manage"


class Role(StrEnum):
    MEMBER = "member"
    OWNER = "owner"


ALL_SCOPES = frozenset(Scope)
DEFAULT_DEVICE_SCOPES = frozenset({Scope.CHAT, Scope.APPROVE, Scope.NOTIFY})
WEAKLY_CONFIRMED_SCOPES = frozenset({Scope.CHAT, Scope.NOTIFY})
"""What an invite may hold when nobody types the six digits (confirm `approve` or `none`)."""

ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.MEMBER: DEFAULT_DEVICE_SCOPES,
    Role.OWNER: ALL_SCOPES,
}


def narrow(wanted: Iterable[Scope], *ceilings: Iterable[Scope]) -> frozenset[Scope]:
    """What remains of `wanted` under every ceiling. The only way scopes are combined: they never widen."""
    kept = frozenset(wanted)
    for ceiling in ceilings:
        kept &= frozenset(ceiling)
    return kept


def scope_text(scopes: Iterable[Scope]) -> str:
    """Space-separated and sorted, as in the `scope` claim (RFC 6749 §3.3)."""
    return " ".join(sorted(scopes))


def parse_scopes(text: str) -> frozenset[Scope]:
    """Inverse of `scope_text`. Raises ValueError on an unknown scope."""
    return frozenset(Scope(word) for word in text.split())
