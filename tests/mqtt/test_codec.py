"""MQTT packets: what is written is read back, and what no client may send is refused with the reason it earns."""

import string
from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.mqtt.codec import Frame, Framer, decode, encode
from entobot.mqtt.fields import variable
from entobot.mqtt.packets import (
    NOTHING,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from entobot.mqtt.properties import PROPERTIES, Where

LARGE = 300_000
REFUSALS = {Reason.SUCCESS, *(reason for reason in Reason if reason >= Reason.MALFORMED_PACKET)}

# -- what is written is read back

_text = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)
_level = st.text(string.ascii_letters + string.digits + "äß☃ ", min_size=1, max_size=6)
_topic = st.lists(_level, min_size=1, max_size=4).map("/".join)
_filter = st.lists(_level | st.just("+"), min_size=1, max_size=4).map("/".join)
_payload = st.binary(max_size=60)
_packet_id = st.integers(1, 65_535)
_qos = st.integers(0, 2)
_two, _four = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
_reason = st.sampled_from(list(Reason))
_version = st.sampled_from(list(Version))
_VALUES: dict[str, st.SearchStrategy[object]] = {
    "authentication_data": _payload,
    "authentication_method": _text,
    "assigned_client_id": _text,
    "content_type": _text,
    "correlation": _payload,
    "max_packet_bytes": st.integers(1, 0xFFFF_FFFF),
    "message_expiry_s": _four,
    "reason_string": _text,
    "receive_maximum": st.integers(1, 0xFFFF),
    "response_information": _text,
    "response_topic": _topic,
    "server_keep_alive_s": _two,
    "server_reference": _text,
    "session_expiry_s": _four,
    "topic_alias": st.integers(1, 0xFFFF),
    "topic_alias_maximum": _two,
    "will_delay_s": _four,
    "user": st.lists(st.tuples(_text, _text), min_size=1, max_size=3).map(tuple),
    "subscription_ids": st.lists(st.integers(1, 268_435_455), min_size=1, max_size=1).map(tuple),
}
_FLAG: st.SearchStrategy[object] = st.integers(0, 1)


@st.composite
def _properties(draw: st.DrawFn, where: Where) -> Properties:
    fields = [found.field for found in PROPERTIES.values() if where in found.where]
    chosen = draw(st.sets(st.sampled_from(fields), max_size=4))
    if "authentication_data" in chosen:
        chosen.add("authentication_method")
    values = {name: draw(_VALUES.get(name, _FLAG)) for name in sorted(chosen - {"payload_format"})}
    return msgspec.structs.replace(NOTHING, **values)


@st.composite
def _packets(draw: st.DrawFn, version: Version) -> Packet:
    is_v5 = version is Version.V5

    def said(where: Where) -> Properties:
        return draw(_properties(where)) if is_v5 else NOTHING

    def reason() -> Reason:
        return draw(_reason) if is_v5 else Reason.SUCCESS

    def will() -> Will | None:
        return draw(st.none() | st.builds(Will, _topic, _payload, _qos, st.booleans(), st.just(said(Where.WILL))))

    def connect() -> Connect:
        username = draw(st.none() | _text)
        password = draw(st.none() | _payload) if is_v5 or username is not None else None
        return Connect(
            version, draw(_text), draw(st.booleans()), draw(_two), username, password, will(), said(Where.CONNECT)
        )

    def publish() -> Publish:
        qos = draw(_qos)
        packet_id = draw(_packet_id) if qos else 0
        dup = draw(st.booleans()) and qos > 0
        return Publish(draw(_topic), draw(_payload), qos, draw(st.booleans()), dup, packet_id, said(Where.PUBLISH))

    def subscription() -> Subscription:
        options = (draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2))) if is_v5 else (False, False, 0)
        return Subscription(draw(_filter), draw(_qos), *options)

    granted = (Reason.SUCCESS, Reason.GRANTED_QOS_2, Reason.UNSPECIFIED_ERROR)
    v3_codes = st.sampled_from((Reason.SUCCESS, Reason.CLIENT_IDENTIFIER_NOT_VALID, Reason.NOT_AUTHORIZED))
    makers: list[Callable[[], Packet]] = [
        connect,
        publish,
        lambda: ConnAck(reason() if is_v5 else draw(v3_codes), draw(st.booleans()), said(Where.CONNACK)),
        *(partial(_ack, make, draw, reason, said) for make in (PubAck, PubRec, PubRel, PubComp)),
        lambda: Subscribe(draw(_packet_id), (subscription(), subscription()), said(Where.SUBSCRIBE)),
        lambda: SubAck(draw(_packet_id), granted, said(Where.SUBACK)),
        lambda: Unsubscribe(draw(_packet_id), (draw(_filter), draw(_filter)), said(Where.UNSUBSCRIBE)),
        lambda: UnsubAck(draw(_packet_id), granted if is_v5 else (), said(Where.UNSUBACK)),
        PingReq,
        PingResp,
        lambda: Disconnect(reason(), said(Where.DISCONNECT)),
        *([lambda: Auth(reason(), said(Where.AUTH))] if is_v5 else []),
    ]
    return draw(st.sampled_from(makers))()


def _ack(
    make: type[PubAck], draw: st.DrawFn, reason: Callable[[], Reason], said: Callable[[Where], Properties]
) -> PubAck:
    return make(draw(_packet_id), reason(), said(Where.PUBACK))


@given(st.data(), _version)
def test_what_is_written_is_read_back(data: st.DataObject, version: Version) -> None:
    packet = data.draw(_packets(version))
    (frame,) = Framer(LARGE).feed(encode(packet, version))
    assert decode(frame, version) == packet


@given(st.data(), _version)
def test_a_stream_cut_anywhere_gives_the_same_packets(data: st.DataObject, version: Version) -> None:
    packets = data.draw(st.lists(_packets(version), min_size=1, max_size=4))
    stream = b"".join(encode(packet, version) for packet in packets)
    framer, found, at = Framer(LARGE), list[Frame](), 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        found += framer.feed(stream[at : at + size])
        at += size
    assert [decode(frame, version) for frame in found] == packets
    assert not framer.has_begun


@given(st.binary(max_size=80), _version)
def test_no_bytes_do_anything_but_be_read_or_refused(data: bytes, version: Version) -> None:
    assert _reason_of(data, version) in REFUSALS


@given(st.data(), _version)
def test_a_packet_of_which_a_byte_was_changed_is_read_or_refused(data: st.DataObject, version: Version) -> None:
    (frame,) = Framer(LARGE).feed(encode(data.draw(_packets(version)), version))
    first, body = frame
    if body:
        at = data.draw(st.integers(0, len(body) - 1))
        body = body[:at] + bytes((data.draw(st.integers(0, 255)),)) + body[at + 1 :]
    assert _reason_of(bytes((first,)) + variable(len(body)) + body, version) in REFUSALS


def _reason_of(data: bytes, version: Version) -> Reason:
    """Of these bytes, SUCCESS where they are packets."""
    try:
        for frame in Framer(LARGE).feed(data):
            decode(frame, version)
    except Malformed as error:
        return error.reason
    return Reason.SUCCESS


# -- what no client may send

_CONNECT_5 = "00044d515454 05"
_CONNECT_4 = "00044d515454 04"
_T = "000161"  # the topic or filter `a`


@pytest.mark.parametrize(
    ("what", "version", "packet", "reason"),
    [
        ("type 0", 5, "00 00", 0x81),
        ("AUTH in 3.1.1", 4, "f0 00", 0x81),
        ("PINGREQ with flags", 5, "c1 00", 0x81),
        ("PINGREQ with a body", 5, "c0 01 00", 0x81),
        ("SUBSCRIBE without its flag", 5, f"80 07 0001 00 {_T} 00", 0x81),
        ("PUBREL without its flag", 5, "60 02 0001", 0x81),
        ("DISCONNECT with a body in 3.1.1", 4, "e0 01 00", 0x81),
        ("a remaining length of five bytes", 5, "30 ff ff ff ff 01", 0x81),
        ("a remaining length longer than it need be", 5, f"30 84 00 {_T} 00", 0x81),
        ("QoS 3", 5, f"36 06 {_T} 0001 00", 0x81),
        ("a repeat at QoS 0", 5, f"38 04 {_T} 00", 0x81),
        ("a packet identifier of 0", 5, f"32 06 {_T} 0000 00", 0x82),
        ("a topic with a wildcard", 5, "30 04 000123 00", 0x90),
        ("a topic with a control character", 5, "30 04 000107 00", 0x90),
        ("a topic with U+0000", 5, "30 04 000100 00", 0x81),
        ("a topic with a surrogate", 5, "30 06 0003eda080 00", 0x81),
        ("a topic that is not UTF-8", 4, "30 03 0001ff", 0x81),
        ("no topic and no alias", 5, "30 03 0000 00", 0x82),
        ("no topic in 3.1.1", 4, "30 02 0000", 0x82),
        ("an alias of 0", 5, f"30 07 {_T} 03 23 0000", 0x94),
        ("a property twice", 5, f"30 08 {_T} 04 0100 0100", 0x82),
        ("an unknown property", 5, f"30 06 {_T} 02 7f00", 0x81),
        ("a property of another packet", 5, f"30 09 {_T} 05 11 00000001", 0x81),
        ("a property length longer than it need be", 5, f"30 06 {_T} 8000 78", 0x81),
        ("properties that are longer than the packet", 5, f"30 04 {_T} 7f", 0x81),
        ("a property that is cut", 5, f"30 06 {_T} 02 0200", 0x81),
        ("a flag that is 2", 5, f"30 06 {_T} 02 0102", 0x82),
        ("a payload that says it is UTF-8 and is not", 5, f"30 07 {_T} 02 0101 ff", 0x99),
        ("a response topic with a wildcard", 5, f"30 08 {_T} 04 08 000123", 0x82),
        ("SUBSCRIBE for nothing", 5, "82 03 0001 00", 0x82),
        ("SUBSCRIBE at QoS 3", 5, f"82 07 0001 00 {_T} 03", 0x82),
        ("SUBSCRIBE with retain handling 3", 5, f"82 07 0001 00 {_T} 30", 0x82),
        ("SUBSCRIBE with reserved bits", 5, f"82 07 0001 00 {_T} 40", 0x81),
        ("SUBSCRIBE with 5's options in 3.1.1", 4, f"82 06 0001 {_T} 04", 0x81),
        ("SUBSCRIBE with the identifier 0", 5, f"82 09 0001 02 0b00 {_T} 00", 0x82),
        ("SUBSCRIBE with two identifiers", 5, f"82 0b 0001 04 0b01 0b02 {_T} 00", 0x82),
        ("a filter that goes on after #", 5, "82 09 0001 00 0003232f61 00", 0x8F),
        ("a filter with # in a level", 5, "82 08 0001 00 00026123 00", 0x8F),
        ("a filter with + in a level", 5, "82 08 0001 00 0002612b 00", 0x8F),
        ("an empty filter", 5, "82 06 0001 00 0000 00", 0x8F),
        ("a share without a filter", 5, f"82 0e 0001 00 0008{b'$share/a'.hex()} 00", 0x8F),
        ("a share without a name", 5, f"82 0f 0001 00 0009{b'$share//a'.hex()} 00", 0x8F),
        ("a share that leaves out its own", 5, f"82 10 0001 00 000a{b'$share/a/b'.hex()} 04", 0x82),
        ("UNSUBSCRIBE from nothing", 5, "a2 03 0001 00", 0x82),
        ("a reason that is none", 5, "40 03 0001 7e", 0x82),
        ("MQTT 3.1", 4, f"10 0e 00064d514973647003 02 003c {'0000'}", 0x84),
        ("a version to come", 5, f"10 0d 00044d51545406 02 003c 00 {'0000'}", 0x84),
        ("another protocol", 5, "10 0c 000448545450 04 02 003c 0000", 0x84),
        ("CONNECT with its reserved flag", 4, f"10 0c {_CONNECT_4} 03 003c 0000", 0x81),
        ("CONNECT with a will's QoS and no will", 4, f"10 0c {_CONNECT_4} 0a 003c 0000", 0x81),
        ("CONNECT with a will at QoS 3", 4, f"10 12 {_CONNECT_4} 1e 003c 0000 {_T} 0001 62", 0x81),
        ("a password without a user name in 3.1.1", 4, f"10 0e {_CONNECT_4} 42 003c 0000 0000", 0x81),
        ("CONNECT that is cut", 5, f"10 0b {_CONNECT_5} 82 003c 00 00", 0x81),
        ("CONNECT with something behind it", 4, f"10 0d {_CONNECT_4} 02 003c 0000 00", 0x81),
        ("a receive maximum of 0", 5, f"10 10 {_CONNECT_5} 02 003c 03 21 0000 0000", 0x82),
        ("a largest packet of 0", 5, f"10 12 {_CONNECT_5} 02 003c 05 27 00000000 0000", 0x82),
        ("authentication data without a method", 5, f"10 10 {_CONNECT_5} 02 003c 03 16 0000 0000", 0x82),
        ("a will with a wildcard", 4, f"10 11 {_CONNECT_4} 06 003c 0000 000123 0000", 0x90),
    ],
)
def test_what_no_client_may_send_is_refused(what: str, version: int, packet: str, reason: int) -> None:
    assert _reason_of(bytes.fromhex(packet), Version(version)) == reason, what


def test_a_packet_that_is_too_large_is_refused_before_it_has_come() -> None:
    framer = Framer(1000)
    assert framer.feed(b"\x30\xe4\x07") == []  # 996 bytes to come: 999 in all
    with pytest.raises(Malformed) as caught:
        Framer(1000).feed(b"\x30\xe6\x07")
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


@pytest.mark.parametrize("bad", [b"\x30\xe6\x07", b"\x30\xff\xff\xff\xff"], ids=["too large", "no length"])
def test_what_came_before_a_packet_that_is_refused_was_lost(bad: bytes) -> None:
    framer = Framer(1000)
    assert framer.feed(b"\xc0\x00\xe0\x00" + bad) == [(0xC0, b""), (0xE0, b"")]
    with pytest.raises(Malformed):
        framer.feed(b"")


def test_what_is_kept_of_a_packet_that_is_not_whole_is_bounded() -> None:
    framer = Framer(1000)
    for _ in range(99):
        assert framer.feed(b"\x30\xe4\x07"[:3] if not framer.has_begun else b"x" * 10) == []
    assert len(framer._buffer) == 3 + 98 * 10


def test_an_old_version_is_told_in_its_own_words() -> None:
    assert encode(ConnAck(Reason.BAD_USER_NAME_OR_PASSWORD), Version.V3) == bytes.fromhex("20020004")
    assert encode(ConnAck(Reason.QUOTA_EXCEEDED), Version.V3) == bytes.fromhex("20020003")
    assert encode(SubAck(7, (Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED)), Version.V3) == bytes.fromhex("900400070180")
    assert encode(PubAck(7, Reason.NOT_AUTHORIZED), Version.V3) == bytes.fromhex("40020007")
    assert encode(UnsubAck(7, (Reason.SUCCESS,)), Version.V3) == bytes.fromhex("b0020007")


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Connect(Version.V5, "dev_1", username="dev_1", password=b"hunter2"))
