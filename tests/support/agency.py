"""Conversations, approvals and agents of one gateway on a real database, and phones that sign decisions."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from entobot.accounts.service import Accounts
from entobot.agents.attached import Attached
from entobot.agents.commands import commands as agent_commands
from entobot.agents.events import RunEvents
from entobot.agents.runner import Runner, Waiting
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.service import Agents, Limits
from entobot.agents.tools import Toolbox, built_in_tools
from entobot.agents.worker import Pace, Worker
from entobot.agents.workspace import Workspace
from entobot.approvals.commands import commands as approval_commands
from entobot.approvals.service import Approvals
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.client.keys import DeviceKey
from entobot.client.proofs import decision_signature
from entobot.config_approvals import ApprovalsSettings
from entobot.conversations.service import Conversations, Sent
from entobot.core import topics
from entobot.core.clock import Clock
from entobot.core.errors import Problem
from entobot.core.ids import Prefix, RandomIds
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, sha256_b64u
from entobot.devices.api_keys import ApiKeys
from entobot.devices.keys import parse_public_jwk
from entobot.devices.service import Devices
from entobot.devices.signing import SigningKeys
from entobot.devices.tokens import Tokens
from entobot.files.model import PART_BYTES, Room
from entobot.files.service import Files
from entobot.gateway.commands import command_table
from entobot.gateway.live import Live
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction
from entobot.stream.service import Stream
from tests.support.stores import new_database

ORIGIN = "https://gateway.test:18790"
PATIENCE_S = 20
"""After which a test that waits for something gives up; nothing is asserted about it."""

Event = dict[str, Any]


class HeardAudit(Audit):
    """Remembers what it is told. Units may run again: read it as a set of facts."""

    def __init__(self) -> None:
        self.heard: list[tuple[AuditEvent, Outcome, str, Mapping[str, Any]]] = []

    def record(self, tx: Transaction, event: AuditEvent, **details: Any) -> None:
        seen = {**(details.get("facts") or {}), **(details.get("personal") or {})}
        self.heard.append((event, details.get("outcome", Outcome.SUCCESS), details.get("subject", ""), seen))

    def of(self, event: AuditEvent) -> list[Mapping[str, Any]]:
        return [facts for known, _, _, facts in self.heard if known is event]


@dataclass(frozen=True)
class Pocket:
    """A paired phone."""

    key: DeviceKey
    principal: Principal


_numbers = count(1)
ROOM = Room(max_file=2 * PART_BYTES, max_person=4 * PART_BYTES, max_total=8 * PART_BYTES)
"""For files."""
ALIVE: list[str] = []
"""Nodes of this process; those of processes that were killed are not among them."""


class Agency:
    """Everything is real but time, ids and the model."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        entropy: Entropy,
        *,
        runner: Runner | None = None,
        waiting: Waiting | None = None,
        agent: str = "",
        tools: Callable[[Clock, Workspace], Toolbox] = built_in_tools,
        limits: Limits | None = None,
        pace: Pace | None = None,
        notifications: Callable[["Agency"], Notifications] | None = None,
    ) -> None:
        """`notifications` is made of what this has, before what posts to it."""
        self.clock, self.entropy = clock, entropy
        self.policy = ApprovalsSettings(user_verification="never", number_match="never")
        """Of approvals; tests replace it."""
        self.sees = True
        """Whether the model takes pictures."""
        self.node_id = f"nod_{os.getpid()}_{next(_numbers)}"
        ALIVE.append(self.node_id)
        self.workspace = folder / "workspace"
        self.database = new_database(folder)
        self.ids = RandomIds(clock, entropy)
        self.bus = LocalBus()
        self.audit = HeardAudit()
        self.stream = Stream(self.bus, self.ids)
        self.accounts = Accounts(self.ids, self.stream)
        self.tools = tools(clock, Workspace(self.workspace))
        keys = SigningKeys.open(lambda: None, lambda _: None, clock.now_ms())
        self.devices = Devices(
            database=self.database,
            clock=clock,
            ids=self.ids,
            audit=self.audit,
            stream=self.stream,
            accounts=self.accounts,
            bus=self.bus,
            keys=keys,
            tokens=Tokens(keys, ORIGIN, b"k" * 32, entropy),
            api_keys=ApiKeys(b"p" * 32, entropy),
            entropy=entropy,
            origin=ORIGIN,
        )
        self.files = Files(ids=self.ids, audit=self.audit, guard=self.devices.guard, room=ROOM)
        self.conversations = Conversations(self.ids, self.stream, self.bus, self.files)
        self.approvals = Approvals(
            ids=self.ids,
            entropy=entropy,
            stream=self.stream,
            bus=self.bus,
            audit=self.audit,
            devices=self.devices,
            accounts=self.accounts,
            audience=ORIGIN,
            judge_tool=self.tools.judge,
            settings=lambda: self.policy,
            notifications=None if notifications is None else notifications(self),
        )
        self.agents = Agents(
            ids=self.ids,
            bus=self.bus,
            audit=self.audit,
            events=RunEvents(self.stream, self.ids),
            conversations=self.conversations,
            approvals=self.approvals,
            tools=self.tools,
            limits=limits or Limits(),
            node_id=self.node_id,
            alive=lambda _: frozenset(ALIVE),
        )
        self.worker = Worker(
            database=self.database,
            bus=self.bus,
            clock=clock,
            ids=self.ids,
            stream=self.stream,
            conversations=self.conversations,
            approvals=self.approvals,
            agents=self.agents,
            tools=self.tools,
            runner=runner or EchoRunner(),
            waiting=waiting,
            pace=pace or Pace(flush_every=timedelta(0)),
            attached=Attached(self.database, self.files, lambda: self.sees),
        )
        self.agents.agent_of = lambda *_: agent
        self.conversations.begin, self.approvals.go_on = self.worker.begin, self.worker.go_on
        self.commands = command_table([*approval_commands(self.approvals), *agent_commands(self.agents)])
        self.user_id = ""
        self.live: list[Event] = []
        self._stirred = asyncio.Event()

    async def open(self, *, works: bool = True) -> None:
        await self.database.start()
        now_ms = self.clock.now_ms()
        owner = await self.database.write(lambda tx: self.accounts.ensure_owner(tx, now_ms))
        self.user_id = owner.user_id
        self.bus.subscribe("*", self._hear)
        if works:
            await self.worker.start()

    async def close(self) -> None:
        await self.worker.stop(timedelta(seconds=PATIENCE_S))
        await self.database.stop()

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic == topics.user(self.user_id) and payload.startswith(b"{"):  # else the log grew
            self.live.append(json.loads(msgspec.json.decode(payload, type=Live).event))
        self._stirred.set()

    # -- people

    async def pair(self, *, user_id: str | None = None) -> Pocket:
        key, device_id = DeviceKey.generate(), self.ids.new(Prefix.DEVICE)
        now_ms = self.clock.now_ms()
        device = await self.database.write(
            lambda tx: self.devices.register(
                tx,
                device_id=device_id,
                user_id=user_id or self.user_id,
                name="Phone",
                platform="ios",
                app_version="1.0",
                os_version=None,
                key=parse_public_jwk(key.jwk),
                scopes=DEFAULT_DEVICE_SCOPES,
                paired_by="operator",
                confirm_mode="type",
                now_ms=now_ms,
            )
        )
        return Pocket(key, Principal(device.user_id, device.scopes, device_id, device.epoch, device.thumbprint))

    async def say(
        self, text: str, conversation_id: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> Sent:
        sender = Principal(self.user_id, DEFAULT_DEVICE_SCOPES)
        now_ms = self.clock.now_ms()

        def unit(tx: Transaction) -> Sent:
            ids = [self._keep(tx, sender, name, content, now_ms) for name, content in (files or {}).items()]
            return self.conversations.send_message(tx, sender, conversation_id, text, now_ms, ids)

        return await self.database.write(unit)

    def _keep(self, tx: Transaction, sender: Principal, name: str, content: bytes, now_ms: int) -> str:
        file = self.files.announce(tx, sender, name, len(content), now_ms)
        for number in range(file.parts):
            self.files.put_part(tx, sender, file.file_id, number, content[number * PART_BYTES :][:PART_BYTES])
        assert not isinstance(self.files.finish(tx, sender, file.file_id, now_ms), Problem)
        return file.file_id

    async def command(self, principal: Principal, name: str, **data: Any) -> Any:
        """Run a device command as the gateway does. A refusal is raised once what it recorded is committed."""
        command = self.commands[name]
        command.check(principal)
        request = msgspec.json.decode(msgspec.json.encode(data), type=command.data)
        now_ms = self.clock.now_ms()
        result = await self.database.write(lambda tx: command.run(tx, principal, request, now_ms))
        if isinstance(result, Problem):
            raise result
        return json.loads(msgspec.json.encode(result))

    def answer(self, pocket: Pocket, approval: Event, decision: str, **changes: Any) -> Event:
        """The data of `approval.decide` as this phone sends it. `changes` go into the signature as well."""
        edited, reason, rule, number = (changes.get(name) for name in ("edited_action", "reason", "rule", "number"))
        signature = decision_signature(
            changes.get("key", pocket.key),
            origin=changes.get("origin", ORIGIN),
            approval_id=approval["approval_id"],
            decision=decision,
            action=approval["action"],
            now_ms=changes.get("now_ms", self.clock.now_ms()),
            entropy=self.entropy,
            edited_action=edited,
            reason=reason,
            rule=rule,
            number=number,
        )
        data: Event = {
            "approval_id": approval["approval_id"],
            "decision": decision,
            "action_sha256": sha256_b64u(approval["action"]),
            "signature": signature,
        }
        changed = (("edited_action", edited), ("reason", reason), ("rule", rule), ("number", number))
        return data | {name: value for name, value in changed if value}

    async def decide(self, pocket: Pocket, approval: Event, decision: str, **changes: Any) -> Event:
        return await self.command(
            pocket.principal, "approval.decide", **self.answer(pocket, approval, decision, **changes)
        )

    # -- what can be seen

    async def events(self) -> list[Event]:
        logged = await self.database.read(lambda tx: self.stream.after(tx, self.user_id, 0, 10_000))
        return [json.loads(event.event) for event in logged]

    async def of(self, kind: str) -> list[Event]:
        """Durable events of a type; ours as their `data`."""
        return [event.get("data", event) for event in await self.events() if event["type"] == kind]

    async def answers(self, conversation_id: str | None = None) -> list[str]:
        return [
            message["content"]
            for message in await self.of("message.created")
            if message["role"] == "assistant" and conversation_id in (None, message["conversation_id"])
        ]

    async def until(self, kind: str, count: int = 1) -> Event:
        """Wait for the `count`-th durable event of a type and return it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self._stirred.clear()
                found = await self.of(kind)
                if len(found) >= count:
                    return found[count - 1]
                await self._stirred.wait()

    async def until_live(self, kind: str, count: int = 1) -> Event:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self._stirred.clear()
                found = [event for event in self.live if event["type"] == kind]
                if len(found) >= count:
                    return found[count - 1]
                await self._stirred.wait()

    async def idle(self) -> None:
        """Wait until the worker has nothing under way."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.sleep(0)
            while tasks := set(self.worker._tasks.running.values()):
                await asyncio.wait(tasks)
                await asyncio.sleep(0)

    async def run_state(self, run_id: str) -> str:
        from entobot.agents import store

        run = await self.database.read(lambda tx: store.find_run(tx, run_id))
        assert run is not None
        return run.state
