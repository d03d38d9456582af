"""What is free of MicroPython's heap once the board client is loaded. Argument: the folder with settings.json."""

import gc
import sys

import micropython  # pyright: ignore[reportMissingImports]  MicroPython's alone

import entobot_board

entobot_board.load(sys.argv[1])
gc.collect()
micropython.mem_info()
