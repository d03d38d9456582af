"""The parts of the board client, each beside what it has to agree with."""

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from entobot.core.clock import rfc3339
from entobot.core.secrets import b64u
from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import Connect, PubAck, Publish, Subscribe, Subscription, Version, Will
from entobot.web.certificates import spki_sha256
from entobot_board import packets
from entobot_board.clock import Clock, day_ms_of
from entobot_board.commands import Commands
from entobot_board.hardware import Lease, Wifi
from entobot_board.pin import pin_of
from entobot_board.settings import Settings, Wrong
from entobot_board.websocket import Closed, WebSocket
from tests.firmware.boards import SAID
from tests.firmware.network import EPOCH_MS, Time


def read_by_gateway(data: bytes) -> Any:
    (frame,) = Framer(1 << 20).feed(data)
    return decode(frame, Version.V3)


def test_the_gateway_reads_what_a_board_writes() -> None:
    will = Will("devices/d/status", b"gone", 1, retain=True)
    assert read_by_gateway(packets.connect("d", "k", 60, will.topic, will.payload)) == Connect(
        Version.V3, "d", False, 60, "d", b"k", will
    )
    for size in (0, 1, 100, 127, 128, 20_000):
        payload = b"x" * size
        assert read_by_gateway(packets.publish("ä/b", size, 7, retain=True) + payload) == Publish(
            "ä/b", payload, 1, retain=True, packet_id=7
        )
    wanted = (Subscription("a/#", 1), Subscription("b", 1))
    assert read_by_gateway(packets.subscribe(9, ["a/#", "b"])) == Subscribe(9, wanted)
    assert read_by_gateway(packets.puback(65535)) == PubAck(65535)


def test_a_board_reads_what_the_gateway_writes_however_it_is_cut() -> None:
    said = [Publish("devices/d/command", bytes([n % 256]) * n, 1, packet_id=n + 1) for n in (0, 120, 128, 3000)]
    data = b"".join(encode(one, Version.V3) for one in said)
    dice = random.Random(1)
    for _ in range(50):
        framer, found, rest = packets.Framer(8192), [], data
        while rest:
            size = dice.randint(1, len(rest))
            found += framer.feed(rest[:size])
            rest = rest[size:]
        assert [packets.read_publish(first, body) for first, body in found] == [
            (one.topic, one.payload, one.packet_id) for one in said
        ]


@pytest.mark.parametrize("data", [b"\x30\xff\xff\xff\xff\x01", b"\x30\x81\x40", b"\x30\xff\xff\xff\x7f"])
def test_a_packet_that_is_too_large_is_refused_before_it_is_kept(data: bytes) -> None:
    with pytest.raises(packets.Malformed):
        packets.Framer(8192).feed(data)


@pytest.mark.parametrize(("first", "body"), [(0x34, b"\0\1a\0\1"), (0x32, b"\0\5a"), (0x32, b""), (0x30, b"\0\1\xff")])
def test_a_message_that_is_none_is_refused(first: int, body: bytes) -> None:
    with pytest.raises(packets.Malformed):
        packets.read_publish(first, body)


@pytest.mark.parametrize("key", ["p256", "p384", "rsa"])
def test_the_pin_is_the_one_of_pairing_links(key: str) -> None:
    private: Any = (
        rsa.generate_private_key(65537, 2048)
        if key == "rsa"
        else ec.generate_private_key(ec.SECP256R1() if key == "p256" else ec.SECP384R1())
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway" * 9)])
    now = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), 2**150, now, now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gateway.example")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    der = made.public_bytes(Encoding.DER)
    assert pin_of(der) == b64u(spki_sha256(made))
    for cut in (0, 1, 10, len(der) // 2, len(der) - 1):
        with pytest.raises(ValueError):
            pin_of(der[:cut])


def test_a_board_reads_the_gateway_s_times_and_no_others() -> None:
    dice = random.Random(1)
    for ms in [0, 951_782_400_000, 1_709_164_800_000, *(dice.randrange(4_102_444_800_000) for _ in range(500))]:
        assert day_ms_of(rfc3339(ms)) == ms
    for text in ("", "2026-11-20", "2026-11-20T09:30:00+01:00", "2026-11-20 09:30:00.000Z", "x" * 24):
        with pytest.raises(ValueError):
            day_ms_of(text)


def test_the_clock_goes_on_when_ticks_wrap() -> None:
    time = Time()
    clock = Clock(time.ticks, time.difference, time.sleep)
    for _ in range(20):
        time.sleep(1_000_000)
        clock.ms()
    assert clock.ms() == 20_000_000
    assert clock.day_ms() is None
    clock.set_day(EPOCH_MS)
    time.sleep(5)
    assert clock.day_ms() == EPOCH_MS + 5


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"gateway": {"host": "gateway"}}, "gateway.pin is missing"),
    ({"device": {}}, "device.id and device.key are missing"),
    ({"wifi": {"ssid": 5}}, "ssid is of the wrong kind"),
    ({"wiffi": {}}, "there is no setting wiffi"),
    ({"keep_alive_s": True}, "keep_alive_s is of the wrong kind"),
    ({"buffer_kib": 1}, "buffer_kib is from 4 to"),
]


@pytest.mark.parametrize(("said", "text"), WRONG)
def test_settings_say_what_is_wrong_with_them(said: dict[str, Any], text: str) -> None:
    with pytest.raises(Wrong, match=text):
        Settings(SAID | said)


def command(command_id: str, name: str = "open", expires_ms: int = EPOCH_MS + 60_000) -> bytes:
    said = {"command_id": command_id, "name": name, "args": {"n": 1}, "at": "", "expires_at": rfc3339(expires_ms)}
    return json.dumps(said).encode()


class Door:
    """With a power switch."""

    def __init__(self, folder: Path, *, knows_time: bool = True) -> None:
        time = Time()
        self.clock = Clock(time.ticks, time.difference, time.sleep)
        if knows_time:
            self.clock.set_day(EPOCH_MS)
        self.opened = 0
        self.path = str(folder / "commands.json")
        self.restart()

    def restart(self) -> None:
        self.commands = Commands(self.path, self.clock)
        self.commands.handlers["open"] = self._open

    def _open(self, args: dict[str, Any]) -> dict[str, Any]:
        self.opened += 1
        if args["n"] != 1:
            raise RuntimeError("it is stuck")
        return {"opened": self.opened}

    def said(self) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        while (one := self.commands.unsaid()) is not None:
            found.append((one[1]["state"], one[1].get("result", one[1].get("error"))))
            self.commands.was_said(one)
        return found


def test_a_command_is_done_once_and_answered_whenever_it_is_asked(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for _ in range(2):
        door.commands.take(command("cmd_1"))
        door.commands.step()
        door.commands.step()
        assert door.said() == [("done", {"opened": 1})]
    door.restart()
    assert door.said() == [("done", {"opened": 1})]
    door.commands.take(command("cmd_1"))
    door.commands.step()
    assert (door.opened, door.said()) == (1, [("done", {"opened": 1})])


def test_a_command_that_a_power_cut_interrupted_is_not_done_again(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.commands.take(command("cmd_1"))
    door.restart()
    door.commands.take(command("cmd_1"))
    door.commands.step()
    assert door.opened == 0
    assert door.said() == [("failed", "the board was restarted before it was done")]


def test_a_slow_command_is_accepted_first(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.commands.slow.add("open")
    door.commands.take(command("cmd_1"))
    assert door.said() == [("accepted", None)]
    door.commands.step()
    assert door.said() == [("done", {"opened": 1})]


def test_a_command_that_is_late_unknown_or_none_is_not_done(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.commands.take(command("cmd_1", expires_ms=EPOCH_MS - 1))
    door.commands.take(command("cmd_2", "burn"))
    for nonsense in (b"", b"[]", b"5", b'{"name": "open"}', b"\xff", b'{"command_id": 1, "name": []}'):
        door.commands.take(nonsense)
    door.commands.step()
    assert door.opened == 0
    assert door.said() == [("failed", "it came too late"), ("failed", "the board knows no command of this name")]
    timeless = Door(tmp_path / "..", knows_time=False)
    timeless.commands.take(command("cmd_3"))
    timeless.commands.step()
    assert timeless.opened == 0


def test_what_a_handler_raises_is_the_error_and_a_flood_is_refused(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.commands.take(command("cmd_1").replace(b'"n": 1', b'"n": 2'))
    door.commands.step()
    assert door.said() == [("failed", "it is stuck")]
    for n in range(30):
        door.commands.take(command(f"cmd_f{n}"))
    for _ in range(30):
        door.commands.step()
    states = [state for state, _ in door.said()]
    assert (states.count("done"), states.count("failed")) == (8, 22)


def test_a_pico_s_watchdog_is_fed_while_the_loop_is_alive() -> None:
    time, fed = Time(), list[int]()
    lease = Lease(60_000, lambda: time.ms, lambda: fed.append(time.ms))
    for second in range(300):
        if second < 100:
            lease.renew()
        lease.pass_on()
        time.sleep(1000)
    assert fed == [1000 * n for n in range(160)]


def test_wifi_is_asked_again_every_20_s() -> None:
    class Radio:
        tries = 0

        def isconnected(self) -> bool:
            return self.tries > 3

        def active(self, is_on: bool) -> None: ...

        def connect(self, ssid: str, password: str) -> None:
            assert (ssid, password) == ("home", "word")
            self.tries += 1

    time = Time()
    radio = Radio()
    wifi = Wifi(radio, "home", "word", lambda: time.ms)
    while not wifi.is_up():
        time.sleep(100)
    assert 60_000 <= time.ms <= 61_000


class Said:
    """A link that says this, byte by byte."""

    def __init__(self) -> None:
        self.written = b""
        self.says = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def read(self) -> bytes | None:
        data, self.says = self.says[:1], self.says[1:]
        return data or None


def read_on(socket: WebSocket) -> None:
    for _ in range(1000):
        socket.receive()


def test_a_websocket_reads_texts_however_they_are_cut_and_answers_pings() -> None:
    link = Said()
    socket = WebSocket(link, "gateway", "/ws")
    link.says = _upgrade(link.written) + b"\x89\x02hi" + b"\x01\x01a\x80\x01b" + b"\x81\x7e\x00\xc8" + b"c" * 200
    before = len(link.written)
    found: list[str] = []
    while link.says:
        found += socket.receive()
    assert found == ["ab", "c" * 200]
    first, size, *mask = link.written[before : before + 6]
    assert (first, size) == (0x8A, 0x82)
    assert bytes(byte ^ mask[n] for n, byte in enumerate(link.written[before + 6 :])) == b"hi"
    link.says = b"\x88\x02" + (4501).to_bytes(2, "big")
    with pytest.raises(Closed, match="4501"):
        read_on(socket)


@pytest.mark.parametrize("answer", ["HTTP/1.1 403 No\r\n\r\n", "HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: x\r\n\r\n"])
def test_what_is_no_websocket_is_refused(answer: str) -> None:
    link = Said()
    socket = WebSocket(link, "gateway", "/ws")
    link.says = answer.encode()
    with pytest.raises(OSError, match="no WebSocket"):
        read_on(socket)


def _upgrade(asked: bytes) -> bytes:
    from websockets.utils import accept_key

    key = asked.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
    return f"HTTP/1.1 101 Yes\r\nsec-websocket-accept: {accept_key(key)}\r\n\r\n".encode()
