"""A sign-in link hands on what its maker may when it is used, not what they might when it was made."""

import pytest

from entobot.accounts import store as people
from entobot.accounts.model import User
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from entobot.signin.model import Method
from entobot.signin.sessions import Browser, Opened
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from tests.signin.test_sessions import HERE, Porch, refused
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True


@pytest.fixture
def porch(database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> Porch:
    return Porch(database, clock, entropy, ids)


async def add(porch: Porch, login: str, role: Role) -> User:
    user = User(f"usr_{login}", login, role, porch.clock.now_ms(), login)
    await porch.owner()
    await porch.database.write(lambda tx: porch.accounts.insert(tx, user))
    return user


async def become(porch: Porch, user: User) -> None:
    await porch.database.write(lambda tx: people.change_user(tx, user))


async def sign_in(porch: Porch, user: User, secret: str | None = None) -> Opened:
    browser, now_ms = Browser("Test/1", "192.0.2.1", secret), porch.clock.now_ms()
    return await porch.database.write(lambda tx: porch.sessions.open(tx, user, Method.PASSKEY, browser, now_ms))


async def test_a_link_made_before_a_promotion_makes_its_maker_no_owner(porch: Porch) -> None:
    mallory, alice = await add(porch, "mallory", Role.ADMIN), await add(porch, "alice", Role.ADMIN)
    maker = await porch.show(await sign_in(porch, mallory))
    made = await porch.links.make(maker, alice.user_id)
    await become(porch, alice.given(Role.OWNER))
    assert await refused(porch.links.spend(made.secret, HERE)) is Code.UNAUTHENTICATED
    await become(porch, alice)
    assert await refused(porch.links.spend(made.secret, HERE)) is Code.UNAUTHENTICATED  # it is gone


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MEMBER, None])
async def test_a_link_is_void_when_its_maker_may_make_no_more(porch: Porch, role: Role | None) -> None:
    mallory, bob = await add(porch, "mallory", Role.ADMIN), await add(porch, "bob", Role.MEMBER)
    phone = Principal(mallory.user_id, mallory.scopes, "dev_1")  # whose epoch nobody asks here
    made = await porch.links.make(phone, bob.user_id)
    await become(porch, mallory.disabled(1) if role is None else mallory.given(role))
    assert await refused(porch.links.spend(made.secret, HERE)) is Code.UNAUTHENTICATED


async def test_a_link_ends_with_the_session_that_made_it(porch: Porch) -> None:
    mallory, bob = await add(porch, "mallory", Role.ADMIN), await add(porch, "bob", Role.MEMBER)
    maker = await porch.show(await sign_in(porch, mallory))
    made = await porch.links.make(maker, bob.user_id)
    assert maker.session_id is not None
    await porch.sessions.end(maker, maker.session_id)
    assert await refused(porch.links.spend(made.secret, HERE)) is Code.UNAUTHENTICATED


async def test_a_link_outlives_the_fresh_sign_in_that_its_maker_was_asked_for(porch: Porch) -> None:
    mallory, bob = await add(porch, "mallory", Role.ADMIN), await add(porch, "bob", Role.MEMBER)
    opened = await sign_in(porch, mallory)
    made = await porch.links.make(await porch.show(opened), bob.user_id)
    await sign_in(porch, mallory, opened.secret)
    assert (await porch.links.spend(made.secret, HERE))[0].user_id == bob.user_id


async def test_a_link_of_a_device_is_asked_for_that_device(porch: Porch) -> None:
    mallory, bob = await add(porch, "mallory", Role.ADMIN), await add(porch, "bob", Role.MEMBER)
    phone = Principal(mallory.user_id, mallory.scopes, "dev_1", epoch=3, key_thumbprint="print")
    asked: list[Principal] = []
    good, bad = await porch.links.make(phone, bob.user_id), await porch.links.make(phone, mallory.user_id)
    porch.sessions.recheck = lambda _, principal: asked.append(principal)
    assert (await porch.links.spend(good.secret, HERE))[0].user_id == bob.user_id
    assert asked == [phone]

    def revoked(_tx: Transaction, _by: Principal) -> None:
        raise Problem(Code.UNAUTHENTICATED, "revoked")

    porch.sessions.recheck = revoked
    assert await refused(porch.links.spend(bad.secret, HERE)) is Code.UNAUTHENTICATED


async def test_what_a_person_made_is_void_with_their_rights(porch: Porch) -> None:
    mallory, bob = await add(porch, "mallory", Role.ADMIN), await add(porch, "bob", Role.MEMBER)
    owner = await porch.owner()
    theirs = await porch.links.make(Principal(mallory.user_id, mallory.scopes, "dev_1"), bob.user_id)
    by = Principal(owner.user_id, owner.scopes)
    await porch.database.write(lambda tx: porch.sessions.void_links_by(tx, by, mallory.user_id, 1))
    assert await refused(porch.links.spend(theirs.secret, HERE)) is Code.UNAUTHENTICATED


async def test_the_owner_at_the_socket_makes_links_that_depend_on_nobody(porch: Porch) -> None:
    owner, bob = await porch.owner(), await add(porch, "bob", Role.MEMBER)
    made = await porch.links.make(Principal(owner.user_id, owner.scopes), bob.user_id)
    await become(porch, bob.given(Role.ADMIN))
    user, opened = await porch.links.spend(made.secret, HERE)
    assert (user.role, Scope.USERS_MANAGE in (await porch.show(opened)).scopes) == (Role.ADMIN, True)
