"""The edge: a nats-server that takes boards by MQTT, and asks this gateway who they are.

The server holds the connections; who may come in, and to which topics, is said here. What boards publish is kept by the
server's JetStream until it is committed here; what the gateway says to a board goes to whoever is connected there.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from entobot.app.edge_commands import Retelling
from entobot.app.edge_door import EdgeDoor
from entobot.app.edge_intake import EdgeIntake, OnDenied
from entobot.app.edge_line import EdgeLine
from entobot.app.edge_watch import GROUP, EdgeWatch
from entobot.app.ground import Ground
from entobot.app.things import ThingDesk
from entobot.core import topics
from entobot.devices.directory import ConnectionView
from entobot.devices.service import Devices
from entobot.mqtt.edge_present import Present
from entobot.mqtt.edge_words import subject_of
from entobot.mqtt.service import Broker
from entobot.telemetry.log import get_logger
from entobot.telemetry.metrics import Metric

ASKED = "$SYS.REQ.USER.AUTH"
AGAIN_S = 2.0
PLACE = "edge"


class Edge:
    def __init__(
        self, ground: Ground, broker: Broker, devices: Devices, things: ThingDesk, on_denied: OnDenied
    ) -> None:  # fmt: skip
        self._url = ground.settings.edge.url
        self._log = get_logger("mqtt")
        self._line = EdgeLine(ground.settings.edge)
        self._present = Present()
        self._door = EdgeDoor(ground, devices)
        self._intake = EdgeIntake(ground, broker, devices, on_denied)
        self._retelling = Retelling(ground, things.service, self._present, self._say)
        self._watch = EdgeWatch(ground, devices, things.intake, self._present, self._retelling)
        self._up = ground.meters.gauge(Metric.EDGE_UP)
        self._up.set(0)
        self._is_lost = False
        """And the log has it."""
        self._task: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._unsubscribe = ground.bus.subscribe(topics.CONTROL_DEVICES, self._device_changed)

    def start(self) -> None:
        self._log.info("edge.issuer", issuer=self._door.issuer, url=self._url)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="edge")

    def stop(self) -> None:
        self._unsubscribe()
        for task in (self._task, *self._work):
            if task is not None:
                task.cancel()

    # -- the server

    async def _run(self) -> None:
        while True:
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001  whatever its library says; it is tried again
                if not self._is_lost:
                    self._log.warning("edge.lost", url=self._url, error=_words(error))
                self._is_lost = True
            finally:
                self._up.set(0)
                await self._line.close()
            await asyncio.sleep(AGAIN_S)

    async def _serve(self) -> None:
        """Until the line ends."""
        line = self._line
        await line.open()
        await self._intake.prepare(line)
        await line.answer(ASKED, self._door.asked, group=GROUP)
        await self._watch.begin(line)
        self._log.info("edge.connected", url=self._url)
        self._is_lost = False
        self._up.set(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(line))
            group.create_task(self._intake.run(line))

    # -- what the gateway knows and says

    def _device_changed(self, _topic: str, payload: bytes) -> None:
        self._watch.device_changed(payload.decode("ascii", "replace"))

    def tell(self, device_id: str, topic: str, payload: bytes) -> None:
        """After the commit. Nobody hears it where no board is connected; a command is told again."""
        self._say(device_id, topic, payload)
        if topic == "command":
            self._retelling.told(device_id)

    def _say(self, device_id: str, topic: str, payload: bytes) -> None:
        self._spawn(self._line.say(subject_of(device_id, topic), payload))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def online(self, device_ids: Sequence[str]) -> frozenset[str]:
        """Which of these are connected there."""
        return frozenset(one for one in device_ids if self._present.has(one))

    def connections_of(self, device_id: str) -> list[ConnectionView]:
        return [ConnectionView("mqtt", one.address, one.since_ms, PLACE) for one in self._present.of(device_id)]


def _words(error: Exception) -> str:
    """Of the first of several that came together."""
    first: object = error
    while isinstance(first, ExceptionGroup):
        first = cast("ExceptionGroup[Exception]", first).exceptions[0]
    return f"{type(first).__name__}: {first}"[:200]
