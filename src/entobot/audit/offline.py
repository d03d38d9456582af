"""Verify exported files of the log: no gateway, no database, no secret. See `lines` for what stands in a file."""

import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from entobot.audit.lines import MAX_LINE_CHARACTERS, CheckpointLine, EndLine, EntryLine, FileHead, parse_line
from entobot.audit.model import chain_hash, genesis, personal_fault
from entobot.audit.note import Checkpoint, VerifierKey, open_note, origin_of
from entobot.audit.tree import EMPTY, Frontier
from entobot.core.secrets import same

TELL_EVERY = 1000

Progress = Callable[[int], None]
"""Called now and then with the entries checked so far."""


class Fault(StrEnum):
    CONTRADICTED = "contradicted"
    CUT_OFF = "cut_off"
    EDITED = "edited"
    MISSING = "missing"
    OTHER_LOG = "other_log"
    PERSONAL_ALTERED = "personal_altered"
    SIGNATURE_INVALID = "signature_invalid"
    UNREADABLE = "unreadable"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class FileFault:
    """The first thing that is wrong, and where: `line` counts from 1."""

    kind: Fault
    file: str
    line: int
    detail: str


@dataclass(slots=True)
class Proof:
    """What files prove. `signed` is the newest entry under a checkpoint in them that `key` signed, `anchored` the newest
    under a checkpoint that came from elsewhere; 0: none. `beyond` is the largest such checkpoint of more entries than
    there are here. A selection proves no more than that each entry's hash fits its text.
    """

    fault: FileFault | None = None
    log_id: str = ""
    first: int = 0
    last: int = 0
    entries: int = 0
    without_values: int = 0
    is_selection: bool = False
    signed: int = 0
    anchored: int = 0
    beyond: int = 0
    key: str = ""

    @property
    def is_good(self) -> bool:
        return self.fault is None

    @property
    def trusted(self) -> int:
        """Up to here a signature vouches for every entry."""
        return max(self.signed, self.anchored)


class _Wrong(Exception):  # noqa: N818  what was found, not what failed
    def __init__(self, kind: Fault, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(slots=True)
class _Walk:
    """Where the walk stands. `previous` and `tree` are None in a selection."""

    proof: Proof
    key: VerifierKey | None
    wanted: dict[int, bytes]
    previous: bytes | None = None
    tree: Frontier | None = None
    has_ended: bool = True
    noted: int = -1
    """Behind which entry of this file a checkpoint stands."""


def verify_files(
    files: Sequence[Path],
    *,
    key: VerifierKey | None = None,
    anchors: Sequence[Checkpoint] = (),
    is_complete: bool = False,
    progress: Progress | None = None,
) -> Proof:
    """Walk `files` in the order given, as one log. Blocks; holds one line of them in memory.

    `anchors` are checkpoints that were kept elsewhere and whose signature was checked. Where there is a `key` or an
    anchor, every entry must be under a signature; without them no signature is looked at. `is_complete`: the files must
    reach to the largest anchor. Raises OSError for a file that cannot be opened.
    """
    walk = _Walk(Proof(key="" if key is None else str(key)), key, {})
    proof, place = walk.proof, ["", 0]
    try:
        _expect(walk, anchors)
        for path in files:
            place[:] = [str(path), 0]
            for place[1], text in _lines(path):
                _take(walk, text)
                if progress is not None and proof.entries % TELL_EVERY == 0:
                    progress(proof.entries)
            _check_end(walk, int(place[1]))
        _check_signed(walk, anchors, is_complete=is_complete)
    except _Wrong as wrong:
        proof.fault = FileFault(wrong.kind, str(place[0]), int(place[1]), wrong.detail)
    if progress is not None:
        progress(proof.entries)
    return proof


def _expect(walk: _Walk, anchors: Sequence[Checkpoint]) -> None:
    for one in anchors:
        if not same(walk.wanted.setdefault(one.size, one.root), one.root):
            raise _Wrong(Fault.CONTRADICTED, f"Two checkpoints of {one.size} entries differ: two logs were signed.")


def _check_end(walk: _Walk, lines: int) -> None:
    if not lines:
        raise _Wrong(Fault.UNREADABLE, "The file is empty.")
    if not walk.has_ended:
        raise _Wrong(Fault.CUT_OFF, f"The file has no end: it was cut off behind entry {walk.proof.last}.")


def _check_signed(walk: _Walk, anchors: Sequence[Checkpoint], *, is_complete: bool) -> None:
    proof = walk.proof
    for one in anchors:
        if proof.log_id and one.origin != origin_of(proof.log_id):
            raise _Wrong(Fault.OTHER_LOG, f"The checkpoint is one of {one.origin}, the files are {proof.log_id}.")
        if not proof.is_selection and one.size > proof.last:
            proof.beyond = max(proof.beyond, one.size)
    if is_complete and proof.beyond:
        raise _Wrong(Fault.CUT_OFF, f"The log had {proof.beyond} entries, and the files end with entry {proof.last}.")
    if walk.key is None and not anchors:
        return
    if not proof.entries:
        raise _Wrong(Fault.UNSIGNED, "There is no entry in the files: nothing is proven by a key or a checkpoint.")
    if proof.is_selection:
        raise _Wrong(Fault.UNSIGNED, "A selection of entries cannot be signed: export the whole log.")
    if proof.trusted < proof.last:
        first = max(proof.trusted + 1, proof.first)
        raise _Wrong(Fault.UNSIGNED, f"Nobody signed for entries {first} to {proof.last}.")


def _take(walk: _Walk, text: str) -> None:
    try:
        line = parse_line(text)
    except (ValueError, RecursionError) as error:
        raise _Wrong(Fault.UNREADABLE, f"This is no line of an audit log: {error}.") from None
    if isinstance(line, FileHead):
        _begin(walk, line)
    elif walk.has_ended:
        raise _Wrong(Fault.UNREADABLE, "Something stands outside of what the file's head and end enclose.")
    elif isinstance(line, EntryLine):
        _check_entry(walk, line)
    elif isinstance(line, CheckpointLine):
        _check_note(walk, line.note)
    else:
        _end(walk, line)


def _begin(walk: _Walk, head: FileHead) -> None:
    proof = walk.proof
    if not walk.has_ended:
        raise _Wrong(Fault.UNREADABLE, "A second head stands in the file.")
    is_selection = head.previous is None
    if not proof.log_id:
        if head.first == 1 and not is_selection and head.previous != genesis(head.log_id):
            raise _Wrong(Fault.EDITED, "Something else than nothing stands before the first entry.")
        if walk.key is not None and walk.key.name != origin_of(head.log_id):
            raise _Wrong(Fault.OTHER_LOG, f"The key is one of {walk.key.name}, the file is {origin_of(head.log_id)}.")
        proof.log_id, proof.first, proof.is_selection = head.log_id, head.first, is_selection
        proof.last = head.first - 1
        walk.previous, walk.tree = head.previous, head.tree
        if head.first == 1 and not is_selection:
            walk.tree = EMPTY
        _check_anchor(walk)
    elif is_selection or proof.is_selection:
        raise _Wrong(Fault.UNREADABLE, "A selection stands alone: verify it without other files.")
    elif head.log_id != proof.log_id:
        raise _Wrong(Fault.OTHER_LOG, f"This is the log {head.log_id}, what stands before it {proof.log_id}.")
    elif head.first != proof.last + 1:
        raise _Wrong(Fault.MISSING, f"Entry {proof.last + 1} follows, and the file begins with {head.first}.")
    elif head.previous != walk.previous or head.tree != walk.tree:
        raise _Wrong(Fault.EDITED, f"The file does not follow entry {proof.last} as it was read.")
    walk.has_ended, walk.noted = False, -1


def _check_entry(walk: _Walk, line: EntryLine) -> None:
    proof, entry = walk.proof, line.entry
    if not proof.is_selection and entry.seq != proof.last + 1:
        raise _Wrong(Fault.MISSING, f"Entry {proof.last + 1} is missing: entry {entry.seq} stands in its place.")
    try:
        is_as_hashed = same(chain_hash(entry), entry.hash)
    except (ValueError, TypeError):
        is_as_hashed = False
    if not is_as_hashed:
        raise _Wrong(Fault.EDITED, f"Entry {entry.seq} is not what was recorded.")
    fault = personal_fault(entry, line.values)
    if fault is not None:
        raise _Wrong(Fault.PERSONAL_ALTERED, f"Entry {entry.seq}: {fault}")
    if walk.previous is not None and walk.tree is not None:
        if not same(entry.previous, walk.previous):
            raise _Wrong(Fault.EDITED, f"Entry {entry.seq} was not written after the entry before it.")
        walk.previous, walk.tree = entry.hash, walk.tree.grown([entry.hash])
    proof.last, proof.entries = entry.seq, proof.entries + 1
    proof.without_values += bool(entry.commitments) and line.values is None
    _check_anchor(walk)


def _check_anchor(walk: _Walk) -> None:
    anchor = walk.wanted.get(walk.proof.last)
    if anchor is not None and walk.tree is not None:
        _check_root(walk, anchor, "kept elsewhere")
        walk.proof.anchored = walk.proof.last


def _check_note(walk: _Walk, note: str) -> None:
    proof = walk.proof
    if walk.noted == proof.last:
        raise _Wrong(Fault.UNREADABLE, f"A second checkpoint stands behind entry {proof.last}.")
    walk.noted = proof.last
    if walk.key is None:
        return
    try:
        checkpoint = open_note(note, walk.key)
    except ValueError as error:
        raise _Wrong(Fault.SIGNATURE_INVALID, f"The checkpoint behind entry {proof.last}: {error}.") from None
    if checkpoint.size != proof.last or proof.is_selection:
        raise _Wrong(Fault.EDITED, f"A checkpoint of {checkpoint.size} entries stands behind entry {proof.last}.")
    _check_root(walk, checkpoint.root, "signed")
    proof.signed = proof.last


def _check_root(walk: _Walk, root: bytes, what: str) -> None:
    assert walk.tree is not None
    if not same(walk.tree.root, root):
        after, last = walk.proof.trusted, walk.proof.last
        raise _Wrong(
            Fault.CONTRADICTED,
            f"Some entry from {max(after, walk.proof.first - 1) + 1} to {last} is not the one of the checkpoint {what}.",
        )


def _end(walk: _Walk, line: EndLine) -> None:
    if line.last != walk.proof.last:
        raise _Wrong(Fault.CUT_OFF, f"The file was to end with entry {line.last}, and ends with {walk.proof.last}.")
    walk.has_ended = True


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with _opened(path) as file:
        number = 0
        try:
            while text := file.readline(MAX_LINE_CHARACTERS + 2):
                number += 1
                if not text.endswith("\n"):
                    raise _Wrong(Fault.CUT_OFF, "The file breaks off in the middle of a line.")
                yield number, text[:-1]
        except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, OSError, zlib.error) as error:
            raise _Wrong(Fault.UNREADABLE, f"The file is damaged behind line {number}: {error}.") from None


@contextmanager
def _opened(path: Path) -> Generator[io.TextIOWrapper]:
    """Text of a file, compressed or not: what it is stands in its first bytes."""
    with path.open("rb") as raw:
        is_compressed = raw.peek(2)[:2] == b"\x1f\x8b"
        data = gzip.GzipFile(fileobj=raw) if is_compressed else raw
        with io.TextIOWrapper(data, "utf-8", newline="\n") as text:  # pyright: ignore[reportArgumentType]  both are binary readers
            yield text
