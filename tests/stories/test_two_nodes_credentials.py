"""Two real gateways on one PostgreSQL: what may be used once, or so often, is not to be had twice by asking both."""

import asyncio
import itertools
import json
import signal
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import websockets

from entobot.client.device import Device
from entobot.core.errors import Code, Problem
from tests.stories.test_simple_pairing import look, pair_frame
from tests.stories.test_simple_protocol import conversation, conversations, send, simple
from tests.support.nodes import Pair
from tests.support.operator import Operator
from tests.support.phone import connected, raw_socket
from tests.support.postgres import PostgresServer
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.thing import Thing, close_code, open_with, receive, refused_with

TICKET = "/api/v1/auth/ws-ticket"
READS = 40
"""What a device may read at once, of all nodes together, in these stories."""
SCARCE = {"ENTOBOT_LIMITS__READS_BURST": str(READS), "ENTOBOT_LIMITS__READS_PER_SECOND": "0.001"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Pair]:
    two = Pair(
        tmp_path_factory.mktemp("two"),
        postgres,
        settings=ROOMY | SCARCE,
        program=("-m", "tests.rigs.rotating"),
    )
    yield two.start()
    two.close()


@pytest.fixture
def device(pair: Pair) -> Device:
    return Operator(pair.a).pair("Phone")


def in_thread(work: Any, *arguments: Any, **more: Any) -> Any:
    return asyncio.to_thread(work, *arguments, **more)


def until(is_so: Callable[[], object]) -> None:
    end_s = time.monotonic() + GENEROUS_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def refusal(work: Callable[[], object]) -> Code:
    with pytest.raises(Problem) as problem:
        work()
    return problem.value.code


# -- signing keys


def jwks(node: GatewayProcess) -> list[str]:
    return [key["kid"] for key in node.http().get("/.well-known/jwks.json").json()["keys"]]


def kid(device: Device) -> str:
    """Of the key that signed the access token."""
    assert device.credentials is not None
    header = device.credentials.access_token.partition(".")[0]
    return str(json.loads(urlsafe_b64decode(header + "=="))["kid"])


def rotate(*nodes: GatewayProcess) -> None:
    for node in nodes:
        assert node.process is not None
        node.process.send_signal(signal.SIGUSR1)


def test_signing_keys_that_one_node_moved_on_are_the_other_s_as_well(pair: Pair, device: Device) -> None:
    here, there = pair.at(device, pair.a), pair.at(device, pair.b)
    old, before = kid(device), jwks(pair.a)
    assert jwks(pair.b) == before
    rotate(pair.a)
    until(lambda: jwks(pair.b) == jwks(pair.a) != before)
    there.request("GET", "/api/v1/devices")  # a token of the key that retired
    for node in (here, there):
        node.credentials = device.credentials
        node.refresh()
        assert kid(node) != old
        device.credentials = here.credentials = there.credentials = node.credentials
        for other in (here, there):
            other.request("GET", "/api/v1/devices")


def test_nodes_that_move_the_signing_keys_at_once_agree_on_one_ring(pair: Pair, device: Device) -> None:
    before = jwks(pair.a)
    rotate(pair.a, pair.b)
    until(lambda: jwks(pair.b) == jwks(pair.a) != before)
    at_a, at_b = pair.at(device, pair.a), pair.at(device, pair.b)
    at_a.refresh()
    at_b.credentials = at_a.credentials
    at_b.request("GET", "/api/v1/devices")
    assert Operator(pair.b).local.request("GET", "/api/v1/audit/verify")["ok"]


# -- what is good once


def ticket(device: Device) -> str:
    return device.http.post(TICKET, headers=device._headers("POST", TICKET)).json()["ticket"]


async def test_a_ticket_made_on_one_node_opens_one_connection_on_the_other(pair: Pair, device: Device) -> None:
    given = await in_thread(ticket, pair.at(device, pair.a))
    async with raw_socket(pair.b) as socket:
        await open_with(socket, ticket=given, resume=None)
        assert await refused_with(pair.a, ticket=given) == 4003
        assert await refused_with(pair.b, ticket=given) == 4003


async def test_of_many_sockets_on_both_nodes_with_one_ticket_one_opens(pair: Pair, device: Device) -> None:
    given = await in_thread(ticket, pair.at(device, pair.a))
    outcomes: list[object] = []

    async def attempt(node: GatewayProcess) -> None:
        async with raw_socket(node) as socket:
            await receive(socket)
            await socket.send(json.dumps({"type": "auth", "ticket": given}))
            try:
                outcomes.append((await receive(socket))["type"])
            except websockets.ConnectionClosed as end:
                outcomes.append(end.rcvd.code if end.rcvd else 1006)

    await asyncio.gather(*(attempt((pair.a, pair.b)[n % 2]) for n in range(8)))
    assert Counter(outcomes) == {4003: 7, "ready": 1}


def test_a_proof_that_one_node_took_the_other_refuses(pair: Pair, device: Device) -> None:
    here, there = pair.at(device, pair.a), pair.at(device, pair.b)
    headers = here._headers("GET", "/api/v1/devices")
    assert here.http.get("/api/v1/devices", headers=headers).status_code == 200
    again = there.http.get("/api/v1/devices", headers=headers)
    assert (again.status_code, again.json()["code"]) == (400, Code.PROOF_INVALID)


async def test_one_command_sent_to_both_nodes_at_once_has_one_effect_and_one_result(pair: Pair, device: Device) -> None:
    async with connected(pair.a, device) as here, connected(pair.b, device) as there:
        first = await here.say("begin")
        data, command_id = {"content": ""}, ""
        for number in range(10):
            data = {"content": f"once {number}", "conversation_id": first["conversation_id"]}
            command_id = device.new_id()
            answers = await asyncio.gather(
                here.command("message.send", data, command_id), there.command("message.send", data, command_id)
            )
            assert answers[0]["type"] == "result", answers
            assert answers[0] == answers[1]
        other = await there.command("message.send", data | {"content": "else"}, command_id)
        assert other["code"] == Code.IDEMPOTENCY_MISMATCH
        found = await here.command("conversation.history", {"conversation_id": first["conversation_id"]})
        told = Counter(row["content"] for row in found["data"]["rows"] if row["role"] == "user")
    assert told == {"begin": 1, **{f"once {number}": 1 for number in range(10)}}


# -- refresh tokens


def test_the_same_refresh_token_at_both_nodes_gets_the_same_successor(pair: Pair, device: Device) -> None:
    both = [pair.at(device, node) for node in (pair.a, pair.b)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Device.refresh, both))
    assert len({one.credentials.refresh_token for one in both if one.credentials is not None}) == 1


async def test_a_refresh_token_used_again_at_the_other_node_signs_the_device_out_on_both(
    pair: Pair, device: Device
) -> None:
    at_a, at_b = pair.at(device, pair.a), pair.at(device, pair.b)
    stolen = device.credentials
    for one, other in ((at_a, at_b), (at_b, at_a), (at_a, at_b)):
        await in_thread(one.refresh)
        other.credentials = one.credentials
    assert at_a.credentials is not None
    device.credentials = at_a.credentials
    async with connected(pair.a, device) as phone:
        thief = pair.at(device, pair.b)
        thief.credentials = stolen
        code, closed = await asyncio.gather(in_thread(refusal, thief.refresh), phone.closed())
    assert code is Code.REFRESH_INVALID
    assert closed in (4003, 4501)
    for one in (at_a, at_b):
        assert await in_thread(refusal, lambda one=one: one.request("GET", "/api/v1/devices")) is Code.UNAUTHENTICATED
        assert await in_thread(refusal, one.refresh) is Code.REFRESH_INVALID


# -- approvals


async def test_of_two_decisions_at_both_nodes_the_first_wins_and_is_told_everywhere(pair: Pair, device: Device) -> None:
    at_a, at_b = pair.at(device, pair.a), pair.at(device, pair.b)
    async with connected(pair.a, device) as here, connected(pair.b, device) as there:
        for number in range(4):
            await here.say(f"!note egg {number}")
            asked = (await there.until_event("approval.requested"))["data"]
            told = await asyncio.gather(
                in_thread(at_a.decide, asked, "approve"), in_thread(at_b.decide, asked, "deny"), return_exceptions=True
            )
            refused = [one for one in told if isinstance(one, Problem)]
            assert [one.code for one in refused] == [Code.APPROVAL_ALREADY_DECIDED], told
            decided = [(await phone.until_event("approval.decided"))["data"]["decision"] for phone in (here, there)]
            assert decided == (["deny"] * 2 if isinstance(told[0], Problem) else ["approve"] * 2)
            await here.until_event("RUN_FINISHED")
            said = here.events("message.created")[-1]["data"]["content"]
            assert (said == f"noted: egg {number}") is (decided[0] == "approve"), said


# -- the simple protocol


async def test_a_board_pairs_at_one_node_is_confirmed_at_the_other_and_chats_at_both(pair: Pair) -> None:
    operator = Operator(pair.b)
    invite = await in_thread(operator.invite, allow_bearer=True)
    async with simple(pair.a) as socket:
        await send(socket, **pair_frame(invite))
        pending = await receive(socket)
        row = await in_thread(look, operator, invite)
        claim_id = row["claim"]["claim_id"]
        claim = {"claim_id": claim_id, "confirmation_code": pending["confirmation_code"]}
        await in_thread(operator.confirm, invite, claim)
        success = await receive(socket)
        assert await conversation(socket, "at a") == {"type": "message", "content": "at a"}
    thing = Thing(pair.b, "Board", {"device_id": success["device_id"], "api_key": success["jwt_token"]})
    async with simple(pair.b) as socket:
        await send(socket, type="auth", jwt_token=thing.api_key)
        assert (await receive(socket))["type"] == "auth_success"
        assert await conversation(socket, "at b") == {"type": "message", "content": "at b"}
        (row,) = await in_thread(conversations, thing)
        messages = await in_thread(thing.request, "GET", f"/api/v1/conversations/{row['conversation_id']}/messages")
        assert [one["content"] for one in messages.json()["rows"]] == ["at b", "at b", "at a", "at a"]
        revoke = in_thread(Operator(pair.a).local.request, "DELETE", f"/api/v1/devices/{thing.device_id}")
        _, ended = await asyncio.gather(revoke, close_code(socket))
    assert ended == 4501


# -- limits and presence


def wait_for_beats(pair: Pair, count: int = 2) -> None:
    """Each node has counted the others since: it counts at its beats."""
    begun = {str(row["node_id"]): row["beat"] for row in pair.query("SELECT node_id, beat FROM nodes")}
    assert len(begun) == 2

    def have_beaten() -> bool:
        beats = {str(row["node_id"]): row["beat"] for row in pair.query("SELECT node_id, beat FROM nodes")}
        return all(int(str(beats[node])) >= int(str(beat)) + count for node, beat in begun.items())

    until(have_beaten)


def served(device: Device, nodes: list[GatewayProcess], pair: Pair, tries: int) -> int:
    """How many of so many readings the nodes, asked in turn, took."""
    reached = itertools.cycle([pair.at(device, node) for node in nodes])
    answers: Counter[int] = Counter()
    for at in itertools.islice(reached, tries):
        answer = at.http.get("/api/v1/devices", headers=at._headers("GET", "/api/v1/devices"))
        answers[answer.status_code] += 1
        if answer.status_code == 429:
            assert answer.json()["retry_after_s"] > 0
    assert set(answers) == {200, 429}
    return answers[200]


def test_a_device_that_asks_both_nodes_gets_no_more_than_one_limit(pair: Pair, device: Device) -> None:
    wait_for_beats(pair)
    assert served(device, [pair.a, pair.b], pair, 2 * READS) == READS


def test_a_device_that_stays_on_one_node_gets_that_node_s_part(pair: Pair, device: Device) -> None:
    wait_for_beats(pair)
    assert served(device, [pair.a], pair, READS) == READS // 2


async def test_a_device_on_both_nodes_is_online_until_it_has_left_both(pair: Pair, device: Device) -> None:
    assert device.credentials is not None
    device_id = device.credentials.device_id

    def is_online(node: GatewayProcess) -> bool:
        rows = Operator(node).local.request("GET", "/api/v1/devices")["rows"]
        return next(row["is_online"] for row in rows if row["device_id"] == device_id)

    def lines() -> int:
        return len(pair.query(f"SELECT 1 FROM node_connections WHERE device_id = '{device_id}'"))

    async with connected(pair.b, device):
        async with connected(pair.a, device):
            await in_thread(until, lambda: lines() == 2)
        await in_thread(until, lambda: lines() == 1)
        assert [await in_thread(is_online, node) for node in (pair.a, pair.b)] == [True, True]
    for node in (pair.a, pair.b):
        await in_thread(until, lambda node=node: not is_online(node))
