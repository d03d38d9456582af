"""A board that speaks MQTT: paho's client on a thread, with what it hears in a queue."""

import queue
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.process import GENEROUS_S, GatewayProcess, free_port
from tests.support.thing import Thing

V3, V5 = mqtt.MQTTv311, mqtt.MQTTv5


def mqtt_environment(port: int | None = None) -> dict[str, str]:
    """Of a gateway that takes boards by MQTT."""
    return {"ENTOBOT_MQTT__ENABLED": "true", "ENTOBOT_MQTT__PORT": str(port or free_port())}


class Heard(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool


class Board:
    """One connection. `connect` returns the reason of CONNACK as a number, version 5's for both versions."""

    def __init__(
        self,
        gateway: GatewayProcess,
        thing: Thing,
        *,
        name: str = "",
        version: int = V5,
        clean: bool = True,
        expiry_s: int = 0,
        username: str | None = None,
        password: str | None = None,
        client_id: str | None = None,
        over_websocket: bool = False,
        trust: ssl.SSLContext | None = None,
        receive_maximum: int | None = None,
        **options: Any,
    ) -> None:
        """`name` is added to the client id. `expiry_s` is the session's, `receive_maximum` ours, in version 5."""
        self.thing = thing
        self.port = gateway.port if over_websocket else int(gateway.environment["ENTOBOT_MQTT__PORT"])
        self.root = f"devices/{thing.device_id}"
        self._version = version
        self._clean = clean
        self._expiry_s = expiry_s
        self._receive_maximum = receive_maximum
        chosen = client_id if client_id is not None else thing.device_id + (f"/{name}" if name else "")
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=chosen,
            protocol=version,  # pyright: ignore[reportArgumentType]  a number, as its own constants are
            transport="websockets" if over_websocket else "tcp",
            reconnect_on_failure=False,
            **({} if version == V5 else {"clean_session": clean}),
            **options,
        )
        self.client.username_pw_set(username or thing.device_id, password or thing.api_key)
        self.client.tls_set_context(trust or gateway.trust())
        if over_websocket:
            self.client.ws_set_options("/mqtt")
        self.messages: queue.Queue[Heard] = queue.Queue()
        self._answers: dict[str, queue.Queue[Any]] = {
            name: queue.Queue() for name in ("connect", "disconnect", "published", "subscribed")
        }
        self._listen()

    def _listen(self) -> None:
        client, answers = self.client, self._answers
        client.on_connect = lambda _c, _u, flags, reason, found: answers["connect"].put((flags, reason, found))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: answers["disconnect"].put(reason.value)
        client.on_publish = lambda _c, _u, number, reason, _p: answers["published"].put((number, reason.value))
        client.on_subscribe = lambda _c, _u, _n, reasons, _p: answers["subscribed"].put([one.value for one in reasons])
        client.on_message = lambda _c, _u, one: self.messages.put(
            Heard(one.topic, bytes(one.payload), one.qos, one.retain, one.dup)
        )

    def connect(self, keep_alive_s: int = 30) -> int:
        options: dict[str, Any] = {}
        if self._version == V5:
            found = Properties(PacketTypes.CONNECT)
            found.SessionExpiryInterval = self._expiry_s
            if self._receive_maximum is not None:
                found.ReceiveMaximum = self._receive_maximum
            options = {"clean_start": self._clean, "properties": found}
        self.client.connect("127.0.0.1", self.port, keepalive=keep_alive_s, **options)
        self.client.loop_start()
        flags, reason, self.granted = self._answers["connect"].get(timeout=GENEROUS_S)
        self.session_present = bool(flags.session_present)
        return int(reason.value)

    def opened(self) -> "Board":
        assert self.connect() == 0
        return self

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        self.client.subscribe([(text, qos) for text in filters])
        return self._answers["subscribed"].get(timeout=GENEROUS_S)

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, *, retain: bool = False) -> int:
        """Waits for the acknowledgement; its reason."""
        self.client.publish(topic, payload, qos=qos, retain=retain)
        return self._answers["published"].get(timeout=GENEROUS_S)[1]

    def heard(self) -> Heard:
        return self.messages.get(timeout=GENEROUS_S)

    def nothing_more(self) -> bool:
        return self.messages.empty()

    def ended(self) -> int:
        """Why the connection ended: the reason, as the client tells it."""
        return int(self._answers["disconnect"].get(timeout=GENEROUS_S))

    def disconnect(self) -> None:
        """Cleanly: the will is not published."""
        self.client.disconnect()
        self.ended()
        self.client.loop_stop()

    def reconnect(self) -> None:
        """With what the client remembers, after `ended` and `loop_stop`."""
        self.client._reset_sockets(sockpair_only=True)  # paho makes another pair and leaves this one open
        self.client.reconnect()
        self.client.loop_start()

    def vanish(self) -> None:
        """The socket ends without a word."""
        sock: Any = self.client.socket()
        sock.close()
        self.client.loop_stop()


def wait_for(condition: Callable[[], bool]) -> None:
    """For what another process does and tells nobody of."""
    end = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
