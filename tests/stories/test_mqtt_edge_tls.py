"""The edge over TLS: between boards and the server, and between the server and the gateway."""

import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.firmware.programs import Program, interpreter, settings_for
from tests.stories.test_boards import COUNTING
from tests.support.board import mqtt_environment, wait_for
from tests.support.edge import HOW_TO, Edge, EdgeServer
from tests.support.process import ROOMY, GatewayProcess
from tests.support.thing import Thing


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    server = EdgeServer(folder, has_tls=True)
    gateway = GatewayProcess(folder / "home", environment=mqtt_environment() | ROOMY | server.environment).start()
    server.begin(gateway)
    yield Edge(gateway, server)
    gateway.close()
    server.kill()


def test_boards_and_the_gateway_speak_to_the_edge_by_tls(edge: Edge) -> None:
    thing = Thing.make(edge.gateway, "Board")
    board = edge.opened(thing)
    sock = board.client.socket()
    assert isinstance(sock, ssl.SSLSocket)
    assert sock.version() == "TLSv1.3"
    board.publish(f"{board.root}/telemetry/temperature", b"21.5")
    wait_for(lambda: edge.readings(thing) == [("temperature", 21.5)])
    board.disconnect()


def test_a_gateway_that_does_not_know_the_server_s_authority_says_no_word_to_it(edge: Edge) -> None:
    environment = edge.gateway.environment
    authority = environment.pop("ENTOBOT_EDGE__CA_FILE")
    try:
        shown = edge.gateway.cli("doctor").stdout
    finally:
        environment["ENTOBOT_EDGE__CA_FILE"] = authority
    assert "CERTIFICATE_VERIFY_FAILED" in shown
    assert "lets the gateway in" in edge.gateway.cli("doctor").stdout


@pytest.mark.parametrize("python", ["micropython", "cpython"])
def test_our_board_client_speaks_to_the_edge_and_asks_the_gateway_for_the_time(
    edge: Edge, tmp_path: Path, python: str
) -> None:
    """Without the time it carries out no command."""
    thing = Thing.make(edge.gateway, f"Counter of {python}")
    (tmp_path / "counter.json").write_text(json.dumps(COUNTER))
    edge.gateway.cli("things", "types", "add", str(tmp_path / "counter.json"))
    edge.gateway.ask("things", "set-type", thing.device_id, "counter")
    settings = settings_for(edge.gateway, thing)
    settings["gateway"] |= {"mqtt_host": "localhost", "mqtt_port": edge.server.mqtt_port, "mqtt_pin": pin(edge)}
    program = Program([*interpreter(python), COUNTING], tmp_path / "board", settings, "0")
    try:
        assert program.until("connected")[-1] == "connected to localhost"
        wait_for(lambda: edge.readings(thing)[:1] > [("count", 4)])
        sent = ("things", "command", thing.device_id, "count_from", "value=5000", "--wait", "30")
        assert edge.gateway.ask(*sent)["state"] == "done"
        wait_for(lambda: edge.readings(thing)[:1] > [("count", 5000)])
    finally:
        program.kill()
        print(program.said)  # noqa: T201  shown where the story fails


ARGS = {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value"]}
COUNTER = {
    "name": "counter",
    "readings": {"count": {"kind": "number"}},
    "commands": {"count_from": {"risk": "none", "args": ARGS}},
}


def pin(edge: Edge) -> str:
    """As the page says it."""
    (block,) = re.findall(r"```sh\n(openssl.*?)```", HOW_TO.read_text(), re.DOTALL)
    certificate = edge.server.ca_file.parent / "leaf.crt"
    command = block.replace("/etc/nats/edge.crt", str(certificate))
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
