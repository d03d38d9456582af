"""What units remember about rows from one transaction to the next. Pure; one thread at a time."""

from collections.abc import Hashable
from typing import Any

MAX_FACTS = 100_000
_ABSENT: Any = object()


class Memory:
    """Facts about committed rows, and about those that the transaction under way has changed.

    `mark` and `undo_to` bracket a unit that may roll back. When there is no room, everything is forgotten: a fact that
    is missing costs a query, one that is wrong would cost a promise.
    """

    def __init__(self, max_facts: int = MAX_FACTS) -> None:
        self._facts: dict[Hashable, Any] = {}
        self._undo: list[tuple[Hashable, Any]] = []
        self._max_facts = max_facts
        self._clears = 0

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, key: Hashable) -> Any:
        """The fact, or None."""
        return self._facts.get(key)

    def put(self, key: Hashable, fact: object) -> None:
        if len(self._facts) >= self._max_facts:
            self.clear()
        self._undo.append((key, self._facts.get(key, _ABSENT)))
        self._facts[key] = fact

    def forget(self, key: Hashable) -> None:
        if key in self._facts:
            self._undo.append((key, self._facts.pop(key)))

    def clear(self) -> None:
        self._facts.clear()
        self._undo.clear()
        self._clears += 1

    def mark(self) -> tuple[int, int]:
        return self._clears, len(self._undo)

    def undo_to(self, mark: tuple[int, int]) -> None:
        """Take back what was told since `mark`."""
        clears, length = mark
        if clears != self._clears:  # what was told before the clearing cannot be told from what came after
            self.clear()
        while len(self._undo) > length:
            key, before = self._undo.pop()
            if before is _ABSENT:
                self._facts.pop(key, None)
            else:
                self._facts[key] = before

    def committed(self) -> None:
        """What was told is true from now on."""
        self._undo.clear()
