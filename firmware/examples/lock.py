"""A lock that opens and locks by command, and tells what it is. Copy it to the board as main.py.

Where there is a pin (`machine.Pin`) a relay at GPIO 5 follows; elsewhere it only says so.
"""

import sys

import entobot_board

try:
    from machine import Pin

    relay = Pin(5, Pin.OUT, value=0)
except (ImportError, OSError, ValueError):
    relay = None

board = entobot_board.load(sys.argv[1] if len(sys.argv) > 1 else ".")
board.firmware = "1.0.0"
is_open = False


def move(*, to_open: bool) -> dict:
    global is_open  # noqa: PLW0603  a board has one lock
    if relay is not None:
        relay.value(1 if to_open else 0)
    is_open = to_open
    board.tell("is_open", is_open)
    return {"is_open": is_open}


@board.command("open", is_slow=True)
def open_it(_args: dict) -> dict:
    return move(to_open=True)


@board.command("lock", is_slow=True)
def lock_it(_args: dict) -> dict:
    return move(to_open=False)


@board.reading("is_open", every_s=300)
def state() -> bool:
    return is_open


board.run()
