"""Messages by SMS on a real database: each is sent once, by one node, and what became of it is told as it is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.notifications import sms_outbox
from entobot.notifications import sms_store as store
from entobot.notifications.sms import Sms, SmsNotTaken, SmsOutcomeUnknown, SmsRefused, Taken
from entobot.notifications.sms_model import Limits, Message, MessageState, Purpose
from entobot.notifications.sms_numbers import Number
from entobot.notifications.sms_outbox import Outbox, Posting
from entobot.notifications.sms_sending import Sending
from entobot.storage.database import Database, StorageFailed, Unit
from entobot.telemetry.meters import Meters
from tests.pairing.gatehouse import HeardAudit
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True

ADA, BOB = Number("+14155550123", "+1 ••••••••23", "US"), Number("+14155550199", "+1 ••••••••99", "US")
LIMITS = Limits(
    per_number_per_hour=3,
    answers_per_hour=2,
    per_person_per_hour=5,
    per_day=8,
    price_micros=50_000,
    max_cost_micros_per_day=100_000_000,
    currency="USD",
)


class Provider:
    """A sender in this process. `acts` are raised one after the other; then it takes everything."""

    name = "test"

    def __init__(self) -> None:
        self.sent: list[Sms] = []
        self.acts: list[Exception] = []
        self.knows_repeats = False
        self.is_real = True
        self.before: Callable[[], Awaitable[None]] | None = None

    async def send(self, sms: Sms) -> Taken:
        if self.before is not None:
            await self.before()
        if self.acts:
            raise self.acts.pop(0)
        self.sent.append(sms)
        return Taken(f"p{len(self.sent)}")


class Post:
    """The queue and its sender. `nodes` are those that live."""

    def __init__(self, database: Database, clock: ManualClock, ids: RandomIds) -> None:
        self.database, self.clock, self.ids = database, clock, ids
        self.entropy = SeededEntropy("post")
        self.audit = HeardAudit(ids, self.entropy)
        self.provider = Provider()
        self.nodes = {"nod_a", "nod_b"}
        self.outbox = self.new_outbox()

    def new_outbox(self, **limits: Any) -> Outbox:
        return Outbox(
            sender=self.provider,
            limits=replace(LIMITS, **limits),
            countries=("US",),
            ids=self.ids,
            entropy=self.entropy,
            audit=self.audit,
            meters=Meters(),
            server_key=b"k" * 32,
            resend_after=timedelta(minutes=1),
        )

    def node(self, name: str = "nod_a", database: Database | None = None) -> Sending:
        return Sending(
            sender=self.provider,
            outbox=self.outbox,
            database=database or self.database,
            clock=self.clock,
            audit=self.audit,
            meters=Meters(),
            node_id=name,
            alive=lambda _: frozenset(self.nodes),
        )

    async def post(self, number: Number = ADA, *, by: str = "usr_a", about: str = "inv_1", text: str = "Hi") -> Message:
        posted = await self.try_post(number, by=by, about=about, text=text)
        assert isinstance(posted, Message), posted
        return posted

    async def try_post(
        self, number: Number = ADA, *, by: str = "usr_a", about: str = "inv_1", text: str = "Hi"
    ) -> Message | Problem:
        now_ms = self.clock.now_ms()
        posting = Posting(Purpose.INVITE, about, by, number, text, now_ms + 900_000)
        return await self.database.write(lambda tx: self.outbox.post(tx, posting, now_ms))

    async def found(self, message: Message) -> Message:
        found = await self.database.read(lambda tx: store.find_message(tx, message.message_id))
        assert found is not None
        return found

    async def state(self, message: Message) -> tuple[str, str]:
        found = await self.found(message)
        return found.state, found.reason


@pytest.fixture
async def post(database: Database, clock: ManualClock, ids: RandomIds) -> Post:
    post = Post(database, clock, ids)
    await database.write(lambda tx: None)
    return post


async def test_what_is_posted_is_sent_once_and_its_text_forgotten(post: Post) -> None:
    message = await post.post(text="The secret")
    await post.node().look()
    await post.node("nod_b").look()
    assert [(one.to, one.text) for one in post.provider.sent] == [(ADA.e164, "The secret")]
    found = await post.found(message)
    assert (found.state, found.provider_id, found.attempts) == (MessageState.ACCEPTED, "p1", 1)
    number, text = await post.database.read(lambda tx: store.find_sealed(tx, message.message_id))
    assert number is not None  # it may be sent again
    assert text is None
    assert post.audit.events() == [AuditEvent.SMS_ACCEPTED]


async def test_of_several_nodes_exactly_one_sends(post: Post) -> None:
    for number in range(5):
        await post.post(Number(f"+1415555010{number}", "", "US"))
    await asyncio.gather(*(post.node(name).look() for name in ("nod_a", "nod_b") for _ in range(3)))
    assert len(post.provider.sent) == len({sms.message_id for sms in post.provider.sent}) == 5


async def test_a_message_whose_sender_died_is_unknown_and_not_sent_again(post: Post) -> None:
    message = await post.post()
    claimed = await post.database.write(
        lambda tx: store.move(tx, message, message.claimed("nod_gone", post.clock.now_ms()))
    )
    assert claimed
    await post.node().look()
    assert await post.state(message) == ("unknown", "the gateway ended while it was being sent")
    assert post.provider.sent == []


async def test_where_the_provider_knows_a_repeat_it_is_sent_again(post: Post) -> None:
    post.provider.knows_repeats = True
    message = await post.post()
    await post.database.write(lambda tx: store.move(tx, message, message.claimed("nod_gone", post.clock.now_ms())))
    await post.node().look()
    post.clock.advance(5)
    await post.node().look()
    assert [sms.message_id for sms in post.provider.sent] == [message.message_id]


async def test_a_message_that_a_living_node_is_sending_is_left_to_it(post: Post) -> None:
    message = await post.post()
    await post.database.write(lambda tx: store.move(tx, message, message.claimed("nod_b", post.clock.now_ms())))
    await post.node().look()
    assert await post.state(message) == ("sending", "")


async def test_a_lost_answer_is_unknown(post: Post) -> None:
    post.provider.acts = [SmsOutcomeUnknown("the answer was lost")]
    message = await post.post()
    await post.node().look()
    assert await post.state(message) == ("unknown", "the answer was lost")
    assert post.audit.events() == [AuditEvent.SMS_FAILED]


async def test_what_surely_was_not_taken_is_tried_again_until_it_is_too_late(post: Post) -> None:
    post.provider.acts = [SmsNotTaken("busy")] * 100
    message = await post.post()
    for _ in range(40):
        await post.node().look()
        post.clock.advance(30)
    assert await post.state(message) == ("failed", "busy")
    post.provider.acts = []
    second = await post.post(BOB)
    post.provider.acts = [SmsNotTaken("busy")]
    await post.node().look()
    assert await post.state(second) == ("queued", "busy")
    post.clock.advance(2)
    await post.node().look()
    assert (await post.state(second))[0] == "accepted"


async def test_a_message_that_nobody_could_send_in_time_is_not_sent(post: Post) -> None:
    message = await post.post()
    post.clock.advance(901)
    await post.node().look()
    assert await post.state(message) == ("cancelled", "it was too late to send it")
    assert post.provider.sent == []


async def test_a_number_that_said_stop_gets_nothing_more_until_it_says_start(post: Post) -> None:
    post.provider.acts = [SmsRefused("it said STOP", is_stopped=True)]
    await post.post()
    await post.node().look()
    assert AuditEvent.SMS_STOPPED in post.audit.events()
    refused = await post.try_post(about="inv_2")
    assert isinstance(refused, Problem)
    assert refused.code is Code.NUMBER_REFUSED
    assert isinstance(await post.try_post(BOB, about="inv_3"), Message)
    await post.database.write(lambda tx: store.start(tx, post.outbox.mark(ADA.e164)))
    assert isinstance(await post.try_post(about="inv_4"), Message)


async def test_what_was_sent_is_noted_once_the_store_is_back(post: Post) -> None:
    store_away = Away(post.database)
    node = post.node(database=cast("Database", store_away))
    message = await post.post()

    async def away() -> None:
        store_away.is_away = True

    post.provider.before = away
    with pytest.raises(StorageFailed):
        await node.look()
    assert await post.state(message) == ("sending", "")
    store_away.is_away, post.provider.before = False, None
    await node.look()
    assert (await post.state(message))[0] == "accepted"
    assert len(post.provider.sent) == 1


async def test_what_a_message_was_about_being_over_calls_it_off_and_forgets_the_number(post: Post) -> None:
    message = await post.post()
    now_ms = post.clock.now_ms()
    await post.database.write(lambda tx: sms_outbox.end(tx, "inv_1", "the invite is cancelled", now_ms))
    await post.node().look()
    assert await post.state(message) == ("cancelled", "the invite is cancelled")
    assert await post.database.read(lambda tx: store.find_sealed(tx, message.message_id)) == (None, None)


async def test_numbers_are_forgotten_after_a_day_and_messages_after_a_week(post: Post) -> None:
    message = await post.post()
    await post.node().look()
    post.clock.advance(timedelta(days=1, seconds=1).total_seconds())
    await post.node().tidy()
    assert await post.database.read(lambda tx: store.find_sealed(tx, message.message_id)) == (None, None)
    assert await post.database.read(lambda tx: store.mark_of(tx, message.message_id)) == ""
    post.clock.advance(timedelta(days=6).total_seconds())
    await post.node().tidy()
    assert await post.database.read(lambda tx: store.find_message(tx, message.message_id)) is None


async def test_a_restored_store_sends_nothing_that_waited_in_it(post: Post) -> None:
    waiting, begun = await post.post(), await post.post(BOB, about="inv_2")
    await post.database.write(lambda tx: store.move(tx, begun, begun.claimed("nod_gone", post.clock.now_ms())))
    now_ms = post.clock.now_ms()
    await post.database.write(lambda tx: sms_outbox.call_off_all(tx, "restored", now_ms))
    await post.node().look()
    assert [await post.state(one) for one in (waiting, begun)] == [("cancelled", "restored")] * 2
    assert post.provider.sent == []


# -- limits


async def refusal(post: Post, number: Number = ADA, **more: str) -> Problem:
    posted = await post.try_post(number, **more)
    assert isinstance(posted, Problem), posted
    return posted


async def test_a_number_gets_no_more_than_three_in_an_hour(post: Post) -> None:
    for _ in range(3):
        await post.post()
        post.clock.advance(60)
    problem = await refusal(post, by="usr_b")
    assert (problem.code, problem.retry_after_s) == (Code.RATE_LIMITED, 3600 - 180)
    post.clock.advance(3600 - 180)
    assert isinstance(await post.try_post(), Message)


async def test_a_person_sends_no_more_than_so_many_in_an_hour(post: Post) -> None:
    for number in range(5):
        await post.post(Number(f"+1415555010{number}", "", "US"))
    assert "sms.per_person_per_hour" in (await refusal(post, BOB)).detail
    assert isinstance(await post.try_post(BOB, by="usr_b"), Message)


async def test_a_day_has_so_many_messages_and_so_much_money(post: Post) -> None:
    for number in range(8):
        await post.post(Number(f"+1415555010{number}", "", "US"), by=f"usr_{number}")
    assert "sms.per_day" in (await refusal(post, BOB, by="usr_z")).detail
    post.outbox = post.new_outbox(per_day=100, max_cost_micros_per_day=450_000)
    assert "sms.max_cost_per_day" in (await refusal(post, BOB, by="usr_z", text="x" * 161)).detail  # two parts
    assert isinstance(await post.try_post(BOB, by="usr_z", text="x" * 160), Message)
    post.clock.advance(86_400)
    assert isinstance(await post.try_post(BOB, by="usr_z"), Message)


async def test_fifty_at_once_get_no_more_than_the_limit(post: Post) -> None:
    posted = await asyncio.gather(*(post.try_post(by=f"usr_{number}", about=f"inv_{number}") for number in range(50)))
    assert sum(isinstance(one, Message) for one in posted) == 3


async def test_refusals_are_told_once_and_then_counted(post: Post) -> None:
    for _ in range(3):
        await post.post()
    for _ in range(20):
        await refusal(post)
    told = [details for event, details in post.audit.heard if event is AuditEvent.SMS_REFUSED]
    assert [(one["facts"]["reason"], one["facts"]["count"]) for one in told] == [("per_number", 1)]
    post.clock.advance(600)
    await post.node().tidy()
    told = [details for event, details in post.audit.heard if event is AuditEvent.SMS_REFUSED]
    assert [one["facts"]["count"] for one in told] == [1, 19]


class Away:
    """A database that takes nothing while `is_away`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_away = False

    async def write(self, unit: Unit[Any], key: str = "", *, is_small: bool = False) -> Any:
        if self.is_away:
            raise StorageFailed("away")
        return await self._database.write(unit, key, is_small=is_small)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)
