"""The last log lines for the dashboard: as clean as the log itself, and bounded."""

import io

from entobot.telemetry.log import configure, get_logger
from entobot.telemetry.recent_log import MAX_CHARACTERS, MAX_LINES, RecentLog
from tests.support.time import ManualClock


def test_a_line_is_kept_with_its_fields_and_without_its_secrets() -> None:
    recent = RecentLog()
    configure(ManualClock(), "info", "json", io.StringIO(), recent)
    get_logger("gateway").info("device.seen", device_id="dev_1", token="ent_rt_c2VjcmV0c2VjcmV0")
    get_logger("gateway").debug("left.out")
    (line,) = recent.find()
    assert (line.number, line.level, line.logger, line.event) == (1, "info", "entobot.gateway", "device.seen")
    assert line.fields["device_id"] == "dev_1"
    assert "c2VjcmV0" not in str(line)


def add(recent: RecentLog, event: str, level: str = "info", **fields: object) -> None:
    recent(None, "", {"event": event, "level": level, "logger": "entobot.test", "at": "now", **fields})


def test_lines_are_found_by_level_and_text_behind_a_number() -> None:
    recent = RecentLog()
    for number in range(6):
        add(recent, f"event.{number}", "error" if number % 2 else "info", where="Kitchen")
    assert [line.event for line in recent.find(level="warning")] == ["event.1", "event.3", "event.5"]
    assert [line.event for line in recent.find(text="KITCHEN", limit=2)] == ["event.4", "event.5"]
    assert [line.number for line in recent.find(after=4)] == [5, 6]
    assert recent.find(text="garden") == []


def test_neither_many_lines_nor_long_ones_fill_the_memory() -> None:
    recent = RecentLog()
    for number in range(MAX_LINES + 10):
        add(recent, f"event.{number}")
    assert len(recent.find(limit=MAX_LINES * 2)) == MAX_LINES
    for number in range(MAX_LINES):
        add(recent, f"long.{number}", text="x" * 8192)
    kept = recent.find(limit=MAX_LINES * 2)
    assert sum(len(str(line.fields)) for line in kept) <= MAX_CHARACTERS
    assert kept[-1].event == f"long.{MAX_LINES - 1}"
