"""A server that is asked for its model decides neither how long that takes, nor how much it costs, nor what is shown."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from entobot.agents.choice import Endpoint
from entobot.agents.discovery import MAX_ANSWER_BYTES, MAX_ID_CHARACTERS, served_model
from entobot.agents.runner import RunErrorCode, RunFailed, Runner
from entobot.agents.trying import MAX_AT_ONCE, places, try_endpoint
from entobot.core.errors import Code, Problem
from tests.support.time import ManualClock

pytest.importorskip("httpx")
Talk = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LONG = timedelta(minutes=10)


class Hostile:
    """A server that reads a request and then says what it likes until the other side hangs up."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            link, _ = self._listener.accept()
        with link:
            try:
                link.recv(65536)
                self._talk(link)
            except OSError:  # it hung up
                return

    def close(self) -> None:
        self._thread.join()


@pytest.fixture
def hostile() -> Iterator[Callable[[Talk], Hostile]]:
    made: list[Hostile] = []

    def make(talk: Talk) -> Hostile:
        made.append(Hostile(talk))
        return made[-1]

    yield make
    for one in made:
        one.close()


def drip(begun: bytes) -> Talk:
    """One byte after the other, each in time for a limit on single reads, without an end."""

    def talk(link: socket.socket) -> None:
        link.sendall(begun)
        while True:
            link.sendall(b" ")
            link.settimeout(0.02)
            try:
                if not link.recv(1):
                    return
            except TimeoutError:
                continue

    return talk


def say(body: bytes) -> Talk:
    return lambda link: link.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("begun", [OK + b"\r\n{", OK + b"X: "], ids=["body", "headers"])
def test_a_server_that_drips_holds_nobody_up(hostile: Callable[[Talk], Hostile], begun: bytes) -> None:
    with pytest.raises(RunFailed) as caught:
        served_model(hostile(drip(begun)).base_url, None, timedelta(milliseconds=200))
    assert caught.value.code is RunErrorCode.PROVIDER_UNREACHABLE


def test_of_an_endless_answer_no_more_than_a_list_of_models_is_read(hostile: Callable[[Talk], Hostile]) -> None:
    listed = json.dumps({"data": [{"id": "m"}]}).encode()
    assert served_model(hostile(say(listed)).base_url, None, LONG) == "m"
    assert served_model(hostile(say(b" " * (MAX_ANSWER_BYTES - len(listed)) + listed)).base_url, None, LONG) == "m"
    with pytest.raises(RunFailed):
        served_model(hostile(say(b" " * MAX_ANSWER_BYTES + listed)).base_url, None, LONG)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"id": "M" * (MAX_ID_CHARACTERS + 1)}]},
        {"data": [{"id": "\u202egpt"}]},
        {"data": [{"id": "a\nb"}]},
        {"data": [{"id": ""}]},
        {"data": [{"id": {"a": 1}}]},
        {"data": []},
        [],
        5,
    ],
)
def test_what_cannot_be_shown_is_no_name_of_a_model(hostile: Callable[[Talk], Hostile], answer: object) -> None:
    with pytest.raises(RunFailed):
        served_model(hostile(say(json.dumps(answer).encode())).base_url, None, LONG)


def test_an_answer_that_nests_for_ever_is_no_list(hostile: Callable[[Talk], Hostile]) -> None:
    with pytest.raises(RunFailed):
        served_model(hostile(say(b"[" * 200_000)).base_url, None, LONG)


def test_the_longest_name_is_taken(hostile: Callable[[Talk], Hostile]) -> None:
    name = "M" * MAX_ID_CHARACTERS
    assert served_model(hostile(say(json.dumps({"data": [{"id": name}]}).encode())).base_url, "key", LONG) == name


async def test_tries_that_hang_hold_up_neither_other_work_nor_the_end_and_are_few(clock: ManualClock) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go_on, are_daemons, free = threading.Event(), list[bool](), places()
    begun = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def hang(_: Endpoint) -> Runner:
        are_daemons.append(threading.current_thread().daemon)
        loop.call_soon_threadsafe(begun.release)
        go_on.wait()
        raise RunFailed(RunErrorCode.PROVIDER_UNREACHABLE, "It hung.")

    def attempt() -> asyncio.Task[object]:
        return asyncio.create_task(try_endpoint(hang, Endpoint("openai", "", "http://x", None), clock, "run_1", free))

    tries = [attempt() for _ in range(MAX_AT_ONCE)]
    try:
        for _ in tries:
            await begun.acquire()
        assert await asyncio.to_thread(lambda: "answered") == "answered"
        assert are_daemons == [True] * MAX_AT_ONCE
        tries[0].cancel()  # given up, but its thread hangs on
        with pytest.raises(Problem) as caught:
            await attempt()
        assert caught.value.code is Code.RATE_LIMITED
    finally:
        go_on.set()
        await asyncio.gather(*tries, return_exceptions=True)
    for _ in range(MAX_AT_ONCE):
        assert await asyncio.to_thread(free.acquire)
