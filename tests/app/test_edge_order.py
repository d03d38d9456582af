"""What is done in which order when the gateway comes to the servers that hold the boards' connections."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from entobot.app.edge import Edge
from entobot.app.edge_intake import STREAM, EdgeIntake


class LetIn(Exception):  # noqa: N818  reads as what happened
    pass


class WrittenDown:
    """A line, and its stream, that write down what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def open(self) -> None:
        self.asked.append("open")

    def stream(self) -> "WrittenDown":
        return self

    async def add_stream(self, config: Any) -> None:
        self.asked.append(f"keep {config.name}")

    async def answer(self, subject: str, asked: object, group: str) -> None:
        del asked, group
        raise LetIn(subject)


async def test_what_boards_say_is_kept_before_the_first_one_is_let_in() -> None:
    """At the very first start a reading was acknowledged by the server and kept by nobody."""
    edge, line = cast("Any", object.__new__(Edge)), WrittenDown()
    edge._line, edge._door = line, SimpleNamespace(asked=None)
    edge._intake = object.__new__(EdgeIntake)
    with pytest.raises(LetIn):
        await edge._serve()
    assert line.asked == ["open", f"keep {STREAM}"]
