"""Use cases of callbacks; parts of the units of what was asked."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from entobot.bus.bus import Bus
from entobot.callbacks import store
from entobot.callbacks.folders import is_within
from entobot.callbacks.model import Callback, Kind, State
from entobot.config_callbacks import CallbackSettings
from entobot.core import topics
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction

KEPT_FOR = timedelta(days=60)
MAX_PAGE = 100
CUT_OFF = "the program's token was suspended or revoked"


class Callbacks:
    """`settings` are those of the start."""

    def __init__(self, *, ids: Ids, bus: Bus, settings: CallbackSettings) -> None:
        self._ids = ids
        self._bus = bus
        self._settings = settings

    def check(self, url: str) -> None:
        """Raises `address_refused` for a URL that the settings do not allow."""
        if not is_within(url, self._settings.urls):
            raise Problem(
                Code.ADDRESS_REFUSED,
                "Answers are not posted there. The operator allows folders of URLs in callbacks.urls, with callbacks.secret_file.",
            )

    def register(
        self, tx: Transaction, principal: Principal, kind: Kind, subject: str, url: str | None, now_ms: int
    ) -> None:
        """Post the end of this there. None: nowhere. Raises `address_refused`."""
        if url is None:
            return
        self.check(url)
        one = Callback(
            callback_id=self._ids.new(Prefix.CALLBACK),
            subject=subject,
            kind=kind,
            user_id=principal.user_id,
            device_id=principal.device_id,
            url=url,
            state=State.WAITING,
            created_at_ms=now_ms,
        )
        store.insert_callback(tx, one)

    def ended(self, tx: Transaction, subject: str, now_ms: int) -> None:
        """What was asked has ended, in this unit: post it, where somebody wants it."""
        one = store.find_of(tx, subject)
        if one is None or one.state is not State.WAITING:
            return
        if store.move(tx, one, replace(one, state=State.DUE, next_at_ms=now_ms)):
            tx.after_commit(lambda: self._bus.publish(topics.WORK_CALLBACKS, b""))

    def end_of_device(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """A program that was cut off is told nothing any more."""
        for one in store.of_device(tx, device_id):
            over = replace(one, state=State.FAILED, next_at_ms=None, reason=CUT_OFF, ended_at_ms=now_ms)
            store.move(tx, one, over)

    def list(
        self, tx: Transaction, principal: Principal, *, cursor: str | None, limit: int
    ) -> tuple[list[Callback], str | None]:
        """A page of this program's, newest first, and the cursor of the next; a person sees those of all of theirs."""
        limit = max(1, min(limit, MAX_PAGE))
        found = store.page(tx, principal.user_id, cursor or store.LAST, limit + 1)
        is_program = principal.device_id is not None and principal.key_thumbprint is None
        shown = [one for one in found[:limit] if not is_program or one.device_id == principal.device_id]
        return shown, found[limit - 1].callback_id if len(found) > limit else None

    async def forget(self, database: Database, now_ms: int) -> None:
        await database.write(lambda tx: store.forget(tx, now_ms - to_ms(KEPT_FOR)))


Describe = Callable[[Transaction, Callback], "dict[str, object] | None"]
"""Port, filled by the composition root: what was asked, as its asker would get it. None: it is known no more."""

Delivered = Callable[[Transaction, Callback, int], None]
"""Port, filled by the composition root: whoever asked has it now."""
