"""A nats-server set up as the how-to writes it, to hold the connections of boards."""

import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import Machine, ensure_local_tls
from tests.support.board import Board, wait_for
from tests.support.nats import NatsServer
from tests.support.process import GatewayProcess, free_port
from tests.support.thing import Thing

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "mqtt-edge.md"


class EdgeServer(NatsServer):
    """`environment` is a gateway's that asks it. Started with `begin`, once a gateway told under which key it signs."""

    def __init__(self, folder: Path, *, has_tls: bool = False) -> None:
        super().__init__(folder)
        self.mqtt_port = free_port()
        self.ca_file = folder / "tls" / "ca.crt"
        self._tls = ""
        for name in ("gateway", "system"):
            (folder / name).write_text(f"{name}-secret\n")
            (folder / name).chmod(0o600)
        if has_tls:
            machine = Machine(("localhost",), ("127.0.0.1",))
            files = ensure_local_tls(folder / "tls", machine, SystemClock().now_ms(), SystemEntropy()).files
            self._tls = f'tls {{ cert_file: "{files.certificate}", key_file: "{files.key}" }}'
            self.url = f"tls://localhost:{self.port}"
        self.environment = {
            "ENTOBOT_EDGE__URL": self.url,
            "ENTOBOT_EDGE__PASSWORD_FILE": str(folder / "gateway"),
            "ENTOBOT_EDGE__SYSTEM_PASSWORD_FILE": str(folder / "system"),
        }
        if has_tls:
            self.environment["ENTOBOT_EDGE__CA_FILE"] = str(self.ca_file)

    def begin(self, gateway: GatewayProcess) -> None:
        """With what the how-to writes, at this machine's folder and port."""
        issuer = json.loads(gateway.cli("mqtt", "edge", "--json").stdout)["issuer"]
        (block,) = re.findall(r"```text\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
        for told, here in (
            ("ABC…", issuer),
            ("/var/lib/nats", str(self._folder / "js")),
            ("0.0.0.0:1883", f"127.0.0.1:{self.mqtt_port}"),
        ):
            assert told in block
            block = block.replace(told, here)
        block = re.sub(r"tls \{.*?\}", lambda _: self._tls, block)
        self.extra = block
        self.start()

    def trust(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self.ca_file)) if self._tls else None


@dataclass
class Edge:
    gateway: GatewayProcess
    server: EdgeServer

    def board(self, thing: Thing, name: str = "", **more: Any) -> Board:
        """As one of the gateway's own listener, on the server's."""
        board = Board(self.gateway, thing, name=name, version=mqtt.MQTTv311, **more)
        board.port = self.server.mqtt_port
        chosen = thing.device_id + (f"/{name}" if name else "")
        board.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=chosen, protocol=mqtt.MQTTv311, reconnect_on_failure=False
        )
        board.client.username_pw_set(more.get("username", thing.device_id), more.get("password", thing.api_key))
        trust = self.server.trust()
        if trust is not None:
            board.client.tls_set_context(trust)
        board._listen()
        return board

    def opened(self, thing: Thing, name: str = "") -> Board:
        """As soon as a gateway answers the server."""
        found: list[Board] = []

        def is_in() -> bool:
            board = self.board(thing, name)
            if board.connect() == 0:
                found.append(board)
            else:
                board.client.loop_stop()
            return bool(found)

        wait_for(is_in)
        return found[0]

    def readings(self, thing: Thing) -> list[tuple[str, Any]]:
        shown = [one for one in self.gateway.ask("things", "list") if one["device_id"] == thing.device_id]
        if not shown:
            return []
        return [(one["name"], one["value"]) for one in self.gateway.ask("things", "show", thing.device_id)["readings"]]

    def is_online(self, thing: Thing) -> bool:
        return self.gateway.ask("devices", "show", thing.device_id)["is_online"]

    def lamp(self) -> Thing:
        """A board that can be told to light."""
        thing = Thing.make(self.gateway, "Lamp")
        path = self.gateway.home.parent / "lamp.json"
        readings = {"temperature": {"kind": "number"}}
        commands = {"light": {"risk": "none"}}
        path.write_text(json.dumps({"name": "lamp", "title": "Lamp", "readings": readings, "commands": commands}))
        self.gateway.cli("things", "types", "add", str(path))
        self.gateway.ask("things", "set-type", thing.device_id, "lamp")
        return thing

    def command(self, thing: Thing) -> str:
        return self.gateway.ask("things", "command", thing.device_id, "light", "--wait", "0")["command_id"]

    def state_of(self, thing: Thing) -> str:
        """Of its newest command."""
        return self.gateway.ask("things", "commands", thing.device_id)[0]["state"]


def answer(board: Board, command_id: str) -> None:
    board.publish(f"{board.root}/result", json.dumps({"command_id": command_id, "state": "done"}))
