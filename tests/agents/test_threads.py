"""Threads for calls that block, kept for the next one."""

import asyncio
import threading

import pytest

from entobot.agents.threads import MAX_IDLE, KeptThreads


async def test_calls_that_follow_one_another_share_a_thread() -> None:
    threads = KeptThreads("kept")
    first = await threads.run(threading.get_ident)
    assert await threads.run(threading.get_ident) == first
    assert first != threading.get_ident()
    threads.close()


async def test_what_a_call_raises_reaches_its_caller_and_the_thread_goes_on() -> None:
    threads = KeptThreads("kept")

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await threads.run(fail)
    assert await threads.run(lambda: "next") == "next"
    threads.close()


async def test_a_call_that_hangs_holds_up_no_other_even_when_its_caller_is_gone() -> None:
    threads, free = KeptThreads("kept"), threading.Event()
    hanging = asyncio.create_task(threads.run(free.wait))
    await asyncio.sleep(0)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await threads.run(lambda: "not behind it") == "not behind it"
    free.set()
    threads.close()


async def test_only_so_many_idle_threads_are_kept_and_none_after_the_end() -> None:
    threads, free = KeptThreads("kept"), threading.Event()
    begun: list[threading.Thread] = []

    def work() -> None:
        begun.append(threading.current_thread())
        free.wait()

    calls = [asyncio.create_task(threads.run(work)) for _ in range(MAX_IDLE + 2)]
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(*calls)
    threads.close()
    for thread in begun:
        await asyncio.to_thread(thread.join)
