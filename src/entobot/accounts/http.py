"""REST routes about people."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from entobot.accounts.model import User, UserState
from entobot.accounts.people import MAX_PAGE, People
from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.core.permissions import Role
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UserRow(_Body):
    user_id: str
    login: str
    name: str
    role: Role
    state: UserState
    created_at: str
    disabled_at: str | None


class UserPage(_Body):
    rows: list[UserRow]
    next: str | None = Field(description="Pass as `cursor` for the following page.")


class NewUser(_Body):
    login: str = Field(max_length=64, description="Typed at sign-in: a-z, 0-9 and . _ @ + -, unique.")
    name: str = Field(max_length=256, description="Shown: 1 to 64 characters, none of them invisible.")
    role: Role = Role.MEMBER


class UserChanges(_Body):
    """A field that is left out stays as it is."""

    name: str | None = Field(default=None, max_length=256)
    role: Role | None = None


_ONE = (Code.NOT_FOUND, Code.FORBIDDEN, Code.LAST_OWNER)


def add_routes(api: Api, people: People) -> None:
    routes, one = _Routes(people), "/api/v1/users/{user_id}"
    api.add("GET", "/api/v1/users", routes.list_users)
    api.add("POST", "/api/v1/users", routes.add_user, status_code=201, problems=(Code.LOGIN_TAKEN,))
    api.add("GET", one, routes.get_user, problems=(Code.NOT_FOUND,))
    api.add("PATCH", one, routes.change_user, problems=_ONE)
    api.add("POST", one + "/disable", routes.disable_user, problems=_ONE)
    api.add("POST", one + "/enable", routes.enable_user, problems=_ONE)


class _Routes:
    def __init__(self, people: People) -> None:
        self._people = people

    async def list_users(
        self,
        principal: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    ) -> UserPage:
        page = await self._people.find_page(principal, cursor, limit)
        return UserPage(rows=[_row(user) for user in page.rows], next=page.cursor)

    async def add_user(self, body: NewUser, principal: Caller) -> UserRow:
        return _row(await self._people.add(principal, login=body.login, name=body.name, role=body.role))

    async def get_user(self, user_id: str, principal: Caller) -> UserRow:
        return _row(await self._people.find(principal, user_id))

    async def change_user(self, user_id: str, body: UserChanges, principal: Caller) -> UserRow:
        return _row(await self._people.change(principal, user_id, name=body.name, role=body.role))

    async def disable_user(self, user_id: str, principal: Caller) -> UserRow:
        return _row(await self._people.disable(principal, user_id))

    async def enable_user(self, user_id: str, principal: Caller) -> UserRow:
        return _row(await self._people.enable(principal, user_id))


def _row(user: User) -> UserRow:
    return UserRow(
        user_id=user.user_id,
        login=user.login,
        name=user.name,
        role=user.role,
        state=user.state,
        created_at=rfc3339(user.created_at_ms),
        disabled_at=rfc3339_or_none(user.disabled_at_ms),
    )
