"""Make signed checkpoints of the log: a Merkle tree over all its entries, grown from the checkpoint before."""

import asyncio
from dataclasses import dataclass

from entobot.audit import store
from entobot.audit.heads import HeadKeeper, RunUnit
from entobot.audit.model import Head, genesis
from entobot.audit.note import Checkpoint, NoteSigner, VerifierKey, origin_of
from entobot.audit.store import StoredCheckpoint
from entobot.audit.tree import EMPTY, Frontier
from entobot.core.secrets import same
from entobot.storage.database import Transaction
from entobot.telemetry.log import get_logger

PAGE = 1024
LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the log: the tree over everything up to there, and the chain's hash there."""

    tree: Frontier
    hash: bytes

    @property
    def seq(self) -> int:
        return self.tree.size


class Broken(Exception):  # noqa: N818  reads as what was found
    """The log does not continue what a checkpoint says. `seq` is the first entry that cannot be trusted."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"entry {seq} does not continue what was signed before it")
        self.seq = seq


class Checkpoints:
    """Signs nothing over a log that contradicts what was signed before: that is evidence."""

    def __init__(self, notes: NoteSigner | None, heads: HeadKeeper) -> None:
        self._notes = notes
        self._heads = heads
        self._is_told = False

    async def key(self, read: RunUnit) -> VerifierKey | None:
        """Who signs; None without a signer and before the first entry."""
        head = await read(store.find_head)
        return None if head is None or self._notes is None else self._notes.verifier(origin_of(head.log_id))

    async def newest(self, read: RunUnit) -> StoredCheckpoint | None:
        return await read(lambda tx: store.find_checkpoint(tx, LARGEST))

    async def make(self, read: RunUnit, write: RunUnit, now_ms: int) -> StoredCheckpoint | None:
        """A checkpoint of all that the log holds, kept in the store. The newest one where nothing new was written.

        None without a signer, for an empty log, and where the log contradicts what was signed: that is logged.
        """
        head, last = await read(_standing)
        if self._notes is None or head is None or head.seq == 0 or self._heads.refusal:
            return None
        if last is not None and last.tree.size == head.seq and same(last.hash, head.hash):
            return last
        try:
            place = await extend(read, _place(head, last), head.seq, head.hash)
        except (Broken, ValueError) as error:
            self._tell(str(error))
            return None
        note = self._notes.sign(Checkpoint(origin_of(head.log_id), place.seq, place.tree.root))
        made = StoredCheckpoint(place.tree, place.hash, note, now_ms)
        await write(lambda tx: store.insert_checkpoint(tx, made))
        return made

    def _tell(self, reason: str) -> None:
        if not self._is_told:
            self._is_told = True
            get_logger("audit").error("audit.not_signed", reason=reason, todo="Run 'entobot audit verify'.")


async def place_at(read: RunUnit, seq: int) -> Place:
    """The point behind entry `seq`, which must be there. Raises Broken."""
    head, last = await read(lambda tx: (store.find_head(tx), store.find_checkpoint(tx, seq)))
    if head is None:
        raise Broken(1)
    return await extend(read, _place(head, last), seq)


async def extend(read: RunUnit, place: Place, through: int, ends_in: bytes | None = None) -> Place:
    """`place` moved on to entry `through`, link by link. Raises Broken where they are no chain that `ends_in` this."""
    while place.seq < through:
        after, end = place.seq, min(place.seq + PAGE, through)
        links = await read(lambda tx, a=after, e=end: store.links(tx, a, e))
        place = await asyncio.to_thread(_grown, place, links, end)
    if ends_in is not None and not same(place.hash, ends_in):
        raise Broken(through)
    return place


def _grown(place: Place, links: list[tuple[int, bytes, bytes]], end: int) -> Place:
    last = place.hash
    for expected, (seq, previous, digest) in enumerate(links, place.seq + 1):
        if seq != expected or not same(previous, last):
            raise Broken(expected)
        last = digest
    if len(links) != end - place.seq:
        raise Broken(place.seq + len(links) + 1)
    return Place(place.tree.grown(digest for _, _, digest in links), last)


def _standing(tx: Transaction) -> tuple[Head | None, StoredCheckpoint | None]:
    return store.find_head(tx), store.find_checkpoint(tx, LARGEST)


def _place(head: Head, last: StoredCheckpoint | None) -> Place:
    return Place(EMPTY, genesis(head.log_id)) if last is None else Place(last.tree, last.hash)
