"""The client's side of a bridge: what a broker may send is heard, what none may send ends it, what is too large passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.mqtt.bridge_client import Arrived, Client, Delivered, Ended, Opened, Sieve, Subscribed, Terms
from entobot.mqtt.codec import Framer, decode, encode
from entobot.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    Publish,
    PubRel,
    Reason,
    SubAck,
    Subscribe,
    Version,
)

BOTH = pytest.mark.parametrize("version", [Version.V3, Version.V5])


def terms(version: Version = Version.V5, **more: object) -> Terms:
    given = {"filters": ("a/+", "b"), "max_payload_bytes": 100, "keep_alive_s": 60} | more
    return Terms(version, "me", "user", b"secret", **given)  # pyright: ignore[reportArgumentType]  of each its own type


def opened(version: Version, **said: object) -> Client:
    client = Client(terms(version), 0.0)
    found = Properties(**said)  # pyright: ignore[reportArgumentType]  of each its own type
    (event,) = client.received(encode(ConnAck(Reason.SUCCESS, False, found), version), 0.0)
    assert isinstance(event, Opened)
    return client


def one(data: bytes, version: Version) -> Packet:
    (frame,) = Framer(1 << 20).feed(data)
    return decode(frame, version)


@BOTH
def test_it_asks_for_a_session_that_stays_and_does_not_show_its_password(version: Version) -> None:
    client = Client(terms(version), 0.0)
    said = one(client.opening(), version)
    assert isinstance(said, Connect)
    assert (said.clean, said.client_id, said.password, said.keep_alive_s) == (False, "me", b"secret", 60)
    assert said.properties.session_expiry_s == (7 * 24 * 3600 if version is Version.V5 else None)
    assert "secret" not in repr(terms())


@BOTH
def test_what_a_broker_may_say_is_heard(version: Version) -> None:
    client = opened(version)
    wanted = one(client.subscribing(), version)
    assert isinstance(wanted, Subscribe)
    assert [(row.filter, row.qos, row.no_local) for row in wanted.subscriptions] == [
        (name, 1, version is Version.V5) for name in ("a/+", "b")
    ]
    answer = SubAck(wanted.packet_id, (Reason.GRANTED_QOS_1, Reason.UNSPECIFIED_ERROR))
    assert client.received(encode(answer, version), 1.0) == [Subscribed(("b",))]
    came = Publish("a/x", b"1", 1, packet_id=7)
    assert client.received(encode(came, version), 1.0) == [Arrived(7, came)]
    assert client.received(encode(PubAck(9), version), 1.0) == [Delivered(9, Reason.SUCCESS)]
    assert one(client.acknowledge([0, 7]), version) == PubAck(7)


@BOTH
@pytest.mark.parametrize(
    "packet",
    [
        Connect(Version.V3, "x"),
        ConnAck(Reason.SUCCESS),
        Publish("a/x", b"", 2, packet_id=1),
        PubRel(1),
        PingReq(),
        SubAck(65_535, (Reason.GRANTED_QOS_1,)),
        SubAck(1, (Reason.GRANTED_QOS_1, Reason.GRANTED_QOS_1)),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_no_broker_may_say_ends_it(version: Version, packet: Packet) -> None:
    with pytest.raises(Malformed):
        opened(version).received(encode(packet, version), 1.0)


def test_nothing_is_taken_before_the_broker_has_let_us_in() -> None:
    with pytest.raises(Malformed, match="before CONNACK"):
        Client(terms(), 0.0).received(encode(Publish("a/x", b"1"), Version.V5), 0.0)


@BOTH
def test_a_broker_that_refuses_or_leaves_is_understood(version: Version) -> None:
    with pytest.raises(Ended) as refused:
        Client(terms(version), 0.0).received(encode(ConnAck(Reason.BAD_USER_NAME_OR_PASSWORD), version), 0.0)
    assert refused.value.reason is Reason.BAD_USER_NAME_OR_PASSWORD
    if version is Version.V5:
        with pytest.raises(Ended) as left:
            opened(version).received(encode(Disconnect(Reason.SESSION_TAKEN_OVER), version), 0.0)
        assert left.value.reason is Reason.SESSION_TAKEN_OVER


def test_what_the_broker_can_take_is_kept_to() -> None:
    client = Client(terms(), 0.0)
    said = Properties(receive_maximum=5, max_packet_bytes=200, retain_available=0)
    assert client.received(encode(ConnAck(Reason.SUCCESS, True, said), Version.V5), 0.0) == [
        Opened(True, 5, 200, False)
    ]


@BOTH
def test_a_message_that_is_too_large_is_passed_over_and_acknowledged(version: Version) -> None:
    client = opened(version)
    large = encode(Publish("a/x", b"x" * 1_000_000, 1, packet_id=5), version)
    after = Publish("a/x", b"1", 1, packet_id=6)
    found: list[object] = []
    data = large + encode(after, version)
    for start in range(0, len(data), 1000):
        found += client.received(data[start : start + 1000], 1.0)
        assert len(client._sieve._buffer) < 70_000
    assert found == [Arrived(5, None), Arrived(6, after)]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 400)), max_size=6), st.integers(1, 50))
def test_wherever_a_stream_is_cut_the_same_packets_come_out(said: list[tuple[int, int]], step: int) -> None:
    packets = [
        Publish("a", b"x" * size, qos, packet_id=number if qos else 0) for number, (qos, size) in enumerate(said, 1)
    ]
    data = b"".join(encode(packet, Version.V5) for packet in packets)
    sieve, found = Sieve(100), []
    for start in range(0, len(data), step):
        found += sieve.feed(data[start : start + step])
    wanted: list[object] = []
    for packet in packets:
        frame_bytes = len(encode(packet, Version.V5))
        is_large = frame_bytes - (2 if frame_bytes < 130 else 3) > 100
        wanted.append(packet.packet_id if is_large else packet)
    assert [row if isinstance(row, int) else decode(row, Version.V5) for row in found] == wanted


def test_a_packet_other_than_a_message_is_never_large() -> None:
    with pytest.raises(Malformed):
        Sieve(100).feed(b"\x20\xff\xff\x03" + b"x" * 10)


def test_a_silent_broker_is_asked_and_then_left() -> None:
    client = opened(Version.V5)
    client.sent(0.0)
    assert client.tick(59.0) == b""
    assert one(client.tick(60.0), Version.V5) == PingReq()
    client.received(encode(PingResp(), Version.V5), 61.0)
    client.sent(60.0)
    assert one(client.tick(120.0), Version.V5) == PingReq()
    with pytest.raises(Ended, match="does not answer"):
        client.tick(180.0)


def test_a_broker_is_not_judged_by_what_could_not_be_read_yet() -> None:
    client = opened(Version.V5)
    client.received(encode(PingResp(), Version.V5), 10.0)
    for now_s in (60.0, 120.0, 180.0, 240.0, 300.0):
        assert client.tick(now_s - 1, listens=False) == b""
        assert one(client.tick(now_s, listens=False), Version.V5) == PingReq(), "it stays, since it is pinged"
        client.sent(now_s)
    client.listening(359.0)
    assert one(client.tick(360.0), Version.V5) == PingReq()
    client.sent(360.0)
    client.received(encode(PingResp(), Version.V5), 361.0)
    assert one(client.tick(420.0), Version.V5) == PingReq()
    client.sent(420.0)
    with pytest.raises(Ended, match="does not answer"):
        client.tick(480.0)
