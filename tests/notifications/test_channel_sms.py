"""SMS as a step of a person's rules: what the queue of SMS knows is what the attempt says."""

from datetime import timedelta

import pytest

from entobot.core.errors import Code, Problem
from entobot.core.networks import Networks
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.notifications import place_store, sms_store
from entobot.notifications.channel_sms import SmsOutlet, note_outcome
from entobot.notifications.model import Channel, Priority
from entobot.notifications.places import NewPlace, Places
from entobot.notifications.sms import SmsOutcomeUnknown, SmsRefused
from entobot.notifications.sms_model import MessageState
from entobot.notifications.sms_sending import Sending
from entobot.signin.sealing import Seal
from tests.notifications.conftest import House
from tests.notifications.test_sms_sending import Post

ON_EVERY_STORE = True
NUMBER = "+14155550123"
MINUTE = timedelta(minutes=1)


class Phone:
    """A house whose people are reached by SMS, and the queue that sends them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.post = Post(house.database, house.clock, house.ids)
        self.outlet = SmsOutlet(self.post.outbox, house.database, house.clock)
        house.outlets[Channel.SMS] = self.outlet

    def queue(self) -> Sending:
        node = self.post.node()
        node.on_told = note_outcome
        return node

    async def receipt(self, state: MessageState, reason: str = "") -> None:
        """What the provider tells later of its first message."""
        queue, now_ms = self.queue(), self.house.clock.now_ms()
        (message,) = await self.house.database.read(lambda tx: sms_store.in_state(tx, MessageState.ACCEPTED, 9))
        after = message.told(state, reason, "p1", now_ms)
        assert after is not None
        await self.house.database.write(lambda tx: queue.tell(tx, after, now_ms))

    def places(self) -> Places:
        house = self.house
        return Places(
            database=house.database,
            clock=house.clock,
            ids=house.ids,
            entropy=house.entropy,
            audit=house.audit,
            guard=lambda tx, principal: None,
            meters=house.meters,
            channels=frozenset(house.outlets),
            allowed=Networks(),
            code_key=b"c" * 32,
            seal=Seal(b"s" * 32, house.entropy),
            check_number=self.outlet.check,
        )


@pytest.fixture
def phone(house: House) -> Phone:
    return Phone(house)


async def test_an_sms_is_pending_until_its_provider_took_it_and_delivered_when_a_receipt_says_so(phone: Phone) -> None:
    house = phone.house
    await house.add_place(Channel.SMS)
    one = await house.post(priority=Priority.CRITICAL)
    await house.turn()
    assert await house.tried(one) == [("live", "failed"), ("sms", "sent")]
    await phone.queue().look()
    assert await house.tried(one) == [("live", "failed"), ("sms", "accepted")]
    (sent,) = phone.post.provider.sent
    assert sent.to == NUMBER
    assert sent.text.startswith("Kitchen: New notification\nhttps://gate.example/"), "content stays here by default"
    await phone.receipt(MessageState.DELIVERED)
    assert await house.tried(one) == [("live", "failed"), ("sms", "delivered")]


async def test_an_sms_that_the_network_fails_to_deliver_is_a_failed_attempt(phone: Phone) -> None:
    house = phone.house
    await house.add_place(Channel.SMS)
    one = await house.post(priority=Priority.CRITICAL)
    await house.turn()
    await phone.queue().look()
    await phone.receipt(MessageState.FAILED, "the phone is off")
    (_, attempt) = await house.attempts(one)
    assert (attempt.state, attempt.reason) == ("failed", "the phone is off")


@pytest.mark.parametrize(
    ("act", "state", "said"),
    [(SmsRefused("no such number"), "failed", "no such number"), (SmsOutcomeUnknown("lost"), "unknown", "lost")],
    ids=["refused", "lost"],
)
async def test_what_no_provider_took_is_an_attempt_that_came_to_nothing(
    phone: Phone, act: Exception, state: str, said: str
) -> None:
    house = phone.house
    await house.add_place(Channel.SMS)
    one = await house.post(priority=Priority.CRITICAL)
    phone.post.provider.acts.append(act)
    await house.turn()
    await phone.queue().look()
    (_, attempt) = await house.attempts(one)
    assert (attempt.state, attempt.reason) == (state, said)


async def test_a_gateway_that_ends_between_handing_over_and_noting_sends_one_sms(phone: Phone) -> None:
    house = phone.house
    await house.add_place(Channel.SMS)
    one = await house.post(priority=Priority.CRITICAL)
    await house.turn("nod_a")
    house.nodes.discard("nod_a")
    await house.turn("nod_b")
    await house.turn("nod_b")
    await phone.queue().look()
    assert len(phone.post.provider.sent) == 1
    assert await house.tried(one) == [("live", "failed"), ("sms", "accepted")]


async def test_over_the_limits_of_sms_it_waits_and_is_tried_again(phone: Phone) -> None:
    house = phone.house
    phone.outlet = SmsOutlet(phone.post.new_outbox(per_number_per_hour=1), house.database, house.clock)
    house.outlets[Channel.SMS] = phone.outlet
    await house.add_place(Channel.SMS)
    first, second = [await house.post(str(one), priority=Priority.CRITICAL) for one in range(2)]
    await house.turn()
    (_, attempt) = await house.attempts(second if (await house.tried(first))[1][1] == "sent" else first)
    assert attempt.state == "queued"
    assert "sms.per_number_per_hour" in attempt.reason
    await house.after(61 * MINUTE)
    assert [(await house.tried(one))[1] for one in (first, second)] == [("sms", "sent")] * 2


async def test_a_number_gets_nothing_before_its_code_was_typed(phone: Phone) -> None:
    house, places = phone.house, phone.places()
    place = await places.add(house.owner, NewPlace(Channel.SMS, "+1 415 555 0123"))
    assert (place.address, place.is_confirmed) == (NUMBER, False)
    one = await house.post(priority=Priority.CRITICAL)
    await house.turn()
    assert await house.tried(one) == [("live", "failed")]
    code = await places.new_code(house.owner, place.place_id)
    answer = await phone.outlet.send_code("nat_1", house.owner.user_id, "Kitchen", code, place.address)
    assert answer.outcome == "pending"
    await phone.queue().look()
    assert phone.post.provider.sent[0].text.startswith(f"{code} is the code")
    with pytest.raises(Problem, match="That is not the code"):
        await places.confirm(house.owner, place.place_id, "x" + code[1:])
    assert (await places.confirm(house.owner, place.place_id, code)).is_confirmed


async def test_a_number_belongs_to_whoever_confirmed_it_last(phone: Phone) -> None:
    house, places = phone.house, phone.places()
    ada = Principal(await house.add_person("ada"), frozenset({Scope.CHAT}))
    for who in (house.owner, ada):
        place = await places.add(who, NewPlace(Channel.SMS, NUMBER))
        await places.confirm(who, place.place_id, await places.new_code(who, place.place_id))
    assert await house.database.read(lambda tx: places.owner_of(tx, NUMBER)) == ada.user_id
    assert await house.database.read(lambda tx: place_store.places_of(tx, house.owner.user_id)) == []


@pytest.mark.parametrize("text", ["4155550123", "+1900", "+4915112345678", "+1 900 555 0123"])
async def test_a_number_that_sms_may_not_go_to_is_refused(phone: Phone, text: str) -> None:
    with pytest.raises(Problem) as refusal:
        await phone.places().add(phone.house.owner, NewPlace(Channel.SMS, text))
    assert refusal.value.code is Code.NUMBER_REFUSED
