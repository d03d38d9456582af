"""Dataclasses whose methods are written when they are first used.

`dataclasses` writes and compiles the source of seven methods of each frozen class: for our 460 classes a sixth of what
the gateway's start takes, though it uses few of them at first, and hardly ever prints or compares one.
"""

import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

OPTIONS = {"frozen": True, "slots": True}
_WRITTEN = ("__init__", "__repr__", "__eq__", "__hash__")
_PACKAGE = __name__.partition(".")[0] + "."
_FROZEN: Any = dataclasses.make_dataclass("_Frozen", (), frozen=True, slots=True)
"""What the standard library notes of such a class is noted of ours."""


@contextmanager
def late_dataclasses() -> Generator[None]:
    """Inside, modules of this package that are loaded get late classes for `@dataclass(frozen=True, slots=True)`.

    Only while nothing else is loaded: other threads get them too.
    """
    ordinary = dataclasses.dataclass

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        if cls is not None or options != OPTIONS:
            return ordinary(cls, **options)
        return choose

    def choose(cls: Any) -> Any:
        return late(cls) if cls.__module__.startswith(_PACKAGE) else ordinary(frozen=True, slots=True)(cls)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = ordinary


def late(cls: Any) -> Any:
    """What `@dataclass(frozen=True, slots=True)` makes of `cls`, but for when its methods are written.

    The standard library still writes them. Those that a class has itself are left to it.
    """
    if any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:]):
        return dataclasses.dataclass(frozen=True, slots=True)(cls)  # fields of several classes: as they always were
    own = {name for name, value in cls.__dict__.items() if value is not None}
    if "__doc__" not in own:
        cls.__doc__ = cls.__name__  # or it would be made of the signature, which takes as long as a method
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__dataclass_params__ = _FROZEN.__dataclass_params__
    if "__doc__" not in own:
        made.__doc__ = None
    methods = {name: _written_later(made, name) for name in _WRITTEN}
    methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    for name in methods.keys() - own:
        setattr(made, name, methods[name])
    made.__setattr__, made.__delattr__ = _frozen(made)
    return made


def _written_later(cls: Any, name: str) -> Callable[..., Any]:
    def write(self: Any, /, *arguments: Any, **named: Any) -> Any:
        method = _write(cls, name)
        setattr(cls, name, method)
        return method(self, *arguments, **named)

    return write


def _write(cls: Any, name: str) -> Callable[..., Any]:
    """The method as the standard library writes it, for another class with the same fields."""
    fields = [(field.name, field.type, field) for field in dataclasses.fields(cls)]
    after = {"__post_init__": cls.__post_init__} if hasattr(cls, "__post_init__") else {}
    twin = dataclasses.make_dataclass(
        cls.__name__,
        fields,
        namespace=after,
        init=name == "__init__",
        repr=name == "__repr__",
        eq=name in ("__eq__", "__hash__"),
        frozen=True,
    )
    method: Callable[..., Any] = getattr(twin, name)
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


def _frozen(cls: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """`__setattr__` and `__delattr__`, which need no source of their own."""
    names = frozenset(field.name for field in dataclasses.fields(cls))

    def set_attribute(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def delete_attribute(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    return set_attribute, delete_attribute


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    """As unpickling and copying want it, since nothing may be assigned."""
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
