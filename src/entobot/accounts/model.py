"""A person who owns devices."""

from dataclasses import dataclass

from entobot.core.permissions import ROLE_SCOPES, Role, Scope


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    name: str
    role: Role
    created_at_ms: int

    @property
    def scopes(self) -> frozenset[Scope]:
        """The most that any device of this person may hold."""
        return ROLE_SCOPES[self.role]
