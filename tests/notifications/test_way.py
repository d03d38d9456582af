"""The way of a notification: live, then what the person's rules say, each step with its state."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from entobot.audit.events import AuditEvent
from entobot.audit.store import log as audit_log
from entobot.core import topics
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from entobot.notifications.channel import Answer, Outcome
from entobot.notifications.model import Channel, Escalation, Note, Priority
from entobot.notifications.restored import settle_notifications
from entobot.notifications.rules import DEFAULT, Quiet
from entobot.notifications.service import Limits, Recipients
from entobot.storage.database import Transaction
from tests.notifications.conftest import BERLIN, House

TEN_S = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)


async def test_what_a_connected_device_acknowledges_is_pushed_to_nobody(house: House) -> None:
    await house.add_place()
    house.here.add(house.owner.user_id)
    one = await house.post()
    await house.turn()
    house.acknowledged[house.owner.user_id] = one.event_seq
    await house.after(TEN_S)
    assert await house.tried(one) == [("live", "delivered")]
    assert house.push.parcels == []
    assert await house.state(one) == "open", "it was shown, not read"


async def test_what_nobody_acknowledges_in_ten_seconds_is_pushed(house: House) -> None:
    await house.add_place()
    house.here.add(house.owner.user_id)
    one = await house.post()
    await house.after(timedelta(seconds=9))
    assert house.push.parcels == []
    await house.after(timedelta(seconds=1))
    assert await house.tried(one) == [("live", "failed"), ("push", "accepted")]
    assert [parcel.title for parcel in house.push.parcels] == ["New notification"], "content stays here by default"


async def test_the_router_is_rung_only_for_what_no_device_may_show_first(house: House) -> None:
    rung: list[str] = []
    house.service.is_here = house.here.__contains__
    house.bus.subscribe(topics.WORK_NOTIFICATIONS, lambda topic, _: rung.append(topic))
    house.here.add(house.owner.user_id)
    await house.post()
    await asyncio.sleep(0)
    assert rung == [], "a commit for each of them would be spent on nothing"
    house.here.clear()
    await house.post()
    await asyncio.sleep(0)
    assert len(rung) == 1


async def test_nobody_waits_for_a_device_that_is_not_connected(house: House) -> None:
    await house.add_place()
    one = await house.post()
    await house.turn()
    assert await house.tried(one) == [("live", "failed"), ("push", "accepted")]


async def test_content_leaves_only_where_operator_and_person_allow_it(house: House) -> None:
    await house.add_place()
    house.allows_content = True
    await house.post("Dinner", body="Soup")
    await house.turn()
    await house.use(replace(DEFAULT, shows_content=True))
    await house.post("Dinner", body="Soup")
    await house.turn()
    assert [(one.title, one.body) for one in house.push.parcels] == [("New notification", ""), ("Dinner", "Soup")]


async def test_a_sleeping_phone_is_followed_by_a_mail_and_reading_ends_it(house: House) -> None:
    await house.add_place()
    await house.add_place(Channel.EMAIL)
    one = await house.post(priority=Priority.HIGH)
    await house.turn()
    assert len(house.push.parcels) == 1
    await house.after(4 * MINUTE)
    assert house.email.parcels == []
    await house.after(2 * MINUTE)
    assert await house.tried(one) == [("live", "failed"), ("push", "accepted"), ("email", "accepted")]
    assert await house.service.mark_read(house.owner, one.notification_id) == 1
    assert await house.state(one) == "read"


async def test_reading_stops_what_is_still_to_come(house: House) -> None:
    await house.add_place()
    await house.add_place(Channel.EMAIL)
    one = await house.post(priority=Priority.HIGH)
    await house.turn()
    await house.service.mark_read(house.owner, one.notification_id)
    await house.after(timedelta(hours=1))
    assert house.email.parcels == []


async def test_where_every_push_fails_the_mail_does_not_wait(house: House) -> None:
    await house.add_place()
    await house.add_place(Channel.EMAIL)
    house.push.answers = [Answer(Outcome.GONE, "the service says that it is gone")]
    one = await house.post(priority=Priority.HIGH)
    await house.turn()
    await house.after(timedelta(seconds=1))
    assert await house.tried(one) == [("live", "failed"), ("push", "failed"), ("email", "accepted")]
    assert (await house.attempts(one))[1].reason == "the service says that it is gone"
    await house.post(priority=Priority.HIGH)
    await house.turn()
    assert len(house.push.parcels) == 1, "what is gone is not tried again"


async def test_a_push_that_is_refused_for_now_is_tried_again_when_the_service_wants_it(house: House) -> None:
    await house.add_place()
    house.push.answers = [Answer(Outcome.LATER, "it answered 429", after_s=120)]
    one = await house.post()
    await house.turn()
    assert await house.tried(one) == [("live", "failed"), ("push", "queued")]
    await house.after(MINUTE)
    assert len(house.push.parcels) == 1
    await house.after(MINUTE)
    assert await house.tried(one) == [("live", "failed"), ("push", "accepted")]
    assert len({parcel.parcel_id for parcel in house.push.parcels}) == 1


async def test_nothing_is_sent_after_the_end(house: House) -> None:
    await house.add_place()
    house.here.add(house.owner.user_id)
    one = await house.post(expires_at_ms=house.clock.now_ms() + 5000)
    await house.after(TEN_S)
    assert (await house.state(one), house.push.parcels) == ("expired", [])


async def test_many_that_collapse_are_one_push(house: House) -> None:
    await house.add_place()
    house.here.add(house.owner.user_id)
    for number in range(9):
        await house.post(f"Message {number}", collapse_key="chat")
        await house.after(timedelta(seconds=1))
    last = await house.post("The last", collapse_key="chat")
    await house.after(TEN_S)
    assert len(house.push.parcels) == 1
    assert (await house.tried(last))[-1] == ("push", "accepted")


async def test_quiet_hours_hold_back_and_what_is_critical_breaks_them(house: House) -> None:
    await house.add_place()
    local = datetime.fromtimestamp(house.clock.now_ms() / 1000, BERLIN)
    minute = local.hour * 60 + local.minute
    quiet = replace(DEFAULT, quiet=Quiet(minute, (minute + 60) % 1440), time_zone="Europe/Berlin")
    await house.use(quiet)
    await house.post()
    await house.post(priority=Priority.CRITICAL)
    await house.turn()
    assert [parcel.priority for parcel in house.push.parcels] == ["critical"]
    await house.use(replace(quiet, critical_breaks_quiet=False))
    await house.post(priority=Priority.CRITICAL)
    await house.turn()
    assert len(house.push.parcels) == 1
    await house.after(timedelta(minutes=58))
    assert len(house.push.parcels) == 1
    await house.after(timedelta(minutes=2))
    assert len(house.push.parcels) == 3


async def test_after_the_quiet_hours_the_steps_come_one_after_the_other(house: House) -> None:
    await house.add_place()
    await house.add_place(Channel.EMAIL)
    now_s = house.clock.now_ms() // 1000 % 86400
    minute = now_s // 60
    await house.use(replace(DEFAULT, quiet=Quiet(minute, (minute + 60) % 1440)))
    await house.post(priority=Priority.HIGH)
    await house.turn()
    await house.after(timedelta(minutes=61))
    assert (len(house.push.parcels), len(house.email.parcels)) == (1, 0)
    await house.after(timedelta(minutes=5))
    assert len(house.email.parcels) == 1


async def test_what_is_low_is_told_once_a_day_in_one(house: House) -> None:
    await house.add_place()
    house.allows_content = True
    await house.use(replace(DEFAULT, shows_content=True, digest_minute=8 * 60))
    for number in range(12):
        await house.post(f"Low {number}", priority=Priority.LOW)
    await house.turn()
    assert house.push.parcels == []
    await house.after(timedelta(days=1))
    await house.after(TEN_S)
    assert [(one.kind, one.title) for one in house.push.parcels] == [("digest", "12 notifications")]
    assert house.push.parcels[0].body.endswith("and 2 more")


async def test_what_is_muted_is_kept_and_not_sent(house: House) -> None:
    await house.add_place()
    await house.use(replace(DEFAULT, muted=frozenset({"notice"})))
    one = await house.post()
    await house.after(timedelta(days=2))
    assert (await house.state(one), house.push.parcels) == ("open", [])


async def test_what_an_event_has_shown_leaves_nothing_behind(house: House) -> None:
    await house.add_place()
    house.here.add(house.owner.user_id)
    one = await house.post(event_seq=1)
    house.acknowledged[house.owner.user_id] = 1
    await house.after(TEN_S)
    assert await house.state(one) == "gone"
    assert await house.events("notification.created") == []


async def test_what_nobody_settles_goes_to_the_next_and_ends_for_all_together(house: House) -> None:
    other = await house.add_person("bob", Role.ADMIN)
    await house.add_place(user_id=other)
    at_ms = house.clock.now_ms() + 600_000
    await house.post(collapse_key="approval:1", escalation=Escalation(at_ms, role=Role.ADMIN), event_seq=1)
    house.acknowledged[house.owner.user_id] = 1
    await house.turn()
    assert house.push.parcels == [], "somebody saw it, nobody acted yet"
    await house.after(10 * MINUTE)
    await house.turn()
    assert [parcel.place.user_id for parcel in house.push.parcels] == [other]
    now_ms = house.clock.now_ms()
    await house.database.write(lambda tx: house.service.settle(tx, house.owner.user_id, "approval:1", now_ms))
    page = await house.service.find_page(Principal(other, frozenset()), None, 10)
    assert [one.notification.state for one in page.rows] == ["done"]


async def test_of_two_nodes_one_sends(house: House) -> None:
    await house.add_place()
    await house.post()
    await house.router().look()
    await house.router().look()
    await house.sender("nod_a").look()
    await house.sender("nod_b").look()
    assert len(house.push.parcels) == 1


@pytest.mark.parametrize(("channel", "state", "sent"), [(Channel.PUSH, "accepted", 1), (Channel.EMAIL, "unknown", 0)])
async def test_after_a_kill_while_sending_only_what_may_be_repeated_is(
    house: House, channel: Channel, state: str, sent: int
) -> None:
    await house.add_place(channel)
    one = await house.post(priority=Priority.CRITICAL)
    await house.router().look()
    dying = house.sender("nod_a")
    attempt = (await house.attempts(one))[1]
    await house.database.write(lambda tx: dying._take(tx, attempt))  # pyright: ignore[reportPrivateUsage]  the process dies here
    house.nodes.remove("nod_a")
    await house.turn("nod_b")
    assert (await house.tried(one))[1] == (channel, state)
    assert len(house.push.parcels) + len(house.email.parcels) == sent


async def test_a_sender_that_floods_is_refused_counted_and_told_once(house: House) -> None:
    house.limits = Limits(per_sender=3)
    house.service = house.make_service()
    sender = replace(house.owner, device_id="dev_1")
    note = Note("", "notice", "Hello")
    for _ in range(3):
        await house.service.send(sender, note, Recipients())
    for _ in range(5):
        with pytest.raises(Problem) as refused:
            await house.service.send(sender, note, Recipients())
        assert refused.value.code is Code.RATE_LIMITED
    counts = await house.database.read(lambda tx: _count(tx, AuditEvent.NOTIFICATION_REFUSED))
    assert counts == 1


def _count(tx: Transaction, event: AuditEvent) -> int:
    return sum(row["event"] == event for row in tx.rows(select(audit_log.c.event)))


async def test_nobody_notifies_others_without_the_scope_for_it(house: House) -> None:
    other = await house.add_person("bob")
    plain = Principal(house.owner.user_id, frozenset({Scope.NOTIFY}), device_id="dev_1")
    for to in (Recipients(user_id=other), Recipients(role=Role.MEMBER)):
        with pytest.raises(Problem) as refused:
            await house.service.send(plain, Note("", "notice", "Hello"), to)
        assert refused.value.code is Code.FORBIDDEN
    assert len(await house.service.send(plain, Note("", "notice", "Hello"), Recipients())) == 1


@pytest.mark.parametrize(
    "note",
    [
        Note("", "notice", ""),
        Note("", "notice", "two\nlines"),
        Note("", "notice", "x" * 121),
        Note("", "notice", "a\u202eb"),
        Note("", "notice", "a", body="x" * 2001),
        Note("", "Notice!", "a"),
        Note("", "approval", "a"),
        Note("", "notice", "a", link="//evil.example/"),
        Note("", "notice", "a", link="http://evil.example/"),
        Note("", "notice", "a", link="https://user@evil.example/"),
        Note("", "notice", "a", link="javascript:alert(1)"),
    ],
)
async def test_what_no_notification_can_be_is_refused(house: House, note: Note) -> None:
    with pytest.raises(Problem) as refused:
        await house.service.send(house.owner, note, Recipients())
    assert refused.value.code is Code.INVALID


async def test_after_a_restore_nothing_of_that_time_is_sent(house: House) -> None:
    await house.add_place()
    house.push.answers = [Answer(Outcome.LATER, "it answered 503")]
    one = await house.post()
    await house.turn()
    now_ms = house.clock.now_ms()
    await house.database.write(lambda tx: settle_notifications(tx, now_ms))
    await house.after(timedelta(hours=1))
    assert (await house.state(one), await house.tried(one)) == ("expired", [("live", "failed"), ("push", "unknown")])
    assert len(house.push.parcels) == 1


async def test_a_title_that_an_agent_chose_is_made_to_fit(house: House) -> None:
    one = await house.post("a\u202e\n" + "x" * 500, kind="approval", body="\u202ebody\x00")
    found = await house.now(one)
    assert found is not None
    assert (len(found.title), found.title[:2], found.body) == (120, "a ", "body")
