"""The board's own code on CPython, in injected time; power cuts included."""

from pathlib import Path

from entobot_board.board import Board
from entobot_board.buffer import Buffer
from entobot_board.clock import Clock
from entobot_board.commands import Commands
from entobot_board.settings import Settings
from tests.firmware.network import DEVICE, KEY, PIN, Network, Time

SAID = {"gateway": {"host": "gateway", "pin": PIN}, "device": {"id": DEVICE, "key": KEY}}


def boot(folder: Path, network: Network, time: Time, *, number: int = 0, buffer_kib: int = 256) -> Board:
    """Whatever was only in memory before is gone; what is in `folder` is there."""
    clock = Clock(time.ticks, time.difference, time.sleep)
    settings = Settings(SAID | {"buffer_kib": buffer_kib})
    return Board(
        settings,
        clock,
        Buffer(str(folder / "buffer"), settings.buffer_kib * 1024, f"{number:08x}", clock),
        Commands(str(folder / "commands.json"), clock),
        open_link=network.open,
        ask_time=network.ask_time,
        is_online=lambda: True,
        feed=lambda: None,
        random_byte=lambda: network.weather.dice.randrange(256),
        log=lambda text: None,
    )
