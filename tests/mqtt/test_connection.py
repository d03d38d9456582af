"""One MQTT connection as a state machine: what it answers, in which order, and how it ends."""

from typing import Any

import pytest

from entobot.mqtt import codec
from entobot.mqtt.codec import Framer
from entobot.mqtt.connection import Connection, Opened, State, Terms
from entobot.mqtt.effects import Effect, End, Fetch, Finished, Join, Open, Part, Received, Release, Rest, Send, Store
from entobot.mqtt.model import NEVER_EXPIRES, Delivery, Message, Stage
from entobot.mqtt.outgoing import MAX_BURST_BYTES, PAGE
from entobot.mqtt.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
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

NOW_MS = 1_000_000
TOPIC = "devices/dev_1/event"
TERMS = Terms(receive_maximum=3, topic_alias_maximum=2, max_session_expiry_s=3600, max_work=4)


def message(payload: bytes = b"x", qos: int = 1, expires_at_ms: int | None = None) -> Message:
    return Message(TOPIC, payload, qos, False, "dev_1", "usr_1", NOW_MS, expires_at_ms)


def delivery(seq: int, payload: bytes = b"x", qos: int = 1, **more: Any) -> Delivery:
    return Delivery(seq, message(payload, qos, more.pop("expires_at_ms", None)), qos, **more)


class Client:
    """The other end: sends packets, reads what comes back."""

    def __init__(self, version: Version = Version.V5, terms: Terms = TERMS, **connect: Any) -> None:
        self.version = version
        self.machine = Connection(terms=terms, now_s=0.0)
        asked: dict[str, Any] = {"clean": True, "keep_alive_s": 60, **connect}
        self.connect = Connect(version, asked.pop("client_id", "dev_1"), **asked)

    def send(self, packet: Packet, now_s: float = 0.0) -> list[object]:
        (frame,) = Framer(1 << 20).feed(codec.encode(packet, self.version))
        return self.read(self.machine.frame(frame, now_s, NOW_MS))

    def read(self, effects: list[Effect]) -> list[object]:
        """With packets in the place of bytes."""
        found: list[object] = []
        for one in effects:
            if isinstance(one, Send):
                found += [codec.decode(frame, self.version) for frame in Framer(1 << 20).feed(one.data)]
            else:
                found.append(one)
        return found

    def opened(self, *, is_present: bool = False, **more: Any) -> "Client":
        if self.machine.state is State.WAITING:
            self.send(self.connect)
        self.answer = self.read(self.machine.opened(Opened(is_present, **more), 0.0))
        return self

    def publish(self, packet_id: int, qos: int = 1, **more: Any) -> list[object]:
        return self.send(Publish(TOPIC, b"x", qos, packet_id=packet_id, **more))


def ends(found: list[object]) -> End:
    assert isinstance(found[-1], End)
    return found[-1]


# -- CONNECT


@pytest.mark.parametrize("version", list(Version))
def test_connect_is_answered_once_its_session_is_open(version: Version) -> None:
    client = Client(version)
    assert client.send(client.connect) == [Open(client.connect, 0)]
    client.opened()
    acknowledged = client.answer[0]
    assert isinstance(acknowledged, ConnAck)
    assert acknowledged.reason is Reason.SUCCESS
    if version is Version.V5:
        assert acknowledged.properties == Properties(
            receive_maximum=3, topic_alias_maximum=2, max_packet_bytes=TERMS.max_packet_bytes
        )


@pytest.mark.parametrize(
    ("connect", "expiry_s"),
    [
        ({"version": Version.V3, "clean": True}, 0),
        ({"version": Version.V3, "clean": False}, 3600),
        ({"properties": Properties(session_expiry_s=60)}, 60),
        ({"properties": Properties(session_expiry_s=NEVER_EXPIRES)}, 3600),
        ({"clean": False}, 0),
    ],
)
def test_a_session_lasts_as_long_as_it_asks_for_up_to_the_limit(connect: dict[str, Any], expiry_s: int) -> None:
    client = Client(**connect)
    assert client.send(client.connect) == [Open(client.connect, expiry_s)]


def test_what_was_granted_otherwise_than_asked_is_told() -> None:
    asked = Properties(session_expiry_s=NEVER_EXPIRES)
    acknowledged = Client(keep_alive_s=0, properties=asked).opened().answer[0]
    assert isinstance(acknowledged, ConnAck)
    assert acknowledged.properties.session_expiry_s == 3600
    assert acknowledged.properties.server_keep_alive_s == TERMS.max_keep_alive_s


def test_anything_before_connect_or_a_second_one_ends_the_connection() -> None:
    assert ends(Client().send(PingReq())).reason is Reason.PROTOCOL_ERROR
    client = Client().opened()
    found = client.send(client.connect)
    assert isinstance(found[0], Disconnect)
    assert ends(found).reason is Reason.PROTOCOL_ERROR


def test_an_unknown_version_is_told_which_are_spoken() -> None:
    client = Client(Version.V3)
    (frame,) = Framer(100).feed(bytes.fromhex("100e00064d514973647003 02003c0000"))
    found = client.read(client.machine.frame(frame, 0.0, NOW_MS))
    assert isinstance(found[0], ConnAck)
    assert found[0].reason is Reason.UNSUPPORTED_PROTOCOL_VERSION


def test_an_old_client_without_a_name_has_no_session_to_keep() -> None:
    client = Client(Version.V3, client_id="", clean=False)
    found = client.send(client.connect)
    assert found[0] == ConnAck(Reason.CLIENT_IDENTIFIER_NOT_VALID)
    assert isinstance(Client(Version.V3, client_id="").send(Client(Version.V3, client_id="").connect)[0], Open)


def test_other_authentication_is_refused() -> None:
    client = Client(properties=Properties(authentication_method="SCRAM"))
    found = client.send(client.connect)
    assert isinstance(found[0], ConnAck)
    assert found[0].reason is Reason.BAD_AUTHENTICATION_METHOD
    assert ends(Client().opened().send(Auth())).reason is Reason.PROTOCOL_ERROR


def test_a_refusal_says_why_to_who_wants_to_know() -> None:
    client = Client()
    client.send(client.connect)
    (told, _) = client.read(client.machine.refused(Reason.NOT_AUTHORIZED, "revoked"))
    assert told == ConnAck(Reason.NOT_AUTHORIZED, properties=Properties(reason_string="revoked"))
    quiet = Client(properties=Properties(request_problem=0))
    quiet.send(quiet.connect)
    (told, _) = quiet.read(quiet.machine.refused(Reason.NOT_AUTHORIZED, "revoked"))
    assert told == ConnAck(Reason.NOT_AUTHORIZED)


# -- time


def test_who_does_not_say_connect_in_time_is_ended_without_a_word() -> None:
    machine = Connection(terms=TERMS, now_s=0.0)
    assert machine.tick(4.9) == []
    (end,) = machine.tick(5.0)
    assert isinstance(end, End)
    assert not end.keeps_will


def test_who_is_silent_for_one_and_a_half_keep_alives_is_ended() -> None:
    client = Client(keep_alive_s=60).opened()
    client.send(PingReq(), 50.0)
    assert client.machine.next_check_s() == 140.0
    assert client.machine.tick(139.9) == []
    found = client.read(client.machine.tick(140.0))
    assert (ends(found).reason, ends(found).keeps_will) == (Reason.KEEP_ALIVE_TIMEOUT, True)


def test_a_ping_is_answered() -> None:
    assert Client().opened().send(PingReq()) == [PingResp()]


# -- what the client publishes


def test_a_message_is_acknowledged_when_it_is_stored() -> None:
    client = Client().opened()
    (store,) = client.publish(7)
    assert isinstance(store, Store)
    assert client.read(client.machine.stored(store.number, Reason.SUCCESS)) == [PubAck(7)]
    (store,) = client.publish(8, 2)
    assert isinstance(store, Store)
    assert client.read(client.machine.stored(store.number, Reason.SUCCESS)) == [PubRec(8)]
    (store,) = client.publish(0, 0)
    assert isinstance(store, Store)
    assert client.read(client.machine.stored(store.number, Reason.SUCCESS)) == []


def test_answers_go_out_in_the_order_in_which_they_were_asked_for() -> None:
    client = Client().opened()
    numbers = [one.number for n in (1, 2) for one in client.publish(n) if isinstance(one, Store)]
    (join,) = client.send(Subscribe(3, (Subscription(TOPIC, 1),)))
    assert isinstance(join, Join)
    assert client.read(client.machine.done(join.number, SubAck, (Reason.GRANTED_QOS_1,))) == []
    assert client.read(client.machine.stored(numbers[1], Reason.SUCCESS)) == []
    assert client.read(client.machine.stored(numbers[0], Reason.SUCCESS)) == [
        PubAck(1),
        PubAck(2),
        SubAck(3, (Reason.GRANTED_QOS_1,)),
    ]


def test_a_refused_message_says_why() -> None:
    client = Client().opened()
    (store,) = client.publish(7)
    assert isinstance(store, Store)
    said = Properties(reason_string="not yours")
    assert client.read(client.machine.stored(store.number, Reason.NOT_AUTHORIZED, "not yours")) == [
        PubAck(7, Reason.NOT_AUTHORIZED, said)
    ]


def test_release_frees_the_identifier_whether_it_was_known_or_not() -> None:
    client = Client().opened(received=frozenset({9}))
    for packet_id, reason in ((9, Reason.SUCCESS), (10, Reason.PACKET_IDENTIFIER_NOT_FOUND)):
        (release,) = client.send(PubRel(packet_id))
        assert isinstance(release, Release)
        assert client.read(client.machine.done(release.number, PubComp)) == [PubComp(packet_id, reason)]


def test_more_at_once_than_the_receive_maximum_ends_version_5() -> None:
    client = Client().opened(received=frozenset({50, 51, 52}))  # of an earlier connection: not counted
    for n in (1, 2):
        client.publish(n)
    (store,) = client.publish(3, 2)
    assert isinstance(store, Store)
    client.machine.stored(store.number, Reason.SUCCESS)
    assert ends(client.publish(4)).reason is Reason.RECEIVE_MAXIMUM_EXCEEDED


def test_what_is_finished_makes_room_for_more() -> None:
    client = Client().opened()
    for n in range(1, 20):
        (store,) = client.publish(n, 1 + n % 2)
        assert isinstance(store, Store)
        client.machine.stored(store.number, Reason.SUCCESS)
        if n % 2:
            (release,) = client.send(PubRel(n))
            assert isinstance(release, Release)
            client.machine.done(release.number, PubComp)


def test_an_old_client_is_not_read_while_as_much_waits_as_may() -> None:
    client = Client(Version.V3).opened()
    stores = [client.publish(n)[0] for n in range(1, 5)]
    assert client.machine.is_full
    first = stores[0]
    assert isinstance(first, Store)
    client.machine.stored(first.number, Reason.SUCCESS)
    assert not client.machine.is_full


def test_a_topic_alias_stands_for_its_topic_on_this_connection() -> None:
    client = Client().opened()
    client.publish(1, properties=Properties(topic_alias=2))
    (store,) = client.send(Publish("", b"y", 1, packet_id=2, properties=Properties(topic_alias=2)))
    assert isinstance(store, Store)
    assert store.publish.topic == TOPIC
    unknown = client.send(Publish("", b"y", properties=Properties(topic_alias=1)))
    assert ends(unknown).reason is Reason.PROTOCOL_ERROR
    beyond = Client().opened().publish(1, properties=Properties(topic_alias=3))
    assert ends(beyond).reason is Reason.TOPIC_ALIAS_INVALID


def test_a_client_sends_no_subscription_identifier() -> None:
    found = Client().opened().publish(1, properties=Properties(subscription_ids=(1,)))
    assert ends(found).reason is Reason.PROTOCOL_ERROR


def test_unsubscribing_is_answered() -> None:
    client = Client().opened()
    (part,) = client.send(Unsubscribe(4, (TOPIC,)))
    assert isinstance(part, Part)
    answer = client.machine.done(part.number, UnsubAck, (Reason.NO_SUBSCRIPTION_EXISTED,))
    assert client.read(answer) == [UnsubAck(4, (Reason.NO_SUBSCRIPTION_EXISTED,))]


# -- what the client is sent


def sent(found: list[object]) -> list[tuple[int, bool]]:
    return [(one.packet_id, one.dup) for one in found if isinstance(one, Publish)]


def test_messages_go_out_within_the_client_s_receive_maximum() -> None:
    client = Client(properties=Properties(receive_maximum=2)).opened()
    found = [one for seq in (1, 2, 3) for one in client.read(client.machine.told(delivery(seq), NOW_MS))]
    assert sent(found) == [(1, False), (2, False)]
    after = client.send(PubAck(1))
    assert after[0] == Finished(1)
    assert sent(after) == [(3, False)]


def test_qos_2_is_released_when_it_is_written_down_that_it_arrived() -> None:
    client = Client().opened()
    client.machine.told(delivery(1, qos=2), NOW_MS)
    assert client.send(PubRec(1)) == [Received(1)]
    assert client.read(client.machine.released(1)) == [PubRel(1)]
    assert client.send(PubRec(1)) == [PubRel(1)]
    assert client.send(PubComp(1)) == [Finished(1)]
    assert client.send(PubRec(1)) == [PubRel(1, Reason.PACKET_IDENTIFIER_NOT_FOUND)]


def test_a_client_that_refuses_a_message_is_done_with_it() -> None:
    client = Client().opened()
    client.machine.told(delivery(1, qos=2), NOW_MS)
    assert client.send(PubRec(1, Reason.QUOTA_EXCEEDED)) == [Finished(1)]


def test_what_is_over_is_not_sent_behind_a_message_that_was_refused() -> None:
    client = Client(properties=Properties(receive_maximum=1)).opened()
    client.machine.told(delivery(1, qos=2), NOW_MS)
    client.machine.told(delivery(2, expires_at_ms=NOW_MS + 1), NOW_MS)
    refused = Framer(1 << 20).feed(codec.encode(PubRec(1, Reason.QUOTA_EXCEEDED), Version.V5))[0]
    assert client.machine.frame(refused, 0.0, NOW_MS + 1) == [Finished(1), Finished(2)]


def test_what_was_read_and_not_sent_is_read_again_when_the_rules_change() -> None:
    client = Client(properties=Properties(receive_maximum=1)).opened(is_present=True)
    waiting = [delivery(1), delivery(2), delivery(3)]
    assert sent(client.read(client.machine.fetched(waiting, 3, NOW_MS, is_all=True))) == [(1, False)]
    assert client.machine.reread() == [Fetch(1)]
    assert client.machine.reread() == [], "one is under way"
    assert client.machine.fetched([delivery(2), delivery(3)], 3, NOW_MS, is_all=True) == [Fetch(1)], "of before"
    found = [delivery(2, is_withdrawn=True), delivery(3)]
    assert client.machine.fetched(found, 3, NOW_MS, is_all=True) == []
    effects = client.send(PubAck(1))
    assert [one for one in effects if isinstance(one, Finished)] == [Finished(1), Finished(2, is_withheld=True)]
    assert sent(effects) == [(3, False)]
    assert client.machine.reread() == [], "nothing waits here"


def test_what_waited_is_fetched_and_sent_again_as_it_was() -> None:
    client = Client().opened(is_present=True)
    assert client.answer[1:] == [Fetch(0)]
    found = [delivery(1, qos=2, stage=Stage.RELEASED, is_repeat=True), delivery(2, is_repeat=True), delivery(4)]
    effects = client.read(client.machine.fetched(found, 4, NOW_MS, is_all=True))
    assert effects[0] == PubRel(1)
    assert sent(effects) == [(2, True), (4, False)]
    assert sent(client.read(client.machine.told(delivery(5), NOW_MS))) == []  # three are under way
    assert sent(client.send(PubComp(1))) == [(5, False)]


def test_what_is_told_while_rows_are_read_is_neither_lost_nor_sent_twice() -> None:
    client = Client(terms=Terms()).opened(is_present=True)
    assert client.machine.told(delivery(2), NOW_MS) == []
    effects = client.read(client.machine.fetched([delivery(1)], 1, NOW_MS, is_all=True))
    assert sent(effects) == [(1, False)]
    assert effects[-1] == Fetch(1)
    assert sent(client.read(client.machine.fetched([delivery(2)], 2, NOW_MS, is_all=True))) == [(2, False)]
    assert client.machine.told(delivery(2), NOW_MS) == []


def test_what_is_next_and_told_while_rows_are_read_is_among_them() -> None:
    client = Client(terms=Terms()).opened()
    assert client.read(client.machine.news(2)) == [Fetch(0)]
    assert client.machine.told(delivery(1), NOW_MS) == []
    effects = client.machine.fetched([delivery(1), delivery(2)], 2, NOW_MS, is_all=True)
    assert sent(client.read(effects)) == [(1, False), (2, False)]


def test_a_message_of_another_node_is_read_in_its_place() -> None:
    client = Client(terms=Terms()).opened()
    assert client.read(client.machine.told(delivery(2), NOW_MS)) == [Fetch(0)]
    effects = client.read(client.machine.fetched([delivery(1), delivery(2)], 2, NOW_MS, is_all=True))
    assert sent(effects) == [(1, False), (2, False)]
    assert client.read(client.machine.news(3)) == [Fetch(2)]


def test_a_long_queue_is_read_page_by_page() -> None:
    client = Client(terms=Terms()).opened(is_present=True)
    page = [delivery(seq) for seq in range(1, PAGE + 1)]
    effects = client.read(client.machine.fetched(page, PAGE + 1, NOW_MS, is_all=False))
    assert len(sent(effects)) == PAGE
    assert effects[-1] == Fetch(PAGE)


def test_what_is_over_or_does_not_fit_is_left_out() -> None:
    client = Client(properties=Properties(max_packet_bytes=60)).opened()
    assert client.read(client.machine.told(delivery(1, expires_at_ms=NOW_MS), NOW_MS)) == [Finished(1)]
    assert client.read(client.machine.told(delivery(2, b"x" * 100), NOW_MS)) == [Finished(2)]
    assert sent(client.read(client.machine.told(delivery(3), NOW_MS))) == [(3, False)]


def test_the_time_that_a_message_has_left_goes_with_it() -> None:
    client = Client().opened()
    (packet,) = client.read(client.machine.told(delivery(1, expires_at_ms=NOW_MS + 5500), NOW_MS))
    assert isinstance(packet, Publish)
    assert packet.properties.message_expiry_s == 6


def test_a_topic_is_said_once_to_a_client_that_takes_aliases() -> None:
    client = Client(properties=Properties(topic_alias_maximum=1)).opened()
    first, second = (client.read(client.machine.told(delivery(seq), NOW_MS))[0] for seq in (1, 2))
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert (first.topic, first.properties.topic_alias) == (TOPIC, 1)
    assert (second.topic, second.properties.topic_alias) == ("", 1)


def test_large_messages_wait_for_the_socket() -> None:
    client = Client().opened()
    big = b"x" * MAX_BURST_BYTES
    assert client.read(client.machine.told(delivery(1, big), NOW_MS))[1:] == [Rest()]
    assert client.machine.told(delivery(2, big), NOW_MS) == []
    assert sent(client.read(client.machine.writable(NOW_MS))) == [(2, False)]


def test_an_identifier_that_is_still_in_use_is_waited_for() -> None:
    client = Client(terms=Terms()).opened()
    client.machine.told(delivery(1), NOW_MS)
    late = delivery(65_536)
    client.machine.news(65_536)
    assert sent(client.read(client.machine.fetched([late], 65_536, NOW_MS, is_all=True))) == []
    assert sent(client.send(PubAck(1))) == [(1, False)]


# -- the end


def test_a_clean_end_drops_the_will_unless_it_is_asked_for() -> None:
    will = Will(TOPIC, b"gone")
    assert Client(will=will).opened().send(Disconnect()) == [End(Reason.SUCCESS, 0, keeps_will=False)]
    found = Client(will=will).opened().send(Disconnect(Reason.DISCONNECT_WITH_WILL))
    assert ends(found).keeps_will
    assert ends(Client(will=will).opened().read(Client(will=will).opened().machine.lost())).keeps_will


def test_the_last_word_may_change_how_long_the_session_lasts() -> None:
    lasting = Properties(session_expiry_s=60)
    found = Client(properties=lasting).opened().send(Disconnect(properties=Properties(session_expiry_s=0)))
    assert ends(found).expiry_s == 0
    found = Client().opened().send(Disconnect(properties=lasting))
    assert ends(found).reason is Reason.PROTOCOL_ERROR


def test_the_end_is_told_to_version_5_and_nothing_follows_it() -> None:
    client = Client().opened()
    found = client.read(client.machine.end(Reason.ADMINISTRATIVE_ACTION, "suspended", keeps_will=False))
    assert isinstance(found[0], Disconnect)
    assert not ends(found).keeps_will
    assert client.publish(1) == []
    assert client.machine.lost() == []
    assert client.machine.told(delivery(1), NOW_MS) == []
    old = Client(Version.V3).opened()
    assert [type(one) for one in old.read(old.machine.end(Reason.SERVER_SHUTTING_DOWN, ""))] == [End]
