"""A broker that means ill: it lets a client in, says what it was told to say, and keeps what it was answered."""

import socket
import threading
from collections.abc import Sequence

from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import ConnAck, Packet, PubAck, Reason, SubAck, Subscribe, Version
from tests.support.process import GENEROUS_S

V5 = Version.V5


class RudeBroker:
    """Without TLS on loopback, MQTT 5. After each subscription it says `said`, then `last`, which no broker may."""

    def __init__(self, said: Sequence[bytes], last: bytes) -> None:
        self._said = said
        self._last = last
        self.acknowledged: set[int] = set()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(GENEROUS_S)
                self.connections += 1
                try:
                    self._talk(client)
                except OSError:
                    continue

    def _talk(self, client: socket.socket) -> None:
        framer, count = Framer(1 << 20), 0
        client.sendall(encode(ConnAck(Reason.SUCCESS), V5))
        while data := client.recv(65536):
            for frame in framer.feed(data):
                packet: Packet = decode(frame, V5)
                if isinstance(packet, Subscribe):
                    client.sendall(
                        encode(SubAck(packet.packet_id, (Reason.GRANTED_QOS_1,) * len(packet.subscriptions)), V5)
                    )
                    client.sendall(b"".join(self._said))
                elif isinstance(packet, PubAck):
                    self.acknowledged.add(packet.packet_id)
                    count += 1
                    if count == len(self._said):
                        client.sendall(self._last)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(GENEROUS_S)
