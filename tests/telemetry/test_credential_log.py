"""Lines about refused credentials: one for each, and never more than a disk can bear."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from entobot.telemetry.credential_log import CredentialLog
from entobot.telemetry.log import configure, get_logger
from tests.support.time import ManualClock


class Lines(io.StringIO):
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def lines(clock: ManualClock) -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = Lines()
    configure(clock, "info", "json", stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def refusals(lines: Lines, clock: ManualClock) -> CredentialLog:
    return CredentialLog(get_logger("test"), clock, window=timedelta(seconds=60), per_address=3, total=5)


def test_each_has_a_line_with_its_address(lines: Lines, refusals: CredentialLog) -> None:
    for address in ("192.0.2.1", "2001:db8::1"):
        refusals.refused("http", "unauthenticated", address)
    assert [(line["event"], line["transport"], line["reason"], line["address"]) for line in lines.json()] == [
        ("credentials.refused", "http", "unauthenticated", "192.0.2.1"),
        ("credentials.refused", "http", "unauthenticated", "2001:db8::1"),
    ]


def test_one_address_cannot_hide_another_and_what_is_left_out_is_told(
    lines: Lines, refusals: CredentialLog, clock: ManualClock
) -> None:
    for _ in range(1000):
        refusals.refused("http", "unauthenticated", "192.0.2.1")
    refusals.refused("websocket", "bad_credentials", "192.0.2.2")
    assert [line["address"] for line in lines.json()] == ["192.0.2.1"] * 3 + ["192.0.2.2"]
    assert lines.json()[3]["suppressed"] == 997
    clock.advance(60)
    refusals.refused("http", "unauthenticated", "192.0.2.1")
    assert "suppressed" not in lines.json()[4]


def test_many_addresses_make_neither_lines_nor_memory_without_end(
    lines: Lines, refusals: CredentialLog, clock: ManualClock
) -> None:
    for number in range(1000):
        refusals.refused("http", "unauthenticated", f"192.0.{number // 256}.{number % 256}")
    assert len(lines.json()) == 5
    assert len(refusals._written) == 5
    clock.advance(60)
    refusals.refused("http", "unauthenticated", "198.51.100.1")
    assert lines.json()[5]["suppressed"] == 995
