"""Signing in with a login, a password, and the second factor where there is one."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.signin import store_factors
from entobot.signin.attempts import Attempts
from entobot.signin.factors import Factors, passwords_are_off
from entobot.signin.hashing import Hashing
from entobot.signin.known_browsers import KnownBrowsers
from entobot.signin.model import Authenticator, Method, Password, needs_second_factor
from entobot.signin.refusals import Refusals, Refused
from entobot.signin.sessions import Browser, Opened, Sessions
from entobot.signin.totp import DIGITS
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

log = get_logger("signin")

BAD_PASSWORD, BAD_CODE = "password", "code"
WRITE_AFTER = timedelta(seconds=1)
"""After an answer that was refused: late enough that the write does not weigh on any answer to the same caller."""
NO_CODE, NO_SECOND_FACTOR = "no_code", "no_second_factor"
"""The password was right: whoever has it and no more is seen."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is under a login; all None where nobody has it, or may not sign in so."""

    user: User | None = None
    password: Password | None = None
    app: Authenticator | None = None


class Passwords:
    """Whether a login exists is told to nobody: not by the answer, nor by the time it takes, nor by the limits."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        accounts: Accounts,
        sessions: Sessions,
        factors: Factors,
        hashing: Hashing,
        attempts: Attempts,
        browsers: KnownBrowsers,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._accounts = accounts
        self._sessions = sessions
        self._factors = factors
        self._hashing = hashing
        self._attempts = attempts
        self._browsers = browsers
        self._refusals = Refusals()
        self._unwritten: list[Refused] = []
        self._writing: asyncio.Task[None] | None = None
        self._is_closing = asyncio.Event()

    @property
    def are_on(self) -> bool:
        return self._factors.are_passwords_on

    async def sign_in(self, login: str, password: str, code: str | None, browser: Browser) -> tuple[User, Opened]:
        """`code` is of the authenticator app, or a recovery code; None for the first step.

        Raises `forbidden` where passwords are off, `rate_limited`, `unauthenticated` for what does not fit; only where
        the password is right, `totp_required` and `second_factor_required`.
        """
        if not self.are_on:
            raise passwords_are_off()
        login = login.strip().lower()
        found = await self._database.read(lambda tx: self._look(tx, login))
        known = self._known(found.user, browser)
        self._attempts.take_password(login, browser.address, known)
        encoded = None if found.password is None else found.password.encoded
        is_right = await self._hashing.verify(encoded, password, is_known=known is not None)
        if not is_right or found.user is None or found.password is None:
            raise self._refused(found.user, browser, BAD_PASSWORD)
        opened = await self._second_step(found.user, found, code, browser, known)
        await self._renew(found.password, password)
        return opened

    def _look(self, tx: Transaction, login: str) -> _Found:
        user = self._accounts.find_by_login(tx, login)
        whose = "" if user is None else user.user_id
        password, app = store_factors.find_password(tx, whose), store_factors.find_authenticator(tx, whose)
        return _Found(user, password, app) if user is not None and user.scopes else _Found()

    def _known(self, user: User | None, browser: Browser) -> str | None:
        whose = "" if user is None else user.user_id
        return self._browsers.read(browser.known, whose, self._clock.now_ms())

    async def _second_step(
        self, user: User, found: _Found, code: str | None, browser: Browser, known: str | None
    ) -> tuple[User, Opened]:
        now_ms, step, recovery = self._clock.now_ms(), None, None
        if found.app is None and needs_second_factor(user.scopes):
            self._note(user, browser, NO_SECOND_FACTOR)
            raise Problem(
                Code.SECOND_FACTOR_REQUIRED,
                "Your role wants more than a password. Sign in with a passkey or a link and add an authenticator app.",
            )
        if found.app is not None:
            if code is None:
                if known is None:  # in their own browser it is how everybody begins
                    self._note(user, browser, NO_CODE)
                raise Problem(Code.TOTP_REQUIRED, "Now the code of your authenticator app, or a recovery code.")
            self._attempts.check_code(user.user_id, known)
            typed = code.replace(" ", "").replace("-", "")
            if len(typed) == DIGITS and typed.isascii():
                step = await asyncio.to_thread(self._factors.seen_step, found.app, typed, now_ms)
            else:
                recovery = typed

        def unit(tx: Transaction) -> tuple[User, Opened] | None:
            still = self._accounts.get_user(tx, user.user_id)
            if still != user or store_factors.find_password(tx, user.user_id) != found.password:
                return None
            method = self._spend(tx, user, found.app, step, recovery, now_ms)
            if method is None:
                return None
            rests = found.app is not None and found.app.rests_on_password
            return user, self._sessions.open(tx, user, method, browser, now_ms, rests_on_password=rests)

        opened = await self._database.write(unit)
        if opened is None:
            self._attempts.note_bad_code(user.user_id, known)
            raise self._refused(user, browser, BAD_CODE)
        return opened

    def _spend(
        self,
        tx: Transaction,
        user: User,
        app: Authenticator | None,
        step: int | None,
        recovery: str | None,
        now_ms: int,
    ) -> Method | None:
        """How the session is opened; None where the second factor is wrong, was used before, or changed meanwhile."""
        if app is None:
            return Method.PASSWORD if store_factors.find_authenticator(tx, user.user_id) is None else None
        if step is not None:
            return Method.TOTP if store_factors.spend_step(tx, app, step) else None
        if recovery is not None and self._factors.spend_code(tx, user, recovery, now_ms):
            return Method.RECOVERY
        return None

    async def _renew(self, stored: Password, password: str) -> None:
        """Hash anew what was hashed with older parameters, now that it is known."""
        if await self._hashing.is_outdated(stored.encoded):
            encoded = await self._hashing.hash(password)
            await self._database.write(
                lambda tx: store_factors.rehash_password(tx, stored.user_id, stored.encoded, encoded)
            )

    # -- refusals

    def _note(self, user: User | None, browser: Browser, reason: str) -> None:
        """The answer waits for no write: that there is one would tell that somebody has this login."""
        now_ms = self._clock.now_ms()
        first = self._refusals.note("" if user is None else user.user_id, browser.address, reason, now_ms)
        if first is None:
            return
        self._unwritten.append(first)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    def _refused(self, user: User | None, browser: Browser, reason: str) -> Problem:
        self._note(user, browser, reason)
        if reason == BAD_CODE:
            return Problem(Code.UNAUTHENTICATED, "This code is wrong, or was used. Wait for the next one.")
        return Problem(Code.UNAUTHENTICATED, "Login and password do not fit.")

    async def _write_soon(self) -> None:
        while self._unwritten:
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_AFTER.total_seconds()):
                    await self._is_closing.wait()
            try:
                await self._write([])
            except Exception:
                log.exception("sign_in.refusals_not_written")
                return  # they are kept: `settle` tries again

    async def settle(self) -> None:
        """Write down the refusals that were only counted, once their time is over."""
        await self._write(self._refusals.take_due(self._clock.now_ms()))

    async def close(self) -> None:
        """Write down all that there is."""
        self._is_closing.set()
        if self._writing is not None:
            await self._writing
        await self._write(self._refusals.take_all())

    async def _write(self, counted: list[Refused]) -> None:
        due, now_ms = [*self._unwritten, *counted], self._clock.now_ms()
        self._unwritten = []

        def unit(tx: Transaction) -> None:
            for one in due:
                self._record(tx, one, now_ms)

        if not due:
            return
        try:
            await self._database.write(unit)
        except BaseException:
            self._unwritten = due + self._unwritten
            raise

    def _record(self, tx: Transaction, refused: Refused, now_ms: int) -> None:
        self._audit.record(
            tx,
            AuditEvent.SIGN_IN_REFUSED,
            now_ms=now_ms,
            outcome=Outcome.DENIED,
            subject=refused.user_id,
            facts={"reason": refused.reason, "count": refused.count},
            personal={"network": refused.network},
        )
