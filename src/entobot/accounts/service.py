"""Use cases about people."""

from entobot.accounts import store
from entobot.accounts.model import User, clean_login
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import ROLE_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.storage.database import Transaction
from entobot.stream.service import Stream


class Accounts:
    def __init__(self, ids: Ids, stream: Stream) -> None:
        self._ids = ids
        self._stream = stream

    def find_owner(self, tx: Transaction) -> User | None:
        """The first owner who is not disabled."""
        return store.find_owner(tx)

    def ensure_owner(self, tx: Transaction, now_ms: int) -> User:
        """The first owner who is not disabled; made at first start together with an empty stream."""
        owner = store.find_owner(tx)
        if owner is None:
            owner = User(self._ids.new(Prefix.USER), "owner", Role.OWNER, now_ms, "owner")
            self.insert(tx, owner)
        return owner

    def insert(self, tx: Transaction, user: User) -> None:
        """A person comes with an empty stream. Raises `login_taken`."""
        if not store.insert_user(tx, user):
            raise Problem(Code.LOGIN_TAKEN, f"The login '{user.login}' is taken.")
        self._stream.open(tx, user.user_id)

    def count(self, tx: Transaction) -> int:
        """Of people who are not disabled."""
        return store.count_active(tx)

    def get_user(self, tx: Transaction, user_id: str) -> User:
        """Raises `not_found`."""
        user = store.find_user(tx, user_id)
        if user is None:
            raise Problem(Code.NOT_FOUND, "There is no such user.")
        return user

    def find(self, tx: Transaction, user_id: str) -> User | None:
        return store.find_user(tx, user_id)

    def find_by_login(self, tx: Transaction, typed: str) -> User | None:
        """Whoever has that login; None also for what cannot be one."""
        try:
            return store.find_by_login(tx, clean_login(typed))
        except Problem:
            return None

    def holders(self, tx: Transaction, scope: Scope) -> list[str]:
        """The ids of everybody whose role holds it, and who is not disabled."""
        roles = [role for role, scopes in ROLE_SCOPES.items() if scope in scopes]
        return store.active_ids(tx, roles)

    def in_role(self, tx: Transaction, role: Role) -> list[str]:
        """The ids of everybody of that role who is not disabled."""
        return store.active_ids(tx, [role])

    def reaches(self, tx: Transaction, by_user_id: str, user_id: str) -> bool:
        """Whether what is the second person's is the first one's to change: see `User.may_manage`."""
        if by_user_id == user_id:
            return True
        return self.get_user(tx, by_user_id).may_manage(self.get_user(tx, user_id).role)

    def check_reach(self, tx: Transaction, principal: Principal, user_id: str) -> None:
        """Raise `forbidden` where what is that person's is not the caller's to change."""
        if not self.reaches(tx, principal.user_id, user_id):
            raise Problem(Code.FORBIDDEN, "This person's role is above yours. Ask somebody who holds that role.")
