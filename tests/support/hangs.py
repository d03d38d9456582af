"""Says where a test that hangs is waiting: the stacks of its asyncio tasks, which a dump of threads does not show."""

import asyncio
import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def told(name: str, after_s: float, out: TextIO) -> Generator[threading.Timer]:
    """Tell it to `out` when what is inside takes longer than this."""
    timer = threading.Timer(after_s, _tell, (name, out))
    timer.daemon = True
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()


def _tell(name: str, out: TextIO) -> None:
    print(f"\n{name} hangs. Its tasks:", file=out)
    for task in _tasks():
        task.print_stack(file=out)
    out.flush()


def _tasks() -> list[asyncio.Task[object]]:
    """Those of every loop that are not done. By type: `isinstance` asks a weak proxy for its dead object's class."""
    return [one for one in gc.get_objects() if issubclass(type(one), asyncio.Task) and not one.done()]
