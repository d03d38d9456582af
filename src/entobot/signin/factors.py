"""What people sign in with besides passkeys: passwords, authenticator apps, recovery codes. Set, shown and taken away."""

import asyncio
import json
from dataclasses import dataclass, replace

from entobot.accounts.model import User
from entobot.accounts.people import Change
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.qr import svg
from entobot.core.secrets import Entropy, b64u, keyed_digest, normalise_code, random_code, sha256, unb64u
from entobot.signin import password_rules, store, store_factors, totp
from entobot.signin.hashing import Hashing
from entobot.signin.model import Authenticator, Password, needs_second_factor
from entobot.signin.sealing import Seal
from entobot.signin.sessions import Sessions
from entobot.storage.database import Database, Transaction

ENROLMENT_LIFE_MS = 10 * 60_000
RECOVERY_CODES = 10
RECOVERY_CHARACTERS = 10
"""50 bits: nobody guesses one through the limits, and the database holds keyed digests."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An authenticator app that is to be added. `sealed` comes back with its first code; nothing is stored until then."""

    secret: str
    uri: str
    qr_svg: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a person has. `code_used_at_ms` is when a recovery code was used last."""

    password_set_at_ms: int | None
    app_added_at_ms: int | None
    codes_left: int
    code_used_at_ms: int | None
    needs_second_factor: bool


class Factors:
    """`are_passwords_on` says whether new ones may be set; what there is can always be removed."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        audit: Audit,
        accounts: Accounts,
        sessions: Sessions,
        hashing: Hashing,
        seal: Seal,
        recovery_key: bytes,
        gateway_name: str,
        are_passwords_on: bool,
    ) -> None:
        self.are_passwords_on = are_passwords_on
        self.on_reset: list[Change] = []
        """What ends above when all that a person signs in with is taken away."""
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._audit = audit
        self._accounts = accounts
        self._sessions = sessions
        self._hashing = hashing
        self._seal = seal
        self._recovery_key = recovery_key
        self.gateway_name = gateway_name

    async def find(self, principal: Principal) -> Summary:
        """One's own."""

        def unit(tx: Transaction) -> Summary:
            self._sessions.recheck(tx, principal)
            user_id = principal.user_id
            password, app = store_factors.find_password(tx, user_id), store_factors.find_authenticator(tx, user_id)
            codes = store_factors.recovery_codes_of(tx, user_id)
            used = [code.used_at_ms for code in codes if code.used_at_ms is not None]
            return Summary(
                None if password is None else password.set_at_ms,
                None if app is None else app.created_at_ms,
                len(codes) - len(used),
                max(used, default=None),
                needs_second_factor(self._accounts.get_user(tx, user_id).scopes),
            )

        return await self._database.read(unit)

    # -- a password

    async def set_password(self, principal: Principal, password: str) -> None:
        """One's own. A new one in the place of another ends the person's other sessions.

        Raises `forbidden` where passwords are off, `invalid`, `second_factor_required`.
        """
        session_id = self._check(principal)
        user = await self._database.read(lambda tx: self._accounts.get_user(tx, principal.user_id))
        text = password_rules.checked(password, about=(user.login, user.name, self.gateway_name))
        encoded, now_ms = await self._hashing.hash(text), self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            self._check_second_factor(tx, principal)
            if store_factors.find_password(tx, principal.user_id) is not None:
                store.delete_other_sessions(tx, principal.user_id, session_id)
            store_factors.set_password(tx, Password(principal.user_id, encoded, now_ms))
            self._record(tx, principal, AuditEvent.PASSWORD_SET, now_ms)

        await self._database.write(unit)

    async def remove_password(self, principal: Principal) -> None:
        """Raises `not_found`."""
        _check_session(principal)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            if not store_factors.delete_password(tx, principal.user_id):
                raise Problem(Code.NOT_FOUND, "There is no password to remove.")
            self._record(tx, principal, AuditEvent.PASSWORD_REMOVED, now_ms)

        await self._database.write(unit)

    # -- an authenticator app

    async def begin(self, principal: Principal) -> Enrolment:
        """A new secret for an app. It is told this once. Raises `forbidden` where passwords are off."""
        self._check(principal)
        user = await self._database.read(lambda tx: self._own(tx, principal))
        secret, ends_ms = self._entropy.bytes(totp.SECRET_BYTES), self._clock.now_ms() + ENROLMENT_LIFE_MS
        plain = json.dumps({"secret": b64u(secret), "ends_ms": ends_ms}).encode()
        sealed = b64u(self._seal.close(_enrolling(user.user_id), plain))

        def draw() -> Enrolment:
            uri = totp.uri(secret, login=user.login, gateway_name=self.gateway_name)
            return Enrolment(totp.shown(secret), uri, svg(uri, "Code for an authenticator app"), sealed)

        return await asyncio.to_thread(draw)

    async def confirm(self, principal: Principal, sealed: str, code: str) -> list[str]:
        """Add the app, in the place of one before, once its first code is right; the recovery codes, told this once.

        Raises `forbidden` where passwords are off, `invalid` for a wrong code and for an enrolment that is over.
        """
        self._check(principal)
        now_ms, user_id = self._clock.now_ms(), principal.user_id
        secret, ends_ms = self._opened(user_id, sealed)
        step = await asyncio.to_thread(totp.step_of, secret, code.replace(" ", ""), now_ms)
        if now_ms >= ends_ms:
            raise Problem(Code.INVALID, "This took too long. Begin again, with a new picture.")
        if step is None:
            raise Problem(
                Code.INVALID, "That is not the code which the app should show now. Is the phone's clock right?"
            )
        app = Authenticator(user_id, self._seal.close(_belonging(user_id), secret), step, now_ms)
        codes = self._new_codes()

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            if not store.answer_challenge(tx, sha256(sealed.encode()), ends_ms, now_ms):
                raise Problem(Code.INVALID, "This was confirmed already. Begin again, with a new picture.")
            rests = self._sessions.rests_on_password(tx, principal)
            store_factors.set_authenticator(tx, replace(app, rests_on_password=rests))
            store_factors.replace_recovery_codes(tx, user_id, [self._digest(user_id, one) for one in codes])
            self._record(tx, principal, AuditEvent.AUTHENTICATOR_ADDED, now_ms)

        await self._database.write(unit)
        return [_spaced(one) for one in codes]

    async def remove_app(self, principal: Principal) -> None:
        """With its recovery codes. Raises `not_found`, `second_factor_required` while a password depends on it."""
        _check_session(principal)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            user = self._own(tx, principal)
            if not store_factors.delete_authenticator(tx, user.user_id):
                raise Problem(Code.NOT_FOUND, "There is no authenticator app to remove.")
            if needs_second_factor(user.scopes) and store_factors.find_password(tx, user.user_id) is not None:
                raise Problem(
                    Code.SECOND_FACTOR_REQUIRED, "Your role wants more than a password. Remove the password first."
                )
            store_factors.delete_recovery_codes(tx, user.user_id)
            self._record(tx, principal, AuditEvent.AUTHENTICATOR_REMOVED, now_ms)

        await self._database.write(unit)

    def seen_step(self, app: Authenticator, code: str, now_ms: int) -> int | None:
        """The step that this is the code of; None for a wrong one. Not for the loop."""
        secret = self._seal.open(_belonging(app.user_id), app.sealed)
        return None if secret is None else totp.step_of(secret, code, now_ms)

    # -- recovery codes

    async def renew_codes(self, principal: Principal) -> list[str]:
        """Ten new ones, told this once; those before are void. Raises `not_found` where there is no app to stand for."""
        _check_session(principal)
        now_ms, codes, user_id = self._clock.now_ms(), self._new_codes(), principal.user_id

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            app = store_factors.find_authenticator(tx, user_id)
            if app is not None and self._sessions.rests_on_password(tx, principal) and not app.rests_on_password:
                raise Problem(Code.SECOND_FACTOR_REQUIRED, "Sign in with the app's code, a passkey or a link first.")
            if app is None:
                raise Problem(Code.NOT_FOUND, "Recovery codes stand for an authenticator app. Add one first.")
            store_factors.replace_recovery_codes(tx, user_id, [self._digest(user_id, one) for one in codes])
            self._record(tx, principal, AuditEvent.RECOVERY_CODES_MADE, now_ms)

        await self._database.write(unit)
        return [_spaced(one) for one in codes]

    def spend_code(self, tx: Transaction, user: User, code: str, now_ms: int) -> bool:
        """Use a recovery code up. False for one that is none, or was used."""
        if not store_factors.spend_recovery_code(
            tx, user.user_id, self._digest(user.user_id, normalise_code(code)), now_ms
        ):
            return False
        left = sum(one.used_at_ms is None for one in store_factors.recovery_codes_of(tx, user.user_id))
        actor = Principal(user.user_id, user.scopes)
        self._record(tx, actor, AuditEvent.RECOVERY_CODE_USED, now_ms, {"left": left})
        return True

    # -- somebody else's

    async def reset(self, principal: Principal, user_id: str) -> None:
        """Take away all that a person signs in with, and end their sessions: they come back by a link.

        For somebody not above the caller. Raises `forbidden`, `not_found`.
        """
        principal.require(Scope.USERS_MANAGE)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            user = self._accounts.get_user(tx, user_id)
            self._accounts.check_reach(tx, principal, user_id)
            if not user.scopes <= principal.scopes:
                raise Problem(Code.FORBIDDEN, "This person may more than you, or than the device that you act through.")
            self._sessions.end_all(tx, principal, user_id, now_ms)
            for end in self.on_reset:
                end(tx, principal, user_id, now_ms)
            self._record(tx, principal, AuditEvent.USER_FACTORS_RESET, now_ms, subject=user_id)

        await self._database.write(unit)

    def _own(self, tx: Transaction, principal: Principal) -> User:
        self._sessions.recheck(tx, principal)
        return self._accounts.get_user(tx, principal.user_id)

    def _check(self, principal: Principal) -> str:
        """The session that it is done in."""
        if not self.are_passwords_on:
            raise passwords_are_off()
        return _check_session(principal)

    def _check_second_factor(self, tx: Transaction, principal: Principal) -> None:
        user = self._accounts.get_user(tx, principal.user_id)
        if needs_second_factor(user.scopes) and store_factors.find_authenticator(tx, user.user_id) is None:
            raise Problem(
                Code.SECOND_FACTOR_REQUIRED, "Your role wants more than a password. Add an authenticator app first."
            )

    def _opened(self, user_id: str, sealed: str) -> tuple[bytes, int]:
        try:
            plain = self._seal.open(_enrolling(user_id), unb64u(sealed))
        except (ValueError, UnicodeEncodeError):
            plain = None
        if plain is None:
            raise Problem(Code.INVALID, "This enrolment was not begun here, or not by you. Begin again.")
        told = json.loads(plain)
        return unb64u(told["secret"]), int(told["ends_ms"])

    def _new_codes(self) -> list[str]:
        return [random_code(self._entropy, RECOVERY_CHARACTERS) for _ in range(RECOVERY_CODES)]

    def _digest(self, user_id: str, code: str) -> bytes:
        return keyed_digest(self._recovery_key, f"{user_id}\0{code}".encode("utf-8", "surrogatepass"))

    def _record(
        self,
        tx: Transaction,
        principal: Principal,
        event: AuditEvent,
        now_ms: int,
        facts: dict[str, Fact] | None = None,
        *,
        subject: str | None = None,
    ) -> None:
        self._audit.record(tx, event, now_ms=now_ms, actor=principal, subject=subject or principal.user_id, facts=facts)


def passwords_are_off() -> Problem:
    return Problem(
        Code.FORBIDDEN, "This gateway takes no passwords (signin.passwords). Use a passkey, or ask for a link."
    )


def _check_session(principal: Principal) -> str:
    if principal.session_id is None:
        raise Problem(Code.FORBIDDEN, "This is for a person who is signed in with a browser.")
    return principal.session_id


def _enrolling(user_id: str) -> str:
    return f"entobot/enrolment/v1 {user_id}"


def _belonging(user_id: str) -> str:
    return f"entobot/authenticator/v1 {user_id}"


def _spaced(code: str) -> str:
    return f"{code[:5]}-{code[5:]}"
