"""Numbers that move when something changed that every node has to know: looked at often, cheap to look at.

A bell may be lost; a number that has moved is seen at the next look.
"""

from enum import StrEnum

from entobot.nodes import store
from entobot.storage.database import Transaction


class Mark(StrEnum):
    DEVICES = "devices"
    KEYS = "keys"
    SETTINGS = "settings"


def move_mark(tx: Transaction, mark: Mark) -> int:
    """Part of the unit that changes the thing. Returns the new number; the order of numbers is that of commits."""
    return store.move_mark(tx, mark)


def read_marks(tx: Transaction) -> dict[str, int]:
    """By name; what never moved is left out."""
    return store.all_marks(tx)
