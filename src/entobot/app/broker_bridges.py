"""Bridges of the running gateway: which node holds each, whom they speak for, and what their connections come to."""

import asyncio
from collections.abc import Sequence
from functools import partial

from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.things import ThingDesk
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.config_mqtt import MqttBridge
from entobot.core import topics
from entobot.devices.service import Devices
from entobot.gateway.limits import Gcra
from entobot.home import Purpose
from entobot.mqtt.bridge import Bounds, Bridge
from entobot.mqtt.bridge import Outcome as Taken
from entobot.mqtt.bridge_client import Terms
from entobot.mqtt.bridge_line import Parts
from entobot.mqtt.bridge_link import Link
from entobot.mqtt.bridge_map import Boards, Inward, Map, Outward, Who, Why, reading
from entobot.mqtt.bridge_place import Place
from entobot.mqtt.packets import Version
from entobot.mqtt.service import Broker
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.metrics import Metric
from entobot.things.model import Reading, ThingStatus
from entobot.things.telling import is_over

AGAIN_MS = 3600_000
"""The same misbehaviour of the same bridge is told in the audit log so often."""
MEMBERS_EVERY = 10
"""Looks between two at all devices, where no bell rings."""


class BrokerBridges:
    def __init__(
        self, ground: Ground, broker: Broker, devices: Devices, audit: Audit, things: ThingDesk
    ) -> None:  # fmt: skip
        self._ground = ground
        self._devices = devices
        self._audit = audit
        self._alive = who_lives(ground)
        self._log = get_logger("mqtt")
        self._told: dict[tuple[str, str], int] = {}
        self._looks = 0
        settings = ground.settings.mqtt.bridges
        self._settings = {one.name: one for one in settings}
        self._bridges = {one.name: self._make(one, broker) for one in settings}
        self._links: dict[str, Link] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        things.intake.on_kept.append(self._read)
        things.intake.on_status.append(self._status)
        self._unsubscribe = [
            ground.bus.subscribe(topics.WORK_BRIDGES, self._rung),
            ground.bus.subscribe(topics.CONTROL_DEVICES, self._devices_changed),
        ]

    def _make(self, one: MqttBridge, broker: Broker) -> Bridge:
        mapping = Map(
            tuple(Inward(row.topic, row.to, row.value, row.device) for row in one.ins),
            tuple(Outward(row.of, row.topic, row.payload == "json", row.retain) for row in one.outs),
        )
        bridge = Bridge(one.name, self._ground.node_id, mapping, broker, Bounds(one.max_payload_bytes, one.max_waiting))
        bridge.ring = partial(self._ground.bus.publish, topics.WORK_BRIDGES, one.name.encode())
        bridge.meet = partial(self._boards_of, one=one)
        bridge.on_refused = self._refused
        bridge.is_called_off = lambda tx, waiting: is_over(tx, waiting.payload)  # nothing but commands expires
        return bridge

    def stop(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for task in self._tasks.values():
            task.cancel()

    # -- who holds what

    async def look(self) -> None:
        """Take bridges that nobody holds, and connect; see devices that changed, and drop what is too much."""
        database, now_ms = self._ground.database, self._ground.clock.now_ms()
        try:
            if self._looks % MEMBERS_EVERY == 0:
                await self._meet()
            self._looks += 1
            for name, bridge in self._bridges.items():
                gone = await database.write(bridge.trim)
                if gone:
                    self._dropped(name, gone)
                await self._hold(name, bridge, now_ms)
        except StorageFailed:
            return  # the next look is soon

    async def _hold(self, name: str, bridge: Bridge, now_ms: int) -> None:
        task = self._tasks.get(name)
        if task is not None and not task.done():
            self._links[name].ring()
            return
        row = await self._ground.database.write(lambda tx: bridge.hold(tx, self._alive(tx), now_ms))
        if row is None:
            return
        link = self._links[name] = self._link(self._settings[name], bridge)
        known = tuple(row.filters.split("\n")) if row.filters else ()
        self._tasks[name] = asyncio.get_running_loop().create_task(link.run(known))

    def _link(self, one: MqttBridge, bridge: Bridge) -> Link:
        ground, (host, port) = self._ground, one.place
        place = Place(
            host,
            port,
            one.has_tls,
            ca_file=one.ca_file,
            certificate_file=one.certificate_file,
            key_file=one.key_file,
            alpn=one.alpn,
            password_file=one.password_file,
        )
        client_id = one.client_id or f"entobot-{one.name}-{ground.keys.key(Purpose.IDENTITY).hex()[:8]}"

        def terms(password: bytes | None) -> Terms:
            return Terms(
                version=Version.V5 if one.protocol == "5" else Version.V3,
                client_id=client_id,
                username=one.username or None,
                password=password,
                filters=bridge.map.filters,
                keep_alive_s=round(one.keep_alive.total_seconds()),
                session_expiry_s=round(one.session_expiry.total_seconds()),
                max_payload_bytes=one.max_payload_bytes,
            )

        rate = Gcra(rate_per_s=one.per_second, burst=max(1, round(one.per_second)), max_keys=1)
        parts = Parts(bridge, place, terms, ground.database, ground.clock, rate)
        link = Link(parts, ground.entropy)
        up = ground.meters.gauge(Metric.BRIDGE_UP, bridge=one.name)
        taken = ground.meters.counter(Metric.BRIDGE_MESSAGES, bridge=one.name, direction="in")
        told = ground.meters.counter(Metric.BRIDGE_MESSAGES, bridge=one.name, direction="out")

        def on_taken(outcome: Taken) -> None:
            taken.add(outcome.taken)
            for why, many in outcome.refused.items():
                ground.meters.counter(Metric.BRIDGE_REFUSED, bridge=one.name, reason=why.value).add(many)

        parts.on_state = lambda is_up: up.set(int(is_up))
        parts.on_taken, parts.on_told = on_taken, told.add
        parts.on_dropped = partial(self._dropped, one.name)
        link.on_rude = partial(self._rude, one.name)
        return link

    def _dropped(self, name: str, many: int) -> None:
        self._ground.meters.counter(Metric.BRIDGE_DROPPED, bridge=name).add(many)

    # -- whom they speak for

    async def _meet(self) -> None:
        for bridge in self._bridges.values():
            bridge.boards = await self._ground.database.read(bridge.meet)

    def _boards_of(self, tx: Transaction, one: MqttBridge) -> Boards:
        everybody = [
            Who(row.device_id, row.user_id, row.name, row.device_type, row.tags) for row in self._devices.boards(tx)
        ]
        return Boards(everybody, one.by, one.devices, one.types)

    def _devices_changed(self, _topic: str, _payload: bytes) -> None:
        self._looks = 0

    # -- what they are told

    def _rung(self, _topic: str, payload: bytes) -> None:
        link = self._links.get(payload.decode("ascii", "replace"))
        if link is not None:
            link.ring()

    def _read(
        self, tx: Transaction, device_id: str, _type: str | None, readings: Sequence[Reading], now_ms: int
    ) -> None:  # fmt: skip
        for bridge in self._bridges.values():
            for one in readings:
                made = partial(_told, one)
                bridge.tell(tx, "telemetry", device_id, made, now_ms, name=one.name)

    def _status(self, tx: Transaction, device_id: str, status: ThingStatus, now_ms: int) -> None:
        for bridge in self._bridges.values():
            bridge.tell(tx, "status", device_id, lambda is_json: reading(status.value, now_ms, is_json=is_json), now_ms)

    def command(self, tx: Transaction, device_id: str, payload: bytes, now_ms: int, ends_at_ms: int) -> None:
        for bridge in self._bridges.values():
            bridge.tell(tx, "command", device_id, lambda _: payload, now_ms, expires_at_ms=ends_at_ms)

    # -- what they may not

    def _refused(self, tx: Transaction, name: str, why: Why, said: str, now_ms: int) -> None:
        """In the audit log once an hour for each reason; counted always."""
        key = (name, why.value)
        if now_ms - self._told.get(key, -AGAIN_MS) < AGAIN_MS:
            return
        self._told[key] = now_ms
        tx.after_commit(lambda: self._log.warning("bridge.refused", bridge=name, reason=why.value, said=said))
        self._record(tx, name, why.value, now_ms)

    def _record(self, tx: Transaction, name: str, reason: str, now_ms: int) -> None:
        """Without the other broker's own words: those are in the log."""
        self._audit.record(
            tx,
            AuditEvent.BRIDGE_REFUSED,
            now_ms=now_ms,
            outcome=Outcome.DENIED,
            subject=name,
            facts={"reason": reason},
        )

    def _rude(self, name: str, text: str) -> None:
        now_ms, key = self._ground.clock.now_ms(), (name, "protocol")
        self._log.warning("bridge.protocol_error", bridge=name, error=text)
        self._ground.meters.counter(Metric.BRIDGE_REFUSED, bridge=name, reason="protocol").add(1)
        if now_ms - self._told.get(key, -AGAIN_MS) < AGAIN_MS:
            return
        self._told[key] = now_ms

        self._ground.database.submit_write(
            lambda tx: self._record(tx, name, "protocol", now_ms), lambda _result, _error: None
        )


def _told(one: Reading, is_json: bool) -> bytes:  # noqa: FBT001  as the outbox asks for it
    return reading(one.value, one.at_ms, is_json=is_json)
