"""REST of notes, to-dos and reminders: translate only."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix, is_id
from entobot.core.principal import Principal
from entobot.memos.model import MAX_TEXT_CHARACTERS, Kind, Memo
from entobot.memos.service import Memos
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api

Guard = Callable[[Transaction, Principal], None]
KindName = Literal["note", "reminder", "todo"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MemoRow(_Body):
    memo_id: str
    kind: KindName
    text: str
    created_at: str
    due_at: str | None = Field(description="Of a reminder.")


class MemoList(_Body):
    rows: list[MemoRow]


class NewMemo(_Body):
    kind: KindName
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
    due_at: AwareDatetime | None = Field(default=None, description="When to remind, RFC 3339.")


class RemovedMemo(_Body):
    memo_id: str


def add_routes(api: Api, memos: Memos, database: Database, clock: Clock, guard: Guard) -> None:
    routes = _Routes(memos, database, clock, guard)
    at = "/api/v1/memos"
    api.add("GET", at, routes.list_memos)
    api.add("POST", at, routes.add_memo, status_code=201)
    api.add("DELETE", f"{at}/{{memo_id}}", routes.remove_memo, problems=(Code.NOT_FOUND,))


class _Routes:
    def __init__(self, memos: Memos, database: Database, clock: Clock, guard: Guard) -> None:
        self._memos = memos
        self._database = database
        self._clock = clock
        self._guard = guard

    async def list_memos(self, principal: Caller) -> MemoList:
        """Notes, reminders and to-dos of the caller, of each kind the oldest first."""

        def unit(tx: Transaction) -> list[Memo]:
            self._guard(tx, principal)
            return [one for kind in Kind for one in self._memos.of_kind(tx, principal.user_id, kind)]

        return MemoList(rows=[_row(one) for one in await self._database.read(unit)])

    async def add_memo(self, body: NewMemo, principal: Caller) -> MemoRow:
        """A reminder is told as a notification when it is due."""
        now_ms, due_at_ms = self._clock.now_ms(), _due_ms(body)

        def unit(tx: Transaction) -> Memo:
            self._guard(tx, principal)
            return self._memos.add(tx, principal.user_id, Kind(body.kind), body.text, now_ms, due_at_ms)

        return _row(await self._database.write(unit))

    async def remove_memo(self, memo_id: str, principal: Caller) -> RemovedMemo:
        """Because it is done, or not wanted any more."""

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            if not is_id(memo_id, Prefix.MEMO):
                raise Problem(Code.NOT_FOUND, "There is no such memo.")
            self._memos.remove(tx, principal.user_id, memo_id)

        await self._database.write(unit)
        return RemovedMemo(memo_id=memo_id)


def _due_ms(body: NewMemo) -> int | None:
    if (body.kind == "reminder") != (body.due_at is not None):
        raise Problem(Code.INVALID, "A reminder has due_at, and nothing else has.")
    at: datetime | None = body.due_at
    return None if at is None else round(at.timestamp() * 1000)


def _row(one: Memo) -> MemoRow:
    return MemoRow(
        memo_id=one.memo_id,
        kind=one.kind.value,
        text=one.text,
        created_at=rfc3339(one.created_at_ms),
        due_at=rfc3339_or_none(one.due_at_ms),
    )
