"""The watchdog is fed for as long as the loop is alive, whatever the board does, and by what is not collected."""

import gc
import json
import select
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from entobot_board import hardware, start
from tests.firmware.boards import SAID
from tests.firmware.network import Time
from tests.firmware.programs import FIRMWARE, Program, interpreter
from tests.support.process import GENEROUS_S


class Pico:
    """The module `machine` of a Pico. As there, a timer that was collected does not call any more."""

    def __init__(self) -> None:
        pico = self
        self.fed = 0
        self.timers = weakref.WeakSet[Any]()

        class Timer:
            def __init__(self, *, period: int, callback: Callable[[Any], None]) -> None:
                assert period <= hardware.PICO_WATCHDOG_MS // 2
                self.callback = callback
                pico.timers.add(self)

        self.Timer = Timer

    def WDT(self, *, timeout: int) -> Any:  # noqa: N802  as it is called there
        assert timeout == hardware.PICO_WATCHDOG_MS
        return SimpleNamespace(feed=self._feed)

    def _feed(self) -> None:
        self.fed += 1

    def pass_on(self) -> None:
        for timer in list(self.timers):
            timer.callback(timer)


def test_a_pico_s_watchdog_is_still_fed_after_memory_was_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    pico, time = Pico(), Time()
    monkeypatch.setitem(sys.modules, "machine", pico)
    monkeypatch.setattr(hardware, "sys", SimpleNamespace(platform="rp2"))
    feed = hardware.watchdog(60, lambda: time.ms)
    feed()
    gc.collect()
    pico.pass_on()
    assert pico.fed == 1


def test_a_board_that_talks_feeds_its_watchdog_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    monkeypatch.setattr(hardware, "watchdog", lambda seconds, now: lambda: fed.append(seconds))
    monkeypatch.setattr(hardware, "network", lambda settings, now: lambda: False)
    (tmp_path / "settings.json").write_text(json.dumps(SAID))
    talk = start.talk(str(tmp_path), lambda text: None)
    for _ in range(3):
        talk.step()
    assert fed == [60, 60, 60]


@pytest.mark.parametrize("python", ["micropython", "cpython"])
def test_the_example_that_talks_goes_on_while_nobody_types(tmp_path: Path, python: str) -> None:
    nobody = {"gateway": {"host": "127.0.0.1", "port": 1, "pin": "pin"}}
    command = [*interpreter(python), str(FIRMWARE / "examples" / "talk.py")]
    program = Program(command, tmp_path, SAID | nobody)
    try:
        assert program._process.stdout is not None
        assert select.select([program._process.stdout], [], [], GENEROUS_S)[0]
        assert "again in" in program.line()
    finally:
        program.kill()
