"""Boards by MQTT, where it is switched on: their ports, their sessions, and what time does to those."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from entobot.app.cluster import who_lives
from entobot.app.connections import CertificateDoor
from entobot.app.denials import Denials
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.app.things import ThingDesk
from entobot.audit.service import Audit
from entobot.core import topics
from entobot.core.errors import StartupRefused
from entobot.devices.directory import ConnectionView, Directory
from entobot.devices.machine_limits import KnownLimits
from entobot.devices.machine_standing import holds
from entobot.devices.model import Status
from entobot.devices.service import Devices
from entobot.gateway.authentication import Refused
from entobot.gateway.meters import ConnectionMeters
from entobot.gateway.session import SessionParts
from entobot.gateway.websocket import Service
from entobot.mqtt.connection import Terms
from entobot.mqtt.holding import Bounds
from entobot.mqtt.layouts import Layout
from entobot.mqtt.model import Head, Withheld
from entobot.mqtt.packets import Properties
from entobot.mqtt.parts import MqttParts
from entobot.mqtt.retention import AT_ONCE, expendable, forget
from entobot.mqtt.service import Broker, Step
from entobot.mqtt.transport import MqttProtocol
from entobot.mqtt.websocket import PATH, mqtt_service
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.metrics import Metric
from entobot.web.endpoints import TcpEndpoint

if TYPE_CHECKING:
    from entobot.app.broker_bridges import BrokerBridges
    from entobot.app.edge import Edge

LOOK_EVERY = timedelta(seconds=1)
LOOK_S_PER_SESSION = 0.0005
MAX_LOOK_S = 5.0
"""Between two looks for bells that were lost, with so many sessions that each look is much work."""
HEADS_AT_ONCE = 1000
CHECK_EVERY = timedelta(seconds=30)
TRIM_EVERY = timedelta(minutes=1)
ROUNDS = 64
"""Of one look; what is left waits for the next."""
TRIM_ROUNDS = 256
"""More than what boards can send between two looks, at the rate that a user's devices have together."""


class Boards:
    """`shared` are the parts of WebSocket sessions, `on_refused` hears of bad credentials."""

    def __init__(
        self,
        ground: Ground,
        shared: SessionParts,
        devices: Devices,
        audit: Audit,
        things: ThingDesk,
        on_refused: Callable[[Refused, str], None],
    ) -> None:
        settings = ground.settings.mqtt
        self._ground = ground
        self._settings = settings
        self._devices = devices
        self._authority = ""
        self._alive = who_lives(ground)
        self._caught_up_s = 0.0
        self._log = get_logger("mqtt")
        self._denials = Denials(ground, audit)
        self._limits = KnownLimits(ground.clock)
        self.broker = Broker(
            bus=ground.bus,
            node=ground.node_id,
            is_standing=self._is_standing,
            bounds=Bounds(max_queued=settings.max_queued, max_retained=settings.max_retained),
            rules=replace(things.policies.rules, limits_of=self._limits.find, holds=holds),
        )
        things.policies.service.on_changed.append(self.broker.live.rules_changed)
        self.broker.on_dropped = lambda _: self._denials.dropped()
        withheld = {why: ground.meters.counter(Metric.MQTT_WITHHELD, reason=why) for why in Withheld}
        self.broker.on_withheld = lambda why, many: withheld[why].add(many)
        self.broker.arrived, self.broker.subscribed = things.arrived, things.subscribed
        self.broker.is_called_off = things.is_called_off
        things.service.send = self._send_down
        things.service.on_cancelled = lambda device_id: ground.bus.publish(topics.CONTROL_DEVICES, device_id.encode())
        self._bridges = _make_bridges(ground, self.broker, devices, audit, things)
        self._edge = _make_edge(ground, self.broker, devices, things, self._denials)
        self.parts = MqttParts(
            broker=self.broker,
            database=ground.database,
            clock=ground.clock,
            hub=shared.hub,
            feed=shared.feed,
            authenticator=shared.authenticator,
            certificates=CertificateDoor(devices),
            timers=shared.timers,
            waiting=shared.waiting,
            rates=shared.rates,
            spawn=shared.spawn,
            on_refused=on_refused,
            on_denied=self._denials.note,
            meters=ConnectionMeters(ground.meters, "mqtt"),
            terms=Terms(
                max_packet_bytes=settings.max_packet_bytes,
                max_session_expiry_s=int(settings.session_expiry.total_seconds()),
            ),
            layouts={one.name: Layout(one.root, one.names) for one in settings.layouts},
        )
        self._unsubscribe = ground.bus.subscribe(topics.CONTROL_DEVICES, self._device_changed)

    async def prepare(self) -> None:
        """Once, before `endpoints`."""
        desk = self._devices.certificates
        if desk is not None and self._settings.port:
            self._authority = (await desk.issuing.authority()).pem

    def endpoints(self) -> list[TcpEndpoint]:
        """Raises StartupRefused where TLS is asked for and there is none."""
        ground, settings = self._ground, self._settings
        speaks = partial(MqttProtocol, self.parts)
        found: list[TcpEndpoint] = []
        if settings.port:
            if ground.certificate is None:
                raise StartupRefused(
                    "mqtt.port is for MQTT over TLS, and tls.mode is off. Set mqtt.port to 0; boards then come through "
                    "a proxy that ends TLS to mqtt.plain_port."
                )
            host = ground.settings.gateway.host
            tls = ground.certificate.files
            found.append(TcpEndpoint(host, settings.port, tls, speaks=speaks, client_authority=self._authority))
        if settings.plain_port:
            found.append(TcpEndpoint("127.0.0.1", settings.plain_port, speaks=speaks))
        return found

    def websockets(self) -> dict[str, Service]:
        ground = self._ground
        return {PATH: mqtt_service(self.parts, (ground.origin, *ground.settings.gateway.allowed_origins))}

    def start(self, periodic: Periodic) -> None:
        periodic.every(LOOK_EVERY, self._look_at_sessions)
        if self._ground.is_shared:  # bells of other nodes can be lost
            periodic.every(LOOK_EVERY, self._catch_up)
        periodic.every(CHECK_EVERY, self._check_sessions)
        periodic.every(TRIM_EVERY, self._trim_messages)
        periodic.every(LOOK_EVERY, self._denials.settle)
        if self._bridges is not None:
            periodic.every(LOOK_EVERY, self._bridges.look, at_once=True)
        if self._edge is not None:
            self._edge.start()

    def stop(self) -> None:
        self._unsubscribe()
        if self._edge is not None:
            self._edge.stop()
        if self._bridges is not None:
            self._bridges.stop()
        self.broker.live.stop()

    # -- what time does

    async def _look_at_sessions(self) -> None:
        database, now_ms = self._ground.database, self._ground.clock.now_ms()
        for _ in range(len(self.parts.unclosed)):
            unit = self.parts.unclosed.popleft()
            try:
                await database.write(unit)
            except StorageFailed:
                self.parts.unclosed.append(unit)
                return
        for _ in range(ROUNDS):
            steps = await database.read(lambda tx: self.broker.steps(tx, self._alive(tx), now_ms))
            if not steps or not all(await asyncio.gather(*map(self._take, steps))):
                return

    async def _take(self, step: Step) -> bool:
        """Each in a unit of its own: what is wrong with one session is not the others'."""
        database = self._ground.database
        try:
            await database.write(step.unit)
        except StorageFailed:
            return False
        except Exception:  # noqa: BLE001  whatever it is, it is this session's
            self._log.exception("mqtt.session_not_swept")
            if step.otherwise is not None:
                await database.write(step.otherwise)
            return False
        return True

    async def _catch_up(self) -> None:
        """What was queued or taken at another node, without that its bell was heard here."""
        live, now_s = self.broker.live, self._ground.clock.monotonic()
        was = live.held
        if not was or now_s - self._caught_up_s < min(MAX_LOOK_S, LOOK_S_PER_SESSION * len(was)):
            return
        self._caught_up_s = now_s
        heads: list[Head] = []
        while True:
            after = heads[-1].session if heads else 0
            page = await self._ground.database.read(partial(self.broker.heads, after=after, count=HEADS_AT_ONCE))
            heads += page
            if len(page) < HEADS_AT_ONCE:
                break
        live.catch_up(was, heads)

    async def _check_sessions(self) -> None:
        """What missed bells left: sessions of devices that may not act any more."""
        after = 0
        while True:
            fallen, after = await self._ground.database.read(partial(self.broker.fallen, after=after))
            for device_id in fallen:
                await self._forget(device_id)
            if not after:
                return

    async def _trim_messages(self) -> None:
        before_ms = self._ground.clock.now_ms() - round(self._settings.keep_for.total_seconds() * 1000)
        unit = partial(expendable, before_ms=before_ms, keep=self._settings.keep_messages)
        for _ in range(TRIM_ROUNDS):
            numbers = await self._ground.database.read(unit)
            if not numbers:
                return
            for start in range(0, len(numbers), AT_ONCE):
                some = numbers[start : start + AT_ONCE]
                await self._ground.database.write(partial(forget, numbers=some))

    # -- what others do

    def _send_down(
        self, tx: Transaction, device_id: str, user_id: str, topic: str, payload: bytes, now_ms: int, ends_at_ms: int
    ) -> None:
        lasts_s = max(1, (ends_at_ms - now_ms + 999) // 1000)
        self.broker.send(
            tx,
            f"devices/{device_id}/{topic}",
            payload,
            user_id=user_id,
            now_ms=now_ms,
            properties=Properties(message_expiry_s=lasts_s),
        )
        if self._edge is not None:
            tell = partial(self._edge.tell, device_id, topic, payload)
            tx.after_commit(tell)
        if self._bridges is not None and topic == "command":
            self._bridges.command(tx, device_id, payload, now_ms, ends_at_ms)

    def _device_changed(self, _: str, payload: bytes) -> None:
        device_id = payload.decode("ascii", "replace")
        self._limits.forget()
        self.broker.live.rules_changed(device_id)
        self.parts.spawn(self._forget(device_id))

    async def _forget(self, device_id: str) -> None:
        try:
            await self._ground.database.write(partial(self.broker.forget, device_id=device_id))
        except StorageFailed:
            return  # `_check_sessions` looks again

    def _is_standing(self, tx: Transaction, device_id: str, epoch: int | None) -> bool:
        device = self._devices.find_device(tx, device_id)
        return device is not None and device.status is Status.ACTIVE and epoch in (None, device.epoch)


def _make_bridges(
    ground: Ground, broker: Broker, devices: Devices, audit: Audit, things: ThingDesk
) -> "BrokerBridges | None":
    """None where there is none: what only they need is not loaded."""
    if not ground.settings.mqtt.bridges:
        return None
    from entobot.app.broker_bridges import BrokerBridges

    return BrokerBridges(ground, broker, devices, audit, things)


def _make_edge(ground: Ground, broker: Broker, devices: Devices, things: ThingDesk, denials: Denials) -> "Edge | None":
    """None where there is none. Raises StartupRefused without the client of NATS."""
    if not ground.settings.edge.url:
        return None
    try:
        import nats  # noqa: F401  # pyright: ignore[reportUnusedImport]  asked for now, so that a start says what is missing
    except ImportError:
        raise StartupRefused("edge.url needs the client of NATS: pip install 'entobot[nats]'") from None
    from entobot.app.edge import Edge

    edge = Edge(ground, broker, devices, things, denials.note)
    _count_in(devices.directory, edge)
    return edge


def _count_in(directory: Directory, edge: "Edge") -> None:
    """Who is connected at the edge is online."""
    find_online, find_connections = directory.find_online, directory.find_connections

    async def online(device_ids: Sequence[str]) -> frozenset[str]:
        return await find_online(device_ids) | edge.online(device_ids)

    async def connections(device_id: str) -> list[ConnectionView]:
        return [*await find_connections(device_id), *edge.connections_of(device_id)]

    directory.find_online, directory.find_connections = online, connections
