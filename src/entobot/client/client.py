"""A device of a gateway, for programs: pair once, then stay connected, send, follow, approve. See docs/how-to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from entobot.client.approvals import Action, read_action
from entobot.client.connector import Connector
from entobot.client.events import Approval, Item, Settled
from entobot.client.exchange import Told
from entobot.client.identity import Identity, IdentityFile, IdentityStore, MemoryIdentity
from entobot.client.journal import Journal, MemoryJournal, Pending, Position
from entobot.client.outbox import KEPT_MS, READS
from entobot.client.pairing import Invite, ShowDigits, pair
from entobot.client.proofs import decision_signature
from entobot.client.reach import OriginReach, Reach
from entobot.client.requests import Requests
from entobot.client.returning import Backoff
from entobot.client.states import NoAnswer, Observer, State, Surroundings, Unobserved
from entobot.client.trust import Trust
from entobot.core.clock import Clock, SystemClock
from entobot.core.errors import Code, Problem
from entobot.core.ids import is_ulid
from entobot.core.secrets import Entropy, SystemEntropy, sha256_b64u

T = TypeVar("T")
READ_DEADLINE_MS = 60_000
MAX_COMMAND_BYTES = 255 * 1024
DECIDE = "approval.decide"
POSITION_EVERY_S = 0.25


class Client:
    """One device. Enter it to connect; it stays connected, whatever happens, until it is left or not wanted.

    ```python
    async with Client.open("phone.json") as client:
        await client.send_message("hello")
        async for item in client.events():
            ...
    ```

    Events are acknowledged when the next one is asked for: what a crash interrupts comes again. A command has its
    effect once: it keeps its id through reconnects and, with a `SqliteJournal`, through restarts of the program.
    Not thread-safe: one event loop.
    """

    def __init__(
        self,
        identity: Identity,
        store: IdentityStore | None = None,
        *,
        journal: Journal | None = None,
        reach: Reach | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        backoff: Backoff | None = None,
        observer: Observer | None = None,
        on_state: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._observer = observer or Unobserved()
        self._reach = reach or OriginReach(identity.origin, identity.trust)
        self._requests = Requests(identity, store or MemoryIdentity(identity), self._reach, self._clock, self._entropy)
        self._journal = journal or MemoryJournal()
        self._thread = None if isinstance(self._journal, MemoryJournal) else ThreadPoolExecutor(1, "entobot-journal")
        self._around = Surroundings(self._clock, backoff or Backoff(self._entropy), self._observer, on_state=on_state)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._told: Told | None = None
        self._running: asyncio.Task[None] | None = None
        self._moving: asyncio.Task[None] | None = None
        self._connector = Connector(self._requests, self._reach, self._around, settled=self._settle)

    # -- where clients come from

    @classmethod
    async def pair(
        cls,
        link: str,
        file: str | Path,
        *,
        device_name: str,
        show: ShowDigits,
        platform: Literal["ios", "android", "web", "desktop", "iot"] = "desktop",
        trust: Trust | None = None,
        **options: Any,
    ) -> "Client":
        """A new device by an invite's link; its credentials go into `file` (mode 0600). Then enter it.

        `show` is given the six digits that the operator has to type. Raises Problem, ValueError for a text that is
        no link, WrongKey for a gateway that is not the one of the invite.
        """
        return await cls.pair_by(
            Invite.from_link(link), file, device_name=device_name, show=show, platform=platform, trust=trust, **options
        )

    @classmethod
    async def pair_by(
        cls,
        invite: Invite,
        file: str | Path,
        *,
        device_name: str,
        show: ShowDigits,
        platform: str = "desktop",
        trust: Trust | None = None,
        **options: Any,
    ) -> "Client":
        """As `pair`, by an invite's parts: `Invite("https://gateway.example:18790", "4K7O-W9X1")` for a typed code."""
        clock, entropy = options.get("clock") or SystemClock(), options.get("entropy") or SystemEntropy()
        identity = await pair(
            invite,
            trust=trust,
            device_name=device_name,
            platform=platform,
            show=show,
            clock=clock,
            entropy=entropy,
            reach=options.get("reach"),
        )
        store = IdentityFile(Path(file))
        await asyncio.to_thread(store.save, identity)
        return cls(identity, store, **options)

    @classmethod
    def open(cls, file: str | Path, **options: Any) -> "Client":
        """The device that was paired into this file. Raises FileNotFoundError; StartupRefused if others may read it."""
        store = IdentityFile(Path(file))
        identity = store.load()
        if identity is None:
            raise FileNotFoundError(f"No device was paired into {file}.")
        return cls(identity, store, **options)

    # -- life

    async def __aenter__(self) -> Self:
        for command in await self._keep(self._journal.pending):
            self._connector.outbox.add(command)
        position = await self._keep(self._journal.position)
        self._observer.note("started", position=None if position is None else asdict(position))
        self._connector.start_at(position)
        self._running = asyncio.create_task(self._connector.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the gateway. Commands without an answer stay in the journal. Idempotent."""
        await self._connector.close()
        for task in (self._running, self._moving):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()
        if self._connector.position is not None:
            await self._keep(self._journal.move, self._connector.position)
        await self._keep(self._journal.close)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        await self._reach.close()

    @property
    def state(self) -> State:
        return self._connector.state

    @property
    def identity(self) -> Identity:
        return self._requests.identity

    @property
    def scopes(self) -> frozenset[str]:
        """What this device may do, by the gateway's last word."""
        return self._connector.scopes or frozenset(self.identity.scopes)

    @property
    def connector(self) -> Connector:
        """For tests and simulations that break its connection."""
        return self._connector

    async def connected(self) -> None:
        """Returns once the gateway has accepted this device. Raises Stopped."""
        await self._connector.ready.wait()
        if self._connector.stopped is not None:
            raise self._connector.stopped

    def retry_now(self) -> None:
        """Do not wait out the pause between two attempts: the network is back, or somebody asks."""
        self._connector.retry_now()

    def reconnect(self) -> None:
        """Leave this connection and open another: the network changed."""
        self._connector.reconnect()

    # -- events

    def events(self) -> AsyncIterator[Item]:
        """Everything that happens, in order: `Event`, `Snapshot`, `CaughtUp`, `Settled`.

        Asking for the next item acknowledges the one before. Ends after `close`. Raises Stopped.
        """
        return _Items(self)

    def acknowledge(self) -> None:
        """The item told last has been processed; for programs that stop asking."""
        told, self._told = self._told, None
        if told is not None and told.reaches is not None:
            self._connector.processed(told.reaches)
            self._observer.note("processed", stream=told.reaches.stream, seq=told.reaches.after)
            self._move_soon()

    def ignore_events(self) -> None:
        """For programs that only send: events are acknowledged as they come, and forgotten."""
        self._connector.wants_events = False

    async def next_item(self) -> Item | None:
        self.acknowledge()
        told = await self._connector.next()
        if isinstance(told, Told):
            self._told = told
            return told.item
        return told

    # -- commands

    async def command(
        self,
        name: str,
        data: dict[str, Any] | None = None,
        *,
        command_id: str | None = None,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """Run a device command; its result is committed on the gateway's disk.

        Kept in the journal until it is answered, and sent again after every reconnect. Raises Problem when it was
        refused, NoAnswer after the deadline (a minute for what only reads, 23 hours for the rest), Stopped.
        Cancelling the wait does not recall a command that writes; its outcome then comes as `Settled`.
        """
        command = self._pending(name, data or {}, command_id, deadline_s)
        if self._connector.stopped is not None:
            raise self._connector.stopped
        self._observer.note("sent", id=command.id, name=name, data=command.data)
        if name not in READS:
            await self._keep(self._journal.add, command)
        future = self._waiting.get(command.id) or asyncio.get_running_loop().create_future()
        self._waiting[command.id] = future
        self._connector.outbox.add(command)
        self._connector.flush()
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._waiting.pop(command.id, None)
            if name in READS:
                self._connector.outbox.settle(command.id)
            raise

    def new_id(self) -> str:
        """A command id. Make it yourself to repeat a command after a crash of the program."""
        return self._requests.new_id()

    async def send_message(
        self, content: str, conversation_id: str | None = None, *, agent: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """`message_id`, `conversation_id`, `seq`. Without a conversation a new one is opened, which `agent` answers."""
        data = {"content": content, "conversation_id": conversation_id, "agent": agent}
        given = {name: value for name, value in data.items() if value is not None}
        return await self.command("message.send", given, **options)

    async def cancel_run(self, run_id: str) -> dict[str, Any]:
        return await self.command("run.cancel", {"run_id": run_id})

    async def decide(
        self,
        approval: Approval,
        decision: Literal["approve", "deny"],
        *,
        edited_args: dict[str, Any] | None = None,
        reason: str | None = None,
        number: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Sign and send a decision on exactly the action that `approval` holds, or on it with `edited_args`.

        Show `approvals.shown(approvals.read_action(approval))` to a person first. Raises Problem; `hash_mismatch`
        before anything is signed when the action is not what its hash says. A signature that was refused because the
        gateway's clock was set since this device connected is made once more.
        """
        action = read_action(approval)
        edited = None
        if edited_args is not None:
            edited = Action(action.approval_id, action.run_id, action.tool, edited_args).to_text()
        offset_ms = self._requests.offset_ms
        try:
            return await self.command(DECIDE, self._decision(approval, decision, edited, reason, number), **options)
        except Problem as problem:
            if problem.code is not Code.SIGNATURE_INVALID or not await self._requests.has_learnt_time(offset_ms):
                raise
        return await self.command(DECIDE, self._decision(approval, decision, edited, reason, number), **options)

    def _decision(
        self, approval: Approval, decision: str, edited: str | None, reason: str | None, number: str | None
    ) -> dict[str, Any]:
        signature = decision_signature(
            self.identity.key,
            origin=self.identity.origin,
            approval_id=approval.approval_id,
            decision=decision,
            action=approval.action,
            now_ms=self._requests.now_ms(),
            entropy=self._entropy,
            edited_action=edited,
            reason=reason,
            number=number,
        )
        data: dict[str, Any] = {
            "approval_id": approval.approval_id,
            "decision": decision,
            "action_sha256": sha256_b64u(approval.action),
            "signature": signature,
        }
        data |= {} if edited is None else {"edited_action": edited}
        data |= {} if reason is None else {"reason": reason}
        data |= {} if number is None else {"number": number}
        return data

    # -- reading

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """A signed REST request, any route this device may call. Raises Problem, OSError, httpx.TransportError."""
        return await self._requests.send(method, path, **options)

    def conversations(self) -> AsyncIterator[dict[str, Any]]:
        """Newest first."""
        return self._pages("conversation.list", {}, "cursor")

    def history(self, conversation_id: str) -> AsyncIterator[dict[str, Any]]:
        """The messages of a conversation, newest first."""
        return self._pages("conversation.history", {"conversation_id": conversation_id, "limit": 100}, "before")

    async def approvals(self, *, pending: bool = True) -> list[dict[str, Any]]:
        rows = self._pages("approval.list", {"state": "pending" if pending else "all"}, "cursor")
        return [row async for row in rows]

    async def devices(self) -> list[dict[str, Any]]:
        """Of this device's user, or of all with the scope `devices.manage`."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.request("GET", "/api/v1/devices", params=cursor)
            rows += page["rows"]
            if page.get("next") is None:
                return rows
            cursor = {"cursor": page["next"]}

    async def rename(self, device_name: str) -> dict[str, Any]:
        return await self.command("device.rename", {"device_name": device_name})

    async def unpair(self) -> None:
        """Revoke this very device: its credentials end at once."""
        await self.request("DELETE", f"/api/v1/devices/{self.identity.device_id}")

    async def _pages(self, name: str, data: dict[str, Any], cursor: str) -> AsyncIterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = await self.command(name, data | more)
            for row in page["rows"]:
                yield row
            if page["next"] is None:
                return
            more = {cursor: page["next"]}

    # -- parts

    def _pending(self, name: str, data: dict[str, Any], command_id: str | None, deadline_s: float | None) -> Pending:
        command_id = command_id or self.new_id()
        if not is_ulid(command_id):
            raise Problem(Code.INVALID, "A command's id is a ULID.")
        text = json.dumps(data, ensure_ascii=False)
        if len(text.encode()) > MAX_COMMAND_BYTES:
            raise Problem(Code.TOO_LARGE, "This command is larger than a frame may be. Nothing was sent.")
        now_ms = self._clock.now_ms()
        lasts_ms = READ_DEADLINE_MS if name in READS else KEPT_MS
        if deadline_s is not None:
            lasts_ms = min(KEPT_MS, round(deadline_s * 1000))
        return Pending(command_id, name, text, now_ms, now_ms + lasts_ms)

    def _settle(self, command_id: str, data: dict[str, Any] | None, problem: Exception | None) -> Settled | None:
        """The answer to a command; returned when nobody waits for it. A stop leaves it in the journal."""
        command = self._connector.outbox.settle(command_id)
        future = self._waiting.pop(command_id, None)
        is_final = data is not None or isinstance(problem, Problem | NoAnswer)
        if is_final:
            code = getattr(problem, "code", None) or (None if problem is None else "no_answer")
            self._observer.note("answered", id=command_id, data=data, code=None if code is None else str(code))
        if is_final and command is not None and command.name not in READS:
            self._start_in_thread(self._journal.remove, command_id)
        if future is not None and not future.done():
            if problem is not None:
                future.set_exception(problem)
            else:
                future.set_result(data or {})
            return None
        if command is None or not is_final or command.name in READS:
            return None
        return Settled(command_id, command.name, data, problem)

    def _move_soon(self) -> None:
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move())

    async def _move(self) -> None:
        if self._thread is not None:
            await asyncio.sleep(POSITION_EVERY_S)
        position: Position | None = self._connector.position
        if position is not None:
            await self._keep(self._journal.move, position)

    async def _keep(self, work: Callable[..., T], *arguments: Any) -> T:
        """Off the loop where the journal is a file."""
        if self._thread is None:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _start_in_thread(self, work: Callable[..., object], *arguments: Any) -> None:
        if self._thread is None:
            work(*arguments)
        else:
            self._thread.submit(work, *arguments)


class _Items:
    """An iterator with no state of its own: leaving a loop loses nothing, the next one goes on."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        item = await self._client.next_item()
        if item is None:
            raise StopAsyncIteration
        return item
