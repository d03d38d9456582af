"""Scopes, the roles that hold them, and the one function that narrows them."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    APPROVE = "approve"
    AUDIT = "audit"
    CHAT = "chat"
    DEVICES_MANAGE = "devices.manage"
    DEVICES_READ = "devices.read"
    METRICS = "metrics"
    NOTIFY = "notify"
    NOTIFY_OTHERS = "notify.others"
    PAIR = "pair"
    SETTINGS = "settings"
    USERS_MANAGE = "users.manage"


class Role(StrEnum):
    """Sets of permissions. An admin may do what an owner may, except to owners."""

    ADMIN = "admin"
    MEMBER = "member"
    OPERATOR = "operator"
    OWNER = "owner"
    VIEWER = "viewer"


ALL_SCOPES = frozenset(Scope)
DEFAULT_DEVICE_SCOPES = frozenset({Scope.CHAT, Scope.APPROVE, Scope.NOTIFY})
WEAKLY_CONFIRMED_SCOPES = frozenset({Scope.CHAT, Scope.NOTIFY})
"""What an invite may hold when nobody types the six digits (confirm `approve` or `none`)."""

_LOOKING = frozenset({Scope.AUDIT, Scope.DEVICES_READ, Scope.METRICS})
ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.ADMIN: ALL_SCOPES,
    Role.MEMBER: DEFAULT_DEVICE_SCOPES,
    Role.OPERATOR: DEFAULT_DEVICE_SCOPES | _LOOKING | {Scope.DEVICES_MANAGE, Scope.NOTIFY_OTHERS, Scope.PAIR},
    Role.OWNER: ALL_SCOPES,
    Role.VIEWER: _LOOKING,
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
