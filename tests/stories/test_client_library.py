"""The client library against a real gateway: what programs that use it rely on."""

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.client import (
    ApprovalRequested,
    Client,
    Code,
    Event,
    Identity,
    IdentityFile,
    Invite,
    MessageCreated,
    Problem,
    RunFinished,
    Settled,
    Snapshot,
    SqliteJournal,
    State,
    Stopped,
    TextContent,
    Texts,
    Trust,
    WrongKey,
    read_action,
    shown,
)
from entobot.client.journal import Pending
from entobot.client.reach import OriginReach
from tests.support.fleet import eager, pair_client
from tests.support.operator import INVITES, Operator
from tests.support.process import GENEROUS_S, GatewayProcess, free_port


@pytest.fixture
def operator(shared_gateway: GatewayProcess) -> Operator:
    return Operator(shared_gateway)


async def answer_to(client: Client, text: str, conversation_id: str | None = None) -> str:
    """Say it, approve whatever is asked, and return the answer."""
    sent = asyncio.create_task(client.send_message(text, conversation_id))
    answer = ""
    async for item in client.events():
        match item:
            case Event(body=ApprovalRequested(data=approval)):
                await client.decide(approval, "approve")
            case Event(body=MessageCreated(data=message)) if message.role == "assistant":
                answer = message.content
            case Event(body=RunFinished()):
                break
            case _:
                pass
    await sent
    return answer


async def until_the_end(client: Client) -> None:
    async for _ in client.events():
        pass


async def test_a_program_pairs_talks_approves_something_else_and_is_cut_off(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "library.json"
    states: list[State] = []
    async with await pair_client(operator, file, "Library", on_state=states.append) as client:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        texts, written = Texts(), ""
        sent = await client.send_message("hello there")
        async for item in client.events():
            if isinstance(item, Event):
                texts.follow(item)
                if isinstance(item.body, TextContent):
                    written = texts.text(item.body.message_id)
                if isinstance(item.body, RunFinished):
                    break
        assert written == "hello there"
        asked = asyncio.create_task(client.send_message("!note buy milk", sent["conversation_id"]))
        async for item in client.events():
            if isinstance(item, Event) and isinstance(item.body, ApprovalRequested):
                approval = item.body.data
                assert shown(read_action(approval)) == 'note\n{\n  "text": "buy milk"\n}'
                await client.decide(approval, "approve", edited_args={"text": "buy bread"}, reason="no milk")
            if isinstance(item, Event) and isinstance(item.body, RunFinished):
                break
        await asked
        newest = await anext(client.history(sent["conversation_id"]))
        assert newest["content"] == "noted: buy bread"
        assert [row["conversation_id"] async for row in client.conversations()] == [sent["conversation_id"]]
        await client.rename("Renamed")
        assert [
            row["device_name"] for row in await client.devices() if row["device_id"] == client.identity.device_id
        ] == ["Renamed"]
        with pytest.raises(Problem) as refusal:
            await client.send_message("to nobody", "cnv_00000000000000000000000000")
        assert refusal.value.code is Code.NOT_FOUND
        assert states == [State.READY]
        await client.unpair()
        with pytest.raises(Stopped, match="4501"):
            await until_the_end(client)
        with pytest.raises(Stopped):
            await client.send_message("still there?")
    again = Client.open(file)
    async with again:
        with pytest.raises(Stopped):
            await asyncio.wait_for(again.connected(), GENEROUS_S)


async def test_a_command_that_was_left_behind_is_sent_by_the_next_process_and_its_outcome_is_told(
    operator: Operator, tmp_path: Path
) -> None:
    file, journal = tmp_path / "d.json", tmp_path / "journal.db"
    async with await pair_client(operator, file, "Left behind", journal=SqliteJournal(journal)) as client:
        sent = await client.send_message("before")
        await answer_to(client, "one more", sent["conversation_id"])
        client.acknowledge()
        command_id = client.new_id()
    crashed = SqliteJournal(journal)  # a process that died after it had written this, and sent it or not
    text = f'{{"content": "left behind", "conversation_id": "{sent["conversation_id"]}"}}'
    crashed.add(Pending(command_id, "message.send", text, 0, 2**50))
    crashed.close()
    async with Client.open(file, journal=SqliteJournal(journal)) as client:
        items: list[Any] = []
        async for item in client.events():
            items.append(item)
            if any(isinstance(one, Settled) for one in items):
                break
        settled = next(one for one in items if isinstance(one, Settled))
        assert (settled.command_id, settled.problem) == (command_id, None)
        assert not any(isinstance(one, Snapshot) for one in items), "it went on where it had been"
        again = await client.command(
            "message.send",
            {"content": "left behind", "conversation_id": sent["conversation_id"]},
            command_id=command_id,
        )
        assert again == settled.result, "the same id has its effect once"
        rows = [row async for row in client.history(sent["conversation_id"])]
        assert [(row["content"], row["role"]) for row in rows].count(("left behind", "user")) == 1


async def test_what_was_not_processed_comes_again_after_a_restart_of_the_program(
    operator: Operator, tmp_path: Path
) -> None:
    file, journal = tmp_path / "d.json", tmp_path / "journal.db"
    async with await pair_client(operator, file, "Careful", journal=SqliteJournal(journal)) as client:
        assert isinstance(await anext(client.events()), Snapshot)
        sent = asyncio.create_task(client.send_message("hello"))
        first = await anext(client.events())
        await sent
    async with Client.open(file, journal=SqliteJournal(journal)) as client:
        again = await anext(client.events())
    assert again == first


async def test_a_gateway_with_another_key_is_told_nothing(operator: Operator, tmp_path: Path) -> None:
    invite = await asyncio.to_thread(operator.invite)
    wrong = invite["url"].replace("&g=", "&g=A")
    with pytest.raises(WrongKey):
        await Client.pair(wrong, tmp_path / "x.json", device_name="x", show=lambda _: None)
    row = await asyncio.to_thread(operator.local.request, "GET", f"{INVITES}/{invite['invite_id']}")
    assert row["state"] == "open", "the secret did not leave"


async def test_a_paired_device_whose_gateway_shows_another_key_stops(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    await pair_client(operator, file, "Pinned")
    store = IdentityFile(file)
    identity = store.load()
    assert identity is not None
    reach = OriginReach(identity.origin, Trust(pin="A" * 43))
    async with Client(identity, store, reach=reach) as client:
        with pytest.raises(Stopped) as stopped:
            await asyncio.wait_for(client.connected(), GENEROUS_S)
        assert stopped.value.code == "wrong_key"


async def test_a_certificate_of_an_unknown_authority_is_not_accepted(operator: Operator, tmp_path: Path) -> None:
    invite = await asyncio.to_thread(operator.invite)
    parts = Invite.from_link(invite["url"])
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await Client.pair_by(parts, tmp_path / "x.json", device_name="x", show=lambda _: None, trust=Trust())


class NoWebSockets(OriginReach):
    """Something between lets HTTPS through and nothing else."""

    async def websocket(self) -> Any:
        return f"wss://127.0.0.1:{free_port()}/ws", None


async def test_where_the_websocket_does_not_open_everything_works_over_http(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    await pair_client(operator, file, "Behind a proxy")
    store = IdentityFile(file)
    identity = store.load()
    assert identity is not None
    reach = NoWebSockets(identity.origin, identity.trust)
    async with Client(identity, store, reach=reach, backoff=eager()) as client:
        assert await answer_to(client, "!note over http") == "noted: over http"
        client.acknowledge()
        client.reconnect()
        assert await answer_to(client, "and again") == "and again"


class FullPool(NoWebSockets):
    """Its first pool of connections has no place left, and never gets one back."""

    pools = 0

    async def http(self) -> httpx.AsyncClient:
        if self._http is None:
            self.pools += 1
            if self.pools == 1:
                self._http = httpx.AsyncClient(base_url=self._origin, transport=httpx.MockTransport(no_place))
        return await super().http()


def no_place(_: httpx.Request) -> httpx.Response:
    raise httpx.PoolTimeout("no place in the pool")


async def test_a_pool_whose_places_were_lost_is_replaced_and_does_not_keep_a_device_away_for_ever(
    operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "d.json"
    await pair_client(operator, file, "Cut off often")
    store = IdentityFile(file)
    identity = store.load()
    assert identity is not None
    reach = FullPool(identity.origin, identity.trust)
    async with Client(identity, store, reach=reach, backoff=eager()) as client:
        await asyncio.wait_for(client.connected(), GENEROUS_S)
    assert reach.pools > 1


async def test_two_processes_with_one_identity_refresh_once(operator: Operator, tmp_path: Path) -> None:
    """Two stores stand for two processes: locks of the file are held by open file, not by process."""
    file = tmp_path / "d.json"
    await pair_client(operator, file, "Shared")
    clients = [Client.open(file) for _ in range(4)]
    for client in clients:
        stale = client.identity
        client._requests.identity = stale.renewed(
            {
                "device_id": stale.device_id,
                "user_id": stale.user_id,
                "scopes": stale.scopes,
                "refresh_token": stale.refresh_token,
                "access_token": "",
                "expires_in": 0,
            },
            0,
        )
    IdentityFile(file).save(clients[0].identity)
    await asyncio.gather(*(client._requests.refresh() for client in clients))
    assert len({client.identity.access_token for client in clients}) == 1
    for client in clients:
        await client.request("GET", "/api/v1/devices")
        await client.close()


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path / "home")
    await asyncio.to_thread(gateway.start)
    yield gateway
    await asyncio.to_thread(gateway.close)


async def test_sends_while_the_gateway_is_away_arrive_once_it_is_back_and_a_suspended_device_waits(
    own: GatewayProcess, tmp_path: Path
) -> None:
    operator = Operator(own)
    suspended = asyncio.Event()

    def on_state(state: State) -> None:
        if state is State.SUSPENDED:
            suspended.set()

    async with await pair_client(
        operator, tmp_path / "d.json", "Patient", backoff=eager(), on_state=on_state
    ) as client:
        conversation = (await client.send_message("first"))["conversation_id"]
        await asyncio.to_thread(own.kill)
        waiting = [asyncio.create_task(client.send_message(f"{n}", conversation)) for n in range(20)]
        await asyncio.to_thread(own.start)
        sent = await asyncio.wait_for(asyncio.gather(*waiting), GENEROUS_S)
        assert [one["seq"] for one in sent] == sorted(one["seq"] for one in sent), "in the order of the calls"
        rows = [row["content"] async for row in client.history(conversation) if row["role"] == "user"]
        assert rows[::-1] == ["first", *(str(n) for n in range(20))]
        await asyncio.to_thread(own.ask, "devices", "suspend", "Patient")
        await asyncio.wait_for(suspended.wait(), GENEROUS_S)
        late = asyncio.create_task(client.send_message("late", conversation))
        await asyncio.to_thread(own.ask, "devices", "reactivate", "Patient")
        client.retry_now()
        assert (await asyncio.wait_for(late, GENEROUS_S))["conversation_id"] == conversation


def test_simulated_devices_load_a_gateway_keep_every_promise_and_leave(own_sync: GatewayProcess) -> None:
    plan = [
        "--devices",
        "4",
        "--rate",
        "20",
        "--seconds",
        "3",
        "--drops",
        "2",
        "--storm-every",
        "1",
        "--approvals",
        "0.2",
    ]
    summary = own_sync.ask("simulate", *plan)
    assert summary["ok"], summary
    assert summary["acknowledged"] == summary["sent"] > 0
    assert summary["reconnects"] > 0
    assert summary["violations"] == []
    assert {row["status"] for row in own_sync.ask("devices", "list")} == {"revoked"}


def test_a_gateway_elsewhere_is_not_loaded_by_mistake(own_sync: GatewayProcess, tmp_path: Path) -> None:
    device = asyncio.run(_kept(own_sync, tmp_path / "devices" / "d.json"))
    IdentityFile(tmp_path / "devices" / "d.json").save(replace(device, origin="https://gateway.example"))
    refused = own_sync.cli("simulate", "--credentials", str(tmp_path / "devices"))
    assert refused.returncode == 4
    assert "--i-own-this-gateway" in refused.stderr


async def _kept(gateway: GatewayProcess, file: Path) -> Identity:
    return (await pair_client(Operator(gateway), file, "Kept")).identity


@pytest.fixture
def own_sync(tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path / "home").start()
    yield gateway
    gateway.close()
