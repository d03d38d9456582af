"""Boards under load by MQTT whose histories are recorded: sensors tell readings and obey, screens hear them."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from entobot.client.device import Device
from entobot.client.history import Record, Recorder, Violation
from entobot.client.history_mqtt import Ear, Kept, check
from entobot.core.errors import Code, Problem
from entobot.mqtt.packets import Publish, Version
from tests.rigs.mqtt_client import LastingClient, Place, hello
from tests.support.operator import Operator
from tests.support.process import GENEROUS_S
from tests.support.progress import Progress

NAMES = ("alpha", "beta")
WINDOW = 6
"""Messages of a sensor under way at once."""
PAUSE_S = 0.01
"""Between two messages of a sensor, on average."""
ORDERS_S = 0.15
"""Between two commands, on average."""
QUIET_S = 10.0
"""After so long without a message nothing is on its way any more."""
STEP_MS = 1000
PAGE = 500
KIND = {
    "title": "Chaos",
    "readings": {name: {"kind": "integer", "title": name, "unit": ""} for name in NAMES},
    "commands": {"count": {"title": "Count", "risk": "none", "expires_after_s": 3600}},
}
TYPE = "chaos"


@dataclass(eq=False)
class Sensor:
    """One thing's own connection. `results` is what it carried out."""

    device_id: str
    client: LastingClient
    dice: random.Random
    begun_ms: int
    progress: Progress
    count: int = 0
    results: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.client.on_message = self._obey
        self.client.on_kept = self._kept
        self._room = asyncio.Event()
        self.client.on_room = self._room.set

    @property
    def root(self) -> str:
        return f"devices/{self.device_id}"

    def topic(self, name: str) -> str:
        return f"{self.root}/telemetry/{name}"

    async def tell_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            while self.client.under_way < WINDOW:
                self._tell()
            self._room.clear()
            await self._room.wait()
            await asyncio.sleep(self.dice.random() * 2 * PAUSE_S)

    def _tell(self) -> None:
        self.count += 1
        said = {"value": self.count, "at": self.begun_ms + self.count * STEP_MS}
        name, qos = self.dice.choice(NAMES), self.dice.choice((1, 2))
        self.client.publish(self.topic(name), json.dumps(said).encode(), qos, self.count)

    def _kept(self, one: Publish) -> None:
        if "/telemetry/" in one.topic:
            self.client.recorder.note("acknowledged", topic=one.topic, value=json.loads(one.payload)["value"])
            self.progress.counted(1)

    def _obey(self, one: Publish) -> None:
        """Once, and answered each time."""
        command_id = json.loads(one.payload)["command_id"]
        self.results.add(command_id)
        self.client.recorder.note("obeyed", command_id=command_id)
        answer = {"command_id": command_id, "state": "done", "result": len(self.results)}
        self.client.publish(f"{self.root}/result", json.dumps(answer).encode(), 1)


@dataclass
class Boards:
    """Two things: of each a sensor, a screen that hears it, and two more that share what they hear.

    `place` is where they connect; `operator` commands them. The versions of MQTT are 5 and 3.1.1.
    """

    dice: random.Random
    folder: Path
    operator: Operator
    place: Place
    progress: Progress = field(default_factory=Progress)
    sensors: list[Sensor] = field(default_factory=list[Sensor])
    ears: list[Ear] = field(default_factory=list[Ear])
    is_over: bool = False
    _clients: list[LastingClient] = field(default_factory=list[LastingClient])
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    _recorders: list[Recorder] = field(default_factory=list[Recorder])
    _heard: dict[str, set[tuple[str, int]]] = field(default_factory=dict[str, "set[tuple[str, int]]"])
    _phone: Device = field(init=False)
    _commanding: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self._orders = self._recorder("phone")

    async def connect(self) -> None:
        await asyncio.to_thread(self.operator.local.request, "PUT", f"/api/v1/thing-types/{TYPE}", json=KIND)
        begun_ms = _hours_ago_ms()
        for number, version in enumerate((Version.V5, Version.V3)):
            made = await asyncio.to_thread(self.operator.gateway.ask, "devices", "add-key", f"Board {number}")
            device_id = made["device_id"]
            await asyncio.to_thread(
                self.operator.local.request, "PUT", f"/api/v1/things/{device_id}/type", json={"type": TYPE}
            )
            self._add_thing(device_id, made["api_key"], version, begun_ms)
        self._phone = await asyncio.to_thread(self.operator.pair)
        for client in self._clients:
            self._start(client.run())
        for client in self._clients:
            async with asyncio.timeout(GENEROUS_S):
                await client.ready.wait()

    def _add_thing(self, device_id: str, api_key: str, version: Version, begun_ms: int) -> None:
        def client(part: str, *filters: str) -> LastingClient:
            name = f"{device_id}-{part}"
            opening = hello(f"{device_id}/{part}", device_id, api_key, version)
            dice = random.Random(self.dice.random())
            one = LastingClient(name, self.place, opening, self._recorder(name), dice, filters)
            self._clients.append(one)
            return one

        root = f"devices/{device_id}"
        dice = random.Random(self.dice.random())
        self.sensors.append(Sensor(device_id, client("sensor", f"{root}/command"), dice, begun_ms, self.progress))
        screens = [client("screen", f"{root}/telemetry/#")]
        shares = [client(part, f"$share/readers/{root}/telemetry/#") for part in ("left", "right")]
        for one in (*screens, *shares):
            one.on_message = self._hears(one)
        self.ears += [
            Ear(tuple(f"{device_id}-{part}" for part in parts), f"{root}/telemetry/")
            for parts in (("screen",), ("left", "right"))
        ]

    def _recorder(self, name: str) -> Recorder:
        recorder = Recorder(name, self.folder / f"{name}.jsonl")
        self._recorders.append(recorder)
        return recorder

    def _hears(self, client: LastingClient) -> Callable[[Publish], None]:
        heard = self._heard.setdefault(client.name, set())

        def hear(one: Publish) -> None:
            value = json.loads(one.payload)["value"]
            heard.add((one.topic, value))
            client.recorder.note("delivered", topic=one.topic, qos=one.qos, value=value)

        return hear

    def begin(self) -> None:
        for sensor in self.sensors:
            self._start(sensor.tell_until(lambda: self.is_over))
        self._commanding = self._start(self._command())

    async def _command(self) -> None:
        while not self.is_over:
            sensor = self.dice.choice(self.sensors)
            path = f"/api/v1/things/{sensor.device_id}/commands"
            try:
                made = await asyncio.to_thread(self._phone.request, "POST", path, json={"name": "count", "args": {}})
            except httpx.TransportError:  # the gateway is struck: whether it took the command, nobody knows
                pass
            except Problem as problem:
                if problem.code is not Code.INTERNAL:  # the store is struck
                    raise
            else:
                self._orders.note("ordered", command_id=made["command_id"])
            await asyncio.sleep(self.dice.random() * 2 * ORDERS_S)

    async def settle(self) -> Kept:
        """Stop, wait until everything has been acknowledged and nothing comes any more; what the gateway has then."""
        self.is_over = True
        async with asyncio.timeout(3 * GENEROUS_S):
            await self._commanding  # or a command is noted after everybody seems to have heard theirs
            await self._quiet()
        self._raise_what_failed()
        return await asyncio.to_thread(self._kept)

    async def _quiet(self) -> None:
        last, since_s = -1, 0.0
        loop = asyncio.get_running_loop()
        while True:
            count = sum(len(one.records) for one in self._recorders)
            if count != last:
                last, since_s = count, loop.time()
            is_acknowledged = not any(one.under_way for one in self._clients)
            if is_acknowledged and (self._is_told() or loop.time() - since_s > QUIET_S):
                return
            await asyncio.sleep(0.05)

    def _is_told(self) -> bool:
        """Everybody heard as many as the sensors said; what is missing or too much the checker tells."""
        said = {sensor.device_id: sensor.count for sensor in self.sensors}
        return not self._waiting_commands() and all(
            len(set[tuple[str, int]]().union(*(self._heard[one] for one in ear.clients)))
            == said[ear.root.split("/")[1]]
            for ear in self.ears
        )

    def _waiting_commands(self) -> bool:
        ordered = {one.what["command_id"] for one in self._orders.records}
        return not ordered <= {one for sensor in self.sensors for one in sensor.results}

    def _kept(self) -> Kept:
        values: dict[str, list[int]] = {}
        commands: dict[str, str] = {}
        for sensor in self.sensors:
            for name in NAMES:
                values[sensor.topic(name)] = self._values(sensor, name)
            commands |= self._commands(sensor)
        return Kept(values, commands)

    def _values(self, sensor: Sensor, name: str) -> list[int]:
        found: list[int] = []
        for first in range(0, sensor.count + 1, PAGE):
            since, until = (sensor.begun_ms + at * STEP_MS for at in (first, first + PAGE))
            query = {"reading": name, "since": _moment(since), "until": _moment(until), "points": PAGE}
            answer = self.operator.local.request("GET", f"/api/v1/things/{sensor.device_id}/history", params=query)
            assert answer["width_s"] * 1000 <= STEP_MS, answer["width_s"]
            for row in answer["rows"]:
                found += [round(row["low"])] if row["count"] == 1 else [round(row["low"]), round(row["high"])]
        return found

    def _commands(self, sensor: Sensor) -> dict[str, str]:
        found: dict[str, str] = {}
        query: dict[str, Any] = {"limit": 100}
        while True:
            page = self.operator.local.request("GET", f"/api/v1/things/{sensor.device_id}/commands", params=query)
            found |= {row["command_id"]: row["state"] for row in page["rows"]}
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    def check(self, kept: Kept) -> list[Violation]:
        assert not [reason for client in self._clients for reason in client.refused]
        assert self._orders.records, "no command was made"
        return check(self.records(), self.ears, kept)

    def records(self) -> list[Record]:
        return [record for recorder in self._recorders for record in recorder.records]

    async def close(self) -> None:
        self.is_over = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for recorder in self._recorders:
            recorder.close()

    def _start(self, work: Any) -> asyncio.Task[None]:
        self._tasks.append(task := asyncio.get_running_loop().create_task(work))
        return task

    def _raise_what_failed(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def _hours_ago_ms() -> int:
    """Room for a reading a second."""
    return (time.time_ns() // 1_000_000 - 20 * 3600_000) // STEP_MS * STEP_MS
