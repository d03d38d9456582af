from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.order import dealt

FILES = ["browser/test_a.py", "chaos/test_b.py", "core/test_c.py", "stories/test_d.py", "stream/test_e.py"]
COUNTS = st.lists(st.integers(0, 20), min_size=len(FILES), max_size=len(FILES))


def items_of(counts: list[int]) -> list[Any]:
    files = [Path("tests", name) for name in FILES]
    return [
        SimpleNamespace(path=path, number=n) for path, count in zip(files, counts, strict=True) for n in range(count)
    ]


@given(COUNTS, st.integers(1, 8))
def test_every_test_is_dealt_once(counts: list[int], workers: int) -> None:
    items = items_of(counts)
    assert sorted(map(id, dealt(items, workers))) == sorted(map(id, items))


def test_each_worker_begins_with_what_is_slow() -> None:
    given = dealt(items_of([2, 2, 10, 2, 4]), 2)
    assert [item.path.parent.name for item in given[:10]] == ["browser"] * 2 + ["core"] * 8
    assert [item.path.parent.name for item in given[10:]] == ["chaos"] * 2 + ["stories"] * 2 + ["core"] * 2 + [
        "stream"
    ] * 4


def test_half_of_the_workers_begin_with_browsers() -> None:
    files = [Path("tests", folder, f"test_{n}.py") for folder in ("browser", "stories") for n in range(6)]
    items: list[Any] = [SimpleNamespace(path=path) for path in files]
    given = dealt(items, 6)
    assert [item.path.parent.name for item in given[::2]] == ["browser"] * 3 + ["stories"] * 3
