"""A write with an Idempotency-Key happens once, and its stored answer holds no secret."""

import asyncio
from collections.abc import Sequence

import httpx
from fastapi import FastAPI
from sqlalchemy import select

from entobot.core.errors import Code, Problem
from entobot.storage.database import Database
from entobot.web.idempotency import KEPT, LEASE, Idempotency, idempotency_keys
from tests.support.time import ManualClock, SeededEntropy
from tests.web.conftest import CHATTER, OWNER, Build, Demo, client_of
from tests.web.test_problems import check_problem

ON_EVERY_STORE = True
THINGS = "/api/v1/demo-things"
ALL = select(idempotency_keys)


async def send(
    client: httpx.AsyncClient, key: str = "k1", *, name: str = "lamp", headers: dict[str, str] = OWNER
) -> httpx.Response:
    return await client.post(THINGS, json={"name": name}, headers=headers | {"idempotency-key": key})


async def stored(database: Database) -> Sequence[dict[str, object]]:
    columns = [column.name for column in idempotency_keys.columns]
    return await database.read(lambda tx: [{name: row[name] for name in columns} for row in tx.rows(ALL)])


async def test_a_repeat_gets_the_first_answer_and_nothing_happens_twice(client: httpx.AsyncClient, demo: Demo) -> None:
    first = await send(client)
    again = await send(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["number"] == first.json()["number"] == 1
    assert demo.made == ["lamp"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]


async def test_a_stored_answer_holds_no_secret(client: httpx.AsyncClient, database: Database) -> None:
    first = await send(client)
    again = await send(client)
    assert first.json()["secret"] == "s3cret-value"
    assert "secret" not in again.json()
    assert again.json()["secret_shown"] is True
    assert "s3cret-value" not in repr(await stored(database))


async def test_another_body_under_the_same_key_is_refused(client: httpx.AsyncClient, demo: Demo) -> None:
    await send(client)
    check_problem(await send(client, name="chair"), 409, "idempotency_mismatch")
    assert demo.made == ["lamp"]


async def test_another_key_path_or_credential_is_another_request(client: httpx.AsyncClient, demo: Demo) -> None:
    await send(client)
    await send(client, "k2")
    await send(client, headers={"authorization": "DPoP tablet"})
    for demo_id in ("a", "b"):
        await client.patch(f"/api/v1/demo/{demo_id}", json={"name": "lamp"}, headers=OWNER | {"idempotency-key": "k1"})
    assert demo.made == ["lamp", "lamp", "lamp", "a=lamp", "b=lamp"]


async def test_a_key_gives_nobody_elses_answer(client: httpx.AsyncClient) -> None:
    await send(client)
    check_problem(await send(client, headers=CHATTER), 403, "forbidden")
    check_problem(await send(client, headers={}), 401, "unauthenticated")


async def test_without_a_key_every_request_happens(client: httpx.AsyncClient, demo: Demo) -> None:
    for _ in range(2):
        await client.post(THINGS, json={"name": "lamp"}, headers=OWNER)
    assert demo.made == ["lamp", "lamp"]


async def test_open_routes_ignore_the_key(client: httpx.AsyncClient, demo: Demo) -> None:
    for _ in range(2):
        await client.post("/api/v1/demo-open", json={"name": "lamp"}, headers={"idempotency-key": "k1"})
    assert demo.made == ["lamp", "lamp"]


async def test_of_concurrent_duplicates_one_happens_and_all_get_its_answer(
    client: httpx.AsyncClient, demo: Demo
) -> None:
    demo.gate = asyncio.Event()
    requests = [asyncio.create_task(send(client)) for _ in range(20)]
    await demo.entered.wait()
    mismatch = await send(client, name="chair")
    demo.gate.set()
    answers = await asyncio.gather(*requests)
    assert demo.made == ["lamp"]
    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["number"] for answer in answers} == {1}
    check_problem(mismatch, 409, "idempotency_mismatch")


async def test_two_processes_never_both_execute(
    build: Build, database: Database, clock: ManualClock, demo: Demo
) -> None:
    nodes = [build(idempotency=Idempotency(database, clock, SeededEntropy(name))) for name in ("a", "b")]
    async with client_of(nodes[0]) as one, client_of(nodes[1]) as two:
        demo.gate = asyncio.Event()
        first = asyncio.create_task(send(one))
        await demo.entered.wait()
        meanwhile = await send(two)
        check_problem(meanwhile, 429, "rate_limited")
        assert meanwhile.headers["retry-after"] == "1"
        demo.gate.set()
        await first
        after = await send(two)
    assert after.json()["number"] == 1
    assert demo.made == ["lamp"]


async def test_after_a_crash_the_outcome_is_told_as_unknown_and_nothing_is_executed(
    build: Build, database: Database, clock: ManualClock, demo: Demo
) -> None:
    demo.gate = asyncio.Event()
    async with client_of(build()) as client:
        crashing = asyncio.create_task(send(client))
        await demo.entered.wait()
        restarted = build(idempotency=Idempotency(database, clock, SeededEntropy("after the restart")))
        async with client_of(restarted) as later:
            check_problem(await send(later), 429, "rate_limited")
            clock.advance(LEASE.total_seconds())
            body = check_problem(await send(later), 409, "idempotency_mismatch")
        assert body["outcome"] == "unknown"
        assert body["retry"] is False
        assert demo.made == ["lamp"]
        demo.gate.set()
        await crashing


async def test_a_defect_leaves_the_outcome_unknown(build: Build, demo: Demo) -> None:
    def fail() -> None:
        raise RuntimeError("after the effect")

    demo.before_answer = fail
    async with client_of(build()) as client:
        check_problem(await send(client), 500, "internal")
        demo.before_answer = None
        assert check_problem(await send(client), 409, "idempotency_mismatch")["outcome"] == "unknown"
    assert demo.made == ["lamp"]


async def test_a_lasting_refusal_is_repeated(client: httpx.AsyncClient, demo: Demo) -> None:
    def refuse() -> None:
        raise Problem(Code.INVITE_USED, "Somebody was faster.")

    demo.before_answer = refuse
    check_problem(await send(client), 409, "invite_used")
    demo.before_answer = None
    again = await send(client)
    check_problem(again, 409, "invite_used")
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_passing_refusal_frees_the_key(client: httpx.AsyncClient, demo: Demo) -> None:
    def refuse() -> None:
        raise Problem(Code.RATE_LIMITED, "Later.", retry_after_s=3)

    demo.before_answer = refuse
    check_problem(await send(client), 429, "rate_limited")
    demo.before_answer = None
    assert (await send(client)).status_code == 201


async def test_an_invalid_body_frees_the_key(client: httpx.AsyncClient) -> None:
    check_problem(await send(client, name=""), 422, "invalid")
    assert (await send(client, name="lamp")).status_code == 201


async def test_a_caller_that_goes_away_does_not_stop_its_request(app: FastAPI, demo: Demo, database: Database) -> None:
    demo.gate = asyncio.Event()
    async with client_of(app) as client:
        leaving = asyncio.create_task(send(client))
        await demo.entered.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        demo.gate.set()
        again = await send(client)
    assert again.headers["idempotency-replayed"] == "true"
    assert demo.made == ["lamp"]


async def test_a_key_is_forgotten_after_a_day(client: httpx.AsyncClient, demo: Demo, clock: ManualClock) -> None:
    await send(client)
    clock.advance(KEPT.total_seconds() - 1)
    await send(client)
    assert demo.made == ["lamp"]
    clock.advance(1)
    await send(client)
    assert demo.made == ["lamp", "lamp"]


async def test_the_sweep_removes_old_keys_only(
    client: httpx.AsyncClient, idempotency: Idempotency, clock: ManualClock, database: Database
) -> None:
    await send(client, "old")
    clock.advance(KEPT.total_seconds())
    await send(client, "young")
    assert await idempotency.sweep() == 1
    assert len(await stored(database)) == 1


async def test_a_key_is_visible_ascii_of_bounded_length(client: httpx.AsyncClient, demo: Demo) -> None:
    for key in ("", "x" * 256, "two words", "caf\xe9"):
        response = await client.post(
            THINGS,
            json={"name": "lamp"},
            headers=[
                *((n.encode(), v.encode()) for n, v in OWNER.items()),
                (b"idempotency-key", key.encode("latin-1")),
            ],
        )
        check_problem(response, 422, "invalid")
    assert demo.made == []
