"""Boards by MQTT: a real gateway, paho's client, and a gateway that is killed between a message and its acknowledgement."""

import base64
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from entobot.mqtt.codec import encode
from entobot.mqtt.packets import ConnAck, Connect, PubAck, Publish, Reason, Version
from tests.support.board import V3, V5, Board, Heard, mqtt_environment, wait_for
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.thing import Thing

NOT_AUTHORIZED = 0x87
TAKEN_OVER = 0x8E
BAD_CREDENTIALS = 0x86
BAD_CLIENT_ID = 0x85


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One for stories that do not disturb one another."""
    home = tmp_path_factory.mktemp("mqtt") / "home"
    process = GatewayProcess(home, environment=mqtt_environment() | ROOMY).start()
    yield process
    process.close()


@pytest.fixture(params=[V3, V5], ids=["3.1.1", "5"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


def test_a_board_publishes_over_tls_its_screen_hears_it_and_revoke_ends_both(
    gateway: GatewayProcess, version: int
) -> None:
    thing = Thing.make(gateway, "Board")
    board, screen = Board(gateway, thing, version=version).opened(), Board(gateway, thing, name="screen").opened()
    assert screen.subscribe(f"{board.root}/#", qos=2) == [2]
    for qos in (0, 1, 2):
        assert board.publish(f"{board.root}/telemetry/temperature", b"21.%d" % qos, qos) == 0
        assert screen.heard() == Heard(f"{board.root}/telemetry/temperature", b"21.%d" % qos, qos, False, False)
    with closing(sqlite3.connect(gateway.home / "entobot.db")) as database:
        found = database.execute(
            "SELECT topic, payload FROM mqtt_messages WHERE device_id = ? ORDER BY id", (thing.device_id,)
        ).fetchall()
    assert found == [(f"{board.root}/telemetry/temperature", b"21.%d" % qos) for qos in (0, 1, 2)]
    gateway.ask("devices", "revoke", thing.device_id)
    assert screen.ended() == NOT_AUTHORIZED
    board.ended()
    assert Board(gateway, thing, version=version).connect() == (NOT_AUTHORIZED if version == V5 else 5 | 0x80 | 2)


def test_the_same_over_a_websocket_on_the_one_port(gateway: GatewayProcess, version: int) -> None:
    thing = Thing.make(gateway, "Board")
    board = Board(gateway, thing, version=version, over_websocket=True).opened()
    screen = Board(gateway, thing, name="screen").opened()
    screen.subscribe(f"{board.root}/#")
    large = b"x" * 100_000
    for payload in (b"21", large):
        assert board.publish(f"{board.root}/event", payload) == 0
        assert screen.heard().payload == payload
    board.subscribe(f"{board.root}/status")
    assert screen.publish(f"{board.root}/status", large) == 0
    assert board.heard().payload == large
    gateway.ask("devices", "suspend", thing.device_id)
    board.ended()
    screen.ended()


def test_who_makes_a_key_is_told_the_device_s_id_which_is_the_user_name(gateway: GatewayProcess) -> None:
    done = gateway.cli("devices", "add-key", "Greenhouse")
    assert done.stdout.startswith("ent_key_")
    (device_id,) = [one["device_id"] for one in gateway.ask("devices", "list") if one["device_name"] == "Greenhouse"]
    assert f"Greenhouse is {device_id} and may: chat" in done.stderr


def test_a_board_enrols_itself_and_each_of_its_keys_ends_alone(gateway: GatewayProcess) -> None:
    key = gateway.cli("enrolment", "create", "Greenhouse", "--uses", "1", "--type", "thermometer").stdout.strip()
    asked: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {key}"},
        "json": {"nonce": "n" * 43, "hardware_id": "a4:cf:12"},
    }
    first, again = (gateway.http().request("POST", "/api/v1/enrol", **asked).json() for _ in range(2))
    assert (first["device_id"], first["topics"]) == (again["device_id"], f"devices/{first['device_id']}/")
    assert again["mqtt_port"] == int(gateway.environment["ENTOBOT_MQTT__PORT"])
    assert Board(gateway, Thing(gateway, "Lost", first)).connect() == BAD_CREDENTIALS
    thing = Thing(gateway, "Board", again)
    assert Board(gateway, thing).opened().publish(f"devices/{thing.device_id}/telemetry/t", b"21") == 0
    assert gateway.http().request("POST", "/api/v1/enrol", **asked).json()["code"] == "enrolment_used"
    (row,) = gateway.ask("enrolment", "list")
    assert (row["state"], row["uses"], row["device_type"]) == ("spent", 1, "thermometer")
    assert thing.request("GET", "/api/v1/conversations").status_code == 403

    other = Thing(gateway, "Board", gateway.ask("devices", "rotate-key", thing.device_id, "--overlap", "60"))
    old, new = Board(gateway, thing, name="old").opened(), Board(gateway, other, name="new").opened()
    (newest, oldest) = gateway.ask("devices", "keys", thing.device_id)
    assert (newest["expires_at"], oldest["state"]) == (None, "good")
    gateway.cli("devices", "revoke-key", thing.device_id, oldest["credential_id"])
    assert old.ended() == NOT_AUTHORIZED
    assert new.publish(f"{new.root}/telemetry/t", b"22") == 0
    assert Board(gateway, thing).connect() == NOT_AUTHORIZED
    gateway.cli("enrolment", "revoke", "Greenhouse", "--with-devices")
    assert new.ended() == NOT_AUTHORIZED


def test_a_board_comes_in_with_a_certificate_and_goes_with_it(gateway: GatewayProcess, tmp_path: Path) -> None:
    thing = Thing.make(gateway, "Board")
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    der = base64.b64encode(request.public_bytes(serialization.Encoding.DER))

    def enrol(secret: str) -> httpx.Response:
        headers = {"Content-Type": "application/pkcs10"}
        at = "/.well-known/est/simpleenroll"
        return gateway.http().request("POST", at, auth=(thing.device_id, secret), headers=headers, content=der)

    def guesses() -> int:
        return gateway.log.read_text().count('"event": "credentials.refused"')

    before = guesses()
    refused = enrol("ent_key_made_up")
    challenge = refused.headers["www-authenticate"]
    assert (refused.status_code, challenge.split()[0]) == (401, "Basic"), "clients wait to be asked before they show it"
    assert guesses() == before + 1, "who bans addresses is told of a guess"
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(enrol(thing.api_key).text))
    (tmp_path / "board.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "board.key").write_bytes(pem)

    def board(name: str, username: str) -> Board:
        trust = gateway.trust()
        trust.load_cert_chain(tmp_path / "board.crt", tmp_path / "board.key")
        return Board(gateway, thing, name=name, username=username, password="none", trust=trust)

    assert board("x", "dev_other").connect() == BAD_CREDENTIALS
    opened = board("x", thing.device_id).opened()
    assert opened.publish(f"{opened.root}/telemetry/t", b"21") == 0
    (held,) = [one for one in gateway.ask("devices", "keys", thing.device_id) if one["kind"] == "certificate"]
    gateway.cli("devices", "revoke-key", thing.device_id, held["credential_id"])
    assert opened.ended() == NOT_AUTHORIZED
    assert board("x", thing.device_id).connect() == NOT_AUTHORIZED


def test_a_large_message_may_follow_connect_without_waiting(gateway: GatewayProcess) -> None:
    thing = Thing.make(gateway, "Board")
    connect = Connect(Version.V3, thing.device_id, True, 60, thing.device_id, thing.api_key.encode())
    message = Publish(f"devices/{thing.device_id}/event", b"x" * 60_000, 1, packet_id=7)
    port = int(gateway.environment["ENTOBOT_MQTT__PORT"])
    with (
        socket.create_connection(("127.0.0.1", port), GENEROUS_S) as plain,
        gateway.trust().wrap_socket(plain, server_hostname="127.0.0.1") as line,
    ):
        line.sendall(encode(connect, Version.V3) + encode(message, Version.V3))
        said = b""
        while len(said) < 8 and (more := line.recv(64)):
            said += more
    assert said == encode(ConnAck(Reason.SUCCESS), Version.V3) + encode(PubAck(7), Version.V3)


def test_who_is_somebody_else_is_refused(gateway: GatewayProcess) -> None:
    thing, other = Thing.make(gateway, "Board"), Thing.make(gateway, "Other")
    assert Board(gateway, thing, password=other.api_key).connect() == BAD_CREDENTIALS
    assert Board(gateway, thing, username=other.device_id).connect() == BAD_CREDENTIALS
    assert Board(gateway, thing, password="ent_key_made_up").connect() == BAD_CREDENTIALS
    assert Board(gateway, thing, client_id=other.device_id).connect() == BAD_CLIENT_ID
    assert Board(gateway, thing, client_id="sensor").connect() == BAD_CLIENT_ID


def denials(gateway: GatewayProcess, thing: Thing) -> list[tuple[str, str, int]]:
    found = gateway.ask("audit", "list", "--event", "device.topic_denied")
    return sorted(
        (one["facts"]["action"], one["personal"]["topic"], one["facts"]["count"])
        for one in found
        if one["subject"] == thing.device_id
    )


def test_a_board_reaches_its_own_topics_only(gateway: GatewayProcess, version: int) -> None:
    thing, other = Thing.make(gateway, "Board"), Thing.make(gateway, "Other")
    board, victim = Board(gateway, thing, version=version).opened(), Board(gateway, other).opened()
    victim.subscribe(f"{victim.root}/#")
    refused = NOT_AUTHORIZED if version == V5 else 0x80
    wanted = ("#", "+/+/status", "devices/#", f"{victim.root}/status", "$SYS/#", "$share/x/#")
    assert board.subscribe(*wanted, f"{board.root}/command") == [refused] * len(wanted) + [1]
    for topic in (f"{victim.root}/status", f"{board.root}/command", "status"):
        assert board.publish(topic, b"forged", retain=True) == (NOT_AUTHORIZED if version == V5 else 0)
    assert board.publish(f"{board.root}/status", b"still here") == 0
    assert victim.publish(f"{victim.root}/status", b"mine") == 0
    assert victim.heard().payload == b"mine"
    assert board.nothing_more()
    wait_for(lambda: len(denials(gateway, thing)) == 2)
    assert denials(gateway, thing) == [("publish", f"{victim.root}/status", 1), ("subscribe", "#", 1)]


def test_a_key_is_limited_to_topics_and_a_change_is_felt_by_who_is_connected(gateway: GatewayProcess) -> None:
    key = gateway.cli("enrolment", "create", "Beds", "--topics", "publish=telemetry/# subscribe=command").stdout.strip()
    (row,) = [one for one in gateway.ask("enrolment", "list") if one["name"] == "Beds"]
    assert row["topics"]["publish"] == ["devices/{device_id}/telemetry/#"]
    asked: dict[str, Any] = {"headers": {"Authorization": f"Bearer {key}"}, "json": {"nonce": "t" * 43}}
    thing = Thing(gateway, "Bed", gateway.http().request("POST", "/api/v1/enrol", **asked).json())
    board = Board(gateway, thing).opened()
    assert board.publish(f"{board.root}/telemetry/t", b"21") == 0
    assert board.publish(f"{board.root}/event", b"no") == NOT_AUTHORIZED
    assert board.subscribe(f"{board.root}/command", f"{board.root}/status", f"{board.root}/#") == [1, NOT_AUTHORIZED, 1]
    (held,) = gateway.ask("devices", "keys", thing.device_id)
    wait_for(lambda: len(denials(gateway, thing)) == 2)
    rules = [
        one["facts"]["rule"]
        for one in gateway.ask("audit", "list", "--event", "device.topic_denied")
        if one["subject"] == thing.device_id
    ]
    assert all(held["credential_id"] in rule for rule in rules)

    other = Board(
        gateway, Thing(gateway, "Bed", gateway.ask("devices", "rotate-key", thing.device_id)), name="b"
    ).opened()
    assert other.publish(f"{other.root}/event", b"no") == NOT_AUTHORIZED, "the next key is limited as well"
    done = gateway.cli(
        "devices", "limit-key", thing.device_id, held["credential_id"], "--topics", "subscribe=status,command"
    )
    assert "is limited to subscribe=devices/{device_id}/command,devices/{device_id}/status" in done.stdout
    assert board.publish(f"{board.root}/event", b"yes") == 0
    assert board.publish(f"{board.root}/status", b"up") == 0
    assert board.heard() == Heard(f"{board.root}/status", b"up", 1, False, False)
    gateway.cli("devices", "limit-key", thing.device_id, held["credential_id"], "--topics", "publish=")
    assert board.publish(f"{board.root}/status", b"down") == NOT_AUTHORIZED
    gateway.cli("devices", "limit-key", thing.device_id, held["credential_id"])
    assert board.publish(f"{board.root}/event", b"again") == 0
    assert board.heard().payload == b"again"


def test_a_will_is_told_when_a_board_vanishes_and_not_when_it_was_revoked(gateway: GatewayProcess) -> None:
    thing = Thing.make(gateway, "Board")
    screen = Board(gateway, thing, name="screen").opened()
    screen.subscribe(f"{screen.root}/status")
    board = Board(gateway, thing)
    board.client.will_set(f"{board.root}/status", b"gone", 1, retain=True)
    board.opened().vanish()
    assert screen.heard().payload == b"gone"
    late = Board(gateway, thing, name="late").opened()
    late.subscribe(f"{late.root}/status")
    assert (late.heard().retain, screen.nothing_more()) == (True, True)
    again = Board(gateway, thing)
    again.client.will_set("devices/other/status", b"gone", 1)
    assert again.connect() == NOT_AUTHORIZED


def test_what_was_said_while_a_board_was_away_waits_for_it(gateway: GatewayProcess, version: int) -> None:
    thing = Thing.make(gateway, "Board")
    board = Board(gateway, thing, version=version, clean=False, expiry_s=3600).opened()
    board.subscribe(f"{board.root}/event", qos=2)
    board.disconnect()
    other = Board(gateway, thing, name="other").opened()
    for n in range(100):
        assert other.publish(f"{board.root}/event", b"%d" % n, 1 + n % 2) == 0
    again = Board(gateway, thing, version=version, clean=False, expiry_s=3600).opened()
    assert again.session_present
    heard = [again.heard() for _ in range(100)]
    for qos in (1, 2):  # of each in order: paho tells of QoS 2 only when it is released
        wanted = [Heard(f"{board.root}/event", b"%d" % n, qos, False, False) for n in range(qos - 1, 100, 2)]
        assert [one for one in heard if one.qos == qos] == wanted


def test_the_same_client_id_takes_over(gateway: GatewayProcess) -> None:
    thing = Thing.make(gateway, "Board")
    first = Board(gateway, thing).opened()
    Board(gateway, thing).opened()
    assert first.ended() == TAKEN_OVER


def test_strangers_and_nonsense_are_cut(gateway: GatewayProcess) -> None:
    port = int(gateway.environment["ENTOBOT_MQTT__PORT"])
    context = ssl._create_unverified_context()
    for sent in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\x7f",
        b"\xc0\x00",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00" * 2,
    ):
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
            secure.settimeout(GENEROUS_S)
            secure.sendall(sent)
            assert len(secure.recv(1000)) < 100
            assert secure.recv(1000) == b""


ON_BOTH = ("sqlite", "postgres")
ROUNDS = 3
IN_FLIGHT = 10


@pytest.mark.parametrize("store_kind", ON_BOTH, indirect=True)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_gateway_that_is_killed_loses_nothing_and_repeats_nothing_of_qos_2(
    request: pytest.FixtureRequest, tmp_path: Path, store_kind: str, qos: int
) -> None:
    """A board publishes without a pause while the gateway dies and starts again; another board's session hears it."""
    environment = mqtt_environment() | ROOMY | {"ENTOBOT_MQTT__MAX_QUEUED": "10000"}
    if store_kind == "postgres":
        server = request.getfixturevalue("postgres")
        environment["ENTOBOT_STORAGE__URL"] = server.url(server.new_database())
    gateway = GatewayProcess(tmp_path / "home", environment=environment).start()
    try:
        sent, heard = _publish_through_kills(gateway, qos)
    finally:
        gateway.close()
    if qos == 2:
        assert heard == sent
    else:
        assert sorted(set(heard)) == sorted(sent)


def _publish_through_kills(gateway: GatewayProcess, qos: int) -> tuple[list[bytes], list[bytes]]:
    thing = Thing.make(gateway, "Board")
    board = Board(gateway, thing, clean=False, expiry_s=3600)
    screen = Board(gateway, thing, name="screen", clean=False, expiry_s=3600)
    for one in (board, screen):
        one.opened()
    screen.subscribe(f"{screen.root}/event", qos=2)
    sent: list[bytes] = []
    is_over = threading.Event()

    def publish_next(*_: object) -> None:
        """On paho's own thread: with another one it races while it connects again."""
        if not is_over.is_set():
            sent.append(b"%d" % len(sent))
            board.client.publish(f"{board.root}/event", sent[-1], qos)

    board.client.on_publish = publish_next
    for _ in range(IN_FLIGHT):
        publish_next()
    for _ in range(ROUNDS):
        count = screen.messages.qsize()
        wait_for(lambda count=count: screen.messages.qsize() > count + 50)
        gateway.kill()
        for one in (board, screen):
            one.ended()
            one.client.loop_stop()
        gateway.start()
        for one in (board, screen):  # once: with each vain try paho 2.2 forgets more of what it has released
            one.reconnect()
    is_over.set()
    heard: list[bytes] = []
    while set(heard) != set(sent):
        heard.append(screen.heard().payload)
    for one in (board, screen):
        one.client.disconnect()
        one.client.loop_stop()
    heard += [screen.messages.get().payload for _ in range(screen.messages.qsize())]
    return sent, heard
