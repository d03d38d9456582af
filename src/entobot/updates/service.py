"""Use cases of release keys and releases: register, take in, look, give to the boards of a roll-out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.names import clean_name
from entobot.core.principal import Principal
from entobot.core.secrets import b64u, unb64u
from entobot.storage.database import Database, Transaction
from entobot.updates import store
from entobot.updates.manifest import Envelope, Malformed, read_release
from entobot.updates.model import DeviceState, State
from entobot.updates.store import PART_BYTES, Release, ReleaseKey

MAX_KEYS = 16
MAX_RELEASES = 200
MAX_PAGE = 100
_LOADING = (DeviceState.OFFERED, DeviceState.DOWNLOADING)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes from `first` up to `end` of a release."""

    release: Release
    first: int
    end: int


class Updates:
    """`guard` refuses credentials that have ended since. `on_key_removed` hears in the unit that removes a key."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        guard: Callable[[Transaction, Principal], None],
    ) -> None:
        self.on_key_removed: list[Callable[[Transaction, str, int], None]] = []
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._guard = guard

    # -- release keys

    def add_key(self, tx: Transaction, by: Principal, public_key: str, name: str, now_ms: int) -> ReleaseKey:
        """From now on releases that it signed are taken. Raises `invalid`, `quota_exceeded`."""
        self._guard(tx, by)
        from entobot.updates.signing import is_usable_key

        try:
            is_good = is_usable_key(unb64u(public_key))
        except ValueError:
            is_good = False
        if not is_good:
            raise Problem(Code.INVALID, "This is no public release key: 'entobot updates keygen' prints one.")
        if len(store.list_keys(tx)) >= MAX_KEYS:
            raise Problem(Code.QUOTA_EXCEEDED, f"There are {MAX_KEYS} release keys already. Remove some first.")
        one = ReleaseKey(public_key, clean_name(name, "name"), by.device_id or by.user_id, now_ms)
        if not store.add_key(tx, one):
            raise Problem(Code.INVALID, "This release key is registered already.")
        self._audit.record(tx, AuditEvent.RELEASE_KEY_ADDED, now_ms=now_ms, actor=by, subject=public_key)
        return one

    def keys(self, tx: Transaction, principal: Principal) -> list[ReleaseKey]:
        self._guard(tx, principal)
        return store.list_keys(tx)

    def remove_key(self, tx: Transaction, by: Principal, public_key: str, now_ms: int) -> None:
        """What it signed is not rolled out any more; boards go on trusting the keys in their settings.

        Raises `not_found`.
        """
        self._guard(tx, by)
        if not store.drop_key(tx, public_key):
            raise Problem(Code.NOT_FOUND, "There is no such release key.")
        self._audit.record(tx, AuditEvent.RELEASE_KEY_REMOVED, now_ms=now_ms, actor=by, subject=public_key)
        for tell in self.on_key_removed:
            tell(tx, public_key, now_ms)

    # -- releases

    async def add(self, by: Principal, data: bytes) -> Release:
        """Take a signed release in. The same one again is the one that is there.

        Raises `invalid`, `signature_invalid`, `quota_exceeded`.
        """
        now_ms = self._clock.now_ms()
        found = await asyncio.to_thread(_read, data)
        release_id = self._ids.new(Prefix.RELEASE)

        def unit(tx: Transaction) -> Release | Problem:
            self._guard(tx, by)
            if isinstance(found, Problem):
                return self._refuse(tx, by, found, now_ms)
            if store.find_key(tx, b64u(found.key)) is None:
                said = f"It is signed by the key {b64u(found.key)}, which is not registered here."
                return self._refuse(tx, by, Problem(Code.SIGNATURE_INVALID, said), now_ms)
            return self._add(tx, by, release_id, found, data, now_ms)

        made = await self._database.write(unit)
        if isinstance(made, Problem):
            raise made
        return made

    def _refuse(self, tx: Transaction, by: Principal, problem: Problem, now_ms: int) -> Problem:
        facts = {"reason": problem.code.value}
        self._audit.record(tx, AuditEvent.RELEASE_REFUSED, now_ms=now_ms, outcome=Outcome.DENIED, actor=by, facts=facts)
        return problem

    def _add(
        self, tx: Transaction, by: Principal, release_id: str, envelope: Envelope, data: bytes, now_ms: int
    ) -> Release:
        manifest = envelope.manifest
        before = store.find_version(tx, manifest.type, manifest.version)
        if before is not None:
            if before.manifest == envelope.text and before.public_key == b64u(envelope.key):
                return before
            raise Problem(Code.INVALID, f"There is a {manifest.type} {manifest.version} already, and it is another.")
        if store.count_releases(tx) >= MAX_RELEASES:
            raise Problem(Code.QUOTA_EXCEEDED, f"There are {MAX_RELEASES} releases already. Remove some first.")
        release = Release(
            release_id=release_id,
            type=manifest.type,
            version=manifest.version,
            manifest=envelope.text,
            public_key=b64u(envelope.key),
            envelope_bytes=envelope.size,
            size=len(data),
            added_by=by.device_id or by.user_id,
            added_at_ms=now_ms,
        )
        store.add_release(tx, release, data)
        facts = {"type": release.type, "version": release.version, "key": release.public_key}
        self._audit.record(
            tx, AuditEvent.RELEASE_ADDED, now_ms=now_ms, actor=by, subject=release.release_id, facts=facts
        )
        return release

    def page(
        self, tx: Transaction, principal: Principal, before: str | None, limit: int
    ) -> tuple[list[Release], str | None]:
        """Newest first, and the cursor of the next page."""
        self._guard(tx, principal)
        rows = store.page_of_releases(tx, before or store.LAST, limit + 1)
        return rows[:limit], rows[limit - 1].release_id if len(rows) > limit else None

    def remove(self, tx: Transaction, by: Principal, release_id: str, now_ms: int) -> Release:
        """Raises `not_found`, and `invalid` while it is being rolled out."""
        self._guard(tx, by)
        found = store.find_release(tx, release_id) if is_id(release_id, Prefix.RELEASE) else None
        if found is None:
            raise _no_release()
        if not store.drop_release(tx, release_id):
            raise Problem(Code.INVALID, "It is being rolled out. Abort the roll-out first.")
        facts = {"type": found.type, "version": found.version}
        self._audit.record(tx, AuditEvent.RELEASE_REMOVED, now_ms=now_ms, actor=by, subject=release_id, facts=facts)
        return found

    # -- bytes

    def open_piece(self, tx: Transaction, who: Principal, release_id: str, asked: tuple[int, int | None]) -> Piece:
        """What a board asked for: from a byte up to and with another, or to the end.

        Only for a device to which a roll-out that runs brings it now. Raises `not_found`, `invalid`.
        """
        self._guard(tx, who)
        rows = [] if who.device_id is None else store.open_of_device(tx, who.device_id)
        for row in rows:
            rollout = store.find_rollout(tx, row.rollout_id)
            if rollout is None or rollout.release_id != release_id or rollout.state is not State.RUNNING:
                continue
            release = store.find_release(tx, release_id)
            if release is not None and row.state in _LOADING:
                first, last = asked
                end = release.size if last is None else min(last + 1, release.size)
                if not first < end:
                    raise Problem(Code.INVALID, f"This release has {release.size} bytes.")
                return Piece(release, first, end)
        raise _no_release()

    async def bytes_of(self, piece: Piece) -> AsyncIterator[bytes]:
        """Part by part. Ends early, by an exception, when the release is removed meanwhile."""
        at = piece.first
        while at < piece.end:
            number, start = divmod(at, PART_BYTES)
            data = await self._database.read(lambda tx, number=number: store.part(tx, piece.release.release_id, number))
            if data is None:
                raise LookupError("the release was removed while it was being read")
            some = data[start : start + piece.end - at]
            at += len(some)
            yield some


def _read(data: bytes) -> Envelope | Problem:
    from entobot.updates.signing import is_signed

    try:
        envelope = read_release(data)
    except Malformed as error:
        return Problem(Code.INVALID, str(error))
    if not is_signed(envelope):
        return Problem(Code.SIGNATURE_INVALID, "The signature does not fit the manifest. Sign it again.")
    return envelope


def _no_release() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such release.")
