"""Sessions, links and challenges in time: how long each lives, and that each is used once."""

from collections.abc import Awaitable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from entobot.signin import store
from entobot.signin.challenges import SIZE_BYTES, Challenges
from entobot.signin.links import Links
from entobot.signin.model import CHALLENGE_LIFE_MS, FRESH_MS, HOUR_MS, LINK_LIFE_MS, Method
from entobot.signin.sessions import Browser, Opened, Sessions
from entobot.storage.database import Transaction
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.stream.service import Stream
from entobot.web.authentication import Presented
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True
ORIGIN = "https://gateway.test"
HERE = Browser("Test/1", "192.0.2.1")


class Porch:
    def __init__(self, database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> None:
        self.database, self.clock = database, clock
        self.accounts = Accounts(ids, Stream(LocalBus(), ids))
        audit = Audit(ids=ids, entropy=entropy, signer=None, head_file=None)
        parts = {"database": database, "clock": clock, "entropy": entropy, "audit": audit, "accounts": self.accounts}
        self.sessions = Sessions(**parts, ids=ids, key=b"s" * 32, origin=ORIGIN)  # pyright: ignore[reportArgumentType]  of several types
        self.links = Links(**parts, sessions=self.sessions, key=b"l" * 32)  # pyright: ignore[reportArgumentType]  of several types

    async def owner(self) -> User:
        return await self.database.write(lambda tx: self.accounts.ensure_owner(tx, self.clock.now_ms()))

    async def open(self) -> Opened:
        user, now_ms = await self.owner(), self.clock.now_ms()
        return await self.database.write(lambda tx: self.sessions.open(tx, user, Method.PASSKEY, HERE, now_ms))

    async def show(self, opened: Opened, **changes: object) -> Principal:
        presented = Presented("GET", "/api/v1/me", None, (), True, "192.0.2.7", opened.secret, None, "same-origin")
        return await self.sessions.authenticate(replace(presented, **changes))  # pyright: ignore[reportArgumentType]  of several types


@pytest.fixture
def porch(database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> Porch:
    return Porch(database, clock, entropy, ids)


async def refused(doing: Awaitable[object]) -> Code:
    with pytest.raises(Problem) as caught:
        await doing
    return caught.value.code


async def test_a_session_ends_after_twelve_hours_in_which_nobody_used_it(porch: Porch) -> None:
    opened = await porch.open()
    for _ in range(3):
        porch.clock.advance(11 * 3600)
        assert (await porch.show(opened)).session_id == opened.session.session_id
    porch.clock.advance(12 * 3600)
    assert await refused(porch.show(opened)) is Code.UNAUTHENTICATED


async def test_a_session_ends_after_a_week_however_often_it_is_used(porch: Porch) -> None:
    opened = await porch.open()
    for _ in range(7 * 24 // 8 - 1):
        porch.clock.advance(8 * 3600)
        await porch.show(opened)
    porch.clock.advance(8 * 3600)
    assert await refused(porch.show(opened)) is Code.UNAUTHENTICATED
    await porch.sessions.expire()
    assert await porch.database.read(lambda tx: store.find_session(tx, opened.session.session_id)) is None


async def test_where_it_was_used_last_is_noted_once_a_minute(porch: Porch) -> None:
    opened = await porch.open()
    for wait_s, address in ((30, "192.0.2.1"), (31, "192.0.2.7")):
        porch.clock.advance(wait_s)
        await porch.show(opened)
        found = await porch.database.read(lambda tx: store.find_session(tx, opened.session.session_id))
        assert found is not None
        assert found.address == address


async def test_a_sign_in_is_fresh_for_five_minutes(porch: Porch) -> None:
    opened = await porch.open()
    principal = await porch.show(opened)
    principal.require_fresh(porch.clock.now_ms() + FRESH_MS - 1)
    with pytest.raises(Problem) as caught:
        principal.require_fresh(porch.clock.now_ms() + FRESH_MS)
    assert caught.value.code is Code.STEP_UP_REQUIRED
    Principal("usr_1", frozenset(), "dev_1").require_fresh(2**60)


async def test_a_session_that_ended_acts_no_more_in_a_unit_that_was_under_way(porch: Porch) -> None:
    opened = await porch.open()
    principal = await porch.show(opened)
    await porch.database.write(lambda tx: porch.sessions.guard(tx, principal))
    await porch.sessions.end(principal, opened.session.session_id)
    assert await refused(porch.database.write(lambda tx: porch.sessions.guard(tx, principal))) is Code.UNAUTHENTICATED


@pytest.mark.parametrize("secret", ["", "ent_ses_", "ent_ses_wrong", "ent_ses_" + "x" * 5000, "ent_ses_ü"])
async def test_what_is_no_secret_of_a_session_is_refused(porch: Porch, secret: str) -> None:
    opened = await porch.open()
    assert await refused(porch.show(opened, session=secret)) is Code.UNAUTHENTICATED


async def test_a_link_ends_after_an_hour_and_is_gone_then(porch: Porch) -> None:
    owner = await porch.owner()
    maker = Principal(owner.user_id, owner.scopes)
    made = await porch.links.make(maker, owner.user_id)
    assert made.expires_at_ms == porch.clock.now_ms() + LINK_LIFE_MS == porch.clock.now_ms() + HOUR_MS
    porch.clock.advance(3600)
    assert await refused(porch.links.spend(made.secret, HERE)) is Code.UNAUTHENTICATED
    porch.clock.advance(-3600)
    assert await refused(porch.links.spend(made.secret, HERE)) is Code.UNAUTHENTICATED


async def test_nobody_below_an_owner_makes_an_owners_link(porch: Porch, ids: RandomIds) -> None:
    owner = await porch.owner()
    admin = User("usr_admin", "Admin", Role.ADMIN, porch.clock.now_ms(), "admin")
    await porch.database.write(lambda tx: porch.accounts.insert(tx, admin))
    assert await refused(porch.links.make(Principal("usr_admin", admin.scopes), owner.user_id)) is Code.FORBIDDEN


async def test_a_link_gives_no_more_than_the_device_that_made_it_holds(porch: Porch) -> None:
    owner = await porch.owner()
    member = User("usr_bob", "Bob", Role.MEMBER, porch.clock.now_ms(), "bob")
    await porch.database.write(lambda tx: porch.accounts.insert(tx, member))
    narrow = frozenset({Scope.USERS_MANAGE, Scope.CHAT})
    for whose in (owner, member):
        assert (
            await refused(porch.links.make(Principal(owner.user_id, narrow, "dev_1"), whose.user_id)) is Code.FORBIDDEN
        )
    enough = Principal(owner.user_id, narrow | member.scopes, "dev_1")
    assert (await porch.links.make(enough, member.user_id)).secret


async def test_whose_device_was_taken_away_meanwhile_makes_no_link_and_ends_no_session(porch: Porch) -> None:
    owner, opened = await porch.owner(), await porch.open()
    phone = Principal(owner.user_id, owner.scopes, "dev_1")

    def gone(tx: Transaction, principal: Principal) -> None:
        raise Problem(Code.UNAUTHENTICATED, principal.device_id or "")

    porch.sessions.recheck = gone
    for doing in (
        porch.links.make(phone, owner.user_id),
        porch.sessions.end(phone, opened.session.session_id),
        porch.sessions.find_all(phone),
    ):
        assert await refused(doing) is Code.UNAUTHENTICATED


@given(st.integers(0, 2 * CHALLENGE_LIFE_MS), st.binary(max_size=2 * SIZE_BYTES), st.sampled_from(["a", "b"]))
def test_a_challenge_is_good_for_five_minutes_one_purpose_and_as_it_was_made(
    later_ms: int, other: bytes, purpose: str
) -> None:
    challenges = Challenges(b"k" * 32, SeededEntropy())
    made = challenges.new("a", 1_000_000)
    is_good = challenges.end_ms(made, purpose, 1_000_000 + later_ms) is not None
    assert is_good is (purpose == "a" and later_ms < CHALLENGE_LIFE_MS)
    assert challenges.end_ms(other, "a", 1_000_000) is None or other == made
    assert Challenges(b"j" * 32, SeededEntropy()).end_ms(made, "a", 1_000_000) is None


async def test_a_challenge_is_answered_once_and_forgotten_when_it_is_over(porch: Porch) -> None:
    def answer(now_ms: int) -> Awaitable[bool]:
        return porch.database.write(lambda tx: store.answer_challenge(tx, b"digest", 1000, now_ms))

    assert [await answer(1), await answer(2), await answer(999)] == [True, False, False]
    assert await answer(1000)
