"""One-time links: how a person signs in for the first time, or after losing every passkey."""

from dataclasses import dataclass

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, keyed_digest, random_secret
from entobot.signin import store, store_factors
from entobot.signin.model import FIRST_LINK_LIFE_MS, LINK_LIFE_MS, Link, Method
from entobot.signin.sessions import Browser, Opened, Sessions
from entobot.storage.database import Database, Transaction

LINK_PREFIX = "ent_lnk_"
MAX_LINK_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class MadeLink:
    """`secret` is told once."""

    secret: str
    expires_at_ms: int


class Links:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        audit: Audit,
        accounts: Accounts,
        sessions: Sessions,
        key: bytes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._audit = audit
        self._accounts = accounts
        self._sessions = sessions
        self._key = key

    async def make(self, principal: Principal, user_id: str) -> MadeLink:
        """A link for somebody not above the caller; it voids the one before. Raises `not_found`, `forbidden`."""
        principal.require(Scope.USERS_MANAGE)
        secret, now_ms = LINK_PREFIX + random_secret(self._entropy), self._clock.now_ms()
        made = MadeLink(secret, now_ms + LINK_LIFE_MS)

        def unit(tx: Transaction) -> None:
            self._check(tx, principal, self._accounts.get_user(tx, user_id))
            store.delete_links_of(tx, user_id)
            maker = None if principal.is_local else principal
            store.insert_link(tx, Link(self._digest(secret), user_id, made.expires_at_ms, maker))
            self._audit.record(tx, AuditEvent.SIGN_IN_LINK_MADE, now_ms=now_ms, actor=principal, subject=user_id)

        await self._database.write(unit)
        return made

    def _check(self, tx: Transaction, maker: Principal, user: User) -> None:
        """Raises the refusal unless this maker may make a link for that person now."""
        self._sessions.recheck(tx, maker)
        self._accounts.check_reach(tx, maker, user.user_id)
        held = narrow(maker.scopes, self._accounts.get_user(tx, maker.user_id).scopes)
        if Scope.USERS_MANAGE not in held or not user.scopes <= held:
            raise Problem(Code.FORBIDDEN, "This person may more than you, or than the device that you act through.")
        if not user.scopes:
            raise Problem(Code.FORBIDDEN, "This person is disabled. Enable them first.")

    async def make_first(self) -> MadeLink | None:
        """A short link for an owner who has no way to sign in yet; None where there is one, or they are signed in."""
        secret, now_ms = LINK_PREFIX + random_secret(self._entropy), self._clock.now_ms()
        made = MadeLink(secret, now_ms + FIRST_LINK_LIFE_MS)

        def unit(tx: Transaction) -> MadeLink | None:
            owner = self._accounts.ensure_owner(tx, now_ms)
            if not is_newcomer(tx, owner.user_id, now_ms):
                return None
            store.delete_links_of(tx, owner.user_id)
            store.insert_link(tx, Link(self._digest(secret), owner.user_id, made.expires_at_ms))
            self._audit.record(tx, AuditEvent.SIGN_IN_LINK_MADE, now_ms=now_ms, subject=owner.user_id)
            return made

        return await self._database.write(unit)

    async def is_first_due(self) -> bool:
        """Whether `make_first` would make one."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> bool:
            return is_newcomer(tx, self._accounts.ensure_owner(tx, now_ms).user_id, now_ms)

        return await self._database.write(unit)

    async def spend(self, secret: str, browser: Browser) -> tuple[User, Opened]:
        """A session for whom the link is for; of many who try at once one gets it. Raises `unauthenticated`.

        Whoever made it must still be allowed to: a link hands on no right that its maker, or the person's role, has
        grown out of.
        """
        if len(secret) > MAX_LINK_CHARACTERS or not secret.startswith(LINK_PREFIX):
            raise _spent()
        now_ms, digest = self._clock.now_ms(), self._digest(secret)

        def unit(tx: Transaction) -> tuple[User, Opened] | None:
            link = store.spend_link(tx, digest)
            if link is None or now_ms >= link.expires_at_ms:
                return None  # and one that is over is gone
            user = self._accounts.get_user(tx, link.user_id)
            if link.maker is not None and not self._may_still(tx, link.maker, user):
                return None
            return user, self._sessions.open(tx, user, Method.LINK, browser, now_ms)

        opened = await self._database.write(unit)
        if opened is None:
            raise _spent()
        return opened

    def _may_still(self, tx: Transaction, maker: Principal, user: User) -> bool:
        try:
            self._check(tx, maker, user)
        except Problem:
            return False
        return True

    def _digest(self, secret: str) -> bytes:
        return keyed_digest(self._key, secret.encode("utf-8", "surrogatepass"))


def is_newcomer(tx: Transaction, user_id: str, now_ms: int) -> bool:
    """Whether this person has nothing to sign in with, and is signed in nowhere."""
    return (
        not store.count_passkeys(tx, user_id)
        and store_factors.find_password(tx, user_id) is None
        and all(session.is_over(now_ms) for session in store.sessions_of(tx, user_id))
    )


def _spent() -> Problem:
    return Problem(
        Code.UNAUTHENTICATED, "This link was used, or holds no more. Ask for a new one (entobot users link)."
    )
