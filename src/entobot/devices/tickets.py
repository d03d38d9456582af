"""WebSocket tickets: a request that is allowed opens one connection, within 30 s, from where it was made."""

from dataclasses import dataclass

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import narrow
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, random_secret, same, sha256_b64u
from entobot.devices import store
from entobot.devices.authentication import Authentication
from entobot.devices.machine_standing import holds
from entobot.devices.model import (
    Authenticated,
    ConnectionRefused,
    Refusal,
    Ticket,
    refusal,
    refused_connection,
)
from entobot.devices.seen import note_use
from entobot.storage.database import Database, Transaction

TICKET_LIFE_S = 30
CONNECTION_LIFE_S = 300
"""How long a connection lives at most on a ticket alone: as long as an access token."""
TICKET_CHARACTERS = 43


@dataclass(frozen=True, slots=True)
class IssuedTicket:
    """`text` is secret: shown once, stored as a digest."""

    text: str
    expires_in: int = TICKET_LIFE_S


class TicketDesk:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        audit: Audit,
        accounts: Accounts,
        authentication: Authentication,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._audit = audit
        self._accounts = accounts
        self._authentication = authentication

    async def issue(self, principal: Principal, origin: str | None) -> IssuedTicket:
        """A ticket for the device that asks, good for the same Origin header only (None where there was none).

        Raises `forbidden` for the local owner, and what `guard` raises.
        """
        device_id = principal.device_id
        if device_id is None:
            raise Problem(Code.FORBIDDEN, "A ticket opens a device's connection; the local socket is no device.")
        now_ms = self._clock.now_ms()
        text = random_secret(self._entropy)
        ends_ms = now_ms + CONNECTION_LIFE_S * 1000
        ticket = Ticket(
            digest=sha256_b64u(text),
            user_id=principal.user_id,
            device_id=device_id,
            epoch=principal.epoch,
            thumbprint=principal.key_thumbprint,
            credential_id=principal.credential_id,
            scopes=principal.scopes,
            origin=origin,
            expires_at_ms=now_ms + TICKET_LIFE_S * 1000,
            connection_ends_ms=min(ends_ms, principal.expires_at_ms or ends_ms),
        )

        def unit(tx: Transaction) -> None:
            self._authentication.guard(tx, principal)
            store.prune_tickets(tx, now_ms)
            store.insert_ticket(tx, ticket)

        await self._database.write(unit)
        return IssuedTicket(text)

    async def spend(self, text: str, origin: str | None) -> Authenticated:
        """Who opens a connection with this ticket, of N callers one. Raises ConnectionRefused.

        A ticket that comes from elsewhere was stolen, so it is used up as well.
        """
        if len(text) != TICKET_CHARACTERS or not text.isascii():
            raise _unknown()
        now_ms, digest = self._clock.now_ms(), sha256_b64u(text)
        spent = await self._database.write(lambda tx: self._spend(tx, digest, origin, now_ms))
        if isinstance(spent, ConnectionRefused):
            raise spent
        return spent

    def _spend(
        self, tx: Transaction, digest: str, origin: str | None, now_ms: int
    ) -> Authenticated | ConnectionRefused:
        """Refusals are returned: that the ticket is gone stays."""
        ticket = store.find_ticket(tx, digest)
        if ticket is None or not store.delete_ticket(tx, digest):
            return _unknown()
        if now_ms >= ticket.expires_at_ms:
            return ConnectionRefused(Refusal.STALE, "The ticket is older than 30 s. Get a new one.")
        if (origin is None) != (ticket.origin is None) or not same(origin or "", ticket.origin or ""):
            self._alert(tx, ticket, now_ms)
            return ConnectionRefused(Refusal.BAD_CREDENTIALS, "The ticket was given to another origin.")
        device = store.find_device(tx, ticket.device_id)
        reason = refusal(device, user_id=ticket.user_id, epoch=ticket.epoch, thumbprint=ticket.thumbprint)
        if reason is not None or device is None or not holds(tx, ticket.credential_id, now_ms):
            return refused_connection(reason or Refusal.BAD_CREDENTIALS)
        note_use(tx, device, now_ms)
        scopes = narrow(ticket.scopes, device.scopes, self._accounts.get_user(tx, device.user_id).scopes)
        principal = Principal(
            device.user_id,
            scopes,
            device.device_id,
            device.epoch,
            device.thumbprint,
            ticket.connection_ends_ms,
            credential_id=ticket.credential_id,
        )
        return Authenticated(principal, device, ticket.connection_ends_ms)

    def _alert(self, tx: Transaction, ticket: Ticket, now_ms: int) -> None:
        if store.claim_alert(tx, ticket.device_id, store.ALERT_BEARER, now_ms):
            self._audit.record(
                tx,
                AuditEvent.AUTH_REFUSED,
                now_ms=now_ms,
                outcome=Outcome.DENIED,
                subject=ticket.device_id,
                facts={"reason": "wrong_origin"},
            )


def _unknown() -> ConnectionRefused:
    return ConnectionRefused(Refusal.STALE, "The ticket is not known, or was used before. Get a new one.")
