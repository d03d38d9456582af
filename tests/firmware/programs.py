"""A board as a process of its own: the same files under MicroPython's Unix port and under CPython."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cryptography import x509

from entobot.core.secrets import b64u
from entobot.web.certificates import spki_sha256
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess
from tests.support.programs import program
from tests.support.thing import Thing

FIRMWARE = ROOT / "firmware"
HEAP = "96k"
"""Of the Unix port, whose objects are twice as large as those of a board."""


def interpreter(name: str, heap: str = HEAP) -> list[str]:
    if name == "cpython":
        return [sys.executable, "-u"]
    return [program("micropython"), "-X", f"heapsize={heap}"]


def pin_of(gateway: GatewayProcess) -> str:
    leaf = (gateway.home / "tls" / "leaf.crt").read_bytes()
    return b64u(spki_sha256(x509.load_pem_x509_certificate(leaf)))


def settings_for(gateway: GatewayProcess, thing: Thing, **more: Any) -> dict[str, Any]:
    return {
        "gateway": {
            "host": "127.0.0.1",
            "port": gateway.port,
            "mqtt_port": int(gateway.environment["ENTOBOT_MQTT__PORT"]),
            "pin": pin_of(gateway),
        },
        "device": {"id": thing.device_id, "key": thing.api_key},
        **more,
    }


class Program:
    """What it prints is read line by line. Kill it at the end."""

    def __init__(self, command: list[str], folder: Path, settings: dict[str, Any] | None = None, *more: str) -> None:
        folder.mkdir(exist_ok=True)
        if settings is not None:
            (folder / "settings.json").write_text(json.dumps(settings))
        environment = {"PYTHONPATH": str(FIRMWARE), "MICROPYPATH": str(FIRMWARE), "PATH": "/usr/bin:/bin"}
        self._process = subprocess.Popen(
            [*command, str(folder), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
        self.said = ""

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.said += line
        assert line, self.said
        return line.rstrip("\n")

    def until(self, text: str) -> list[str]:
        """The lines up to one that holds `text`."""
        lines: list[str] = []
        while not lines or text not in lines[-1]:
            lines.append(self.line())
        return lines

    def rest(self, typed: str = "") -> str:
        """To its own end, with what is typed."""
        return self._process.communicate(typed, timeout=GENEROUS_S)[0]

    def kill(self) -> None:
        self._process.kill()
        self.said += self._process.communicate()[0]
