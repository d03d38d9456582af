"""Give credentials to a device, and renew them."""

from dataclasses import dataclass, replace

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, NoLonger, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import narrow
from entobot.core.secrets import same, sha256_b64u
from entobot.devices import store
from entobot.devices.authentication import Authentication
from entobot.devices.changes import Changes
from entobot.devices.dpop import Proof
from entobot.devices.model import (
    CaughtUp,
    Change,
    Credentials,
    Device,
    Expired,
    Family,
    Refusal,
    RevokeFamily,
    Rotated,
    SameSuccessor,
    Status,
    Superseded,
    WrongKey,
    refused_request,
    rotate,
)
from entobot.devices.seen import note_use
from entobot.devices.tokens import ACCESS_LIFE_S, TokenRefused, Tokens
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Presented


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A refresh token that was ours once, and the proof it came with."""

    token: str
    generation: int
    proof: Proof
    now_ms: int


class CredentialsDesk:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        tokens: Tokens,
        changes: Changes,
        authentication: Authentication,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._tokens = tokens
        self._changes = changes
        self._authentication = authentication

    def issue(self, tx: Transaction, device_id: str, now_ms: int) -> Credentials:
        """First credentials of a device. Repeating it, until one is used, voids what was given before.

        Raises `not_found`, `invite_used` once they were used, `device_suspended`, `unauthenticated` (revoked), `invalid`
        for a device without a key pair.
        """
        device = store.find_device(tx, device_id)
        if device is None:
            raise Problem(Code.NOT_FOUND, "There is no such device.")
        if device.status is not Status.ACTIVE:
            raise refused_request(Refusal.REVOKED if device.status is Status.REVOKED else Refusal.SUSPENDED)
        if device.first_used_at_ms is not None:
            raise Problem(Code.INVITE_USED, "This device's credentials are in use already. To renew them, pair again.")
        if device.thumbprint is None:
            raise Problem(Code.INVALID, "This device holds an API key; tokens are for devices that paired with a key.")
        thumbprint = device.thumbprint
        if store.delete_family(tx, device_id):
            renewed = device.renew_credentials()
            self._changes.apply(tx, device, renewed)
            device = renewed
        family_id = self._ids.new(Prefix.FAMILY)
        token = self._tokens.mint_refresh(family_id, 1)
        family = Family(family_id, device_id, thumbprint, 1, sha256_b64u(token), now_ms, now_ms)
        store.insert_family(tx, family)
        return self._credentials(tx, device, family, token, now_ms)

    async def refresh(self, refresh_token: str, presented: Presented) -> Credentials:
        """Raises `refresh_invalid`, `refresh_superseded`, `device_suspended`, and what a bad proof raises."""
        now_ms = self._clock.now_ms()
        try:
            claims = self._tokens.read_refresh(refresh_token)
        except TokenRefused:
            raise _invalid() from None
        proof = self._authentication.verify_presented_proof(presented, None, now_ms)
        attempt = _Attempt(refresh_token, claims.generation, proof, now_ms)

        def unit(tx: Transaction) -> Credentials | Problem:
            family = store.find_family(tx, claims.family_id)
            device = None if family is None else store.find_device(tx, family.device_id)
            if family is None or device is None or device.status is Status.REVOKED:
                return _invalid(NoLonger)
            return self._renew(tx, device, family, attempt)

        renewed = await self._database.write(unit)
        if isinstance(renewed, Problem):
            raise renewed
        return renewed

    def _renew(self, tx: Transaction, device: Device, family: Family, attempt: _Attempt) -> Credentials | Problem:
        """Problems are returned: what was recorded on the way to them stays."""
        rotation = rotate(family, attempt.generation, attempt.proof.thumbprint, attempt.now_ms)
        if isinstance(rotation, WrongKey):
            self._alert_wrong_key(tx, device, attempt.now_ms)
            return _invalid()
        if problem := self._authentication.spend_proof(tx, attempt.proof, attempt.now_ms):
            return problem
        if device.status is Status.SUSPENDED:
            return refused_request(Refusal.SUSPENDED)
        if isinstance(rotation, RevokeFamily):
            self._revoke_family(tx, device, attempt)
        if isinstance(rotation, Superseded):
            return Problem(
                Code.REFRESH_SUPERSEDED, "This refresh token was replaced a moment ago. Use the one that replaced it."
            )
        if isinstance(rotation, CaughtUp):
            self._note_catching_up(tx, device, family, attempt)
            family = self._advance(tx, family, rotation.generation, attempt.now_ms)
        elif isinstance(rotation, Rotated) and same(sha256_b64u(attempt.token), family.digest):
            family = self._advance(tx, family, rotation.generation, attempt.now_ms)
        elif not isinstance(rotation, SameSuccessor):
            return _invalid(NoLonger if isinstance(rotation, Expired) else Problem)
        note_use(tx, device, attempt.now_ms)
        newest = self._tokens.mint_refresh(family.family_id, family.generation)
        return self._credentials(tx, device, family, newest, attempt.now_ms)

    def _advance(self, tx: Transaction, family: Family, generation: int, now_ms: int) -> Family:
        digest = sha256_b64u(self._tokens.mint_refresh(family.family_id, generation))
        if not store.advance_family(tx, family, generation, digest, now_ms):
            raise RuntimeError("a refresh family moved within the unit that had read it")
        return replace(family, generation=generation, digest=digest, rotated_at_ms=now_ms)

    def _note_catching_up(self, tx: Transaction, device: Device, family: Family, attempt: _Attempt) -> None:
        self._audit.record(
            tx,
            AuditEvent.TOKEN_FAMILY_CAUGHT_UP,
            now_ms=attempt.now_ms,
            subject=device.device_id,
            facts={"stored_generation": family.generation, "generation": attempt.generation},
        )

    def _revoke_family(self, tx: Transaction, device: Device, attempt: _Attempt) -> None:
        """A stolen token ends everything derived from it: the family, and by the epoch every access token."""
        store.delete_family(tx, device.device_id)
        self._changes.apply(tx, device, device.renew_credentials())
        self._changes.announce(tx, device.user_id, device.device_id, Change.SIGNED_OUT, attempt.now_ms)
        self._audit.record(
            tx,
            AuditEvent.TOKEN_FAMILY_REVOKED,
            now_ms=attempt.now_ms,
            outcome=Outcome.DENIED,
            subject=device.device_id,
            facts={"reason": "replayed", "generation": attempt.generation},
        )

    def _alert_wrong_key(self, tx: Transaction, device: Device, now_ms: int) -> None:
        if store.claim_alert(tx, device.device_id, store.ALERT_KEY, now_ms):
            self._audit.record(
                tx,
                AuditEvent.TOKEN_REFRESH_REFUSED,
                now_ms=now_ms,
                outcome=Outcome.DENIED,
                subject=device.device_id,
                facts={"reason": "wrong_key"},
            )

    def _credentials(
        self, tx: Transaction, device: Device, family: Family, refresh_token: str, now_ms: int
    ) -> Credentials:
        scopes = narrow(device.scopes, self._accounts.get_user(tx, device.user_id).scopes)
        access_token, _ = self._tokens.mint_access(
            user_id=device.user_id,
            device_id=device.device_id,
            epoch=device.epoch,
            scopes=scopes,
            thumbprint=family.thumbprint,
            now_ms=now_ms,
        )
        return Credentials(
            device_id=device.device_id,
            user_id=device.user_id,
            scopes=scopes,
            access_token=access_token,
            expires_in=ACCESS_LIFE_S,
            refresh_token=refresh_token,
            refresh_expires_in=(family.expires_at_ms - now_ms) // 1000,
        )


def _invalid(kind: type[Problem] = Problem) -> Problem:
    return kind(Code.REFRESH_INVALID, "This refresh token is not valid any more. Pair the device again.")
