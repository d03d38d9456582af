"""Devices under load whose histories are recorded: they send, follow, approve and come back until they are told to stop."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entobot.client import (
    Approval,
    ApprovalRequested,
    Client,
    Event,
    MemoryJournal,
    Problem,
    SqliteJournal,
    Stopped,
)
from entobot.client.history import Record, Recorder, Stored, Violation, check
from entobot.client.pairing import Asking
from entobot.client.reach import Reach
from entobot.client.returning import Backoff
from entobot.core.secrets import SystemEntropy
from tests.support.operator import INVITES, Operator
from tests.support.process import GENEROUS_S
from tests.support.progress import Progress

PAUSE_S = 0.03
"""Between two messages of a device, on average."""
NOTES = 0.08
"""Share of messages that make the agent ask for an approval."""
RESTLESS = 0.15
"""Share of messages during which the device loses its connection."""


def eager() -> Backoff:
    """Comes back sooner than a polite client, so that a campaign is short."""
    return Backoff(SystemEntropy(), first_s=0.05, most_s=0.5)


async def pair_client(
    operator: Operator, file: Path, name: str, *, user_id: str | None = None, **options: Any
) -> Client:
    """A device by the library's own way, the operator's digits included."""
    invite = {} if user_id is None else {"user_id": user_id}
    made = await asyncio.to_thread(operator.invite, **invite)

    async def confirm(asking: Asking) -> None:
        body = {"claim_id": asking.claim_id, "code": asking.digits}
        path = f"{INVITES}/{made['invite_id']}/confirm"
        await asyncio.to_thread(operator.local.request, "POST", path, json=body)

    return await Client.pair(made["url"], file, device_name=name, show=confirm, **options)


@dataclass(eq=False)
class Member:
    """One device, its recording, and what it does."""

    name: str
    client: Client
    recorder: Recorder
    dice: random.Random
    fleet: "Fleet"
    conversation_id: str | None = None
    sent: int = 0

    async def send_until_told(self) -> None:
        while not self.fleet.is_over:
            self.sent += 1
            note = "!note " if self.dice.random() < NOTES else ""
            sending = self.client.send_message(f"{note}{self.name} {self.sent}", self.conversation_id)
            try:
                answer = await self._restless(sending)
            except Problem as problem:
                self.fleet.refusals.append(problem)
                self.conversation_id = None
            else:
                self.conversation_id = answer["conversation_id"]
                self.fleet.progress.counted(1)
            await asyncio.sleep(self.dice.random() * 2 * PAUSE_S)

    async def _restless(self, sending: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """Now and then the connection is left while a command is on its way, executed or not."""
        task = asyncio.ensure_future(sending)
        if self.dice.random() < RESTLESS:
            await asyncio.sleep(self.dice.random() * 0.01)
            self.client.reconnect()
        return await task

    async def follow(self) -> None:
        async for item in self.client.events():
            match item:
                case Event(body=ApprovalRequested(data=approval)) if (
                    not self.fleet.is_over and self.dice.random() < 0.7
                ):
                    self.fleet.start(self.decide(approval))
                case _:
                    pass

    async def decide(self, approval: Approval) -> None:
        try:
            await self.client.decide(approval, "approve" if self.dice.random() < 0.8 else "deny")
        except Problem as problem:  # another device was first
            self.fleet.refusals.append(problem)

    def has_processed(self, seq: int) -> bool:
        position = self.client.connector.position
        return position is not None and position.after >= seq

    async def messages(self) -> list[dict[str, Any]]:
        return [
            row
            async for conversation in self.client.conversations()
            async for row in self.client.history(conversation["conversation_id"])
        ]


@dataclass
class Fleet:
    """`users` persons with `each` devices. `reaches` says how a device gets to its node, by its number."""

    dice: random.Random
    folder: Path
    reaches: Callable[[int], Reach | None] = lambda _: None
    members: list[Member] = field(default_factory=list["Member"])
    progress: Progress = field(default_factory=Progress)
    refusals: list[Problem] = field(default_factory=list[Problem])
    is_over: bool = False
    _users: dict[str, list[Member]] = field(default_factory=dict[str, list["Member"]])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def pair(self, operator: Operator, users: list[str | None], each: int = 2) -> None:
        """`users` are ids; None is the owner. Every second device keeps its journal in a file."""
        for user in users:
            for _ in range(each):
                number = len(self.members)
                name = f"device-{number}"
                recorder = Recorder(name, self.folder / f"{name}.jsonl")
                journal = SqliteJournal(self.folder / f"{name}.db") if number % 2 else MemoryJournal()
                client = await pair_client(
                    operator,
                    self.folder / f"{name}.json",
                    name,
                    user_id=user,
                    journal=journal,
                    observer=recorder,
                    backoff=eager(),
                    reach=self.reaches(number),
                )
                member = Member(name, client, recorder, random.Random(self.dice.random()), self)
                self.members.append(member)
                self._users.setdefault(client.identity.user_id, []).append(member)

    async def connect(self) -> None:
        for member in self.members:
            await member.client.__aenter__()
            self.start(member.follow())
        for member in self.members:
            await asyncio.wait_for(member.client.connected(), GENEROUS_S)

    def begin(self) -> None:
        for member in self.members:
            self.start(member.send_until_told())

    async def settle(self) -> Stored:
        """Stop sending, wait until everything has had its answer and has been told to everybody. All messages, by user."""
        self.is_over = True
        async with asyncio.timeout(3 * GENEROUS_S):
            await _until(lambda: not any(len(member.client.connector.outbox) for member in self.members))
            stored = {user: await self._answered(members[0]) for user, members in self._users.items()}
            for user, members in self._users.items():
                last = await members[0].client.send_message(f"the last of {user}")
                await _until(lambda seq=last["seq"], all_=members: all(one.has_processed(seq) for one in all_))
                stored[user].append(
                    {"message_id": last["message_id"], "content": f"the last of {user}", "role": "user"}
                )
        return stored

    async def _answered(self, member: Member) -> list[dict[str, Any]]:
        while True:
            for row in await member.client.approvals():
                await member.decide(Approval(**{key: row[key] for key in Approval.__struct_fields__}))
            rows = await member.messages()
            if not _unanswered(rows):
                return rows
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        self.is_over = True
        for member in self.members:
            await member.client.close()
            member.recorder.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def records(self) -> list[Record]:
        return [record for member in self.members for record in member.recorder.records]

    def check(self, stored: Stored, **options: Any) -> list[Violation]:
        return check(self.records(), stored=stored, **options)

    def start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(_until_stopped(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _until_stopped(work: Any) -> None:
    try:
        await work
    except (Stopped, asyncio.CancelledError):
        return


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  what is looked at lies in several clients
        await asyncio.sleep(0.02)


def _unanswered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each conversation's rows, newest first: user messages without an answer after them or an error that says why."""
    answered: set[str] = set()
    found: list[dict[str, Any]] = []
    for row in rows:
        if row["role"] == "assistant":
            answered.add(row["conversation_id"])
        elif row["role"] == "user" and row["error"] is None and row["conversation_id"] not in answered:
            found.append(row)
    return found
