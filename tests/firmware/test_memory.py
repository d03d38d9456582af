"""Room for a connection: MicroPython never moves what it holds, so free memory in small holes is none."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.boards import SAID, boot
from tests.firmware.network import Broker, Network, Time, Weather
from tests.firmware.programs import FIRMWARE, HEAP, interpreter
from tests.support.process import GENEROUS_S, ROOT

BLOCK_BYTES = 32
"""Of the Unix port on 64 bits; the largest hole is told in blocks."""


@pytest.mark.parametrize("heap", [HEAP, "72k"])
def test_what_loading_leaves_free_lies_together(tmp_path: Path, heap: str) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(SAID))
    told = subprocess.run(
        [*interpreter("micropython", heap), str(ROOT / "tests" / "firmware" / "holes.py"), str(tmp_path)],
        env={"MICROPYPATH": str(FIRMWARE)},
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=True,
    ).stdout
    free, largest = (int(re.findall(pattern, told)[0]) for pattern in (r"free: (\d+)", r"max free sz: (\d+)"))
    assert largest * BLOCK_BYTES > free * (0.6 if heap == HEAP else 0.35), told


def test_a_board_without_room_for_a_connection_starts_again_and_keeps_its_readings(tmp_path: Path) -> None:
    time = Time()
    network = Network(Broker(time), Weather(1))
    board = boot(tmp_path, network, time)
    board.reading("count", every_s=1)(lambda: 1)

    def no_room(*_: Any) -> None:
        raise MemoryError

    board._open_link = no_room
    with pytest.raises(MemoryError):
        board.run()
    again = boot(tmp_path, network, time, number=1)
    assert len(again._buffer) == 1
