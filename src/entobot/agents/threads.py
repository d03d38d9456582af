"""Blocking work in daemon threads: unlike the default executor's, they never hold up the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

MAX_IDLE = 4
"""Threads that are kept for the next call. However many calls hang, the next one gets a thread."""

_Work = Callable[[], None] | None


async def in_daemon_thread(function: Callable[[], T], name: str) -> T:
    """The result of `function`, in a thread of its own.

    Cancelling the caller does not stop the thread; nobody hears of its result then.
    """
    work, future = _settling(function)
    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


class KeptThreads:
    """As `in_daemon_thread`, where calls follow one another: whoever starts a thread waits until it runs, which on a
    busy machine takes longer than most calls. Loop thread only.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[SimpleQueue[_Work]] = []
        self._is_closed = False

    async def run(self, function: Callable[[], T]) -> T:
        queue = self._idle.pop() if self._idle else self._start()
        work, future = _settling(function, lambda: self._keep(queue))
        queue.put(work)
        return await future

    def close(self) -> None:
        """Idle threads end, busy ones when their call does."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _start(self) -> "SimpleQueue[_Work]":
        queue: SimpleQueue[_Work] = SimpleQueue()
        threading.Thread(target=_work_off, args=(queue,), name=self._name, daemon=True).start()
        return queue

    def _keep(self, queue: "SimpleQueue[_Work]") -> None:
        """Its thread has nothing to do. A caller that is gone does not mean that."""
        if self._is_closed or len(self._idle) >= MAX_IDLE:
            queue.put(None)
        else:
            self._idle.append(queue)


def _work_off(queue: "SimpleQueue[_Work]") -> None:
    while (work := queue.get()) is not None:
        work()


def _nothing() -> None: ...


def _settling(
    function: Callable[[], T], done: Callable[[], None] = _nothing
) -> "tuple[Callable[[], None], asyncio.Future[T]]":
    """What a thread has to call, and where the loop gets the result; `done` is called there when the thread is."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        done()
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # pyright: ignore[reportArgumentType]  no error means that there is a T

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  whatever it raised belongs to the awaiting caller
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    return work, future
