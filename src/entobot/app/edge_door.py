"""Who may come in at the edge: each board's key is looked at as at the gateway's own listener."""

from typing import Any

from entobot.app.ground import Ground
from entobot.core.topic_limits import TopicLimits
from entobot.devices.machine_limits import limits_of
from entobot.devices.model import ConnectionRefused, Refusal
from entobot.devices.service import Devices
from entobot.home import Purpose
from entobot.mqtt.edge_present import BOARDS
from entobot.mqtt.edge_words import Asked, Entrant, Issuer, Unreadable, read_request
from entobot.mqtt.policy import own_client_id
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.metrics import Metric


class EdgeDoor:
    def __init__(self, ground: Ground, devices: Devices) -> None:
        self._ground = ground
        self._settings = ground.settings.edge
        self._devices = devices
        self._issuer = Issuer(ground.keys.key(Purpose.EDGE))
        self._answered = {
            outcome: ground.meters.counter(Metric.EDGE_ASKED, outcome=outcome)
            for outcome in ("admitted", "refused", "failed")
        }
        self._log = get_logger("mqtt")

    @property
    def issuer(self) -> str:
        return self._issuer.public

    async def asked(self, message: Any) -> None:
        now_s = self._ground.clock.now_ms() // 1000
        try:
            asked = read_request(message.data)
        except Unreadable as error:
            self._log.warning("edge.unreadable", error=str(error))
            return
        outcome = "admitted"
        try:
            answer = await self._admit(asked, now_s)
        except ConnectionRefused as refused:
            outcome, answer = "refused", self._issuer.refusal(asked, str(refused), now_s)
        except StorageFailed:
            outcome, answer = "failed", self._issuer.refusal(asked, "the store does not answer", now_s)
        await message.respond(answer)
        self._answered[outcome].add()

    async def _admit(self, asked: Asked, now_s: int) -> bytes:
        """Raises ConnectionRefused, StorageFailed."""
        if asked.kind not in BOARDS:
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "boards come by MQTT only")
        found = await self._devices.authenticate_key_connection(asked.password, asked.host)
        device_id, credential_id = found.principal.device_id or "", found.principal.credential_id
        if device_id != asked.username or not own_client_id(device_id, asked.client_id):
            raise ConnectionRefused(Refusal.BAD_CREDENTIALS, "user name and client id are the device's id")

        def unit(tx: Transaction) -> TopicLimits:
            return limits_of(tx, credential_id)

        limits = await self._ground.database.read(unit)
        ends_s = now_s + round(self._settings.ask_again.total_seconds())
        if found.expires_at_ms is not None:
            ends_s = min(ends_s, found.expires_at_ms // 1000)
        entrant = Entrant.of(device_id, credential_id, limits)
        return self._issuer.admission(asked, entrant, limits, self._settings.account, ends_s, now_s)
