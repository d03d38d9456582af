"""A test that hangs is ended, and what it waited for is told before."""

import asyncio
import weakref
from io import StringIO

from tests.support.hangs import told


async def wait_for_nothing() -> None:
    await asyncio.Event().wait()


async def test_what_hangs_is_told_with_the_place_where_it_waits() -> None:
    out = StringIO()
    task = asyncio.create_task(wait_for_nothing())
    await asyncio.sleep(0)
    with told("the_test", 0.0, out) as timer:
        await asyncio.to_thread(timer.join)
    task.cancel()
    assert "the_test hangs" in out.getvalue()
    assert "in wait_for_nothing" in out.getvalue()


async def test_a_weak_proxy_of_something_gone_does_not_hide_what_hangs() -> None:
    gone = asyncio.Event()
    proxy = weakref.proxy(gone)
    del gone
    await test_what_hangs_is_told_with_the_place_where_it_waits()
    del proxy


def test_what_ends_in_time_is_not_told() -> None:
    out = StringIO()
    with told("the_test", 3600.0, out) as timer:
        pass
    timer.join()
    assert out.getvalue() == ""
