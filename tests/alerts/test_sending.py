"""Messages are sent at least once, no more often than a channel may be told, and each says how it went."""

from datetime import timedelta

import pytest

from entobot.alerts.model import MessageState
from entobot.core.alert_rules import RuleId, Severity
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from tests.alerts.conftest import Yard

ON_EVERY_STORE = True


async def flood(yard: Yard, count: int) -> None:
    for number in range(count):
        yard.clock.advance(0.01)
        await yard.fire(RuleId.DISK_LOW, f"node{number}")


async def states(yard: Yard) -> dict[str, int]:
    found: dict[str, int] = {}
    for message in await yard.messages():
        found[message.state] = found.get(message.state, 0) + 1
    return found


async def test_what_fired_is_sent_once(yard: Yard) -> None:
    sender = yard.sender()
    await yard.fire()
    await sender.look()
    await sender.look()
    assert yard.kept.headlines == ["[Kitchen] critical: The disk is nearly full"]
    (message,) = await yard.messages()
    assert (message.state, message.attempts, message.reason) == ("sent", 1, "")


async def test_a_channel_is_told_from_its_severity_on(yard: Yard) -> None:
    alerts = yard.alerts(channels={"kept": Severity.CRITICAL})
    yard.alerts = lambda rules=(), channels=None: alerts  # pyright: ignore[reportAttributeAccessIssue]  the yard of this test
    await yard.fire(RuleId.STORE_QUEUE)
    await yard.fire(RuleId.STORE_DOWN)
    assert len(await yard.messages()) == 1


async def test_what_comes_beyond_the_limit_is_told_in_one_message_and_counted(yard: Yard) -> None:
    sender = yard.sender(per_hour=3)
    await flood(yard, 20)
    await sender.look()
    assert len(yard.kept.notices) == 3
    assert yard.kept.headlines[2] == "[Kitchen] and 18 more"
    assert await states(yard) == {"sent": 3, "folded": 18}
    yard.clock.advance(1)
    await flood(yard, 5)
    await sender.look()
    assert len(yard.kept.notices) == 3, "it waits for the hour to pass"
    yard.later(timedelta(hours=1))
    await flood(yard, 30)
    await sender.look()
    assert len(yard.kept.notices) == 6
    assert yard.kept.headlines[5].endswith("more")
    assert "queued" not in await states(yard)


async def test_a_failed_message_is_tried_again_ever_less_often_and_given_up_after_a_day(yard: Yard) -> None:
    sender = yard.sender()
    yard.kept.refuses = "it is away"
    await yard.fire()
    waits: list[int] = []
    while True:
        await sender.look()
        (message,) = await yard.messages()
        if message.state is not MessageState.QUEUED:
            break
        assert message.reason == "it is away"
        waits.append(message.due_at_ms - yard.clock.now_ms())
        await sender.look()
        assert (await yard.messages())[0].attempts == message.attempts, "not before it is due"
        yard.clock.advance(waits[-1] / 1000)
    assert (message.state, message.reason) == ("failed", "it is away")
    assert 86_400_000 <= yard.clock.now_ms() - message.made_at_ms < 86_400_000 + 30 * 60_000
    assert all(
        low <= wait <= high
        for wait, low, high in zip(waits, (5000, 10_000, 20_000), (10_000, 20_000, 40_000), strict=False)
    )
    assert max(waits) <= 30 * 60_000


async def test_a_failed_digest_is_tried_again_under_its_id(yard: Yard) -> None:
    sender = yard.sender(per_hour=1)
    yard.kept.refuses = "it is away"
    await flood(yard, 5)
    await sender.look()
    ids = {message.message_id for message in await yard.messages() if message.kind == "digest"}
    yard.later(timedelta(hours=1))
    await flood(yard, 8)
    yard.kept.refuses = ""
    await sender.look()
    assert {notice.message_id for notice in yard.kept.notices} == ids
    assert len(yard.kept.notices) == 1
    assert await states(yard) == {"sent": 1, "folded": 8}


async def test_of_two_nodes_one_sends_and_the_other_goes_on_when_it_is_gone(yard: Yard) -> None:
    yard.nodes = {"nod_a", "nod_b"}
    first, second = yard.sender("nod_a"), yard.sender("nod_b")
    await yard.fire()
    await first.look()
    await yard.fire(node="there")
    await second.look()
    assert len(yard.kept.notices) == 1
    yard.nodes = {"nod_b"}
    await second.look()
    assert len(yard.kept.notices) == 2


async def test_a_crash_between_sending_and_noting_sends_the_same_message_again(yard: Yard) -> None:
    sender = yard.sender()
    await yard.fire()
    work = await yard.database.write(sender._take)
    assert work is not None
    await sender._send(work.notice)
    await yard.sender().look()
    assert len({notice.message_id for notice in yard.kept.notices}) == 1
    assert len(yard.kept.notices) == 2


async def test_an_alert_that_is_over_is_told_and_acknowledging_is_not_taken_back(yard: Yard) -> None:
    owner, alerts = await yard.owner(), yard.alerts()
    await yard.fire()
    (told,) = await yard.listed()
    done = await alerts.acknowledge(owner, told.alert.alert_id)
    again = await alerts.acknowledge(owner, told.alert.alert_id)
    assert (done.alert.state, done.alert.acknowledged_by) == ("acknowledged", owner.user_id)
    assert again == done
    await yard.database.write(lambda tx: alerts.clear(tx, done.alert, yard.clock.now_ms()))
    await yard.sender().look()
    assert [notice.headline.split(": ")[0] for notice in yard.kept.notices] == ["[Kitchen] critical", "[Kitchen] over"]
    (over,) = await yard.listed()
    assert (over.alert.state, over.alert.acknowledged_by) == ("cleared", owner.user_id)


async def test_only_who_holds_settings_acknowledges(yard: Yard) -> None:
    await yard.fire()
    (told,) = await yard.listed()
    viewer = Principal("usr_x", frozenset({Scope.AUDIT}))
    with pytest.raises(Problem) as refused:
        await yard.alerts().acknowledge(viewer, told.alert.alert_id)
    assert refused.value.code is Code.FORBIDDEN


async def test_pages_are_whole_and_old_alerts_are_forgotten(yard: Yard) -> None:
    alerts = yard.alerts()
    await flood(yard, 15)
    seen: list[str] = []
    cursor = None
    while True:
        page = await alerts.find_page(None, is_open=False, cursor=cursor, limit=4)
        seen += [told.alert.node for told in page.rows]
        if (cursor := page.next) is None:
            break
    assert seen == [f"node{number}" for number in reversed(range(15))]
    assert page.firing == 15
    for told in await yard.listed():
        await yard.database.write(lambda tx, one=told.alert: alerts.clear(tx, one, yard.clock.now_ms()))
    yard.later(timedelta(days=91))
    await yard.fire()
    await alerts.forget(90 * 86_400_000)
    assert [state for _, _, state in await yard.states()] == ["firing"]
