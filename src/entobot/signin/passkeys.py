"""Passkeys: W3C Web Authentication, checked by py_webauthn, with challenges that are answered once."""

import asyncio
import json
import threading
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.names import clean_name
from entobot.core.principal import Principal
from entobot.core.secrets import b64u, sha256, unb64u
from entobot.signin import store
from entobot.signin.challenges import Challenges, read_challenge
from entobot.signin.model import CHALLENGE_LIFE_MS, MAX_PASSKEYS, Method, Passkey
from entobot.signin.sessions import Browser, Opened, Sessions
from entobot.storage.database import Database, Transaction

SIGN_IN = "sign-in"
Credential = dict[str, Any]
"""What `PublicKeyCredential.toJSON()` gives."""
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What parsers raise on what a stranger made up: members of other types, texts that nest without end."""


class Passkeys:
    """`origin` is the gateway's own; its host is the relying party, so it must be a name and no address."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        accounts: Accounts,
        sessions: Sessions,
        challenges: Challenges,
        origin: str,
        gateway_name: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._accounts = accounts
        self._sessions = sessions
        self._challenges = challenges
        self._origin = origin
        self._host = urlsplit(origin).hostname or ""
        self.gateway_name = gateway_name

    @property
    def are_possible(self) -> bool:
        """Browsers make passkeys for names, not for addresses."""
        try:
            ip_address(self._host)
        except ValueError:
            return True
        return False

    # -- a passkey is added

    async def registration_options(self, principal: Principal) -> dict[str, Any]:
        """For `navigator.credentials.create`. Raises `forbidden` for who may not `add`, `invalid` where the address is no
        name.
        """
        self._check_holder(principal)
        self._check_name()
        known = await self._database.read(lambda tx: self._known(tx, principal))
        user, passkeys = known
        library = await _library()
        challenge = self._challenges.new(_registering(principal.user_id), self._clock.now_ms())
        options = library.generate_registration_options(
            rp_id=self._host,
            rp_name=self.gateway_name,
            user_id=user.user_id.encode(),
            user_name=user.login,
            user_display_name=user.name,
            challenge=challenge,
            timeout=CHALLENGE_LIFE_MS,
            authenticator_selection=library.structs.AuthenticatorSelectionCriteria(
                resident_key=_residency(library, principal),
                user_verification=library.structs.UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[
                library.structs.PublicKeyCredentialDescriptor(id=unb64u(one.passkey_id)) for one in passkeys
            ],
        )
        return library.options_to_json_dict(options)

    async def add(self, principal: Principal, name: str, credential: Credential) -> Passkey:
        """Of a person who is signed in, or of a device that has none yet, for itself: then it signs nobody in.

        Raises `forbidden` for what was not made for this person and this gateway just now, `invalid`.
        """
        self._check_holder(principal)
        self._check_name()
        name, now_ms = clean_name(name, "passkey's name"), self._clock.now_ms()
        challenge, ends_ms = self._answered(credential, _registering(principal.user_id), now_ms)
        library = await _library()
        try:
            verified = library.verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                require_user_verification=True,
            )
        except (library.WebAuthnException, *_MALFORMED):
            raise _refused() from None
        passkey = Passkey(
            passkey_id=library.bytes_to_base64url(verified.credential_id),
            user_id=principal.user_id,
            name=name,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            is_backed_up=verified.credential_backed_up,
            created_at_ms=now_ms,
            last_used_at_ms=None,
            device_id=principal.device_id,
        )

        def unit(tx: Transaction) -> Passkey:
            self._sessions.recheck(tx, principal)
            if passkey.device_id is not None:
                self._check_first(tx, passkey)
            if store.count_passkeys(tx, principal.user_id) >= MAX_PASSKEYS:
                raise Problem(Code.INVALID, f"A person has at most {MAX_PASSKEYS} passkeys. Remove one first.")
            if not store.answer_challenge(tx, sha256(challenge), ends_ms, now_ms):
                raise _refused()
            rests = self._sessions.rests_on_password(tx, principal)
            if not store.insert_passkey(tx, replace(passkey, rests_on_password=rests)):
                raise Problem(Code.INVALID, "This passkey is registered already.")
            self._record(tx, principal, AuditEvent.PASSKEY_ADDED, passkey, now_ms)
            return passkey

        return await self._database.write(unit)

    # -- a passkey signs in

    async def sign_in_options(self) -> dict[str, Any]:
        """For `navigator.credentials.get`; the authenticator knows whose passkeys it holds. Costs no row."""
        self._check_name()
        library = await _library()
        options = library.generate_authentication_options(
            rp_id=self._host,
            challenge=self._challenges.new(SIGN_IN, self._clock.now_ms()),
            timeout=CHALLENGE_LIFE_MS,
            user_verification=library.structs.UserVerificationRequirement.REQUIRED,
        )
        return library.options_to_json_dict(options)

    async def sign_in(self, credential: Credential, browser: Browser) -> tuple[User, Opened]:
        """Raises `unauthenticated` for anything that is not a fresh answer by a passkey that is known here."""
        self._check_name()
        now_ms = self._clock.now_ms()
        challenge, ends_ms = self._answered(credential, SIGN_IN, now_ms)
        passkey_id = _id(credential)
        known = await self._database.read(lambda tx: store.find_passkey(tx, passkey_id), is_small=True)
        if known is None or known.device_id is not None:
            raise _refused()
        passkey, library = known, await _library()
        try:
            verified = library.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except (library.WebAuthnException, *_MALFORMED):
            raise _refused() from None

        def unit(tx: Transaction) -> tuple[User, Opened]:
            still = store.find_passkey(tx, passkey.passkey_id)
            if still != passkey or not store.answer_challenge(tx, sha256(challenge), ends_ms, now_ms):
                raise _refused()
            store.note_used(
                tx,
                passkey.passkey_id,
                sign_count=verified.new_sign_count,
                is_backed_up=verified.credential_backed_up,
                now_ms=now_ms,
            )
            user = self._accounts.get_user(tx, passkey.user_id)
            rests = passkey.rests_on_password
            return user, self._sessions.open(tx, user, Method.PASSKEY, browser, now_ms, rests_on_password=rests)

        return await self._database.write(unit)

    # -- a passkey says who holds a device

    def verify(
        self, tx: Transaction, principal: Principal, challenge: bytes, credential: Credential, now_ms: int
    ) -> str:
        """The id of the passkey of this person that has signed `challenge` after a check of who holds the device: one
        that signs them in, or their own device's. Raises `signature_invalid`, and `invalid` where there can be none.

        Part of a unit. The challenge is what the caller stands by; that it is used once is the caller's to see to.
        """
        self._check_name()
        try:
            passkey = store.find_passkey(tx, _id(credential))
        except Problem:
            raise _not_signed() from None
        is_own = passkey is not None and passkey.user_id == principal.user_id
        if passkey is None or not is_own or passkey.device_id not in (None, principal.device_id):
            raise _not_signed()
        library = _load()
        try:
            verified = library.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except (library.WebAuthnException, *_MALFORMED):
            raise _not_signed() from None
        store.note_used(
            tx,
            passkey.passkey_id,
            sign_count=verified.new_sign_count,
            is_backed_up=verified.credential_backed_up,
            now_ms=now_ms,
        )
        return passkey.passkey_id

    def warm(self) -> None:
        """Load the library in a thread: a passkey is likely to be shown soon."""
        threading.Thread(target=_load, name="passkeys", daemon=True).start()

    # -- those that there are

    async def find_all(self, principal: Principal) -> list[Passkey]:
        """One's own, oldest first."""
        return (await self._database.read(lambda tx: self._known(tx, principal)))[1]

    async def rename(self, principal: Principal, passkey_id: str, name: str) -> None:
        """Raises `not_found`, `invalid`."""
        name = clean_name(name, "passkey's name")

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            if not store.rename_passkey(tx, principal.user_id, passkey_id, name):
                raise _unknown()

        await self._database.write(unit)

    async def remove(self, principal: Principal, passkey_id: str) -> None:
        """Raises `not_found`, and `forbidden` outside a session."""
        self._check_session(principal)
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._sessions.recheck(tx, principal)
            passkey = store.find_passkey(tx, passkey_id)
            if passkey is None or not store.delete_passkey(tx, principal.user_id, passkey_id):
                raise _unknown()
            self._record(tx, principal, AuditEvent.PASSKEY_REMOVED, passkey, now_ms)

        await self._database.write(unit)

    def _known(self, tx: Transaction, principal: Principal) -> tuple[User, list[Passkey]]:
        self._sessions.recheck(tx, principal)
        return self._accounts.get_user(tx, principal.user_id), store.passkeys_of(tx, principal.user_id)

    def _check_holder(self, principal: Principal) -> None:
        """A person who is signed in, or a device with a key of its own."""
        if principal.key_thumbprint is None:
            self._check_session(principal)

    def _check_first(self, tx: Transaction, passkey: Passkey) -> None:
        """Whoever holds an unlocked device must not be able to put a passkey in the place of its owner's."""
        if any(one.device_id == passkey.device_id for one in store.passkeys_of(tx, passkey.user_id)):
            raise Problem(
                Code.FORBIDDEN, "This device has a passkey. Remove it in the dashboard before it can have another one."
            )

    def _check_session(self, principal: Principal) -> None:
        if principal.session_id is None:
            raise Problem(Code.FORBIDDEN, "This is for a person who is signed in with a browser.")

    def _check_name(self) -> None:
        if self.are_possible:
            return
        raise Problem(
            Code.INVALID,
            f"Browsers make passkeys for names, not for addresses such as {self._host}. Set gateway.public_url to a name.",
        )

    def _answered(self, credential: Credential, purpose: str, now_ms: int) -> tuple[bytes, int]:
        """The challenge that was signed, if it is one of ours and not over, and when it ends."""
        try:
            told = json.loads(unb64u(credential["response"]["clientDataJSON"]))
            challenge = read_challenge(told["challenge"])
        except _MALFORMED:
            raise _refused() from None
        ends_ms = self._challenges.end_ms(challenge, purpose, now_ms)
        if ends_ms is None:
            raise _refused()
        return challenge, ends_ms

    def _record(self, tx: Transaction, principal: Principal, event: AuditEvent, passkey: Passkey, now_ms: int) -> None:
        self._audit.record(
            tx,
            event,
            now_ms=now_ms,
            actor=principal,
            subject=principal.user_id,
            facts={"is_backed_up": passkey.is_backed_up},
            personal={"name": passkey.name},
        )


def _id(credential: Credential) -> str:
    """In the one form in which ids are stored; so no text that a database does not take."""
    try:
        return b64u(unb64u(credential["id"]))
    except _MALFORMED:
        raise _refused() from None


def _registering(user_id: str) -> str:
    return f"register {user_id}"


def _refused() -> Problem:
    return Problem(Code.UNAUTHENTICATED, "This passkey was not accepted. Try again, or ask for a new link.")


def _residency(library: Any, principal: Principal) -> Any:
    """What signs in must be found by the browser; what a device has for itself shall not be offered there."""
    kinds = library.structs.ResidentKeyRequirement
    return kinds.REQUIRED if principal.session_id is not None else kinds.DISCOURAGED


def _not_signed() -> Problem:
    return Problem(Code.SIGNATURE_INVALID, "This passkey does not stand for it. Try again with one of your own.")


def _unknown() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such passkey.")


async def _library() -> Any:
    """py_webauthn takes a tenth of a second to load, and most gateways have no browser signing in for a long time."""
    return await asyncio.to_thread(_load)


def _load() -> Any:
    from entobot.signin import webauthn_library

    return webauthn_library
