"""Walk the log and say where it was touched."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from entobot.audit import store
from entobot.audit.heads import BadHead, HeadKeeper, RunUnit
from entobot.audit.model import (
    Defect,
    Entry,
    Finding,
    Head,
    Personal,
    Verification,
    chain_hash,
    genesis,
    parse_head,
    personal_fault,
)
from entobot.audit.signer import HeadSigner
from entobot.core.secrets import same
from entobot.storage.database import Transaction

PAGE = 256
"""Entries that are read at once: on PostgreSQL their rows are taken apart on the event loop."""

Progress = Callable[[int, int], None]
"""Called on the loop after each page with (entries checked, entries in all)."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """How far the walk came. `last` is the stored hash of entry `seq`; `signed_seq` the newest signed entry met."""

    seq: int
    last: bytes
    signed_seq: int
    erased: int
    finding: Finding | None = None

    def found(self, kind: Defect, seq: int, detail: str) -> "_Walk":
        return replace(self, finding=Finding(kind, seq, detail))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The log as one snapshot shows it, before the walk. Entries written later are not looked at."""

    head: Head | None
    last_seq: int
    last_signed: int | None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the log was seen to be whole: its entry `seq` has `hash`."""

    log_id: str
    seq: int
    hash: bytes


MAX_TAIL_PAGES = 64
"""Of one `verify_tail`: it takes as long as it takes, but not the machine."""


async def verify_tail(keeper: HeadKeeper, read: RunUnit, since: Mark | None) -> tuple[Finding | None, Mark]:
    """Check that the log still contains `since`, and what came after it, in so far as it is not too much for one turn.

    None begins at the end of the log. What was altered before `since` is not seen: `verify` sees it.
    """
    bounds = await read(_bounds)
    head = bounds.head
    if since is None or head is None:
        cut = None if since is None else Finding(Defect.CUT_TAIL, 1, "The row that says where the log ends is gone.")
        return cut, since or (Mark("", 0, b"") if head is None else Mark(head.log_id, head.seq, head.hash))
    if not since.log_id:
        since = Mark(head.log_id, 0, genesis(head.log_id))
    if head.log_id != since.log_id or min(head.seq, bounds.last_seq) < since.seq:
        seq = min(head.seq, bounds.last_seq)
        return Finding(Defect.CUT_TAIL, seq + 1, f"The log ends at entry {seq}, but went to entry {since.seq}."), since
    walk = _Walk(since.seq, since.hash, since.seq, 0)
    for _ in range(MAX_TAIL_PAGES):
        if walk.finding is not None or walk.seq >= head.seq:
            break
        after, through = walk.seq, min(walk.seq + PAGE, head.seq)
        rows = await read(lambda tx, a=after, t=through: _read_page(tx, a, t))
        walk = await asyncio.to_thread(_check_page, rows, walk, head, None, keeper.signer)
    if walk.finding is None and walk.seq == head.seq and not same(walk.last, head.hash):
        walk = walk.found(Defect.EDITED, max(walk.seq, 1), f"Entry {walk.seq} is not the one that the log ends in.")
    return walk.finding, since if walk.finding is not None else Mark(head.log_id, walk.seq, walk.last)


async def verify(
    keeper: HeadKeeper, read: RunUnit, progress: Progress | None = None, *, pause_s: float = 0
) -> Verification:
    kept, is_forged = None, False
    try:
        # The file first: the log only grows, so an honest one contains whatever the file said before.
        kept = await asyncio.to_thread(keeper.read_file)
    except BadHead:
        is_forged = True
    bounds = await read(_bounds)
    head = bounds.head
    if head is None:
        finding = _without_head(bounds, kept, is_forged=is_forged)
        return Verification(finding, checked=0, signed_seq=None, erased=0)
    walk = _Walk(0, genesis(head.log_id), 0, 0)
    while walk.finding is None and walk.seq < min(head.seq, bounds.last_seq):
        after, through = walk.seq, min(walk.seq + PAGE, head.seq)
        rows = await read(lambda tx, a=after, t=through: _read_page(tx, a, t))
        walk = await asyncio.to_thread(_check_page, rows, walk, head, kept, keeper.signer)
        if progress is not None:
            progress(walk.seq, head.seq)
        if pause_s:
            await asyncio.sleep(pause_s)
    if walk.finding is None:
        walk = _check_end(walk, bounds, head, kept)
    if walk.finding is None:
        walk = await _check_file(walk, bounds, keeper, kept, is_forged=is_forged)
    return Verification(walk.finding, walk.seq, walk.signed_seq or None, walk.erased)


def _bounds(tx: Transaction) -> _Bounds:
    return _Bounds(store.find_head(tx), store.last_seq(tx), store.last_signed_seq(tx))


def _without_head(bounds: _Bounds, kept: Head | None, *, is_forged: bool) -> Finding | None:
    if bounds.last_seq:
        return Finding(Defect.EDITED, 1, "The row that says where the log ends is gone.")
    if kept is not None or bounds.last_signed is not None:
        return Finding(Defect.CUT_TAIL, 1, "Signed entries are gone, from the first on.")
    if is_forged:
        return Finding(Defect.HEAD_SIGNATURE_INVALID, 1, "The signed head in the file is not ours.")
    return None


@dataclass(frozen=True, slots=True)
class _Rows:
    """One page as it stands in the store."""

    entries: list[dict[str, Any]]
    signed: dict[int, str]


def _read_page(tx: Transaction, after: int, through: int) -> _Rows:
    return _Rows(store.raw_rows(tx, after, through), store.signed_between(tx, after, through))


def _check_page(rows: _Rows, walk: _Walk, head: Head, kept: Head | None, signer: HeadSigner | None) -> _Walk:
    """Blocks for some milliseconds: not for the loop."""
    if not rows.entries:
        return walk.found(Defect.MISSING, walk.seq + 1, f"Entry {walk.seq + 1} is missing.")
    for seq, entry, fields in store.walked(rows.entries):
        walk = _check_entry(walk, seq, entry, fields)
        if walk.finding is None and signer is not None and seq in rows.signed:
            walk = _check_signature(walk, signer, rows.signed[seq], head)
        if walk.finding is None and kept is not None and kept.seq == seq:
            walk = _check_signed(walk, kept, head)
        if walk.finding is not None:
            break
    return walk


def _check_entry(walk: _Walk, seq: int, entry: Entry | None, fields: Mapping[str, Personal] | None) -> _Walk:
    if seq != walk.seq + 1:
        return walk.found(Defect.MISSING, walk.seq + 1, f"Entries {walk.seq + 1} to {seq - 1} are missing.")
    if entry is None or not _is_as_hashed(entry):
        return walk.found(Defect.EDITED, seq, f"Entry {seq} is not what was recorded.")
    if not same(entry.previous, walk.last):
        # The entry says what it was written after, so it is the one before whose text and hash were both replaced.
        at = max(walk.seq, 1)
        return walk.found(Defect.EDITED, at, f"Entry {at} is not what entry {seq} was written after.")
    fault = personal_fault(entry, fields)
    if fault is not None:
        return walk.found(Defect.PERSONAL_ALTERED, seq, fault)
    erased = 1 if fields is None and entry.commitments else 0
    return replace(walk, seq=seq, last=entry.hash, erased=walk.erased + erased)


def _is_as_hashed(entry: Entry) -> bool:
    try:
        return same(chain_hash(entry), entry.hash)
    except (ValueError, TypeError):
        return False


def _check_signature(walk: _Walk, signer: HeadSigner, jws: str, head: Head) -> _Walk:
    try:
        told = parse_head(signer.verify_head(jws))
    except ValueError:
        return walk.found(Defect.HEAD_SIGNATURE_INVALID, walk.seq, f"The signature over entry {walk.seq} is not ours.")
    return _check_signed(walk, told, head)


def _check_signed(walk: _Walk, told: Head, head: Head) -> _Walk:
    if told.log_id == head.log_id and told.seq == walk.seq and same(told.hash, walk.last):
        return replace(walk, signed_seq=walk.seq)
    first = walk.signed_seq + 1
    return walk.found(
        Defect.EDITED, first, f"Entries {first} to {walk.seq} were rewritten: they do not lead to the hash signed."
    )


def _check_end(walk: _Walk, bounds: _Bounds, head: Head, kept: Head | None) -> _Walk:
    signed = max(kept.seq if kept else 0, bounds.last_signed or 0)
    if walk.seq < max(head.seq, signed):
        return walk.found(
            Defect.CUT_TAIL,
            walk.seq + 1,
            f"The log ends at entry {walk.seq}, but went at least to entry {max(head.seq, signed)}.",
        )
    if bounds.last_seq > head.seq:
        return walk.found(Defect.EDITED, head.seq + 1, f"Entry {head.seq + 1} was not written by the gateway.")
    if not same(walk.last, head.hash):
        at = max(walk.seq, 1)
        return walk.found(Defect.EDITED, at, f"Entry {at} is not the one that the log ends in.")
    return walk


async def _check_file(walk: _Walk, bounds: _Bounds, keeper: HeadKeeper, kept: Head | None, *, is_forged: bool) -> _Walk:
    after = walk.signed_seq + 1
    if is_forged:
        return walk.found(Defect.HEAD_SIGNATURE_INVALID, after, "The signed head in the file is not ours.")
    expects_file = keeper.signer is not None and keeper.file is not None and bounds.last_signed is not None
    if expects_file and kept is None and not await _came_late(keeper):
        return walk.found(Defect.HEAD_MISSING, after, "The file with the signed head is gone: a cut would not show.")
    return walk


async def _came_late(keeper: HeadKeeper) -> bool:
    """The file follows the commit: the very first one may have been under way when the walk began."""
    await keeper.drain()
    try:
        return await asyncio.to_thread(keeper.read_file) is not None
    except BadHead:
        return False
