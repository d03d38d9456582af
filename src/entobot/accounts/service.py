"""Use cases about people."""

from entobot.accounts import store
from entobot.accounts.model import User
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Role
from entobot.storage.database import Transaction
from entobot.stream.service import Stream


class Accounts:
    def __init__(self, ids: Ids, stream: Stream) -> None:
        self._ids = ids
        self._stream = stream

    def ensure_owner(self, tx: Transaction, now_ms: int) -> User:
        """The owner, made at first start together with an empty stream."""
        owner = store.find_owner(tx)
        if owner is None:
            owner = User(self._ids.new(Prefix.USER), "owner", Role.OWNER, now_ms)
            store.insert_user(tx, owner)
            self._stream.open(tx, owner.user_id)
        return owner

    def get_user(self, tx: Transaction, user_id: str) -> User:
        """Raises `not_found`."""
        user = store.find_user(tx, user_id)
        if user is None:
            raise Problem(Code.NOT_FOUND, "There is no such user.")
        return user
