"""Who is behind a request or a connection: an access token, and a fresh proof by the key it is bound to."""

from collections.abc import Sequence

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, NoLonger, Problem
from entobot.core.permissions import narrow
from entobot.core.principal import Principal
from entobot.devices import dpop, store
from entobot.devices.api_keys import API_KEY_PREFIX, ApiKeys
from entobot.devices.dpop import Proof
from entobot.devices.key_authentication import KeyAuthentication
from entobot.devices.machine_standing import has_ended
from entobot.devices.model import (
    Authenticated,
    ConnectionRefused,
    Device,
    Refusal,
    refusal,
    refused_connection,
    refused_request,
)
from entobot.devices.seen import note_use
from entobot.devices.tokens import AccessClaims, TokenRefused, Tokens
from entobot.signin.sessions import Sessions
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Presented

PRUNE_EVERY_MS = 1_000
"""Often, so that no single transaction deletes many rows."""


class Authentication:
    """See `web.authentication.Authenticator`. `origins` are the configured ones, the public one first."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        accounts: Accounts,
        tokens: Tokens,
        api_keys: ApiKeys,
        origins: Sequence[str],
        sessions: Sessions | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._accounts = accounts
        self._tokens = tokens
        self._origins = tuple(origins)
        self._pruned_at_ms = 0
        self._sessions = sessions
        self._keys = KeyAuthentication(
            database=database, clock=clock, audit=audit, accounts=accounts, api_keys=api_keys
        )

    def urls(self, path: str) -> tuple[str, ...]:
        """Every address under which `path` may be named in a proof."""
        return tuple(origin + path for origin in self._origins)

    def verify_presented_proof(self, presented: Presented, access_token: str | None, now_ms: int) -> Proof:
        """The one proof of a request. Its jti is not spent yet (`spend_proof`). Raises Problem."""
        if len(presented.proofs) > 1:
            raise Problem(Code.PROOF_INVALID, "Send one DPoP header, not several.")
        return dpop.verify_proof(
            presented.proofs[0] if presented.proofs else "",
            method=presented.method,
            url=self.urls(presented.path),
            now_ms=now_ms,
            access_token=access_token,
            nonce=None,
        )

    def spend_proof(self, tx: Transaction, proof: Proof, now_ms: int) -> Problem | None:
        """Use up a proof's jti. Returns `proof_invalid` for one that was used before, on any node, in any life."""
        if now_ms - self._pruned_at_ms >= PRUNE_EVERY_MS or now_ms < self._pruned_at_ms:
            store.prune_proofs(tx, now_ms)
            self._pruned_at_ms = now_ms
        is_fresh = store.spend_proof(tx, proof.thumbprint, proof.jti, now_ms + dpop.JTI_KEPT_MS)
        if is_fresh:
            return None
        return Problem(Code.PROOF_INVALID, "The DPoP proof was used before. Make a new one for each request.")

    async def authenticate(self, presented: Presented) -> Principal:
        if self._sessions is not None and presented.authorization is None and presented.session is not None:
            return await self._sessions.authenticate(presented)
        now_ms = self._clock.now_ms()
        scheme, token = _credentials(presented)
        if scheme == "bearer" and token.startswith(API_KEY_PREFIX):
            return await self._authenticate_key(token, presented.address)
        try:
            claims = self._tokens.verify_access(token, now_ms)
        except TokenRefused as error:
            kind = NoLonger if error.is_expired else Problem
            raise kind(Code.UNAUTHENTICATED, str(error)) from None
        if scheme != "dpop" or not presented.proofs:
            await self._alert(claims, store.ALERT_BEARER, "no_proof", now_ms)
            raise Problem(
                Code.PROOF_REQUIRED, "This token is bound to a key: send it as 'Authorization: DPoP' with a DPoP proof."
            )
        proof = self.verify_presented_proof(presented, token, now_ms)
        if proof.thumbprint != claims.thumbprint:
            await self._alert(claims, store.ALERT_KEY, "wrong_key", now_ms)
            raise Problem(Code.PROOF_INVALID, "The DPoP proof is by another key than the token's.")

        def admit(tx: Transaction) -> Device | Refusal | Problem:
            return self.spend_proof(tx, proof, now_ms) or self._admit(tx, claims, now_ms)

        admitted = await self._database.write(admit, is_small=True)
        if isinstance(admitted, Problem):
            raise admitted
        if isinstance(admitted, Refusal):
            raise refused_request(admitted)
        return _principal(claims, admitted)

    async def _authenticate_key(self, key: str, address: str) -> Principal:
        try:
            return (await self._keys.authenticate(key, address)).principal
        except ConnectionRefused as refused:
            if refused.reason is Refusal.RATE_LIMITED:
                raise Problem(Code.RATE_LIMITED, refused.detail, retry_after_s=refused.retry_after_s) from None
            code = Code.DEVICE_SUSPENDED if refused.reason is Refusal.SUSPENDED else Code.UNAUTHENTICATED
            kind = Problem if refused.reason is Refusal.BAD_CREDENTIALS else NoLonger
            raise kind(code, refused.detail) from None

    def scale(self, nodes: int) -> None:
        """How many nodes share what is allowed in failures."""
        self._keys.scale(nodes)

    async def authenticate_key_connection(self, key: str, address: str) -> Authenticated:
        """Who opens (or renews) a connection with an API key. Raises ConnectionRefused."""
        return await self._keys.authenticate(key, address)

    async def authenticate_connection(self, token: str, proof: str, nonce: str) -> Authenticated:
        """Who opens (or renews) a connection. Raises ConnectionRefused.

        The proof's jti is not kept: the gateway gives each nonce to one connection and takes one answer to it, so
        that a proof seen once is worth nothing afterwards.
        """
        now_ms = self._clock.now_ms()
        try:
            claims = self._tokens.verify_access(token, now_ms)
            shown = dpop.verify_proof(
                proof, method="GET", url=self.urls("/ws"), now_ms=now_ms, access_token=token, nonce=nonce
            )
        except TokenRefused as error:
            reason = Refusal.STALE if error.is_expired else Refusal.BAD_CREDENTIALS
            raise ConnectionRefused(reason, str(error)) from None
        except Problem as problem:
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, problem.detail) from None
        if shown.thumbprint != claims.thumbprint:
            await self._alert(claims, store.ALERT_KEY, "wrong_key", now_ms)
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "The proof is by another key than the token's.")
        admitted = await self._database.write(lambda tx: self._admit(tx, claims, now_ms), is_small=True)
        if isinstance(admitted, Refusal):
            raise refused_connection(admitted)
        return Authenticated(_principal(claims, admitted), admitted, claims.expires_at_ms)

    async def local_owner(self) -> Principal:
        owner = await self._database.read(self._accounts.find_owner, is_small=True)
        if owner is None:
            now_ms = self._clock.now_ms()
            owner = await self._database.write(lambda tx: self._accounts.ensure_owner(tx, now_ms), is_small=True)
        return Principal(owner.user_id, owner.scopes)

    def guard(self, tx: Transaction, principal: Principal) -> None:
        """Refuse a principal whose device has changed, or whose session has ended, since it was authenticated.

        Called in the unit that acts. Raises `device_suspended`, `unauthenticated`.
        """
        if principal.device_id is None:
            if self._sessions is not None:
                self._sessions.guard(tx, principal)
            return
        device = store.find_binding(tx, principal.device_id)
        reason = refusal(device, user_id=principal.user_id, epoch=principal.epoch, thumbprint=principal.key_thumbprint)
        if reason is not None:
            raise refused_request(reason)
        if has_ended(tx, principal, self._clock.now_ms()):
            raise NoLonger(Code.UNAUTHENTICATED, "This key was revoked, or has run out.")

    def _admit(self, tx: Transaction, claims: AccessClaims, now_ms: int) -> Device | Refusal:
        device = store.find_device(tx, claims.device_id)
        reason = refusal(device, user_id=claims.user_id, epoch=claims.epoch, thumbprint=claims.thumbprint)
        if reason is not None or device is None:
            return reason or Refusal.BAD_CREDENTIALS
        note_use(tx, device, now_ms)
        return device

    async def _alert(self, claims: AccessClaims, alert: str, reason: str, now_ms: int) -> None:
        """Audit that a valid token was shown by somebody who could not prove its key."""

        def unit(tx: Transaction) -> None:
            if store.claim_alert(tx, claims.device_id, alert, now_ms):
                self._audit.record(
                    tx,
                    AuditEvent.AUTH_REFUSED,
                    now_ms=now_ms,
                    outcome=Outcome.DENIED,
                    subject=claims.device_id,
                    facts={"reason": reason},
                )

        await self._database.write(unit)


def _principal(claims: AccessClaims, device: Device) -> Principal:
    scopes = narrow(claims.scopes, device.scopes)
    return Principal(device.user_id, scopes, device.device_id, device.epoch, device.thumbprint, claims.expires_at_ms)


def _credentials(presented: Presented) -> tuple[str, str]:
    """The scheme, lower case, and the token. Raises `unauthenticated`."""
    if presented.authorization is None:
        raise Problem(
            Code.UNAUTHENTICATED,
            "This address needs a device token with a proof (Authorization: DPoP) or an API key (Authorization: Bearer).",
        )
    if presented.has_cookie:
        raise Problem(Code.UNAUTHENTICATED, "Send either a cookie or an Authorization header, not both.")
    scheme, _, token = presented.authorization.partition(" ")
    scheme = scheme.lower()
    if scheme not in ("dpop", "bearer") or not token:
        raise Problem(
            Code.UNAUTHENTICATED,
            "The Authorization header must be 'DPoP' and a device token, or 'Bearer' and an API key.",
        )
    return scheme, token
