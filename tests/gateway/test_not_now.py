"""Whoever says "not now" says when: every end and refusal after which a client is to come back names a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from entobot.core.errors import RETRYABLE, Code, Problem
from entobot.core.rates import Allowance, Rate
from entobot.gateway import simple, wire
from entobot.gateway.authentication import Refused
from entobot.gateway.http import EventStream
from entobot.gateway.rates import Rates
from entobot.gateway.wire import Close
from entobot.storage.database import RETRY_AFTER_S, StorageFailed
from entobot.web.problems import problem_response
from tests.gateway.test_events_http import PHONE, Inbox, parts
from tests.support.gateway import ManualLink, World, frame, quiet

SOME_CODES = (Code.RATE_LIMITED, Code.DRAINING)


@pytest.mark.parametrize("code", SOME_CODES)
def test_no_problem_that_says_not_now_can_be_made_without_a_time(code: Code) -> None:
    problem = Problem(code, "Not now.")
    assert code in RETRYABLE
    assert problem.to_json()["retry_after_s"] == 1
    assert problem_response(problem).headers["retry-after"] == "1"
    for encoded in (wire.error(problem), simple.problem_error(problem)):
        assert b'"retry_after_s":1' in encoded


def test_a_commit_that_the_store_did_not_take_may_be_repeated_after_a_moment() -> None:
    problem = StorageFailed("disk full").as_problem()
    assert (problem.code, problem.retry, problem.retry_after_s) == (Code.INTERNAL, True, RETRY_AFTER_S)
    assert problem_response(problem).headers["retry-after"] == "2"


async def key_failures(world: World, link: ManualLink, session: Any) -> None:
    world.door.refusals["dev_1"] = Refused(Close.RATE_LIMITED, "too many failures", 6.0)
    session.text(frame("auth", api_key="dev_1"))
    await quiet()


async def store_is_away(world: World, link: ManualLink, session: Any) -> None:
    world.door.just_before_answering = failing
    session.text(frame("auth", api_key="dev_1"))
    await quiet()


def failing() -> None:
    raise StorageFailed("gone")


async def defect(world: World, link: ManualLink, session: Any) -> None:
    world.door.just_before_answering = lambda: 1 // 0
    session.text(frame("auth", api_key="dev_1"))
    await quiet()


async def too_busy_to_authenticate(world: World, link: ManualLink, session: Any) -> None:
    world.door.gate = asyncio.Event()
    session.text(frame("auth", api_key="dev_1"))
    await asyncio.sleep(0)
    world.timers.advance(6)
    world.door.gate.set()
    await quiet()


async def stopping(world: World, link: ManualLink, session: Any) -> None:
    world.hub.is_draining = True
    world.door.admit("dev_1", PHONE)
    session.text(frame("auth", api_key="dev_1"))
    await quiet()


async def drained(world: World, link: ManualLink, session: Any) -> None:
    session.drain(3.5)


async def pinged_without_end(world: World, link: ManualLink, session: Any) -> None:
    session.over_limit(0.25)


async def evicted(world: World, link: ManualLink, session: Any) -> None:
    session._crowded_out()


Way = Callable[[World, ManualLink, Any], Awaitable[None]]

WAYS: list[Way] = [
    key_failures,
    store_is_away,
    defect,
    too_busy_to_authenticate,
    stopping,
    drained,
    pinged_without_end,
    evicted,
]
NAMED: dict[Way, float] = {key_failures: 6.0, drained: 3.5, pinged_without_end: 0.25}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_each_end_that_says_come_back_names_a_time_once(world: World, way: Way) -> None:
    link, session = world.session()
    session.opened()
    await way(world, link, session)
    assert link.close_code in (Close.DRAINING, Close.RATE_LIMITED)
    told = [one for one in link.frames if one["type"] == "error"]
    assert len(told) == 1
    assert told[0]["code"] == ("draining" if link.close_code == Close.DRAINING else "rate_limited")
    assert (told[0]["retry"], told[0]["retry_after_s"] > 0) == (True, True)
    assert told[0]["retry_after_s"] == NAMED.get(way, told[0]["retry_after_s"])


async def test_of_a_crowd_that_is_sent_away_each_is_told_another_time(world: World) -> None:
    times: list[float] = []
    for _ in range(50):
        link, session = world.session()
        session.opened()
        await store_is_away(world, link, session)
        times.append(link.frames[-1]["retry_after_s"])
    assert len(set(times)) == 50


@pytest.mark.parametrize("code", [Close.REVOKED, Close.BAD_CREDENTIALS, Close.TOKEN_EXPIRED])
async def test_an_end_that_no_waiting_mends_names_none(world: World, code: Close) -> None:
    link, session = world.session()
    session.opened()
    world.door.refusals["dev_1"] = Refused(code, "no")
    session.text(frame("auth", api_key="dev_1"))
    await quiet()
    assert (link.close_code, [one["type"] for one in link.frames]) == (code, ["hello"])


async def test_too_many_frames_and_pings_are_counted_as_hits_of_their_limits(world: World) -> None:
    hits: list[Rate] = []
    allowances = {Rate.FRAMES: Allowance(1, 1)}
    rates = Rates(allowances, monotonic=world.clock.monotonic, on_limited=hits.append)
    world.parts = replace(world.parts, rates=rates)
    link, session = await world.connect()
    for _ in range(2):
        session.text(frame("ping"))
    assert link.frames[-1]["retry_after_s"] == 1
    session.over_limit(1.0)
    assert hits == [Rate.FRAMES, Rate.PINGS]


async def test_a_stream_over_http_that_ends_for_now_names_a_time(world: World) -> None:
    stream = EventStream(replace(parts(world), come_back_s=lambda: 0.75), PHONE, "")
    await stream.open(None)
    inbox = Inbox(stream)
    await inbox.read()
    stream.end(Close.DRAINING, "the store does not answer")
    assert await inbox.more() == [b"retry: 750\n: 4000 the store does not answer\n\n"]
