import io
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from entobot.telemetry.log import REDACTED, RefusalLog, clean_text, configure, get_logger
from tests.support.time import ManualClock

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c3JfMSJ9.c2lnbmF0dXJl"
SECRETS = [
    "ent_rt_Zm9vYmFyYmF6cXV1eA",
    "ent_key_01ARZ3NDEKTSV4RRFFQ69G5FAV_Zm9vYmFyYmF6cXV1eGZvb2JhcmJhenF1dXhmb29iYXI",
    "ent_ses_01ARZ3NDEKTSV4RRFFQ69G5FAV_Zm9vYmFyYmF6cXV1eGZvb2Jh",
    "ent_lnk_01ARZ3NDEKTSV4RRFFQ69G5FAV_Zm9vYmFyYmF6cXV1eGZvb2Jh",
    JWT,
    "https://gateway/pair#v=1&i=inv_01ARZ3NDEKTSV4RRFFQ69G5FAV&s=c2VjcmV0c2VjcmV0c2VjcmV0&x=1",
    "s=c2VjcmV0c2VjcmV0c2VjcmV0",
    "sk-ant-api03-c2VjcmV0c2VjcmV0",
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----",
]


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


def fail(text: str) -> None:
    raise ValueError(text)


def test_a_line_is_one_json_object_with_time_level_and_logger(lines: Lines) -> None:
    get_logger("pairing").info("invite.claimed", invite_id="inv_1", count=3, ok=True)
    assert lines.json() == [
        {
            "event": "invite.claimed",
            "invite_id": "inv_1",
            "count": 3,
            "ok": True,
            "level": "info",
            "logger": "entobot.pairing",
            "at": "2026-09-21T14:13:20.000Z",
        }
    ]


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    get_logger("pairing").debug("hidden")
    assert lines.getvalue() == ""


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_written_wherever_it_stands(lines: Lines, secret: str) -> None:
    tail = secret.strip("-")[-24:-4] if secret.startswith("-----") else secret[-12:]
    log = get_logger("test")
    event = f"got {secret}"
    log.info(event, text=f"before {secret} after", deep={"list": [{"x": secret}]}, bytes=secret.encode())
    logging.getLogger("uvicorn.error").warning("foreign %s", secret, extra={"header": secret})
    try:
        fail(secret)
    except ValueError:
        log.exception("failed")
        logging.getLogger("uvicorn.error").exception("failed")
    assert len(lines.json()) == 4
    assert tail not in lines.getvalue()
    assert lines.getvalue().count(REDACTED) >= 7


def test_a_field_with_a_secret_name_is_not_written(lines: Lines) -> None:
    get_logger("test").info("x", token="plain", Authorization="plain", deep={"cookie": "plain"}, code="forbidden")
    line = lines.json()[0]
    assert (line["token"], line["Authorization"], line["deep"]) == (REDACTED, REDACTED, {"cookie": REDACTED})
    assert line["code"] == "forbidden"


def test_a_secret_across_the_cut_is_redacted_before_it_is_cut() -> None:
    text = clean_text("x" * 500 + "ent_rt_" + "s" * 600)
    assert "s" * 5 not in text.replace("characters", "")


def test_harmless_text_is_left_alone() -> None:
    text = "Invite inv_01ARZ3NDEKTSV4RRFFQ69G5FAV was claimed from 192.0.2.7; key eyJ, ask-me"
    assert clean_text(text) == text


def test_fields_are_bounded(lines: Lines) -> None:
    get_logger("test").info("e" * 9999, text="x" * 99_999, many=list(range(999)), **{f"f{n}": n for n in range(99)})  # pyright: ignore[reportArgumentType]  any fields
    line = lines.json()[0]
    assert len(line) <= 32
    assert len(lines.getvalue()) < 4000
    assert line["text"].endswith("(99999 characters)")


def test_input_cannot_forge_lines_or_move_the_terminal(clock: ManualClock, lines: Lines) -> None:
    stream = Lines()
    configure(clock, "info", "console", stream)
    get_logger("test").info("refused", name="a\x1b[2J\r\u202eb")
    assert not {"\x1b", "\r", "\u202e"} & set(stream.getvalue())
    assert "\\x1b[2J" in stream.getvalue()


def test_an_exception_keeps_its_traceback_bounded(lines: Lines) -> None:
    try:
        fail("y" * 99_999)
    except ValueError:
        get_logger("test").exception("failed")
    line = lines.json()[0]
    assert "Traceback" in line["exception"]
    assert len(line["exception"]) < 9000


@pytest.fixture
def refusals(lines: Lines, clock: ManualClock) -> RefusalLog:
    return RefusalLog(get_logger("test"), clock, every=timedelta(seconds=60), max_reasons=3)


def test_a_flood_of_refusals_is_one_line_and_a_count(lines: Lines, refusals: RefusalLog, clock: ManualClock) -> None:
    for _ in range(1000):
        refusals.refused("frame.too_large", address="192.0.2.7")
    assert [(line["reason"], line["address"], "suppressed" in line) for line in lines.json()] == [
        ("frame.too_large", "192.0.2.7", False)
    ]
    clock.advance(60)
    refusals.refused("frame.too_large", address="192.0.2.8")
    assert lines.json()[1]["suppressed"] == 999
    clock.advance(60)
    refusals.refused("frame.too_large")
    assert "suppressed" not in lines.json()[2]


def test_each_reason_has_its_own_line(lines: Lines, refusals: RefusalLog) -> None:
    refusals.refused("a")
    refusals.refused("b")
    refusals.refused("a")
    assert [line["reason"] for line in lines.json()] == ["a", "b"]


def test_reasons_without_end_do_not_make_lines_or_memory_without_end(lines: Lines, refusals: RefusalLog) -> None:
    for number in range(1000):
        refusals.refused(f"reason{number}")
    assert [line["reason"] for line in lines.json()] == ["reason0", "reason1", "reason2", "other"]
    assert len(refusals._reasons) <= 4


def test_a_reason_whose_time_is_over_makes_room_and_tells_its_count(
    lines: Lines, refusals: RefusalLog, clock: ManualClock
) -> None:
    for reason in ("a", "a", "b", "c"):
        refusals.refused(reason)
    clock.advance(60)
    refusals.refused("d")
    told = [(line["reason"], line.get("suppressed")) for line in lines.json()]
    assert told == [("a", None), ("b", None), ("c", None), ("a", 1), ("d", None)]


def test_what_was_left_out_is_told_at_stop(lines: Lines, refusals: RefusalLog) -> None:
    for _ in range(3):
        refusals.refused("a")
    refusals.flush()
    refusals.flush()
    assert [line.get("suppressed") for line in lines.json()] == [None, 2]
