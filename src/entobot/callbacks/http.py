"""REST of callbacks: what became of them."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from entobot.callbacks.model import Callback, Kind, State
from entobot.callbacks.service import Callbacks
from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class CallbackRow(BaseModel):
    callback_id: str = Field(description="The `webhook-id` of what is posted.")
    subject: str = Field(description="The question or request that it is about.")
    kind: Kind
    device_id: str | None
    url: str
    state: State
    tries: int
    reason: str = Field(description="Why the last try did not arrive. Empty: none failed.")
    created_at: str
    next_at: str | None
    ended_at: str | None


class CallbackPage(BaseModel):
    rows: list[CallbackRow]
    next: str | None = Field(description="Pass as `cursor` for the following page.")


def add_routes(api: Api, callbacks: Callbacks, database: Database) -> None:
    async def list_callbacks(
        caller: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> CallbackPage:
        """Those of this program; of all of a person's programs where the person looks."""

        def unit(tx: Transaction) -> CallbackPage:
            rows, following = callbacks.list(tx, caller, cursor=cursor, limit=limit)
            return CallbackPage(rows=[_row(one) for one in rows], next=following)

        return await database.read(unit)

    api.add("GET", "/api/v1/callbacks", list_callbacks)


def _row(one: Callback) -> CallbackRow:
    return CallbackRow(
        callback_id=one.callback_id,
        subject=one.subject,
        kind=one.kind,
        device_id=one.device_id,
        url=one.url,
        state=one.state,
        tries=one.tries,
        reason=one.reason,
        created_at=rfc3339(one.created_at_ms),
        next_at=rfc3339_or_none(one.next_at_ms),
        ended_at=rfc3339_or_none(one.ended_at_ms),
    )
