"""In which order the workers of a run take the tests: what is slow first, so that none of it is left for the end."""

from collections.abc import Sequence
from itertools import groupby, islice
from math import ceil
from pathlib import Path

import pytest

SLOW = ("browser", "chaos", "deploy", "stories")
"""Folders of tests that start processes, containers and browsers."""
BUSY = "browser"
"""Of these, the one whose tests keep a core busy: half of the workers begin with it, the others with what mostly waits."""


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """pytest-xdist hands each worker an equal stretch of the list, and to whoever is done half of what another has left."""
    piles: list[list[pytest.Item]] = [[] for _ in range(workers)]
    half = (workers + 1) // 2
    _deal([item for item in items if item.path.parent.name == BUSY], piles[:half])
    _deal([item for item in items if _is_slow(item.path) and item.path.parent.name != BUSY], piles[half:] or piles)
    quick = iter([item for item in items if not _is_slow(item.path)])
    each = ceil(len(items) / workers)
    for pile in piles:
        pile.extend(islice(quick, max(0, each - len(pile))))
    return [item for pile in piles for item in pile]


def _deal(items: list[pytest.Item], piles: Sequence[list[pytest.Item]]) -> None:
    """Whole modules in turn: what they share is made once."""
    for number, (_, module) in enumerate(groupby(items, lambda item: item.path)):
        piles[number % len(piles)].extend(module)


def _is_slow(path: Path) -> bool:
    return path.parent.name in SLOW
