"""What units remember is exactly what stands committed, or nothing."""

from collections.abc import Hashable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from entobot.storage.memory import Memory

KEYS = st.integers(0, 5)
FACTS = st.integers()


class Units(RuleBasedStateMachine):
    """A memory of few facts beside a dictionary that is copied at each mark."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(max_facts=4)
        self.truth: dict[Hashable, Any] = {}
        self.marks: list[tuple[tuple[int, int], dict[Hashable, Any]]] = []

    @rule(key=KEYS, fact=FACTS)
    def put(self, key: int, fact: int) -> None:
        self.memory.put(key, fact)
        self.truth[key] = fact

    @rule(key=KEYS)
    def forget(self, key: int) -> None:
        self.memory.forget(key)
        self.truth.pop(key, None)

    @rule()
    def begin(self) -> None:
        self.marks.append((self.memory.mark(), dict(self.truth)))

    @rule()
    def roll_back(self) -> None:
        if self.marks:
            mark, before = self.marks.pop()
            self.memory.undo_to(mark)
            self.truth = before

    @rule()
    def commit(self) -> None:
        self.memory.committed()
        self.marks.clear()

    @invariant()
    def nothing_untrue_is_remembered(self) -> None:
        for key in range(6):
            assert self.memory.get(key) in (None, self.truth.get(key))
        assert len(self.memory) <= 4


TestUnits = Units.TestCase


def test_a_fact_is_there_until_it_is_forgotten() -> None:
    memory = Memory()
    memory.put("a", 1)
    memory.committed()
    assert memory.get("a") == 1
    memory.forget("a")
    assert memory.get("a") is None
