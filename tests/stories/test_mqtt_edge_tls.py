"""The edge over TLS: between boards and the server, and between the server and the gateway."""

import ssl
from collections.abc import Iterator

import pytest

from tests.support.board import mqtt_environment, wait_for
from tests.support.edge import Edge, EdgeServer
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
