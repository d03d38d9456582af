"""Use cases of invites by SMS. Everything after the claim is the same as of any other invite."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.pairing.model import Invite, Kind
from entobot.pairing.requests import CreatedInvite
from entobot.pairing.texting import Delivery, Secrets, SmsWay, Texting, invite_text
from entobot.pairing.transitions import Transitions
from entobot.storage.database import Database, Transaction

Draft = Callable[[Transaction, str, str | None], Invite]
"""Makes an invite of the digest of its secret and the mark of its code, or raises why not."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What pairing hands to this part of it. `see` raises `invite_not_found`; `name` is the gateway's at present."""

    database: Database
    clock: Clock
    transitions: Transitions
    guard: Callable[[Transaction, Principal], None]
    see: Callable[[Transaction, Principal, str], Invite]
    link: Callable[[Invite, str], str]
    name: Callable[[], str]
    origin: str


class SmsInvites:
    def __init__(self, desk: Desk, texting: Texting) -> None:
        self._desk = desk
        self._texting = texting

    async def create(self, principal: Principal, phone_number: str | None, draft: Draft) -> CreatedInvite:
        """Raises Problem: what the draft raises, `sms_unavailable`, `number_refused`, `rate_limited` (a limit of SMS)."""
        texting, database, now_ms = self._texting, self._desk.database, self._desk.clock.now_ms()
        try:
            number = await texting.number(phone_number)
        except Problem as problem:
            if problem.code is not Code.NUMBER_REFUSED:
                raise
            refused = problem
            raise await database.write(lambda tx: texting.refuse(tx, principal, refused, now_ms)) from None
        secrets = texting.fresh()

        def unit(tx: Transaction) -> Invite | Problem:
            invite = draft(tx, *texting.marks(secrets))
            at_ms = invite.created_at_ms
            posted = texting.post(tx, invite, number, self._text(invite, secrets), principal.user_id, at_ms)
            if isinstance(posted, Problem):
                return posted
            self._desk.transitions.create(tx, invite, principal, at_ms, phone_number=number.e164)
            return invite

        return self._sent(await database.write(unit), secrets)

    async def resend(self, principal: Principal, invite_id: str) -> CreatedInvite:
        """Send an open invite once more, with a new secret and 15 minutes; the old secret is void.

        Raises Problem: `invite_not_found`, `rate_limited` (too soon, or a limit), `invalid` (not by SMS), the refusal of
        an invite that is not open any more.
        """
        principal.require(Scope.PAIR)
        desk, now_ms, secrets = self._desk, self._desk.clock.now_ms(), self._texting.fresh()

        def unit(tx: Transaction) -> Invite | Problem:
            invite = desk.transitions.settle(tx, desk.see(tx, principal, invite_id), now_ms)
            again = self._texting.resend(tx, invite, secrets, now_ms)
            if isinstance(again, Problem):
                return again
            after, number = again
            posted = self._texting.post(tx, after, number, self._text(after, secrets), principal.user_id, now_ms)
            if isinstance(posted, Problem):
                return posted
            desk.transitions.resend(tx, invite, after, principal, now_ms)
            return after

        return self._sent(await desk.database.write(unit), secrets)

    async def way(self, principal: Principal) -> SmsWay | None:
        """What there is to know before inviting by SMS; None where none is sent."""
        principal.require(Scope.PAIR)
        now_ms = self._desk.clock.now_ms()

        def unit(tx: Transaction) -> SmsWay | None:
            self._desk.guard(tx, principal)
            return self._texting.way(tx, now_ms)

        return await self._desk.database.read(unit)

    async def deliveries(self, invites: Iterable[Invite]) -> dict[str, Delivery]:
        """What is known of the SMS of those that were sent so, by their ids."""
        wanted = [invite for invite in invites if invite.kind is Kind.SMS]
        if not wanted:
            return {}

        def unit(tx: Transaction) -> dict[str, Delivery]:
            found = ((invite.invite_id, self._texting.delivery(tx, invite)) for invite in wanted)
            return {invite_id: delivery for invite_id, delivery in found if delivery is not None}

        return await self._desk.database.read(unit)

    def _text(self, invite: Invite, secrets: Secrets) -> str:
        desk = self._desk
        return invite_text(desk.name(), desk.origin, desk.link(invite, secrets.secret), secrets.code)

    def _sent(self, invite: Invite | Problem, secrets: Secrets) -> CreatedInvite:
        if isinstance(invite, Problem):
            raise invite
        if self._texting.is_real:
            return CreatedInvite(invite)
        url = self._desk.link(invite, secrets.secret)
        return CreatedInvite(invite, secret=secrets.secret, code=secrets.code, url=url)
