"""People: who they are, and what their role lets them do. Pure: transitions return a new value or raise."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from entobot.core.errors import Code, Problem
from entobot.core.names import clean_name
from entobot.core.permissions import ROLE_SCOPES, Role, Scope

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


class UserState(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class User:
    """A person. `login` is unique and typed at sign-in, `name` is shown; `disabled_at_ms` is since when nothing goes."""

    user_id: str
    name: str
    role: Role
    created_at_ms: int
    login: str
    disabled_at_ms: int | None = None

    @property
    def state(self) -> UserState:
        return UserState.ACTIVE if self.disabled_at_ms is None else UserState.DISABLED

    @property
    def scopes(self) -> frozenset[Scope]:
        """The most that any device or session of this person may hold."""
        return ROLE_SCOPES[self.role] if self.disabled_at_ms is None else frozenset()

    def may_manage(self, role: Role) -> bool:
        """Whether people of that role, and what is theirs, are this person's to change: nobody above, and an owner's
        only by an owner.
        """
        if self.disabled_at_ms is not None:
            return False
        return self.role is Role.OWNER or (role is not Role.OWNER and ROLE_SCOPES[role] <= self.scopes)

    def renamed(self, name: str) -> "User":
        """Raises `invalid`."""
        return replace(self, name=clean_name(name, "name"))

    def given(self, role: Role) -> "User":
        return replace(self, role=role)

    def disabled(self, now_ms: int) -> "User":
        """The person as they are when they are disabled already."""
        return self if self.disabled_at_ms is not None else replace(self, disabled_at_ms=now_ms)

    def enabled(self) -> "User":
        return replace(self, disabled_at_ms=None)


def clean_login(text: str) -> str:
    """What a person types to sign in, in lower case. Raises `invalid`."""
    login = text.strip().lower()
    if _LOGIN.fullmatch(login) is None:
        raise Problem(
            Code.INVALID,
            "A login has 1 to 64 of a-z, 0-9 and . _ @ + - and begins with a letter or a digit; an e-mail address fits.",
        )
    return login
