"""A sensor: one reading a minute. Copy it to the board as main.py, and put your own sensor in.

On an ESP32 or a Pico: `machine.ADC(4).read_u16()` and the like. Here the value is made up, so that it runs anywhere.
"""

import sys

import entobot_board

board = entobot_board.load(sys.argv[1] if len(sys.argv) > 1 else ".")
board.firmware = "1.0.0"


@board.reading("temperature", every_s=60)
def temperature() -> float:
    return 21.5


board.run()
