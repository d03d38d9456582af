"""MQTT over WebSocket (MQTT 5 §6): binary messages, of which each may hold any part of the stream."""

from collections.abc import Mapping
from typing import cast

from entobot.gateway import frames
from entobot.gateway.frames import CloseCode, Opcode
from entobot.gateway.link import Link
from entobot.gateway.upgrade import Admission, Admit, OriginPolicy, UpgradeRequest
from entobot.gateway.websocket import Service
from entobot.gateway.websocket_link import MAX_MESSAGE_BYTES, WebSocketLink
from entobot.gateway.wire import Close
from entobot.mqtt.parts import MqttParts
from entobot.mqtt.session import MqttSession

PATH = "/mqtt"
SUBPROTOCOL = "mqtt"


class MqttLink(WebSocketLink):
    """A link whose binary messages mean something."""

    __slots__ = ()

    def receive_binary(self, payload: bytes) -> None:
        if isinstance(self._handler, WebSocketWire):
            self._handler.data(payload)


class WebSocketWire:
    """`LinkHandler` above, `parts.Wire` below."""

    __slots__ = ("_link", "_session")

    certificate = None
    """The one port asks for none."""

    def __init__(self, link: WebSocketLink, parts: MqttParts) -> None:
        self._link = link
        self._session = MqttSession(self, parts)

    # LinkHandler

    def opened(self) -> None:
        self._session.opened()

    def data(self, payload: bytes) -> None:
        self._session.received(payload)

    def text(self, payload: bytes) -> None:
        del payload
        self._link.close(CloseCode.PROTOCOL_ERROR, "MQTT is binary")

    def binary(self) -> None: ...
    def too_large(self) -> None: ...
    def pong(self) -> None: ...
    def over_limit(self, wait_s: float) -> None:
        del wait_s
        self._link.close(Close.RATE_LIMITED, "too many pings")

    def writable(self) -> None:
        self._session.writable()

    def closed(self, code: int) -> None:
        del code
        self._session.closed()

    # Wire

    @property
    def peer(self) -> str:
        return self._link.peer

    @property
    def buffered_bytes(self) -> int:
        return self._link.buffered_bytes

    @property
    def is_writable(self) -> bool:
        return self._link.is_writable

    def send(self, data: bytes) -> None:
        self._link.send_frame(frames.frame(Opcode.BINARY, data))

    def close(self) -> None:
        self._link.close(CloseCode.NORMAL)

    def abort(self) -> None:
        self._link.abort()

    def pause(self, *, is_paused: bool) -> None:
        self._link.pause(is_paused=is_paused)

    def let_in(self) -> None:
        self._link.set_max_message_bytes(MAX_MESSAGE_BYTES)


def _admit(policy: OriginPolicy) -> Admit:
    def admit(headers: Mapping[str, str], peer: str) -> Admission:
        if "sec-websocket-protocol" not in headers:
            return Admission.refuse(400, "invalid", f"Offer the subprotocol {SUBPROTOCOL}.")
        return policy(headers, peer)

    return admit


def mqtt_service(parts: MqttParts, origins: tuple[str, ...]) -> Service:
    """What is spoken at `PATH`."""

    def make(link: Link, request: UpgradeRequest) -> WebSocketWire:
        del request
        return WebSocketWire(cast("WebSocketLink", link), parts)

    policy = OriginPolicy(origins=origins, subprotocols=[SUBPROTOCOL])
    return Service(admit=_admit(policy), make=make, link_class=MqttLink)
