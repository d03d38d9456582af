"""What boards say at the edge: kept there by its stream, committed here, then acknowledged to it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from entobot.app.edge_line import EdgeLine
from entobot.app.ground import Ground
from entobot.devices.service import Devices
from entobot.mqtt.edge_words import topic_of
from entobot.mqtt.model import Action
from entobot.mqtt.policy import DOWNWARD
from entobot.mqtt.service import Broker
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.metrics import Metric

STREAM = "ENTOBOT_BOARDS"
SUBJECTS = "devices.>"
CONSUMER = "entobot"
KEPT_S = 7 * 24 * 3600
AT_ONCE = 200
WAIT_S = 5.0
"""Of one request for messages; it is asked again at once."""
ACK_WAIT_S = 10
"""What a node took and did not commit by then is given to another one."""
HOLD_S = ACK_WAIT_S / 4
"""The server is told so often that what was taken is still being committed."""
AGAIN_S = 1.0
"""Until the store is asked again to take what it did not."""
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_TOGETHER_BYTES = 64 * 1024
"""Of one commit: a full batch of buffered readings is 500 rows, and a transaction has its time."""

Said = tuple[Any, tuple[str, str], int]
"""A message, its device and topic, and when the server got it."""
OnDenied = Callable[[str, Action, str, str], None]


class EdgeIntake:
    def __init__(self, ground: Ground, broker: Broker, devices: Devices, on_denied: OnDenied) -> None:
        self._ground = ground
        self._broker = broker
        self._devices = devices
        self._on_denied = on_denied
        self._log = get_logger("mqtt")
        self._taken = ground.meters.counter(Metric.EDGE_MESSAGES, outcome="taken")
        self._refused = ground.meters.counter(Metric.EDGE_MESSAGES, outcome="refused")
        self._backlog = ground.meters.gauge(Metric.EDGE_BACKLOG)

    async def prepare(self, line: EdgeLine) -> None:
        """Before any board is let in: what one said earlier was acknowledged and kept by nobody."""
        from nats.js.api import StreamConfig

        await line.stream().add_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS], max_age=KEPT_S))

    async def run(self, line: EdgeLine) -> None:
        """While the line is open, in the order of the server. Raises whatever its library does."""
        from nats.js.api import ConsumerConfig

        config = ConsumerConfig(ack_wait=ACK_WAIT_S)
        source = await line.stream().pull_subscribe(SUBJECTS, durable=CONSUMER, stream=STREAM, config=config)
        coming = asyncio.ensure_future(_fetch(source))
        try:
            while line.is_open:
                found = await coming
                coming = asyncio.ensure_future(_fetch(source))  # while these are committed
                holding = asyncio.ensure_future(_hold(found, coming))
                try:
                    await self._settle(line, found)
                finally:
                    holding.cancel()
        finally:
            coming.cancel()

    async def _settle(self, line: EdgeLine, found: list[Any]) -> None:
        """What the store does not take is tried again, and nothing behind it before: a board's order is kept."""
        self._backlog.set(found[-1].metadata.num_pending if found else 0)
        for some in _parts(found):
            while line.is_open:
                try:
                    await self._take(some)
                    break
                except StorageFailed as failure:
                    self._log.warning("edge.not_committed", count=len(some), error=str(failure))
                await asyncio.sleep(AGAIN_S)

    async def _take(self, messages: list[Any]) -> None:
        now_ms = self._ground.clock.now_ms()
        said = [
            (message, found, min(now_ms, round(message.metadata.timestamp.timestamp() * 1000)))
            for message in messages
            if (found := topic_of(message.subject)) is not None and found[1].split("/")[0] not in DOWNWARD
        ]
        if said:
            await self._commit_each(said)
        for message in messages:
            await message.ack()

    async def _commit_each(self, said: list[Said]) -> None:
        """Together; where one of them is an error of ours, each by itself, and that one is left out."""
        try:
            await self._commit(said)
        except StorageFailed:
            raise
        except Exception:  # noqa: BLE001  whatever it is, the others are taken
            self._log.exception("edge.message_failed", count=len(said))
            if len(said) > 1:
                for one in said:
                    await self._commit_each([one])

    async def _commit(self, said: list[Said]) -> None:
        """Each as of when the server got it: a reading that comes again changes nothing, and none hides another."""

        def unit(tx: Transaction) -> list[tuple[str, str]]:
            refused: list[tuple[str, str]] = []
            for message, (device_id, topic), at_ms in said:
                device = self._devices.find_device(tx, device_id)
                if device is None:
                    continue
                is_small = len(message.data) <= MAX_PAYLOAD_BYTES
                if not is_small or not self._broker.bring(tx, device_id, device.user_id, topic, message.data, at_ms):
                    refused.append((device_id, topic))
            return refused

        denied = await self._ground.database.write(unit)
        self._refused.add(len(denied))
        self._taken.add(len(said) - len(denied))
        for device_id, topic in denied:
            self._on_denied(device_id, Action.PUBLISH, f"devices/{device_id}/{topic}", "too large, or not permitted")


def _parts(found: list[Any]) -> Iterator[list[Any]]:
    """In order, each small enough for one commit."""
    part: list[Any] = []
    size = 0
    for message in found:
        if part and size + len(message.data) > MAX_TOGETHER_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message.data)
    if part:
        yield part


async def _hold(found: list[Any], coming: "asyncio.Future[list[Any]]") -> None:
    """Until it is cancelled: what is here, or has come meanwhile, is given to nobody else."""
    from nats.errors import Error

    with suppress(Error):  # the line is over, which whoever reads it hears as well
        while True:
            await asyncio.sleep(HOLD_S)
            is_there = coming.done() and not coming.cancelled() and coming.exception() is None
            for message in [*found, *(coming.result() if is_there else [])]:
                if not message.is_acked:
                    await message.in_progress()


async def _fetch(source: Any) -> list[Any]:
    """None, where nothing came for a while."""
    from nats.errors import TimeoutError as NothingCame

    try:
        return await source.fetch(AT_ONCE, timeout=WAIT_S)
    except NothingCame:
        return []
