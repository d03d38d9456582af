"""What writers were promised, held against what a store has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """The `number`-th entry of a writer, and the place that its user's stream gave it."""

    writer: int
    number: int
    seq: int


@dataclass(frozen=True, slots=True)
class Verdict:
    acknowledged: int
    lost: int
    duplicated: int
    out_of_order: int
    gaps: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.out_of_order or self.gaps)


@dataclass
class Ledger:
    """A writer numbers its entries upwards and has one under way at a time; all its entries are one user's."""

    acknowledged: set[Entry] = field(default_factory=set[Entry])

    def verdict(self, streams: Mapping[str, Iterable[Entry]]) -> Verdict:
        """`streams` are every user's entries in the order of the store."""
        stored: set[Entry] = set()
        named: set[tuple[int, int]] = set()
        duplicated = out_of_order = gaps = 0
        for entries in streams.values():
            newest: dict[int, int] = {}
            for place, entry in enumerate(entries, 1):
                gaps += entry.seq != place
                duplicated += (entry.writer, entry.number) in named
                out_of_order += entry.number <= newest.get(entry.writer, 0)
                newest[entry.writer] = max(entry.number, newest.get(entry.writer, 0))
                named.add((entry.writer, entry.number))
                stored.add(entry)
        lost = len(self.acknowledged - stored)
        return Verdict(len(self.acknowledged), lost, duplicated, out_of_order, gaps)
