"""Use cases of files. Methods that take a transaction are units, or parts of them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import Fact
from entobot.audit.service import Audit
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.files import store
from entobot.files.model import (
    ARRIVES_WITHIN,
    MAX_PER_MESSAGE,
    PART_BYTES,
    WAITS_FOR,
    Attachment,
    File,
    Room,
    State,
    check_room,
    checked_name,
)
from entobot.files.sniffing import BYTES, HEAD_BYTES, media_type_of
from entobot.storage.database import Database, Transaction

MAX_PAGE = 100
SWEEP_COUNT = 20
SENDERS = frozenset({Scope.CHAT, Scope.NOTIFY})
"""Who may bring a file: people who write, and programs that tell people something."""


class Files:
    """`guard` refuses credentials that have ended since, as `devices.guard`; `types` are the kinds taken, empty: all."""

    def __init__(
        self,
        *,
        ids: Ids,
        audit: Audit,
        guard: Callable[[Transaction, Principal], None],
        room: Room,
        types: Sequence[str] = (),
    ) -> None:
        self.room = room
        self.types = tuple(types)
        self._ids = ids
        self._audit = audit
        self._guard = guard

    # -- arriving

    def announce(self, tx: Transaction, principal: Principal, name: str, size: int, now_ms: int) -> File:
        """Make room for a file of `size` bytes, which then arrives in parts.

        Raises `forbidden`, `invalid`, `too_large`, `quota_exceeded`, `storage_full`.
        """
        self._guard(tx, principal)
        if not SENDERS & principal.scopes:
            principal.require(Scope.CHAT)
        if size < 1:
            raise Problem(Code.INVALID, "An empty file cannot be sent.")
        name = checked_name(name)
        kept = store.kept(tx, principal.user_id)
        check_room(self.room, size, kept.of_person, kept.in_all)
        file = File(
            file_id=self._ids.new(Prefix.FILE),
            user_id=principal.user_id,
            device_id=principal.device_id,
            name=name,
            media_type=BYTES,
            size=size,
            state=State.ARRIVING,
            created_at_ms=now_ms,
        )
        store.insert_file(tx, file)
        return file

    def put_part(self, tx: Transaction, principal: Principal, file_id: str, number: int, data: bytes) -> None:
        """Keep one part. Sent again it changes nothing. Raises `not_found` and `invalid`."""
        self._guard(tx, principal)
        file = self._own(tx, principal, file_id)
        if len(data) != file.part_size(number):
            said = f"Part {number} of this file has {file.part_size(number)} bytes; {len(data)} came."
            raise Problem(Code.INVALID, said)
        store.put_part(tx, file_id, number, data)

    def missing(self, tx: Transaction, file: File) -> list[int]:
        """The numbers of the parts that have not arrived."""
        if file.state is not State.ARRIVING:
            return []
        return sorted(set(range(file.parts)) - set(store.numbers(tx, file.file_id)))

    def finish(self, tx: Transaction, principal: Principal, file_id: str, now_ms: int) -> File | Problem:
        """The file is whole, and all its parts are durable. Repeated: the same.

        Raises `not_found`, `file_not_whole`. A returned `type_refused` says that it was dropped in this unit.
        """
        self._guard(tx, principal)
        file = self._own(tx, principal, file_id)
        if file.state is State.KEPT:
            return file
        if missing := self.missing(tx, file):
            said = f"{len(missing)} of {file.parts} parts are missing. Send them, then finish again."
            raise Problem(Code.FILE_NOT_WHOLE, said, extra={"missing": missing[:100]})
        media_type = media_type_of((store.part(tx, file_id, 0) or b"")[:HEAD_BYTES])
        kept = replace(file, state=State.KEPT, media_type=media_type)
        refusal = self._type_refusal(kept)
        if refusal is not None:
            self.refuse(tx, principal, kept, refusal.code, now_ms)
            return refusal
        won = store.finish(tx, file_id, media_type)
        assert won, "the row was arriving in this very unit"
        self._record(tx, AuditEvent.FILE_ADDED, kept, now_ms, principal)
        return kept

    def _type_refusal(self, file: File) -> Problem | None:
        kind = f"{file.media_type.partition('/')[0]}/*"
        if self.types and file.media_type not in self.types and kind not in self.types:
            said = f"'{file.name}' looks like {file.media_type}. This gateway takes {', '.join(self.types)}."
            return Problem(Code.TYPE_REFUSED, said)
        return None

    def refuse(self, tx: Transaction, principal: Principal, file: File, reason: Code, now_ms: int) -> None:
        """Drop a whole file that was not what it had to be, and say so in the audit log."""
        store.drop(tx, file.file_id)
        self._record(tx, AuditEvent.FILE_REFUSED, file, now_ms, principal, reason=str(reason))

    # -- belonging to a message

    def attach(
        self, tx: Transaction, user_id: str, file_ids: Sequence[str], message_id: str, conversation_id: str
    ) -> list[Attachment]:
        """Give whole files of this person to a message, each once. Raises `not_found`, `file_not_whole`, `invalid`."""
        if len(file_ids) > MAX_PER_MESSAGE or len(set(file_ids)) != len(file_ids):
            raise Problem(Code.INVALID, f"A message has at most {MAX_PER_MESSAGE} files, each once.")
        return [self._attach(tx, user_id, file_id, message_id, conversation_id) for file_id in file_ids]

    def _attach(self, tx: Transaction, user_id: str, file_id: str, message_id: str, conversation_id: str) -> Attachment:
        file = store.find(tx, file_id)
        if file is None or file.user_id != user_id or file.state is State.DROPPED:
            raise _unknown()
        if file.state is State.ARRIVING:
            raise Problem(Code.FILE_NOT_WHOLE, f"'{file.name}' has not arrived as a whole. Finish it first.")
        if not store.attach(tx, user_id, file_id, message_id, conversation_id):
            raise Problem(Code.INVALID, f"'{file.name}' belongs to another message already. Send it anew.")
        return file.attachment()

    # -- reading

    def get(self, tx: Transaction, principal: Principal, file_id: str) -> File:
        """For whoever reads this person's conversations, and who brought it. Raises `not_found`, also for others'."""
        file = store.find(tx, file_id)
        if file is None or file.state is State.DROPPED or not _may_see(principal, file):
            raise _unknown()
        return file

    def list(
        self, tx: Transaction, principal: Principal, cursor: str | None, limit: int
    ) -> "tuple[list[File], str | None]":
        """A page of whole files, newest first, and the cursor of the next."""
        principal.require(Scope.CHAT)
        limit = max(1, min(limit, MAX_PAGE))
        rows = store.page(tx, principal.user_id, cursor or store.LAST, limit + 1)
        return rows[:limit], rows[limit - 1].file_id if len(rows) > limit else None

    def used(self, tx: Transaction, user_id: str) -> int:
        """Bytes of this person's files."""
        return store.kept(tx, user_id).of_person

    def loose(self, tx: Transaction, principal: Principal, file_id: str) -> File:
        """A whole file of this device that no message has. Raises `not_found`, `file_not_whole`."""
        file = self._own(tx, principal, file_id)
        if file.state is State.ARRIVING:
            raise Problem(Code.FILE_NOT_WHOLE, f"'{file.name}' has not arrived as a whole. Finish it first.")
        if file.message_id is not None:
            raise _unknown()
        return file

    def drop(self, tx: Transaction, file_id: str) -> None:
        """It is of no use any more. Its bytes go by `erase`, at the latest with the next sweep."""
        store.drop(tx, file_id)

    async def small(self, database: Database, file_id: str, max_bytes: int) -> bytes | None:
        """A whole file of at most so many bytes; None when it is larger, or gone."""
        file = await database.read(lambda tx: store.find(tx, file_id))
        if file is None or file.state is not State.KEPT or file.size > max_bytes:
            return None
        try:
            return b"".join([part async for part in self.content(database, file)])
        except LookupError:
            return None

    async def content(self, database: Database, file: File) -> AsyncIterator[bytes]:
        """Part by part. Ends early, by an exception, when it is deleted meanwhile."""
        for number in range(file.parts):
            data = await database.read(lambda tx, number=number: store.part(tx, file.file_id, number))
            if data is None:
                raise LookupError("the file was deleted while it was being read")
            yield data

    # -- ending

    def delete(self, tx: Transaction, principal: Principal, file_id: str, now_ms: int) -> File:
        """Nobody reads it from now on; messages go on naming it. Its bytes go by `erase`. Raises `not_found`."""
        self._guard(tx, principal)
        file = self.get(tx, principal, file_id)
        store.drop(tx, file_id)
        self._record(tx, AuditEvent.FILE_DELETED, file, now_ms, principal)
        return file

    async def erase(self, database: Database, file_id: str) -> None:
        """Remove the bytes of a dropped file, a part at a time: others' commits go in between."""
        for number in await database.read(lambda tx: store.numbers(tx, file_id)):
            await database.write(lambda tx, number=number: store.erase_part(tx, file_id, number))
        await database.write(lambda tx: store.forget(tx, file_id))

    async def sweep(self, database: Database, now_ms: int) -> int:
        """Drop what did not arrive or found no message in time, and erase what was dropped. Returns how many went."""
        while await database.write(lambda tx: self._drop_some(tx, now_ms)):
            pass
        count = 0
        while found := await database.read(lambda tx: store.dropped(tx, SWEEP_COUNT)):
            for file_id in found:
                await self.erase(database, file_id)
            count += len(found)
        return count

    def _drop_some(self, tx: Transaction, now_ms: int) -> int:
        late = store.left_over(tx, now_ms - to_ms(ARRIVES_WITHIN), now_ms - to_ms(WAITS_FOR), SWEEP_COUNT)
        for file in late:
            store.drop(tx, file.file_id)
            self._record(tx, AuditEvent.FILE_EXPIRED, file, now_ms, None)
        return len(late)

    # -- small parts

    def _own(self, tx: Transaction, principal: Principal, file_id: str) -> File:
        file = store.find(tx, file_id)
        if file is None or file.state is State.DROPPED or not _brought(principal, file):
            raise _unknown()
        return file

    def _record(
        self, tx: Transaction, event: AuditEvent, file: File, now_ms: int, actor: Principal | None, reason: str = ""
    ) -> None:
        facts: dict[str, Fact] = {"user_id": file.user_id, "media_type": file.media_type, "size": file.size}
        if reason:
            facts["reason"] = reason
        outcome = Outcome.DENIED if reason else Outcome.SUCCESS
        self._audit.record(tx, event, now_ms=now_ms, outcome=outcome, actor=actor, subject=file.file_id, facts=facts)


def _brought(principal: Principal, file: File) -> bool:
    return file.user_id == principal.user_id and file.device_id == principal.device_id


def _may_see(principal: Principal, file: File) -> bool:
    is_reader = file.user_id == principal.user_id and Scope.CHAT in principal.scopes
    return is_reader or _brought(principal, file)


def _unknown() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such file.")


assert PART_BYTES >= HEAD_BYTES, "the kind of a file is read from its first part"
