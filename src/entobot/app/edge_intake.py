"""What boards say at the edge: kept there by its stream, committed here, then acknowledged to it."""

from collections.abc import Callable
from typing import Any

from entobot.app.edge_line import EdgeLine
from entobot.app.ground import Ground
from entobot.devices.service import Devices
from entobot.mqtt.edge_words import topic_of
from entobot.mqtt.model import Action
from entobot.mqtt.policy import DOWNWARD
from entobot.mqtt.service import Broker
from entobot.storage.database import Transaction

STREAM = "ENTOBOT_BOARDS"
SUBJECTS = "devices.>"
CONSUMER = "entobot"
KEPT_S = 7 * 24 * 3600
AT_ONCE = 200
WAIT_S = 5.0
"""Of one request for messages; it is asked again at once."""
ACK_WAIT_S = 30
"""What a node took and did not commit by then is given to another one."""
MAX_PAYLOAD_BYTES = 64 * 1024

OnDenied = Callable[[str, Action, str, str], None]


class EdgeIntake:
    def __init__(self, ground: Ground, broker: Broker, devices: Devices, on_denied: OnDenied) -> None:
        self._ground = ground
        self._broker = broker
        self._devices = devices
        self._on_denied = on_denied

    async def run(self, line: EdgeLine) -> None:
        """While the line is open. Raises whatever its library does, StorageFailed."""
        from nats.errors import TimeoutError as NothingCame
        from nats.js.api import ConsumerConfig, StreamConfig

        stream = line.stream()
        await stream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS], max_age=KEPT_S))
        config = ConsumerConfig(ack_wait=ACK_WAIT_S)
        source = await stream.pull_subscribe(SUBJECTS, durable=CONSUMER, stream=STREAM, config=config)
        while line.is_open:
            try:
                found = await source.fetch(AT_ONCE, timeout=WAIT_S)
            except NothingCame:
                continue
            await self._take(found)

    async def _take(self, messages: list[Any]) -> None:
        now_ms = self._ground.clock.now_ms()
        said = [(message, found) for message in messages if (found := topic_of(message.subject)) is not None]

        def unit(tx: Transaction) -> list[tuple[str, str]]:
            refused: list[tuple[str, str]] = []
            for message, (device_id, topic) in said:
                device = self._devices.find_device(tx, device_id)
                is_ours = topic.split("/")[0] in DOWNWARD
                if device is None or is_ours:
                    continue
                is_small = len(message.data) <= MAX_PAYLOAD_BYTES
                if not is_small or not self._broker.bring(tx, device_id, device.user_id, topic, message.data, now_ms):
                    refused.append((device_id, topic))
            return refused

        for device_id, topic in await self._ground.database.write(unit):
            self._on_denied(device_id, Action.PUBLISH, f"devices/{device_id}/{topic}", "too large, or not permitted")
        for message in messages:
            await message.ack()
