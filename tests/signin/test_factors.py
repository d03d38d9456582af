"""Authenticator apps and recovery codes over time, and Argon2id under load: on the real store, with time in hand."""

import asyncio
import base64
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import argon2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.principal import Principal
from entobot.core.secrets import keyed_digest
from entobot.signin import hashing, store_factors, totp
from entobot.signin.attempts import Attempts
from entobot.signin.factors import ENROLMENT_LIFE_MS, Factors
from entobot.signin.hashing import Hashing
from entobot.signin.known_browsers import KnownBrowsers
from entobot.signin.model import Method, Password
from entobot.signin.passwords import Passwords
from entobot.signin.refusals import WINDOW_MS
from entobot.signin.sealing import Seal
from entobot.signin.sessions import Browser, Sessions, sign_everybody_out
from entobot.storage.database import Database
from entobot.stream.service import Stream
from tests.support.stores import new_database
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True
PASSWORD = "seven herons under a bridge"
HERE = Browser("Test/1", "192.0.2.1")


class House:
    """An owner with a session; passwords are on."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.entropy = database, ManualClock(), SeededEntropy()
        ids = RandomIds(self.clock, self.entropy)
        self.accounts = Accounts(ids, Stream(LocalBus(), ids))
        parts: dict[str, Any] = {
            "database": database,
            "clock": self.clock,
            "audit": Audit(ids=ids, entropy=self.entropy, signer=None, head_file=None),
            "accounts": self.accounts,
        }
        self.sessions = Sessions(**parts, ids=ids, entropy=self.entropy, key=b"s" * 32, origin="https://gateway.test")
        self.hashing = Hashing(b"p" * 32, self.entropy)
        self.factors = Factors(
            **parts,
            entropy=self.entropy,
            sessions=self.sessions,
            hashing=self.hashing,
            seal=Seal(b"a" * 32, self.entropy),
            recovery_key=b"r" * 32,
            gateway_name="Kitchen",
            are_passwords_on=True,
        )
        self.cookie = ""
        self.browsers = KnownBrowsers(b"k" * 32, self.entropy)
        self.passwords = Passwords(
            **parts,
            sessions=self.sessions,
            factors=self.factors,
            hashing=self.hashing,
            attempts=Attempts(self.clock.monotonic),
            browsers=self.browsers,
        )

    async def enter(self) -> tuple[User, Principal]:
        now_ms = self.clock.now_ms()
        user = await self.database.write(lambda tx: self.accounts.ensure_owner(tx, now_ms))
        opened = await self.database.write(lambda tx: self.sessions.open(tx, user, Method.LINK, HERE, now_ms))
        return user, self.sessions.principal(user, opened.session)

    async def enrol(self, principal: Principal) -> tuple[bytes, list[str]]:
        begun = await self.factors.begin(principal)
        secret = base64.b32decode(begun.secret)
        return secret, await self.factors.confirm(principal, begun.sealed, self.code(secret))

    def code(self, secret: bytes, ahead: int = 0) -> str:
        return totp.code_at(secret, self.clock.now_ms() // totp.STEP_MS + ahead)

    async def sign_in(self, code: str | None, password: str = PASSWORD) -> Method | Code:
        """From a browser that is known."""
        self.cookie = self.cookie or self.browsers.new(await self.user_id(), self.clock.now_ms())
        browser = Browser("Test/1", "192.0.2.1", None, self.cookie)
        try:
            return (await self.passwords.sign_in("owner", password, code, browser))[1].session.method
        except Problem as problem:
            return problem.code

    async def user_id(self) -> str:
        return (await self.database.write(lambda tx: self.accounts.ensure_owner(tx, 0))).user_id


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


async def test_codes_are_those_of_rfc_6238() -> None:
    secret = b"12345678901234567890"
    at = {59: "287082", 1111111109: "081804", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"}
    found = {second: await asyncio.to_thread(totp.code_at, secret, second // 30) for second in at}
    assert found == at


async def test_a_code_is_good_for_one_step_before_and_after_and_once(house: House) -> None:
    _, principal = await house.enter()
    secret, _ = await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    for ahead, expected in ((-2, Code.UNAUTHENTICATED), (2, Code.UNAUTHENTICATED), (0, Method.TOTP)):
        house.clock.advance(3 * 30)
        assert await house.sign_in(house.code(secret, ahead)) is expected, ahead
    assert await house.sign_in(house.code(secret)) is Code.UNAUTHENTICATED, "used"
    assert await house.sign_in(house.code(secret, -1)) is Code.UNAUTHENTICATED, "older than the one that was used"
    assert await house.sign_in(house.code(secret, 1)) is Method.TOTP


async def test_of_many_who_send_the_same_code_at_once_one_gets_in(house: House) -> None:
    _, principal = await house.enter()
    secret, codes = await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    house.clock.advance(90)
    for code, method in ((house.code(secret), Method.TOTP), (codes[0], Method.RECOVERY)):
        house.clock.advance(3600)
        sent = house.code(secret) if method is Method.TOTP else code
        outcomes = await asyncio.gather(*(house.sign_in(sent) for _ in range(8)))
        assert outcomes.count(method) == 1
        assert set(outcomes) <= {method, Code.UNAUTHENTICATED}


async def test_an_enrolment_ends_after_ten_minutes(house: House) -> None:
    _, principal = await house.enter()
    begun = await house.factors.begin(principal)
    house.clock.advance(ENROLMENT_LIFE_MS / 1000)
    with pytest.raises(Problem) as caught:
        await house.factors.confirm(principal, begun.sealed, house.code(base64.b32decode(begun.secret)))
    assert caught.value.code is Code.INVALID


async def test_wrong_codes_are_limited_where_the_password_was_right(house: House) -> None:
    _, principal = await house.enter()
    secret, _ = await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    outcomes: list[Method | Code] = []
    for _ in range(12):
        house.clock.advance(40)
        outcomes.append(await house.sign_in("000000"))
    assert outcomes[:10] == [Code.UNAUTHENTICATED] * 10
    assert outcomes[-1] is Code.RATE_LIMITED
    assert await house.sign_in(house.code(secret)) in (Code.RATE_LIMITED, Code.UNAUTHENTICATED)


async def test_counted_refusals_are_written_when_their_time_is_over(house: House) -> None:
    _, principal = await house.enter()
    await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    for _ in range(5):
        await house.sign_in(None, "something else entirely")
    await house.passwords.settle()
    house.clock.advance(WINDOW_MS / 1000)
    await house.passwords.settle()
    await house.passwords.settle()
    rows = await house.database.read(lambda tx: tx.rows(_refused(), {}))
    assert [row["facts"] for row in rows] == ['{"count":1,"reason":"password"}', '{"count":4,"reason":"password"}']


async def test_whether_somebody_has_a_login_is_not_told_by_a_write_that_the_answer_waits_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, principal = await house.enter()
    await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    house.cookie = house.browsers.new(await house.user_id(), house.clock.now_ms())
    with monkeypatch.context() as broken:
        broken.setattr(house.database, "write", lambda *_, **__: asyncio.Event().wait())
        assert await house.sign_in(None, "something else entirely") is Code.UNAUTHENTICATED
    await house.passwords.close()
    rows = await house.database.read(lambda tx: tx.rows(_refused(), {}))
    assert [row["facts"] for row in rows] == ['{"count":1,"reason":"password"}']


async def test_no_refusal_is_lost_at_the_stop(house: House) -> None:
    _, principal = await house.enter()
    await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    for _ in range(5):
        await house.sign_in(None, "something else entirely")
    await house.passwords.close()
    rows = await house.database.read(lambda tx: tx.rows(_refused(), {}))
    assert [row["facts"] for row in rows] == ['{"count":1,"reason":"password"}', '{"count":4,"reason":"password"}']


def _refused() -> Any:
    from sqlalchemy import select

    from entobot.audit.store import log as audit_log

    return select(audit_log.c.facts).where(audit_log.c.event == "sign_in.refused").order_by(audit_log.c.seq)


async def test_a_password_of_older_parameters_is_hashed_anew_when_it_is_used(house: House) -> None:
    user, principal = await house.enter()
    secret, _ = await house.enrol(principal)
    mixed = keyed_digest(b"p" * 32, PASSWORD.encode())
    old = await asyncio.to_thread(
        argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash, mixed, salt=b"s" * 16
    )
    await house.database.write(lambda tx: store_factors.set_password(tx, Password(user.user_id, old, 0)))
    house.clock.advance(90)
    assert await house.sign_in(house.code(secret)) is Method.TOTP
    new = await house.database.read(lambda tx: store_factors.find_password(tx, user.user_id))
    assert new is not None
    assert f"m={hashing.MEMORY_KIB},t={hashing.PASSES},p={hashing.LANES}" in new.encoded
    house.clock.advance(90)
    assert await house.sign_in(house.code(secret)) is Method.TOTP


async def test_a_restored_store_has_no_recovery_codes_for_some_may_have_been_used_since(house: House) -> None:
    _, principal = await house.enter()
    secret, codes = await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    await house.database.write(sign_everybody_out)
    house.clock.advance(90)
    assert await house.sign_in(codes[0]) is Code.UNAUTHENTICATED
    assert await house.sign_in(house.code(secret)) is Method.TOTP


async def test_a_secret_that_was_sealed_for_one_person_is_no_other_ones(house: House) -> None:
    _, principal = await house.enter()
    secret, _ = await house.enrol(principal)
    app = await house.database.read(lambda tx: store_factors.find_authenticator(tx, principal.user_id))
    assert app is not None
    now_ms, code = house.clock.now_ms(), house.code(secret)
    assert await asyncio.to_thread(house.factors.seen_step, app, code, now_ms) is not None
    moved = replace(app, user_id="usr_other")
    assert await asyncio.to_thread(house.factors.seen_step, moved, code, now_ms) is None


async def test_a_login_that_nobody_has_costs_the_same_hash(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _, principal = await house.enter()
    await house.enrol(principal)
    await house.factors.set_password(principal, PASSWORD)
    compared: list[str] = []
    is_good = hashing._is_good

    def noted(encoded: str, mixed: bytes) -> bool:
        compared.append(encoded.rpartition("$")[0].rpartition("$")[0])
        return is_good(encoded, mixed)

    monkeypatch.setattr(hashing, "_is_good", noted)
    for login in ("owner", "nobody", "Owner ", "no login at all!"):
        with pytest.raises(Problem) as caught:
            await house.passwords.sign_in(login, "something else entirely", None, HERE)
        assert caught.value.code is Code.UNAUTHENTICATED
    assert len(compared) == 4
    assert len(set(compared)) == 1, "with the same parameters"


async def test_strangers_fill_half_of_the_queue_and_the_gateway_hashes_on(house: House) -> None:
    made = await house.hashing.hash(PASSWORD)

    async def outcome(*, is_known: bool) -> bool | Code:
        try:
            return await house.hashing.verify(made, PASSWORD, is_known=is_known)
        except Problem as problem:
            return problem.code

    strangers = [asyncio.create_task(outcome(is_known=False)) for _ in range(40)]
    known = [asyncio.create_task(outcome(is_known=True)) for _ in range(4)]
    assert await asyncio.gather(*known) == [True] * 4
    found = await asyncio.gather(*strangers)
    assert found.count(True) == hashing.MAX_WAITING_STRANGERS
    assert set(found) == {True, Code.RATE_LIMITED}
    assert await house.hashing.verify(made, "something else entirely", is_known=False) is False
    assert await house.hashing.verify(None, PASSWORD, is_known=False) is False
    house.hashing.close()


class Phone(RuleBasedStateMachine):
    """The owner's apps, recovery codes and clock; what the gateway takes is what the model says, and nothing twice."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.house, ticks = self.runner.run(self._move_in()), count(step=3600)
        self.house.passwords._attempts = Attempts(lambda: float(next(ticks)))  # codes are told apart here, not limits
        self.old: list[bytes] = []
        self.void: list[str] = []
        self.add_app()
        self.runner.run(self.house.factors.set_password(self.principal, PASSWORD))

    async def _move_in(self) -> House:
        self.database = new_database(Path(self.folder.name))
        await self.database.start()
        house = House(self.database)
        _, self.principal = await house.enter()
        return house

    def teardown(self) -> None:
        self.house.hashing.close()
        self.runner.run(self.database.stop())
        self.runner.close()
        self.folder.cleanup()

    def add_app(self) -> None:
        self.secret, self.codes = self.runner.run(self.house.enrol(self.principal))
        self.last_step = self.now

    @property
    def now(self) -> int:
        return self.house.clock.now_ms() // totp.STEP_MS

    def sign_in(self, code: str) -> Method | Code:
        return self.runner.run(self.house.sign_in(code))

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds: int) -> None:
        self.house.clock.advance(seconds)

    @rule(ahead=st.integers(-2, 2))
    def use_app(self, ahead: int) -> None:
        is_good = abs(ahead) <= 1 and self.now + ahead > self.last_step
        expected = Method.TOTP if is_good else Code.UNAUTHENTICATED
        assert self.sign_in(self.house.code(self.secret, ahead)) is expected
        if is_good:
            self.last_step = self.now + ahead

    @precondition(lambda self: self.old)
    @rule(which=st.integers(0, 9))
    def use_an_app_that_was_replaced(self, which: int) -> None:
        assert self.sign_in(self.house.code(self.old[which % len(self.old)])) is Code.UNAUTHENTICATED

    @precondition(lambda self: self.codes)
    @rule()
    def use_a_recovery_code(self) -> None:
        code = self.codes.pop()
        assert self.sign_in(code) is Method.RECOVERY
        self.void.append(code)

    @precondition(lambda self: self.void)
    @rule(which=st.integers(0, 99))
    def use_a_recovery_code_that_is_void(self, which: int) -> None:
        assert self.sign_in(self.void[which % len(self.void)]) is Code.UNAUTHENTICATED

    @rule()
    def renew_recovery_codes(self) -> None:
        self.void += self.codes
        self.codes = self.runner.run(self.house.factors.renew_codes(self.principal))

    @rule()
    def replace_the_app(self) -> None:
        self.old.append(self.secret)
        self.void += self.codes
        self.add_app()

    @invariant()
    def the_page_says_how_many_are_left(self) -> None:
        found = self.runner.run(self.house.factors.find(self.principal))
        assert found.codes_left == len(self.codes)


def test_codes_and_recovery_codes_are_taken_once_in_every_order() -> None:
    run_state_machine_as_test(Phone, settings=settings(max_examples=8, stateful_step_count=15, deadline=None))
