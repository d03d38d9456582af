"""Alerts as notifications: whom they reach, how urgent they are, and what takes the place of what."""

from dataclasses import replace
from datetime import timedelta

import pytest

from entobot.accounts import store as accounts_store
from entobot.alerts.channel_notification import NotificationChannel
from entobot.alerts.sending import Outlet, Sender
from entobot.alerts.store import find_open
from entobot.core.alert_rules import RULES, RuleId, Severity
from entobot.core.ids import RandomIds
from entobot.core.permissions import Role
from entobot.notifications import store
from entobot.notifications.model import Notification, Priority, State
from entobot.notifications.wording import path_of
from entobot.storage.database import Database
from entobot.telemetry.meters import Meters
from tests.alerts.conftest import Yard
from tests.notifications.conftest import House
from tests.support.time import ManualClock

ON_EVERY_STORE = True


class Street:
    """A yard whose alerts are told in a house."""

    def __init__(self, yard: Yard, house: House) -> None:
        self.yard, self.house = yard, house
        self.channel = NotificationChannel(house.service, house.accounts, house.database, house.clock)

    def sender(self, per_hour: int = 100) -> Sender:
        yard = self.yard
        return Sender(
            Outlet("kept", "notification", self.channel, per_hour),
            database=yard.database,
            clock=yard.clock,
            ids=yard.ids,
            entropy=yard.entropy,
            meters=Meters(),
            gateway="Kitchen",
            origin="https://gate.example",
            node_id="nod_a",
            alive=lambda _: frozenset(yard.nodes),
        )

    async def told(self, user_id: str = "") -> list[Notification]:
        who = user_id or self.house.owner.user_id
        found = await self.house.database.read(lambda tx: store.all_open(tx, who, 100))
        return sorted(found, key=lambda one: one.notification_id)


@pytest.fixture
async def street(yard: Yard, database: Database, clock: ManualClock, ids: RandomIds) -> Street:
    house = House(database, clock, ids)
    house.owner = await yard.owner()
    return Street(yard, house)


def rule_of(severity: Severity) -> RuleId:
    return next(one for one, rule in RULES.items() if rule.severity is severity and not rule.is_news)


@pytest.mark.parametrize(
    ("severity", "priority"),
    [(Severity.CRITICAL, Priority.CRITICAL), (Severity.WARNING, Priority.HIGH)],
)
async def test_an_alert_is_as_urgent_as_it_is_severe(street: Street, severity: Severity, priority: Priority) -> None:
    rule = rule_of(severity)
    await street.yard.fire(rule)
    await street.sender().look()
    (one,) = await street.told()
    assert (one.kind, one.priority) == ("alert", priority)
    assert one.title == f"{severity}: {RULES[rule].title}"
    assert RULES[rule].fix in one.body
    assert path_of(one) == "/admin/alerts"


async def test_it_reaches_everybody_who_may_see_alerts_and_nobody_else(street: Street) -> None:
    viewer = await street.house.add_person("vic", Role.VIEWER)
    member = await street.house.add_person("mia", Role.MEMBER)
    await street.yard.fire()
    await street.sender().look()
    assert [len(await street.told(one)) for one in ("", viewer, member)] == [1, 1, 0]


async def test_that_it_is_over_takes_its_place_quietly(street: Street) -> None:
    await street.yard.fire()
    await street.sender().look()
    (first,) = await street.told()
    alerts = street.yard.alerts()
    now_ms = street.yard.clock.now_ms()
    alert = await street.yard.database.read(lambda tx: find_open(tx, RuleId.DISK_LOW, "", "here"))
    assert alert is not None
    await street.yard.database.write(lambda tx: alerts.clear(tx, alert, now_ms))
    await street.sender().look()
    (over,) = await street.told()
    assert over.title.startswith("over: ")
    assert over.priority in (Priority.LOW, Priority.NORMAL)
    assert over.collapse_key == first.collapse_key
    assert await street.house.state(first) == State.REPLACED


async def test_a_message_that_comes_twice_is_one_notification(street: Street) -> None:
    """The node died after it had posted, before it noted that."""
    await street.yard.fire()
    sender = street.sender()
    work = await street.yard.database.write(sender._take)  # pyright: ignore[reportPrivateUsage]  what a node does before it dies
    assert work is not None
    await street.channel.send(work.notice)
    await sender.look()
    assert len(await street.told()) == 1


async def test_a_flood_is_told_in_one_when_the_hour_is_full(street: Street) -> None:
    for number in range(6):
        await street.yard.fire(node=f"n{number}")
    await street.sender(per_hour=3).look()
    titles = [one.title for one in await street.told()]
    assert len(titles) == 3
    assert "[Kitchen] and 4 more" in titles
    street.yard.later(timedelta(minutes=30))
    await street.yard.fire(node="later")
    await street.sender(per_hour=3).look()
    assert len(await street.told()) == 3, "the hour is full"


async def test_nobody_to_tell_is_a_failure_that_is_told(street: Street) -> None:
    owner = await street.house.database.read(lambda tx: street.house.accounts.get_user(tx, street.house.owner.user_id))
    await street.house.database.write(lambda tx: accounts_store.change_user(tx, replace(owner, role=Role.MEMBER)))
    await street.yard.fire()
    await street.sender().look()
    (message,) = await street.yard.messages()
    assert (message.state, message.reason) == ("queued", "nobody's role may see alerts")
