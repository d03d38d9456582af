"""People are added, changed, disabled and enabled, and nobody gets above whoever does it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from entobot.accounts.model import User, UserState, clean_login
from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import ALL_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.service import Stream
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True

Say = Callable[[Principal, str], Awaitable[object]]


class Town:
    """`said` is what the features above would have been asked to do."""

    def __init__(self, database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> None:
        self.database, self.clock = database, clock
        self.stream = Stream(LocalBus(), ids)
        self.accounts = Accounts(ids, self.stream)
        self.audit = Audit(ids=ids, entropy=entropy, signer=None, head_file=None)
        self.gone: set[str] = set()
        self.people = People(
            database=database, clock=clock, ids=ids, audit=self.audit, accounts=self.accounts, guard=self._guard
        )
        self.said: list[tuple[str, str]] = []
        self.people.on_leaving.append(lambda tx, by, user_id, now_ms: self.said.append(("leaves", user_id)))
        self.people.on_narrowed.append(lambda tx, by, user_id, now_ms: self.said.append(("narrowed", user_id)))

    def _guard(self, tx: Transaction, principal: Principal) -> None:
        if principal.user_id in self.gone:
            raise Problem(Code.UNAUTHENTICATED, "gone")

    async def owner(self) -> Principal:
        user = await self.database.write(lambda tx: self.accounts.ensure_owner(tx, self.clock.now_ms()))
        return Principal(user.user_id, user.scopes)

    async def add(self, role: Role, login: str) -> Principal:
        user = await self.people.add(await self.owner(), login=login, name=login.title(), role=role)
        return Principal(user.user_id, user.scopes)

    async def events(self) -> list[str]:
        page = await self.database.read(lambda tx: self.audit.find(tx, after=0))
        return [found.entry.event for found in page.entries]


@pytest.fixture
def town(database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> Town:
    return Town(database, clock, entropy, ids)


async def refused(doing: Awaitable[object]) -> Code:
    with pytest.raises(Problem) as caught:
        await doing
    return caught.value.code


async def test_a_person_is_added_with_a_stream_of_their_own_and_listed(town: Town) -> None:
    owner = await town.owner()
    bob = await town.people.add(owner, login=" Bob@Example.org ", name="Bob", role=Role.MEMBER)
    assert (bob.login, bob.role, bob.state) == ("bob@example.org", Role.MEMBER, UserState.ACTIVE)
    assert await town.database.read(
        lambda tx: Stream(LocalBus(), RandomIds(town.clock, SeededEntropy())).head(tx, bob.user_id)
    )
    page = await town.people.find_page(owner, None, 1)
    assert [user.login for user in page.rows] == ["owner"]
    assert [user.login for user in (await town.people.find_page(owner, page.cursor, 10)).rows] == ["bob@example.org"]
    assert await town.events() == ["user.added"]


async def test_a_login_belongs_to_one_person(town: Town) -> None:
    owner = await town.owner()
    await town.add(Role.MEMBER, "bob")
    assert await refused(town.people.add(owner, login="BOB", name="Other", role=Role.MEMBER)) is Code.LOGIN_TAKEN
    adding = [town.people.add(owner, login="carol", name=str(n), role=Role.MEMBER) for n in range(20)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    added = [one for one in outcomes if isinstance(one, User)]
    taken = [one for one in outcomes if isinstance(one, Problem) and one.code is Code.LOGIN_TAKEN]
    assert (len(added), len(taken)) == (1, 19)
    for wrong in ("", "a b", "ä", "-bob", "x" * 65):
        assert await refused(town.people.add(owner, login=wrong, name="Other", role=Role.MEMBER)) is Code.INVALID
    assert clean_login("a.b_c+d@e-f") == "a.b_c+d@e-f"


@pytest.mark.parametrize("by", [role for role in Role if role not in (Role.OWNER, Role.ADMIN)])
async def test_only_owners_and_admins_manage_people(town: Town, by: Role) -> None:
    somebody = await town.add(by, "somebody")
    other = await town.add(Role.MEMBER, "other")
    for doing in (
        town.people.find_page(somebody, None, 10),
        town.people.add(somebody, login="new", name="New", role=Role.MEMBER),
        town.people.change(somebody, other.user_id, name="Renamed"),
        town.people.change(somebody, somebody.user_id, role=Role.ADMIN),
        town.people.disable(somebody, other.user_id),
        town.people.enable(somebody, other.user_id),
    ):
        assert await refused(doing) is Code.FORBIDDEN
    assert await refused(town.people.find(somebody, other.user_id)) is Code.NOT_FOUND
    assert (await town.people.find(somebody, somebody.user_id)).user_id == somebody.user_id


async def test_an_admin_reaches_everybody_but_owners(town: Town) -> None:
    owner, admin, bob = await town.owner(), await town.add(Role.ADMIN, "admin"), await town.add(Role.MEMBER, "bob")
    assert (await town.people.change(admin, bob.user_id, role=Role.ADMIN)).role is Role.ADMIN
    for doing in (
        town.people.change(admin, bob.user_id, role=Role.OWNER),
        town.people.change(admin, admin.user_id, role=Role.OWNER),
        town.people.change(admin, owner.user_id, name="Not you"),
        town.people.change(admin, owner.user_id, role=Role.MEMBER),
        town.people.disable(admin, owner.user_id),
        town.people.add(admin, login="second", name="Second", role=Role.OWNER),
    ):
        assert await refused(doing) is Code.FORBIDDEN
    assert (await town.people.change(owner, bob.user_id, role=Role.OWNER)).role is Role.OWNER


async def test_a_device_gives_no_role_that_holds_more_than_the_device(town: Town) -> None:
    owner = await town.owner()
    phone = Principal(owner.user_id, frozenset({Scope.USERS_MANAGE, Scope.CHAT}), "dev_1")
    assert await refused(town.people.add(phone, login="new", name="New", role=Role.OPERATOR)) is Code.FORBIDDEN
    bob = await town.add(Role.MEMBER, "bob")
    assert await refused(town.people.change(phone, bob.user_id, role=Role.ADMIN)) is Code.FORBIDDEN


async def test_somebody_stays_owner(town: Town) -> None:
    owner = await town.owner()
    assert await refused(town.people.change(owner, owner.user_id, role=Role.ADMIN)) is Code.LAST_OWNER
    assert await refused(town.people.disable(owner, owner.user_id)) is Code.LAST_OWNER
    second = await town.add(Role.OWNER, "second")
    assert (await town.people.disable(owner, second.user_id)).state is UserState.DISABLED
    assert await refused(town.people.disable(owner, owner.user_id)) is Code.LAST_OWNER, "a disabled owner is none"
    assert town.said == [("leaves", second.user_id)]


async def test_the_local_owner_is_one_who_is_not_disabled(town: Town) -> None:
    first = await town.owner()
    second = await town.add(Role.OWNER, "second")
    await town.people.disable(second, first.user_id)
    now = await town.owner()
    assert (now.user_id, now.scopes) == (second.user_id, ALL_SCOPES)


async def test_disabling_ends_what_the_person_holds_once_and_enabling_gives_back_the_role_alone(town: Town) -> None:
    owner, bob = await town.owner(), await town.add(Role.OPERATOR, "bob")
    await town.people.disable(owner, bob.user_id)
    gone = await town.people.disable(owner, bob.user_id)
    assert (gone.state, gone.scopes, gone.disabled_at_ms) == (UserState.DISABLED, frozenset(), town.clock.now_ms())
    assert town.said == [("leaves", bob.user_id)]
    back = await town.people.enable(owner, bob.user_id)
    assert (back.state, back.role) == (UserState.ACTIVE, Role.OPERATOR)
    assert await town.events() == ["user.added", "user.disabled", "user.enabled"]


async def test_a_lesser_role_voids_credentials_and_a_greater_one_does_not(town: Town) -> None:
    owner, bob = await town.owner(), await town.add(Role.MEMBER, "bob")
    await town.people.change(owner, bob.user_id, role=Role.OPERATOR)
    assert town.said == []
    await town.people.change(owner, bob.user_id, role=Role.VIEWER)
    await town.people.change(owner, bob.user_id, role=Role.VIEWER)
    assert town.said == [("narrowed", bob.user_id)]


async def test_who_was_shut_out_meanwhile_changes_nothing(town: Town) -> None:
    admin, bob = await town.add(Role.ADMIN, "admin"), await town.add(Role.MEMBER, "bob")
    town.gone.add(admin.user_id)
    assert await refused(town.people.disable(admin, bob.user_id)) is Code.UNAUTHENTICATED
    assert AuditEvent.USER_DISABLED not in await town.events()


async def test_a_disabled_admin_reaches_nobody_even_with_credentials_that_still_stand(town: Town) -> None:
    owner, admin, bob = await town.owner(), await town.add(Role.ADMIN, "admin"), await town.add(Role.MEMBER, "bob")
    await town.people.disable(owner, admin.user_id)
    assert await refused(town.people.disable(admin, bob.user_id)) is Code.FORBIDDEN
    assert await refused(town.people.add(admin, login="new", name="New", role=Role.MEMBER)) is Code.FORBIDDEN


def test_who_may_manage_whom() -> None:
    def user(role: Role) -> User:
        return User("usr_1", "Name", role, 0, "login")

    reach = {by: {role for role in Role if user(by).may_manage(role)} for by in Role}
    assert reach[Role.OWNER] == set(Role)
    assert reach[Role.ADMIN] == set(Role) - {Role.OWNER}
    assert reach[Role.OPERATOR] == {Role.OPERATOR, Role.MEMBER, Role.VIEWER}
    assert reach[Role.MEMBER] == {Role.MEMBER}
    assert reach[Role.VIEWER] == {Role.VIEWER}
    assert user(Role.ADMIN).scopes == ALL_SCOPES
