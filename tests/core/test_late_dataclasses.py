"""A late dataclass is what the standard library makes, but for when its methods are written."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from entobot.core.late_dataclasses import late, late_dataclasses

T = TypeVar("T")
Decorate = Callable[[Any], Any]


def ordinary(cls: Any) -> Any:
    return dataclass(frozen=True, slots=True)(cls)


def classes(decorate: Decorate) -> dict[str, Any]:
    """The same few classes, each with something of its own, made by `decorate`."""

    class Plain:
        """A point."""

        x: int
        y: int = 0

    class Shy:
        name: str
        secret: str = field(default="s3cret", repr=False)
        seen: int = field(default=0, compare=False)
        parts: list[int] = field(default_factory=list)
        limit: ClassVar[int] = 3

    class Checked:
        amount: int

        def __post_init__(self) -> None:
            if self.amount < 0:
                raise ValueError(f"{self.amount} is below zero")

    class OwnEquality:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self)) and self.name.lower() == other.name.lower()  # type: ignore[attr-defined]  # slots

        def __hash__(self) -> int:
            return 7

    class OwnText:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

    class Boxed(Generic[T]):
        value: T

    class KeywordOnly:
        first: int
        _: dataclasses.KW_ONLY
        second: int = 2

    found = (Plain, Shy, Checked, OwnEquality, OwnText, Boxed, KeywordOnly)
    return {cls.__name__: decorate(cls) for cls in found}


LATE, ORDINARY = classes(late), classes(ordinary)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Plain": (1,),
    "Shy": ("a",),
    "Checked": (3,),
    "OwnEquality": ("Ann",),
    "OwnText": ("Ann",),
    "Boxed": ("b",),
    "KeywordOnly": (1,),
}


@pytest.fixture(params=sorted(ARGUMENTS))
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any, tuple[Any, ...]]:
    return LATE[request.param], ORDINARY[request.param], ARGUMENTS[request.param]


def told(call: Callable[[], object]) -> tuple[str, str]:
    try:
        return "", repr(call())
    except Exception as error:  # noqa: BLE001  whatever it is, it is compared
        return type(error).__name__, str(error)


def test_objects_read_compare_hash_and_change_as_they_would(pair: tuple[Any, Any, tuple[Any, ...]]) -> None:
    mine, theirs, arguments = pair
    one, other = mine(*arguments), theirs(*arguments)
    name = dataclasses.fields(mine)[0].name
    assert repr(one) == repr(other)
    assert one == mine(*arguments)
    assert one != replace(one, **{name: 9 if isinstance(arguments[0], int) else "z"})
    assert one != other
    assert dataclasses.asdict(one) == dataclasses.asdict(other)
    assert told(lambda: hash(one)) == told(lambda: hash(other))
    assert copy.copy(one) == one
    assert [f.name for f in dataclasses.fields(mine)] == [f.name for f in dataclasses.fields(theirs)]
    assert (mine.__match_args__, mine.__slots__) == (theirs.__match_args__, theirs.__slots__)
    assert repr(mine.__dataclass_params__) == repr(theirs.__dataclass_params__)


def test_the_same_is_refused_in_the_same_words(pair: tuple[Any, Any, tuple[Any, ...]]) -> None:
    mine, theirs, arguments = pair
    one, other = mine(*arguments), theirs(*arguments)
    name = dataclasses.fields(mine)[0].name
    for refused in (
        lambda at: setattr(at, name, 1),
        lambda at: delattr(at, name),
        lambda at: type(at)(),
        lambda at: type(at)(*arguments, unknown=1),
    ):
        assert told(lambda refused=refused: refused(one)) == told(lambda refused=refused: refused(other))
        assert told(lambda refused=refused: refused(one))[0]


def test_an_attribute_that_is_no_field_is_refused_too() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="'unknown'"):
        LATE["Plain"](1).unknown = 1


def test_its_own_checks_run() -> None:
    with pytest.raises(ValueError, match="below zero"):
        LATE["Checked"](-1)


def test_a_default_is_made_anew_for_each() -> None:
    one, other = LATE["Shy"]("a"), LATE["Shy"]("b")
    one.parts.append(1)
    assert other.parts == []


def test_own_equality_stands() -> None:
    assert LATE["OwnEquality"]("Ann") == LATE["OwnEquality"]("ANN")
    assert hash(LATE["OwnEquality"]("Ann")) == 7


def test_nothing_is_written_before_it_is_used() -> None:
    (fresh,) = (cls for name, cls in classes(late).items() if name == "Plain")
    assert fresh.__init__.__code__.co_filename.endswith("late_dataclasses.py")
    made = fresh(1, 2)
    assert fresh.__init__.__code__.co_filename == "<string>"
    assert str(inspect.signature(fresh)) == "(x: int, y: int = 0) -> None"
    assert fresh.__eq__.__code__.co_filename.endswith("late_dataclasses.py")
    assert made == fresh(1, 2)
    assert fresh.__eq__.__code__.co_filename == "<string>"


def test_a_class_below_one_has_the_fields_of_both() -> None:
    class Below(LATE["Plain"]):  # type: ignore[misc]  # made at run time
        z: int = 5

    below: Any = late(Below)
    assert repr(below(1)).endswith("Below(x=1, y=0, z=5)")
    assert below(1) == below(1)


@late
class Kept:
    name: str


def test_one_of_a_module_is_pickled() -> None:
    kept: Any = Kept
    assert pickle.loads(pickle.dumps(kept("a"))) == kept("a")


def test_only_our_own_modules_get_them_and_only_inside() -> None:
    def declare(module: str) -> Any:
        return dataclasses.dataclass(frozen=True, slots=True)(type("X", (), {"__module__": module, "__doc__": ""}))

    def is_late(cls: Any) -> bool:
        return cls.__init__.__code__.co_filename.endswith("late_dataclasses.py")

    with late_dataclasses():
        found = [is_late(declare("entobot.things.model")), is_late(declare("elsewhere"))]
    assert [*found, is_late(declare("entobot.things.model"))] == [True, False, False]
