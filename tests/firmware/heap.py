"""What the board client takes of MicroPython's heap: `micropython -X heapsize=72k heap.py FOLDER`, with settings.json there.

MICROPYPATH is firmware/, and heap.py a copy in a folder of its own: beside it lie modules of the names that boards have.
It is offline for some seconds first, so that batches are sent, too.
"""

import gc
import sys

import entobot_board


def told(what: str) -> None:
    gc.collect()
    allocated, free = getattr(gc, "mem_alloc")(), getattr(gc, "mem_free")()  # noqa: B009  MicroPython's alone
    print(what, allocated, "bytes, free", free)  # noqa: T201  its result


def no_way(host: str, port: int, pin: str):  # noqa: ANN201  it does not return, and MicroPython has no name for that
    raise OSError("offline")


board = entobot_board.load(sys.argv[1])
told("loaded")
count = 0


@board.reading("count", every_s=0.1)
def next_count() -> int:
    global count  # noqa: PLW0603  a board has one
    count += 1
    return count


def pass_on(steps: int) -> None:
    for _ in range(steps):
        board.step()
        board.clock.sleep(20)


open_link = board._open_link
board._open_link = no_way
pass_on(300)
board._open_link = open_link
while not board.is_connected:
    pass_on(1)
told("connected")
pass_on(200)
told("after batches")
board.close()
