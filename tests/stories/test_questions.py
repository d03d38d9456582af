"""A program asks its person something; the person answers on the phone, whenever that is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entobot.core.errors import Problem
from tests.support.browser import Browser
from tests.support.nodes import Pair
from tests.support.operator import TOLD, Operator
from tests.support.phone import Phone, connected
from tests.support.postgres import PostgresServer
from tests.support.process import ROOMY, GatewayProcess
from tests.support.thing import Thing

AT = "/api/v1/questions"
DINNER = {"text": "When is dinner?"}
CHOICE = {"kind": "choice", "text": "Which one?", "options": ["red", {"value": "blue", "title": "The blue one"}]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("questions") / "home", environment=ROOMY)
    yield process.start()
    process.close()


def program(gateway: GatewayProcess, name: str = "Program", scopes: str = "notify") -> Thing:
    return Thing.make(gateway, name, "--scopes", scopes)


async def ask(asker: Thing, **question: Any) -> dict[str, Any]:
    answer = await asyncio.to_thread(asker.request, "POST", AT, json=question)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def watch(asker: Thing, question: dict[str, Any], wait_s: float = 30) -> dict[str, Any]:
    path = f"{AT}/{question['question_id']}"
    return (await asyncio.to_thread(asker.request, "GET", path, params={"wait_s": wait_s})).json()


async def told(phone: Phone, question: dict[str, Any]) -> dict[str, Any]:
    while True:
        data = (await phone.until_event("question.asked"))["data"]
        if data["question_id"] == question["question_id"]:
            return data


async def test_the_answer_reaches_the_program_that_waits(gateway: GatewayProcess) -> None:
    agent = await asyncio.to_thread(program, gateway)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    async with connected(gateway, device) as phone:
        asked = await ask(agent, **CHOICE, title="Colour")
        shown = await told(phone, asked)
        assert (shown["title"], shown["text"], shown["state"]) == ("Colour", "Which one?", "open")
        assert shown["fields"][0]["options"][1] == {"value": "blue", "title": "The blue one"}
        waiting = asyncio.create_task(watch(agent, asked))
        wrong = await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "green"})
        assert wrong["code"] == "invalid"
        await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "blue"})
        answered = await waiting
        assert (answered["state"], answered["answer"]) == ("answered", "blue")
        closed = (await phone.until_event("question.closed"))["data"]
        assert closed["state"] == "answered"
        assert "answer" not in closed
        late = await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "red"})
        assert late["code"] == "question_closed"
    assert (await watch(agent, asked))["answer"] == "blue"
    rows = await asyncio.to_thread(gateway.ask, "audit", "list", "--event", "question.")
    assert "blue" not in str(rows), "what was answered is not in the log"


async def test_a_program_that_was_killed_asks_again_and_gets_the_answer_that_came_meanwhile(
    gateway: GatewayProcess,
) -> None:
    agent = await asyncio.to_thread(program, gateway)
    device = await asyncio.to_thread(gateway.pair, "Phone")
    first = await ask(agent, **DINNER, key="dinner-1")
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)
    async with connected(gateway, device) as phone:
        rows = (await phone.command("question.list", {}))["data"]["rows"]
        assert first["question_id"] in {row["question_id"] for row in rows}, "nothing was lost"
        await phone.command("question.answer", {"question_id": first["question_id"], "answer": "at seven"})
    again = await ask(agent, **DINNER, key="dinner-1")
    assert (again["question_id"], again["answer"]) == (first["question_id"], "at seven")
    other = await asyncio.to_thread(agent.request, "POST", AT, json={"text": "Why?", "key": "dinner-1"})
    assert other.json()["code"] == "idempotency_mismatch"
    neighbour = await asyncio.to_thread(program, gateway, "Neighbour")
    assert (await ask(neighbour, **DINNER, key="dinner-1"))["question_id"] != first["question_id"]


async def test_a_program_cannot_answer_and_others_see_nothing(gateway: GatewayProcess) -> None:
    agent = await asyncio.to_thread(program, gateway)
    operator = Operator(gateway)
    asked = await ask(agent, **DINNER)
    one = f"{AT}/{asked['question_id']}"
    for verb, body in (("answer", {"answer": "now"}), ("decline", None)):
        refused = await asyncio.to_thread(agent.request, "POST", f"{one}/{verb}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), verb
    stranger = await asyncio.to_thread(operator.add_user, "Stranger")
    theirs = await asyncio.to_thread(operator.pair, user_id=stranger)
    for method, path in (("GET", one), ("DELETE", one), ("POST", f"{one}/decline")):
        with pytest.raises(Problem, match="no such question"):
            await asyncio.to_thread(theirs.request, method, path)
    with pytest.raises(Problem, match=r"notify\.others"):
        await asyncio.to_thread(theirs.request, "POST", AT, json=DINNER | {"to": "owner"})
    chatter = await asyncio.to_thread(program, gateway, "Chatter", "chat")
    assert (await asyncio.to_thread(chatter.request, "POST", AT, json=DINNER)).status_code == 403
    assert (await watch(agent, asked, 0))["state"] == "open"


async def test_of_two_phones_the_first_answer_counts(gateway: GatewayProcess) -> None:
    agent = await asyncio.to_thread(program, gateway)
    devices = [await asyncio.to_thread(gateway.pair, name) for name in ("One", "Two")]
    asked = await ask(agent, **DINNER)
    async with connected(gateway, devices[0]) as one, connected(gateway, devices[1]) as two:
        answers = await asyncio.gather(
            *(
                phone.command("question.answer", {"question_id": asked["question_id"], "answer": text})
                for phone, text in ((one, "at six"), (two, "at eight"))
            )
        )
    kept = [answer["data"]["answer"] for answer in answers if answer["type"] == "result"]
    assert len(kept) == 1
    assert [answer["code"] for answer in answers if answer["type"] == "error"] == ["question_closed"]
    assert (await watch(agent, asked, 0))["answer"] == kept[0]


async def test_a_question_is_declined_taken_back_and_ends_with_its_person(gateway: GatewayProcess) -> None:
    operator = Operator(gateway)
    ann = await asyncio.to_thread(operator.add_user, "Ann")
    phone = await asyncio.to_thread(operator.pair, user_id=ann)
    local = operator.local.request
    questions = [await asyncio.to_thread(local, "POST", AT, json=DINNER | {"to": ann}) for _ in range(3)]
    declined, taken, left = (f"{AT}/{one['question_id']}" for one in questions)
    assert (await asyncio.to_thread(phone.request, "POST", f"{declined}/decline"))["state"] == "declined"
    with pytest.raises(Problem, match="Only who asked"):
        await asyncio.to_thread(phone.request, "DELETE", taken)
    assert (await asyncio.to_thread(local, "DELETE", taken))["state"] == "cancelled"
    waiting = asyncio.create_task(asyncio.to_thread(local, "GET", left, params={"wait_s": 30}))
    await asyncio.to_thread(local, "POST", f"/api/v1/users/{ann}/disable")
    assert (await waiting)["state"] == "cancelled"
    with pytest.raises(Problem, match="no such person"):
        await asyncio.to_thread(local, "POST", AT, json=DINNER | {"to": ann})


async def test_who_asks_without_end_is_stopped(gateway: GatewayProcess) -> None:
    operator = Operator(gateway)
    bob = await asyncio.to_thread(operator.add_user, "Bob")
    device = await asyncio.to_thread(operator.pair, user_id=bob)
    for _ in range(20):
        await asyncio.to_thread(device.request, "POST", AT, json=DINNER)
    with pytest.raises(Problem, match="20 questions wait") as caught:
        await asyncio.to_thread(device.request, "POST", AT, json=DINNER)
    assert caught.value.retry_after_s == 60


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"text": ""},
        {"text": "x" * 4001},
        {"text": "?", "kind": "choice"},
        {"text": "?", "options": ["a"]},
        {"text": "?", "kind": "form"},
        {"text": "?", "kind": "form", "form_schema": {"type": "object", "properties": {"a": {"type": "object"}}}},
        {"text": "?", "form_schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
        {"text": "?", "expires_in_s": 1},
        {"text": "?", "key": "a b"},
        {"text": "?", "more": 1},
    ],
)
def test_what_cannot_be_asked_is_refused_and_changes_nothing(gateway: GatewayProcess, question: Any) -> None:
    operator = Operator(gateway)
    before = operator.state(without=TOLD), operator.told()
    with pytest.raises(Problem) as caught:
        operator.local.request("POST", AT, json=question)
    assert caught.value.code in ("invalid", "too_large")
    assert (operator.state(without=TOLD), operator.told()) == before


async def test_the_answer_given_on_another_node_wakes_who_waits_here(tmp_path: Path, postgres: PostgresServer) -> None:
    pair = Pair(tmp_path, postgres)
    try:
        await asyncio.to_thread(pair.start)
        agent = await asyncio.to_thread(program, pair.a)
        device = await asyncio.to_thread(pair.a.pair, "Phone")
        asked = await ask(agent, **DINNER)
        waiting = asyncio.create_task(watch(agent, asked))
        async with connected(pair.b, device) as phone:
            await phone.command("question.answer", {"question_id": asked["question_id"], "answer": "at seven"})
        assert (await waiting)["answer"] == "at seven"
    finally:
        pair.close()


def test_a_browser_that_is_signed_in_answers(tmp_path: Path) -> None:
    process = GatewayProcess(tmp_path / "home", environment=ROOMY, host="127.0.0.1")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    process.start()
    try:
        browser = Browser(process)
        browser.follow(process.ask("users", "link", "owner")["url"])
        asked = Operator(process).local.request("POST", AT, json=DINNER)
        answered = browser.request("POST", f"{AT}/{asked['question_id']}/answer", json={"answer": "at seven"})
        assert answered["answer"] == "at seven"
    finally:
        process.close()
