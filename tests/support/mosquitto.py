"""A real mosquitto in a process of its own on a free loopback port, with TLS and a password, its store on the disk."""

import signal
import socket
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import Machine, ensure_local_tls
from tests.support.board import wait_for
from tests.support.process import GENEROUS_S, free_port
from tests.support.programs import program

USER, PASSWORD = "factory", "a password of the factory's broker"


class Mosquitto:
    """`start`, `kill`, `stop` as often as the test wants; port and store stay."""

    def __init__(self, folder: Path, *, user: str = USER) -> None:
        folder.mkdir()
        self.port = free_port()
        self.user = user
        self.folder = folder
        machine = Machine(("localhost",), ("127.0.0.1",))
        tls = ensure_local_tls(folder / "tls", machine, SystemClock().now_ms(), SystemEntropy())
        self.ca_file = folder / "tls" / "ca.crt"
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        subprocess.run(
            [program("mosquitto_passwd", "mosquitto"), "-b", "-c", str(folder / "users"), user, PASSWORD], check=True
        )
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {folder}/users\n"
            f"certfile {tls.files.certificate}\nkeyfile {tls.files.key}\n"
            f"persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.port}"

    def start(self) -> "Mosquitto":
        """Returns when it answers."""
        with (self.folder / "mosquitto.log").open("ab") as log:
            command = [program("mosquitto"), "-v", "-c", str(self._configuration)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self._answers)
        return self

    def _answers(self) -> bool:
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as plain:
                trust.wrap_socket(plain, server_hostname="localhost").close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """It writes its store."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(GENEROUS_S)

    # -- its users

    def client(self, name: str, *options: str) -> list[str]:
        common = [
            "-h",
            "localhost",
            "-p",
            str(self.port),
            "--cafile",
            str(self.ca_file),
            "-u",
            self.user,
            "-P",
            PASSWORD,
        ]
        return [program(name), *common, *options]

    def publish(self, topic: str, payload: str, *options: str) -> None:
        """By mosquitto's own client, at QoS 1 where `options` say nothing else."""
        qos = () if "-q" in options else ("-q", "1")
        command = self.client("mosquitto_pub", "-t", topic, "-m", payload, *qos, *options)
        subprocess.run(command, check=True, timeout=GENEROUS_S)

    def subscribe_for_good(self, name: str, topic: str) -> None:
        """From now on what comes waits for `read` with this name."""
        subprocess.run(
            self.client("mosquitto_sub", "-i", name, "-c", "-q", "1", "-t", topic, "-E"), check=True, timeout=GENEROUS_S
        )

    def read(self, name: str, topic: str, count: int) -> list[str]:
        """`topic payload` of the next so many."""
        options: Sequence[str] = ("-i", name, "-c", "-q", "1", "-t", topic, "-C", str(count), "-F", "%t %p")
        done = subprocess.run(
            self.client("mosquitto_sub", *options), check=True, timeout=GENEROUS_S, capture_output=True, text=True
        )
        return done.stdout.splitlines()
