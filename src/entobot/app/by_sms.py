"""Commands by SMS, and the notes and reminders that they make, in the running gateway."""

import logging
from datetime import timedelta

from entobot.accounts.people import People
from entobot.agents.choice import NOBODY, Choice
from entobot.app.answering import Answering, Features
from entobot.app.ground import Ground
from entobot.app.notifying import Notifying
from entobot.app.periodic import Periodic
from entobot.app.texting import Texts
from entobot.approvals.codes import Codes
from entobot.home import Purpose
from entobot.lines.service import Lines, Parts
from entobot.memos import http
from entobot.memos.service import Memos
from entobot.notifications.channel import Parcel
from entobot.notifications.model import Kind
from entobot.notifications.sms_outbox import Outbox
from entobot.storage.database import StorageFailed, Transaction
from entobot.web.routes import Api

log = logging.getLogger("entobot.sms")

REMIND_EVERY = timedelta(seconds=10)


class BySms:
    """Reminders fire also where commands were switched off since."""

    def __init__(
        self,
        ground: Ground,
        features: Features,
        answering: Answering,
        people: People,
        notifying: Notifying,
        texts: Texts,
    ) -> None:
        self._ground = ground
        self._guard = features.devices.guard
        self.memos = Memos(
            database=ground.database, clock=ground.clock, ids=ground.ids, notifications=notifying.service
        )
        people.on_leaving.append(self.memos.end_reminders)
        codes = Codes(
            answering.approvals,
            audit=features.audit,
            entropy=ground.entropy,
            key=ground.keys.key(Purpose.APPROVAL_CODES),
        )
        people.on_leaving.append(codes.end_all)
        self._codes = codes if ground.settings.sms.approvals else None
        outbox = texts.outbox
        if ground.settings.sms.commands and outbox is not None and outbox.is_real:
            self._listen(features, answering, notifying, texts, outbox)

    def _listen(
        self, features: Features, answering: Answering, notifying: Notifying, texts: Texts, outbox: Outbox
    ) -> None:
        lines = Lines(
            Parts(
                database=self._ground.database,
                accounts=features.accounts,
                places=notifying.places,
                outbox=outbox,
                memos=self.memos,
                conversations=features.conversations,
                approvals=answering.approvals,
                questions=notifying.questions,
                zone_of=notifying.zones.find,
                origin=self._ground.origin,
                describe=lambda: f"{self._ground.name}: {_who(answering.bot.choice)}",
                codes=self._codes,
            )
        )
        if self._codes is not None:
            notifying.answer_by_sms(self._offer)
        texts.hear(lines.prepare)
        self.memos.on_reminded.append(lines.reminded)
        answering.agents.on_answer.append(lines.answered)

    def _offer(self, tx: Transaction, parcel: Parcel, now_ms: int) -> str:
        """What an SMS says of an approval that may be decided by its answer."""
        _, is_one, approval_id = parcel.path.partition("/approvals/")
        if self._codes is None or parcel.kind != Kind.APPROVAL or not is_one:
            return ""
        place = parcel.place
        offer = self._codes.offer(tx, place.user_id, place.place_id, approval_id, now_ms)
        return "" if offer is None else offer.text(now_ms)

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self.memos, self._ground.database, self._ground.clock, self._guard)

    def start(self, periodic: Periodic) -> None:
        periodic.every(REMIND_EVERY, self._remind, at_once=True)

    async def _remind(self) -> None:
        """While the store is away nothing can be noted: a line in the log, and again at the next turn."""
        try:
            await self.memos.remind()
        except StorageFailed as failure:
            log.warning("reminders wait for the store: %s", failure)


def _who(choice: Choice) -> str:
    if choice.runner_kind == NOBODY:
        return "nobody answers."
    return f"{choice.model or choice.runner_kind} answers."
