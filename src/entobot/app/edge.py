"""The edge: a nats-server that takes boards by MQTT, and asks this gateway who they are.

The server holds the connections; who may come in, and to which topics, is said here. What boards publish is kept by the
server's JetStream until it is committed here; what the gateway says to a board goes to whoever is connected there.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from entobot.app.ground import Ground
from entobot.core import topics
from entobot.core.topic_limits import TopicLimits
from entobot.devices.machine_limits import limits_of
from entobot.devices.model import ConnectionRefused, Refusal, Status
from entobot.devices.service import Devices
from entobot.home import Purpose
from entobot.mqtt.edge_words import Asked, Issuer, Unreadable, read_request, subject_of, topic_of
from entobot.mqtt.model import Action
from entobot.mqtt.policy import DOWNWARD, own_client_id
from entobot.mqtt.service import Broker
from entobot.storage.database import StorageFailed, Transaction
from entobot.telemetry.log import get_logger

ASKED = "$SYS.REQ.USER.AUTH"
GROUP = "entobot"
STREAM = "ENTOBOT_BOARDS"
SUBJECTS = "devices.>"
KEPT_S = 7 * 24 * 3600
AT_ONCE = 200
CALL_S = 5.0
AGAIN_S = 2.0
WAIT_S = 5.0
"""Of one request for messages; it is asked again at once."""
PAGE = 1024
MAX_PAYLOAD_BYTES = 64 * 1024


class Edge:
    def __init__(
        self, ground: Ground, broker: Broker, devices: Devices, on_denied: Callable[[str, Action, str, str], None]
    ) -> None:
        self._ground = ground
        self._settings = ground.settings.edge
        self._broker = broker
        self._devices = devices
        self._issuer = Issuer(ground.keys.key(Purpose.EDGE))
        self._log = get_logger("mqtt")
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._system: Any = None
        self._to_cut: dict[str, None] = {}
        self._cutting = asyncio.Lock()
        self._on_denied = on_denied
        self._work: set[asyncio.Task[None]] = set()
        self._unsubscribe = ground.bus.subscribe(topics.CONTROL_DEVICES, self._device_changed)

    async def start(self) -> None:
        """Begins, and looks whether it still goes on; called again and again."""
        if self._task is None:
            self._log.info("edge.issuer", issuer=self._issuer.public, url=self._settings.url)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
        for task in self._work:
            task.cancel()

    # -- the server

    async def _run(self) -> None:
        was_told = False
        while True:
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001  whatever its library says; it is tried again
                if not was_told:
                    self._log.warning(
                        "edge.lost", url=self._settings.url, error=f"{type(error).__name__}: {error}"[:200]
                    )
                was_told = True
            else:
                was_told = False
            finally:
                await self._close()
            await asyncio.sleep(AGAIN_S)

    async def _serve(self) -> None:
        settings = self._settings
        self._client = client = await self._connect(settings.user, settings.password_file)
        self._system = await self._connect(settings.system_user, settings.system_password_file)
        await client.subscribe(ASKED, queue=GROUP, cb=self._asked)
        stream = client.jetstream()
        from nats.js.api import ConsumerConfig, StreamConfig

        await stream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS], max_age=KEPT_S))
        source = await stream.pull_subscribe(SUBJECTS, durable=GROUP, stream=STREAM, config=ConsumerConfig(ack_wait=30))
        self._log.info("edge.connected", url=settings.url)
        await self._cut_fallen()
        await self._cut_waiting()
        from nats.errors import TimeoutError as NothingCame

        while client.is_connected and self._system.is_connected:
            try:
                found = await source.fetch(AT_ONCE, timeout=WAIT_S)
            except NothingCame:
                continue
            await self._take(found)

    async def _connect(self, user: str, password_file: Path | None) -> Any:
        from entobot.bus.bus_nats import nats_client

        password, trust = await asyncio.to_thread(self._read_files, password_file)
        client = nats_client(must_encrypt=trust is not None)
        await client.connect(
            self._settings.url,
            user=user,
            password=password,
            tls=trust,
            name="entobot",
            allow_reconnect=False,
            connect_timeout=round(CALL_S),
            error_cb=_nothing,
        )
        return client

    def _read_files(self, password_file: Path | None) -> tuple[str, ssl.SSLContext | None]:
        assert password_file is not None, "the settings see to it"
        password = password_file.read_text(encoding="utf-8").strip()
        if not self._settings.url.startswith("tls://"):
            return password, None
        authority = self._settings.ca_file
        return password, ssl.create_default_context(cafile=None if authority is None else str(authority))

    async def _close(self) -> None:
        for client in (self._client, self._system):
            if client is not None:
                with suppress(Exception):  # the server may be gone in any way
                    async with asyncio.timeout(CALL_S):
                        await client.close()
        self._client = self._system = None

    # -- who may come in

    async def _asked(self, message: Any) -> None:
        now_s = self._ground.clock.now_ms() // 1000
        try:
            asked = read_request(message.data)
        except Unreadable as error:
            self._log.warning("edge.unreadable", error=str(error))
            return
        try:
            answer = await self._admit(asked, now_s)
        except ConnectionRefused as refused:
            answer = self._issuer.refusal(asked, str(refused), now_s)
        except StorageFailed:
            answer = self._issuer.refusal(asked, "the store does not answer", now_s)
        await message.respond(answer)

    async def _admit(self, asked: Asked, now_s: int) -> bytes:
        """Raises ConnectionRefused, StorageFailed."""
        if asked.kind not in ("mqtt", "mqtt_ws", "mqtt_websocket"):
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
        return self._issuer.admission(asked, device_id, limits, self._settings.account, ends_s, now_s)

    # -- who may not stay

    def _device_changed(self, _topic: str, payload: bytes) -> None:
        """Whatever changed: who still may is let in again at once."""
        self._to_cut[payload.decode("ascii", "replace")] = None
        if self._system is not None:
            self._spawn(self._cut_waiting())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _cut_waiting(self) -> None:
        async with self._cutting:  # those that come meanwhile are cut by whoever waits here
            await self._cut_each()

    async def _cut_each(self) -> None:
        waiting, self._to_cut = self._to_cut, {}
        for device_id in waiting:
            try:
                for server_id, number, _ in await self._connections({"user": device_id}):
                    await self._cut(server_id, number)
            except Exception:  # noqa: BLE001  whatever its library says; those are cut when it is connected again
                self._to_cut[device_id] = None

    async def _cut_fallen(self) -> None:
        """Those that were changed while no gateway was connected."""
        for server_id, number, device_id in await self._connections({}):
            standing = await self._ground.database.read(partial(self._is_standing, device_id=device_id))
            if not standing:
                await self._cut(server_id, number)

    def _is_standing(self, tx: Transaction, device_id: str) -> bool:
        device = self._devices.find_device(tx, device_id)
        return device is not None and device.status is Status.ACTIVE

    async def _connections(self, wanted: dict[str, str]) -> list[tuple[str, int, str]]:
        """Of boards, on every server: (server, number, user name)."""
        found: list[tuple[str, int, str]] = []
        inbox = self._system.new_inbox()
        source = await self._system.subscribe(inbox)
        offset, is_more = 0, True
        while is_more:
            is_more = False
            asked = {"auth": True, "limit": PAGE, "offset": offset, "acc": self._settings.account} | wanted
            await self._system.publish("$SYS.REQ.SERVER.PING.CONNZ", json.dumps(asked).encode(), reply=inbox)
            with suppress(Exception):  # the library's time-out: no further server answers
                while True:
                    message = await source.next_msg(timeout=0.3)
                    said: Any = json.loads(message.data)
                    rows: list[Any] = said["data"].get("connections") or []
                    found += [
                        (said["server"]["id"], row["cid"], row.get("authorized_user", ""))
                        for row in rows
                        if row.get("type") in ("mqtt", "mqtt_websocket")
                    ]
                    is_more = is_more or len(rows) == PAGE
            offset += PAGE
        await source.unsubscribe()
        return found

    async def _cut(self, server_id: str, number: int) -> None:
        await self._system.request(f"$SYS.REQ.SERVER.{server_id}.KICK", json.dumps({"cid": number}).encode(), timeout=2)

    # -- what is said

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

    def tell(self, device_id: str, topic: str, payload: bytes) -> None:
        """After the commit. Nobody hears it where no board is connected there."""
        client = self._client
        if client is not None:
            self._spawn(self._publish(client, subject_of(device_id, topic), payload))

    async def _publish(self, client: Any, subject: str, payload: bytes) -> None:
        with suppress(Exception):  # the server went meanwhile
            await client.publish(subject, payload)


async def _nothing(_: Exception) -> None:
    """What ends a connection is seen by whoever waits for it."""
