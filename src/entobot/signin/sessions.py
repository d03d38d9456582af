"""Browser sessions: opened by a sign-in, presented as a cookie, checked again in the unit that acts."""

from dataclasses import dataclass

from entobot.accounts.model import User
from entobot.accounts.people import Guard
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, keyed_digest, random_secret
from entobot.signin import store, store_factors
from entobot.signin.model import (
    MAX_AGENT_CHARACTERS,
    SESSION_IDLE_MS,
    SESSION_LIFE_MS,
    Method,
    Session,
    needs_second_factor,
)
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Presented

SECRET_PREFIX = "ent_ses_"  # noqa: S105  what a scanner recognises, no secret
MAX_SECRET_CHARACTERS = 64
SEEN_EVERY_MS = 60_000


@dataclass(frozen=True, slots=True)
class Browser:
    """Where a sign-in comes from, as the request tells it. `secret` is of the session that it takes the place of,
    `known` the cookie of `KnownBrowsers`.
    """

    user_agent: str
    address: str
    secret: str | None = None
    known: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """`secret` is the cookie's value, told once."""

    session: Session
    secret: str


class Sessions:
    """`origin` is the gateway's own: a session's requests come from its pages and from no others.

    `recheck` refuses a caller whose credentials have ended, of a device as well: the composition root fills it.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        entropy: Entropy,
        audit: Audit,
        accounts: Accounts,
        key: bytes,
        origin: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._entropy = entropy
        self._audit = audit
        self._accounts = accounts
        self._key = key
        self._origin = origin
        self.recheck: Guard = self.guard

    # -- a session begins

    def open(
        self,
        tx: Transaction,
        user: User,
        method: Method,
        browser: Browser,
        now_ms: int,
        *,
        rests_on_password: bool = False,
    ) -> Opened:
        """In place of this person's session in the same browser. Raises `unauthenticated` for who is disabled."""
        if not user.scopes:
            raise Problem(Code.UNAUTHENTICATED, "This person may not sign in.")
        secret = SECRET_PREFIX + random_secret(self._entropy)
        session = Session(
            session_id=self._ids.new(Prefix.SESSION),
            user_id=user.user_id,
            digest=self._digest(secret),
            method=method,
            user_agent=browser.user_agent[:MAX_AGENT_CHARACTERS],
            address=browser.address,
            created_at_ms=now_ms,
            last_seen_at_ms=now_ms,
            rests_on_password=rests_on_password or method is Method.PASSWORD,
        )
        if browser.secret is not None:
            self._replace(tx, self._digest(browser.secret), session)
        store.insert_session(tx, session)
        self._audit.record(
            tx,
            AuditEvent.SESSION_OPENED,
            now_ms=now_ms,
            actor=self.principal(user, session),
            subject=session.session_id,
            facts={"method": method},
            personal={"address": browser.address, "user_agent": session.user_agent},
        )
        return Opened(session, secret)

    def _replace(self, tx: Transaction, digest: bytes, session: Session) -> None:
        """Signing in again is no reason for the links that were made before to be void."""
        replaced = store.find_session_by_digest(tx, digest)
        if replaced is not None and replaced.user_id == session.user_id:
            store.delete_session(tx, replaced.session_id)
            store.hand_links_on(tx, replaced.session_id, session.session_id)

    # -- who is asking

    async def authenticate(self, presented: Presented) -> Principal:
        """Raises `unauthenticated`, and `forbidden` for what comes from another page."""
        self._check_page(presented)
        secret, now_ms = presented.session or "", self._clock.now_ms()
        if len(secret) > MAX_SECRET_CHARACTERS or not secret.startswith(SECRET_PREFIX):
            raise _over()
        digest = self._digest(secret)

        def look(tx: Transaction) -> tuple[Session, User] | None:
            session = store.find_session_by_digest(tx, digest)
            if session is None or session.is_over(now_ms):
                return None
            return session, self._accounts.get_user(tx, session.user_id)

        found = await self._database.read(look, is_small=True)
        if found is None or not found[1].scopes:
            raise _over()
        session, user = found
        if now_ms - session.last_seen_at_ms >= SEEN_EVERY_MS:
            await self._database.write(
                lambda tx: store.note_seen(tx, session.session_id, presented.address, now_ms), is_small=True
            )
        return self.principal(user, session)

    def guard(self, tx: Transaction, principal: Principal) -> None:
        """Refuse a session that has ended, or whose person may less by now: called in the unit that acts."""
        if principal.session_id is None:
            return
        session = store.find_session(tx, principal.session_id)
        if session is None or session.user_id != principal.user_id or session.is_over(self._clock.now_ms()):
            raise _over()
        if not principal.scopes <= self._accounts.get_user(tx, principal.user_id).scopes:
            raise _over()

    def principal(self, user: User, session: Session) -> Principal:
        return Principal(
            user.user_id,
            session.narrowed(user.scopes),
            session_id=session.session_id,
            fresh_until_ms=session.fresh_until_ms,
        )

    def _check_page(self, presented: Presented) -> None:
        """A cookie is sent by the browser, not by the page: so who asks has to be one of our own pages."""
        is_read = presented.method in ("GET", "HEAD")
        is_own = presented.fetch_site in ("same-origin", "none" if is_read else "same-origin")
        if presented.fetch_site is None:
            is_own = is_read or presented.origin == self._origin
        if not is_own or presented.origin not in (None, self._origin):
            raise Problem(Code.FORBIDDEN, "A session is for this gateway's own pages.")

    def _digest(self, secret: str) -> bytes:
        return keyed_digest(self._key, secret.encode("utf-8", "surrogatepass"))

    # -- a session ends

    async def find_all(self, principal: Principal, user_id: str | None = None) -> list[Session]:
        """One's own sessions, or anybody's with `users.manage`; newest first. Raises `not_found`."""
        whose, now_ms = user_id or principal.user_id, self._clock.now_ms()
        if whose != principal.user_id and Scope.USERS_MANAGE not in principal.scopes:
            raise Problem(Code.NOT_FOUND, "There is no such user.")

        def unit(tx: Transaction) -> list[Session]:
            self.recheck(tx, principal)
            return [session for session in store.sessions_of(tx, whose) if not session.is_over(now_ms)]

        return await self._database.read(unit)

    async def end(self, principal: Principal, session_id: str) -> None:
        """One's own, or that of somebody not above with `users.manage`. Raises `not_found`, `forbidden`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self.recheck(tx, principal)
            session = store.find_session(tx, session_id)
            is_own = session is not None and session.user_id == principal.user_id
            if session is None or not (is_own or Scope.USERS_MANAGE in principal.scopes):
                raise Problem(Code.NOT_FOUND, "There is no such session.")
            self._accounts.check_reach(tx, principal, session.user_id)
            store.delete_session(tx, session_id)
            self._audit.record(tx, AuditEvent.SESSION_ENDED, now_ms=now_ms, actor=principal, subject=session_id)

        await self._database.write(unit)

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Every session of a person, the ways to open another, and the links that they made for others."""
        self.void_links_by(tx, principal, user_id, now_ms)
        store.delete_sessions_of(tx, user_id)
        store.delete_links_of(tx, user_id)
        store.delete_passkeys_of(tx, user_id)
        store_factors.delete_password(tx, user_id)
        store_factors.delete_authenticator(tx, user_id)
        store_factors.delete_recovery_codes(tx, user_id)

    def void_links_by(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """What a person made with rights that they have no more."""
        del principal, now_ms  # the entry about the person tells who and when
        store.delete_links_by(tx, user_id)

    def void_resting_on_password(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """Of somebody whose role grew beyond what a password alone may open: what one has led to before."""
        del principal, now_ms
        if needs_second_factor(self._accounts.get_user(tx, user_id).scopes):
            store.delete_resting_on_password(tx, user_id)

    def rests_on_password(self, tx: Transaction, principal: Principal) -> bool:
        """Whether what the caller adds is worth no more than a password."""
        session = None if principal.session_id is None else store.find_session(tx, principal.session_id)
        return session is not None and session.rests_on_password

    async def expire(self) -> None:
        """Forget those that are over."""
        now_ms = self._clock.now_ms()
        await self._database.write(
            lambda tx: store.delete_sessions_before(tx, now_ms - SESSION_LIFE_MS, now_ms - SESSION_IDLE_MS)
        )


def sign_everybody_out(tx: Transaction) -> None:
    """Of a store that is an older copy: a session may have been ended, a link or a recovery code used, since then."""
    store.delete_every_session_and_link(tx)
    store_factors.delete_every_recovery_code(tx)


def _over() -> Problem:
    return Problem(Code.UNAUTHENTICATED, "You are signed out. Sign in again.")
