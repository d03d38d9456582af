"""What boards said at the edge is committed in its order, and one message that cannot be is not the others' end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from entobot.app import edge_intake
from entobot.app.edge_intake import MAX_TOGETHER_BYTES, EdgeIntake
from entobot.storage.database import StorageFailed
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from tests.support.time import ManualClock

OPEN = SimpleNamespace(is_open=True)


class Message:
    """As the library hands it over."""

    subject = "devices.dev_1.event"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.metadata = SimpleNamespace(timestamp=SimpleNamespace(timestamp=lambda: 1.0), num_pending=0)
        self.is_acked = False

    async def ack(self) -> None:
        self.is_acked = True


def intake_that(commit: Any, clock: ManualClock) -> Any:
    intake = cast("Any", object.__new__(EdgeIntake))
    intake._ground, intake._log = SimpleNamespace(clock=clock), get_logger("test")
    intake._backlog = Meters().gauge(edge_intake.Metric.EDGE_BACKLOG)
    intake._commit = commit
    return intake


async def test_what_the_store_does_not_take_is_tried_again_before_what_came_after_it(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board's "offline" and "online" were stored the other way round."""
    monkeypatch.setattr(edge_intake, "AGAIN_S", 0)
    kept: list[bytes] = []
    fails = 2

    async def commit(said: list[Any]) -> None:
        nonlocal fails
        if fails:
            fails -= 1
            raise StorageFailed("too busy")
        kept.extend(message.data[:1] for message, _, _ in said)

    messages = [Message(b"%d" % number * MAX_TOGETHER_BYTES) for number in range(3)]
    await intake_that(commit, clock)._settle(OPEN, messages)
    assert kept == [b"0", b"1", b"2"], "each in a commit of its own: they are large"
    assert all(message.is_acked for message in messages)


async def test_a_message_that_is_an_error_of_ours_is_left_out_and_the_others_are_taken(clock: ManualClock) -> None:
    """It came again for a week, with all that was taken beside it, and each time the line ended."""
    kept: list[bytes] = []

    async def commit(said: list[Any]) -> None:
        if any(message.data == b"bad" for message, _, _ in said):
            raise UnicodeDecodeError("utf-8", b"", 0, 1, "bad")
        kept.extend(message.data for message, _, _ in said)

    messages = [Message(b"a"), Message(b"bad"), Message(b"b")]
    await intake_that(commit, clock)._settle(OPEN, messages)
    assert kept == [b"a", b"b"]
    assert all(message.is_acked for message in messages)
