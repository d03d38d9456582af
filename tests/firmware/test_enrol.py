"""Enrolling, and the one request over HTTPS, on a network and a power supply that fail at the worst moment."""

import json
from pathlib import Path
from typing import Any

import pytest

from entobot_board import enrol as enrolling
from entobot_board.clock import Clock
from entobot_board.enrol import enrol
from entobot_board.https import Refusal, ask
from entobot_board.settings import Settings, Wrong
from tests.firmware.boards import SAID
from tests.firmware.network import Time

MADE = {"device_id": "dev_7", "api_key": "ent_key_7", "mqtt_port": 8883, "topics": []}
SETTINGS = {"gateway": SAID["gateway"], "enrolment": {"key": "ent_enr_1", "name": "Shed"}}


class PowerCut(BaseException):
    """Nothing on the board survives it but its flash."""


class Gateway:
    """Answers by its script; what it was asked is in `asked`. Bytes come one after another."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.time = Time()
        self.clock = Clock(self.time.ticks, self.time.difference, self.time.sleep)
        self._says = b""

    def open(self, host: str, port: int, pin: str) -> "Gateway":
        assert (host, port, pin) == ("gateway", 18790, "pin")
        if self.script and self.script[0] == "away":
            self.script.pop(0)
            raise OSError("no way there")
        return self

    def write(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        if body:
            self.asked.append(json.loads(body))
        step = self.script.pop(0)
        if step == "cut":
            raise PowerCut
        self._says = step if isinstance(step, bytes) else answer(*step) if isinstance(step, tuple) else b""

    def read(self) -> bytes | None:
        data, self._says = self._says[:1], self._says[1:]
        return data or None

    def close(self) -> None: ...

    def enrol(self, folder: Path) -> Settings:
        path = folder / "settings.json"
        if not path.exists():
            path.write_text(json.dumps(SETTINGS))
        settings = Settings(json.loads(path.read_text()))
        enrol(
            str(folder),
            settings,
            self.clock,
            open_link=self.open,
            is_online=lambda: True,
            feed=lambda: None,
            random_byte=lambda: 128,
            log=lambda text: None,
        )
        return settings


def answer(status: int, body: Any) -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_a_board_enrols_once_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    gateway = Gateway((201, MADE))
    settings = gateway.enrol(tmp_path)
    assert (settings.device_id, settings.key) == ("dev_7", "ent_key_7")
    assert "Authorization: Bearer ent_enr_1" in gateway.heads[0]
    assert gateway.heads[0].startswith("POST /api/v1/enrol HTTP/1.1\r\nHost: gateway:18790\r\n")
    assert gateway.asked[0]["device_name"] == "Shed"
    assert len(gateway.asked[0]["nonce"]) == 43
    assert gateway.enrol(tmp_path).key == "ent_key_7"
    assert len(gateway.asked) == 1


def test_a_board_forgets_the_enrolment_key_when_it_has_its_own(tmp_path: Path) -> None:
    Gateway((201, MADE)).enrol(tmp_path)
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept == SETTINGS | {"enrolment": {"key": "", "name": "Shed"}}
    assert (tmp_path / "settings.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    for enrolment in ({"key": "", "name": "Shed"}, {"name": "Shed"}, {}):
        (tmp_path / "settings.json").write_text(json.dumps(SETTINGS | {"enrolment": enrolment}))
        assert Gateway().enrol(tmp_path).key == "ent_key_7"


def test_the_enrolment_key_stays_until_what_came_for_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(path: str, said: dict[str, Any]) -> None:
        write(path, said)
        if "key" in said:
            raise PowerCut

    write = enrolling.write
    gateway = Gateway((201, MADE))
    with monkeypatch.context() as patch:
        patch.setattr(enrolling, "write", cut)
        with pytest.raises(PowerCut):
            gateway.enrol(tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS
    assert gateway.enrol(tmp_path).key == "ent_key_7"
    assert b"ent_enr_1" not in (tmp_path / "settings.json").read_bytes()


def test_settings_that_cannot_be_written_keep_no_board_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, said: dict[str, Any]) -> None:
        if path.endswith("settings.json"):
            raise OSError(28, "No space left on device")
        write(path, said)

    write = enrolling.write
    monkeypatch.setattr(enrolling, "write", full)
    assert Gateway((201, MADE)).enrol(tmp_path).key == "ent_key_7"


def test_a_board_that_is_to_enrol_anew_says_what_is_missing(tmp_path: Path) -> None:
    Gateway((201, MADE)).enrol(tmp_path)
    (tmp_path / "credentials.json").unlink()
    with pytest.raises(Wrong, match=r"enrolment\.key is missing"):
        Gateway().enrol(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    assert Gateway((201, MADE)).enrol(tmp_path).key == "ent_key_7"


def test_an_answer_that_was_lost_is_asked_for_again_as_the_same_board(tmp_path: Path) -> None:
    busy = (503, {"code": "draining", "detail": "", "status": 503})
    gateway = Gateway("away", "silence", busy, (200, {}), "cut", (201, MADE))
    with pytest.raises(PowerCut):
        gateway.enrol(tmp_path)
    assert gateway.enrol(tmp_path).device_id == "dev_7"
    assert len({one["nonce"] for one in gateway.asked}) == 1
    assert len(gateway.asked) == 5
    assert Gateway().enrol(tmp_path).key == "ent_key_7"


def test_a_key_that_is_spent_is_tried_each_minute_and_not_more(tmp_path: Path) -> None:
    spent = (401, {"code": "unauthenticated", "detail": "this key is spent", "status": 401})
    gateway = Gateway(*[spent] * 5, (201, MADE))
    gateway.enrol(tmp_path)
    assert 5 * 42_000 <= gateway.time.ms <= 5 * 79_000


ANSWERS = [
    (b"HTTP/1.1 200 X\r\n\r\n{}", "without a length"),
    (b"HTTP/1.1 200 X\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000, "too long"),
    (b"x" * 9000, "too long"),
    (b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nabc", "no answer"),
    (b"HTTP/1.1 ??? X\r\nContent-Length: 2\r\n\r\n{}", "that is none"),
    (b"\xff\r\nContent-Length: 2\r\n\r\n{}", "that is none"),
    (b"HTTP/1.1 200 X\r\nContent-Length: ?\r\n\r\n{}", "without a length"),
    (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n[]", "that is none"),
]


@pytest.mark.parametrize(("said", "text"), ANSWERS)
def test_an_answer_that_is_none_is_an_error_and_takes_no_more_memory_than_it_may(said: bytes, text: str) -> None:
    gateway = Gateway(said)
    with pytest.raises(OSError, match=text):
        ask(gateway.open, gateway.clock, Settings(SETTINGS), "GET", "/api/health")


def test_a_refusal_says_what_the_gateway_said() -> None:
    gateway = Gateway((409, {"code": "enrolment_used", "detail": "another nonce"}))
    with pytest.raises(Refusal, match="409 enrolment_used: another nonce"):
        ask(gateway.open, gateway.clock, Settings(SETTINGS), "POST", "/api/v1/enrol", {})
