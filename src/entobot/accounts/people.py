"""Who belongs here and in which role: add, change, disable and enable people."""

from collections.abc import Callable
from dataclasses import dataclass

from entobot.accounts import store
from entobot.accounts.model import User, UserState, clean_login
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.names import clean_name
from entobot.core.permissions import ROLE_SCOPES, Role, Scope, narrow
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction

MAX_PAGE = 200
Guard = Callable[[Transaction, Principal], None]
"""Refuses a caller whose credentials have ended since: called in the unit that acts."""
Change = Callable[[Transaction, Principal, str, int], None]
"""What must happen with a person's things in the same transaction: `(tx, by, user_id, now_ms)`."""


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is None on the last page."""

    rows: list[User]
    cursor: str | None


class People:
    """`on_leaving` ends what a disabled person holds; `on_narrowed` voids credentials that a lesser role would not
    give, `on_raised` those that are too weak for a greater one. All are filled by the composition root, from features
    above this one.
    """

    def __init__(
        self, *, database: Database, clock: Clock, ids: Ids, audit: Audit, accounts: Accounts, guard: Guard
    ) -> None:
        self.on_leaving: list[Change] = []
        self.on_narrowed: list[Change] = []
        self.on_raised: list[Change] = []
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._guard = guard

    # -- looking

    async def find_page(self, principal: Principal, cursor: str | None, limit: int) -> Page:
        """Everybody, in the order in which they were added. Raises `forbidden`, `invalid`."""
        principal.require(Scope.USERS_MANAGE)
        if cursor is not None and not is_id(cursor, Prefix.USER):
            raise Problem(Code.INVALID, "The cursor is not one that this list gave out.")
        count = max(1, min(limit, MAX_PAGE))

        def unit(tx: Transaction) -> list[User]:
            self._guard(tx, principal)
            return store.page(tx, cursor or "", count + 1)

        found = await self._database.read(unit)
        rows = found[:count]
        return Page(rows, rows[-1].user_id if len(found) > count else None)

    async def find(self, principal: Principal, user_id: str) -> User:
        """Oneself, or anybody with `users.manage`. Raises `not_found`."""

        def unit(tx: Transaction) -> User:
            self._guard(tx, principal)
            if user_id != principal.user_id and Scope.USERS_MANAGE not in principal.scopes:
                raise Problem(Code.NOT_FOUND, "There is no such user.")
            return self._accounts.get_user(tx, user_id)

        return await self._database.read(unit)

    # -- changing

    async def add(self, principal: Principal, *, login: str, name: str, role: Role) -> User:
        """Raises `forbidden` for a role above the caller's, `invalid`, `login_taken`."""
        principal.require(Scope.USERS_MANAGE)
        now_ms = self._clock.now_ms()
        login, name = clean_login(login), clean_name(name, "name")
        user = User(self._ids.new(Prefix.USER), name, role, now_ms, login)

        def unit(tx: Transaction) -> User:
            self._guard(tx, principal)
            self._check_role(tx, principal, role)
            self._accounts.insert(tx, user)
            self._record(tx, principal, AuditEvent.USER_ADDED, user, now_ms)
            return user

        return await self._database.write(unit)

    async def change(
        self, principal: Principal, user_id: str, *, name: str | None = None, role: Role | None = None
    ) -> User:
        """Raises `not_found`, `forbidden`, `invalid`, `last_owner`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> User:
            before = self._reach(tx, principal, user_id)
            after = before if name is None else before.renamed(name)
            if role is not None and role is not before.role:
                self._check_role(tx, principal, role)
                after = after.given(role)
            return self._move(tx, principal, AuditEvent.USER_CHANGED, (before, after), now_ms)

        return await self._database.write(unit)

    async def disable(self, principal: Principal, user_id: str) -> User:
        """Shut a person out, and end at once what they hold. Raises `not_found`, `forbidden`, `last_owner`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> User:
            before = self._reach(tx, principal, user_id)
            after = self._move(tx, principal, AuditEvent.USER_DISABLED, (before, before.disabled(now_ms)), now_ms)
            if after != before:
                for end in self.on_leaving:
                    end(tx, principal, user_id, now_ms)
            return after

        return await self._database.write(unit)

    async def enable(self, principal: Principal, user_id: str) -> User:
        """Let a person in again, with nothing but their role: devices are paired anew. Raises `not_found`, `forbidden`."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> User:
            before = self._reach(tx, principal, user_id)
            return self._move(tx, principal, AuditEvent.USER_ENABLED, (before, before.enabled()), now_ms)

        return await self._database.write(unit)

    def _reach(self, tx: Transaction, principal: Principal, user_id: str) -> User:
        """A person that the caller may change."""
        principal.require(Scope.USERS_MANAGE)
        self._guard(tx, principal)
        user = self._accounts.get_user(tx, user_id)
        self._accounts.check_reach(tx, principal, user_id)
        return user

    def _check_role(self, tx: Transaction, principal: Principal, role: Role) -> None:
        """Nobody gives what they, or the device they act through, do not hold."""
        giver = self._accounts.get_user(tx, principal.user_id)
        if not giver.may_manage(role) or not ROLE_SCOPES[role] <= narrow(principal.scopes, giver.scopes):
            raise Problem(Code.FORBIDDEN, f"The role '{role}' is above yours, or above what this device may do.")

    def _move(
        self, tx: Transaction, principal: Principal, event: AuditEvent, step: tuple[User, User], now_ms: int
    ) -> User:
        """Store a transition. One that changes nothing leaves no trace."""
        before, after = step
        if after == before:
            return before
        store.change_user(tx, after)
        if store.count_active_owners(tx) == 0:
            raise Problem(Code.LAST_OWNER, "This is the last owner. Make somebody else an owner first.")
        if after.state is UserState.ACTIVE and not before.scopes <= after.scopes:
            for void in self.on_narrowed:
                void(tx, principal, after.user_id, now_ms)
        if after.state is UserState.ACTIVE and not after.scopes <= before.scopes:
            for void in self.on_raised:
                void(tx, principal, after.user_id, now_ms)
        self._record(tx, principal, event, after, now_ms, before.role)
        return after

    def _record(
        self,
        tx: Transaction,
        principal: Principal,
        event: AuditEvent,
        user: User,
        now_ms: int,
        before: Role | None = None,
    ) -> None:
        """`before`: the role that the person had."""
        self._audit.record(
            tx,
            event,
            now_ms=now_ms,
            actor=principal,
            subject=user.user_id,
            facts={"role": user.role, "state": user.state} | ({} if before is None else {"before": before}),
            personal={"name": user.name, "login": user.login},
        )
