"""Nobody looks: the phone that sleeps, a push, an SMS, somebody else; each in its time, and nobody after the decision."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from entobot.approvals.model import Question, Risk
from entobot.audit.events import AuditEvent
from entobot.config_approvals import ApprovalsSettings
from entobot.core.permissions import ALL_SCOPES, Role
from entobot.core.principal import Principal
from entobot.notifications import place_store, store
from entobot.notifications.channel_sms import SmsOutlet, note_outcome
from entobot.notifications.model import Channel, Notification, Priority
from entobot.notifications.rules import DEFAULT, Step
from entobot.notifications.service import Notifications
from entobot.notifications.sms_model import MessageState
from entobot.notifications.sms_sending import Sending
from tests.approvals.test_people import person
from tests.notifications.conftest import House
from tests.notifications.test_sms_sending import ADA, Post
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock, SeededEntropy

MINUTE = timedelta(minutes=1)
STEPS = (Step(Channel.PUSH, 0, Priority.NORMAL), Step(Channel.SMS, 10 * 60_000, Priority.HIGH))


@dataclass
class Night:
    agency: Agency
    house: House
    post: Post
    texts: Sending
    phone: Pocket

    async def after(self, duration: timedelta) -> None:
        self.agency.clock.advance(duration.total_seconds())  # pyright: ignore[reportAttributeAccessIssue]  it is a ManualClock
        await self.agency.approvals.sweep(self.agency.database, self.agency.clock.now_ms())
        await self.house.turn()
        await self.texts.look()

    async def ask(self) -> Event:
        now_ms = self.agency.clock.now_ms()
        question = Question(
            user_id=self.agency.user_id,
            run_id="run_01J00000000000000000000000",
            conversation_id="cnv_1",
            tool_call_id="tcl_1",
            tool="note",
            args_json='{"text":"milk"}',
            title="Note: milk",
            risk=Risk.LOW,
        )
        await self.agency.database.write(
            lambda tx: self.agency.approvals.ask(tx, question, expires_at_ms=now_ms + 7_200_000, now_ms=now_ms)
        )
        return (await self.agency.of("approval.requested"))[-1]

    async def told(self) -> Notification:
        """What the owner was pushed first."""
        first = self.house.push.parcels[0].notification_id
        found = await self.agency.database.read(lambda tx: store.find(tx, first))
        assert found is not None
        return found


@pytest.fixture
async def night(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[Night]:
    made: list[House] = []
    posts: list[Post] = []

    def notifications(agency: Agency) -> Notifications:
        house, post = House(agency.database, clock, agency.ids), Post(agency.database, clock, agency.ids)
        house.outlets = {Channel.PUSH: house.push, Channel.SMS: SmsOutlet(post.outbox, agency.database, clock)}
        made.append(house)
        posts.append(post)
        return house.service

    agency = Agency(tmp_path, clock, entropy, notifications=notifications)
    await agency.open(works=False)
    (house,), (post,) = made, posts
    house.owner = Principal(agency.user_id, ALL_SCOPES)
    await house.use(replace(DEFAULT, steps=STEPS))
    await house.add_place()
    sms = replace(await house.add_place(Channel.SMS), address=ADA.e164)
    await agency.database.write(lambda tx: place_store.drop_place(tx, sms.place_id))
    await agency.database.write(lambda tx: place_store.insert_place(tx, sms))
    texts = post.node()
    texts.on_told = note_outcome
    yield Night(agency, house, post, texts, await agency.pair())
    await agency.close()


async def test_an_approval_goes_from_a_sleeping_phone_to_push_to_sms_to_somebody_else(night: Night) -> None:
    agency, house = night.agency, night.house
    boss = await person(agency, "boss", Role.ADMIN)
    await house.add_place(user_id=boss.principal.user_id)
    policy = {"remind_after": "PT0S", "escalate_after": "PT20M", "escalate_to": ["boss"]}
    agency.policy = ApprovalsSettings.model_validate({"policies": [policy]})
    house.here = {agency.user_id}  # the app is connected and asleep: it acknowledges nothing
    approval = await night.ask()
    await night.after(timedelta(0))
    assert house.push.parcels == []
    await night.after(timedelta(seconds=10))
    assert [parcel.place.user_id for parcel in house.push.parcels] == [agency.user_id]
    await night.after(9 * MINUTE)
    assert night.post.provider.sent == []
    await night.after(2 * MINUTE)
    (sms,) = night.post.provider.sent
    assert (sms.to, sms.text.splitlines()[1].startswith("https://gate.example/approvals/apr_")) == (ADA.e164, True)
    assert "milk" not in sms.text, "what it says stays here"
    one = await night.told()
    assert await house.tried(one) == [("live", "failed"), ("push", "accepted"), ("sms", "accepted")]
    await night.after(10 * MINUTE)
    assert house.push.parcels[-1].place.user_id == boss.principal.user_id
    assert agency.audit.of(AuditEvent.APPROVAL_ESCALATED)
    decided = await agency.decide(boss, approval, "approve")
    assert decided["state"] == "approved"
    sent = len(house.push.parcels)
    await night.after(60 * MINUTE)
    assert (len(house.push.parcels), len(night.post.provider.sent)) == (sent, 1), "nobody is told once it is decided"
    assert await house.state(one) == "done"


async def test_what_became_of_the_sms_is_what_became_of_the_attempt(night: Night) -> None:
    await night.ask()
    await night.after(timedelta(seconds=10))
    await night.after(11 * MINUTE)
    one = await night.told()
    attempt = (await night.house.attempts(one))[-1]
    message = await night.agency.database.read(lambda tx: night.post.outbox.latest(tx, attempt.attempt_id))
    assert message is not None
    assert message.state is MessageState.ACCEPTED
    now_ms = night.agency.clock.now_ms()
    delivered = message.told(MessageState.DELIVERED, "", "p1", now_ms)
    assert delivered is not None
    await night.agency.database.write(lambda tx: night.texts.tell(tx, delivered, now_ms))
    assert (await night.house.tried(one))[-1] == ("sms", "delivered")


async def test_a_limit_of_sms_is_a_reason_and_not_a_second_message(night: Night) -> None:
    night.post.outbox.limits = replace(night.post.outbox.limits, per_number_per_hour=1)
    await night.ask()
    await night.after(timedelta(seconds=10))
    await night.post.post(text="The hour's one message")
    await night.after(11 * MINUTE)
    one = await night.told()
    last = (await night.house.attempts(one))[-1]
    assert (last.channel, last.state, len(night.post.provider.sent)) == (Channel.SMS, "queued", 1)
    assert "sms.per_number_per_hour" in last.reason
