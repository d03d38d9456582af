"""Write, search, erase from and verify the audit log."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from entobot.audit import exporting, store
from entobot.audit import verify as walking
from entobot.audit.checkpoints import Checkpoints
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.heads import HeadKeeper, RunUnit
from entobot.audit.model import (
    SALT_BYTES,
    Actor,
    Entry,
    Fact,
    Finding,
    Head,
    Page,
    Verification,
    bounded,
    chain_hash,
    checked_facts,
    commitment,
    salted,
)
from entobot.audit.note import NoteSigner
from entobot.audit.searching import ALL, Filters, find_page
from entobot.audit.signer import HeadSigner
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExportWanted:
    """Without filters the chain behind `after`, which the offline verifier takes; with them a selection."""

    format: Literal["csv", "jsonl"]
    filters: Filters = ALL
    after: int | None = None


class Audit:
    """The log of what matters, hash-chained; see `model.chain_hash`.

    The head of the chain is signed every `every` entries, at start and at stop, and kept in `head_file`. Without a
    `signer` the chain still shows edits, but whoever can write to the database can rewrite it from some entry on.
    `notes` signs `checkpoints`, which others can verify.
    """

    def __init__(
        self,
        *,
        ids: Ids,
        entropy: Entropy,
        signer: HeadSigner | None,
        head_file: Path | None,
        notes: NoteSigner | None = None,
        every: int = 256,
        meters: Meters | None = None,
    ) -> None:
        self._ids = ids
        self._entropy = entropy
        self._heads = HeadKeeper(signer, head_file, every)
        self.checkpoints = Checkpoints(notes, self._heads)
        self._meters = meters or Meters()

    async def start(self, write: RunUnit, now_ms: int) -> None:
        """Check that the log still contains what was signed last, and sign what a crash left unsigned."""
        await self._heads.load()
        await self.seal(write, now_ms)

    async def seal(self, write: RunUnit, now_ms: int) -> None:
        """Sign the log up to here and wait until the file says so. Call it as the last thing before the database stops."""

        def unit(tx: Transaction) -> None:
            self._heads.sign(tx, store.find_head(tx) or Head("", 0, b""), now_ms)

        await write(unit)
        await self._heads.drain()

    def record(
        self,
        tx: Transaction,
        event: AuditEvent,
        *,
        now_ms: int,
        outcome: Outcome = Outcome.SUCCESS,
        actor: Principal | None = None,
        subject: str = "",
        facts: Mapping[str, Fact] | None = None,
        personal: Mapping[str, str] | None = None,
    ) -> None:
        """Append one entry in the caller's transaction.

        `subject` is the id of what was acted on; `facts` are bounded and free of personal data and secrets;
        `personal` (names, addresses, texts) goes to the side table and enters the chain as salted commitments only.
        `actor` None means the gateway itself. Text beyond 16,384 characters is cut and ends in its SHA-256.
        """
        head = store.find_head(tx) or store.create_head(tx, self._ids.new(Prefix.AUDIT))
        values = salted(personal, self._entropy.bytes(SALT_BYTES * len(personal))) if personal else {}
        draft = Entry(
            seq=head.seq + 1,
            audit_id=self._ids.new(Prefix.AUDIT),
            at_ms=now_ms,
            event=str(event),
            outcome=str(outcome),
            actor=None if actor is None else Actor(actor.user_id, actor.device_id),
            subject=bounded(subject),
            facts=checked_facts(facts) if facts else {},
            commitments={name: commitment(name, field) for name, field in values.items()},
            previous=head.hash,
            hash=b"",
        )
        entry = replace(draft, hash=chain_hash(draft))
        store.append(tx, entry, values)
        if self._heads.is_due(entry.seq):
            self._heads.sign(tx, Head(head.log_id, entry.seq, entry.hash), now_ms)
        tx.after_commit(self._meters.counter(Metric.AUDIT_ENTRIES, event=event, outcome=outcome).add)

    def find(
        self,
        tx: Transaction,
        filters: Filters = ALL,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Page:
        """One page: oldest first from behind `after`, else newest first, below `before` where it is given.

        It looks at a bounded number of entries, so it may be short, or empty, and have a `next` all the same. `limit` is 1 to 500. Raises `invalid` when both cursors are given.
        """
        if after is not None and before is not None:
            raise Problem(Code.INVALID, "Give 'after' or 'before', not both.")
        if not 1 <= limit <= MAX_PAGE:
            raise Problem(Code.INVALID, f"'limit' is 1 to {MAX_PAGE}.")
        try:
            return find_page(tx, filters, after=after, before=before, limit=limit)
        except ValueError:
            raise Problem(
                Code.INTERNAL, "An entry of the audit log was altered and cannot be read. Run 'entobot audit verify'."
            ) from None

    def erase_personal(
        self,
        tx: Transaction,
        *,
        now_ms: int,
        by: Principal | None,
        actor: str | None = None,
        subject: str | None = None,
        until_ms: int | None = None,
    ) -> int:
        """Erase the personal values of what `actor` (user or device id) did, of what happened to `subject`, or of all
        that is older than `until_ms`; what is given must hold together. The chain stays whole.

        Returns how many entries lost their personal values, and records that by whom. Raises ValueError when nothing
        is given.
        """
        given = {"actor": actor, "subject": subject, "until_ms": until_ms}
        chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        if not chosen:
            raise ValueError("say whose personal values are to be erased")
        erased = store.erase(tx, chosen)
        self.record(
            tx,
            AuditEvent.AUDIT_PERSONAL_ERASED,
            now_ms=now_ms,
            actor=by,
            subject=subject or actor or "",
            facts={"entries": erased, "until_ms": until_ms},
        )
        return erased

    async def export(
        self, read: RunUnit, write: RunUnit, wanted: ExportWanted, *, now_ms: int, by: Principal | None
    ) -> AsyncGenerator[bytes]:
        """What was asked for as text, page by page. That, by whom and how far, is recorded before the first page."""
        after = wanted.after or 0
        facts: dict[str, Fact] = {"format": wanted.format, "after": after}
        filters = wanted.filters.given()
        personal = {"text": str(filters.pop("text"))} if "text" in filters else {}  # may well be somebody's name
        facts |= {name: value for name, value in filters.items() if isinstance(value, str | int)}

        def unit(tx: Transaction) -> Head:
            self.record(tx, AuditEvent.AUDIT_EXPORTED, now_ms=now_ms, actor=by, facts=facts, personal=personal)
            head = store.find_head(tx)
            assert head is not None
            return head

        head = await write(unit)
        if wanted.format == "csv":
            return exporting.table(read, wanted.filters, head.seq)
        if wanted.filters.given():
            return exporting.selected_lines(read, head.log_id, wanted.filters, head.seq)
        made = await self.checkpoints.make(read, write, now_ms)
        return exporting.chain_lines(read, head.log_id, min(after, head.seq), made or head.seq)

    def last_seq(self, tx: Transaction) -> int:
        """The number of the newest entry, 0 in an empty log."""
        head = store.find_head(tx)
        return 0 if head is None else head.seq

    def entries_after(self, tx: Transaction, after: int, count: int) -> list[tuple[int, Entry | None]]:
        """At most `count` entries, oldest first. One that was altered and cannot be read is None."""
        through = min(after + count, self.last_seq(tx))
        return [(seq, entry) for seq, entry, _ in store.walk(tx, after, through)]

    async def verify(
        self, read: RunUnit, progress: walking.Progress | None = None, *, pause_s: float = 0
    ) -> Verification:
        """Walk the whole log in pages, beside everything else, and report the first thing that is wrong.

        `pause_s` after each page leaves the machine to others.
        """
        return await walking.verify(self._heads, read, progress, pause_s=pause_s)

    async def verify_tail(self, read: RunUnit, since: walking.Mark | None) -> tuple[Finding | None, walking.Mark]:
        """As `walking.verify_tail`."""
        return await walking.verify_tail(self._heads, read, since)
