"""The log and the numbers are looked at: nothing is missed, nothing is told twice, several nodes are one."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from entobot.alerts.chain_watch import ChainWatch
from entobot.alerts.log_watch import BATCH, HITS, LogWatch
from entobot.alerts.service import MAX_OPEN
from entobot.audit.events import AuditEvent
from entobot.config_alerts import AlertRule
from entobot.core.alert_rules import RuleId
from tests.alerts.conftest import Yard
from tests.support.stores import change

ON_EVERY_STORE = True
REFUSED = AuditEvent.SIGN_IN_REFUSED


async def begun(yard: Yard, *rules: AlertRule, node_id: str = "nod_a") -> LogWatch:
    watch = yard.log_watch(node_id, yard.alerts(rules))
    await watch.look()
    return watch


async def test_what_stood_in_the_log_before_the_first_look_is_no_news(yard: Yard) -> None:
    await yard.record(REFUSED, count=50)
    await (await begun(yard)).look()
    assert await yard.states() == []


async def test_the_threshold_counts_entries_and_what_they_stand_for(yard: Yard) -> None:
    watch = await begun(yard)
    await yard.record(REFUSED, count=2)
    await yard.record(REFUSED, count=7)
    await watch.look()
    assert await yard.states() == []
    await yard.record(REFUSED)
    await watch.look()
    assert await yard.states() == [("sign_ins_refused", "", "firing")]
    (told,) = await yard.listed()
    assert told.alert.facts == {"in_window": 10, "window_s": 900}


async def test_sms_that_fail_are_told(yard: Yard) -> None:
    watch = await begun(yard)
    await yard.record(AuditEvent.SMS_FAILED, count=3)
    await watch.look()
    assert await yard.states() == [("sms_fail", "", "firing")]


async def test_it_is_one_alert_until_it_is_over_and_then_another(yard: Yard) -> None:
    watch = await begun(yard)
    for _ in range(3):
        await yard.record(REFUSED, count=10)
        await watch.look()
    assert [(one.alert.state, one.alert.count) for one in await yard.listed()] == [("firing", 30)]
    yard.later(timedelta(minutes=16))
    await watch.look()
    assert await yard.states() == [("sign_ins_refused", "", "cleared")]
    await yard.record(REFUSED, count=10)
    await watch.look()
    assert [state for _, _, state in await yard.states()] == ["cleared", "firing"]


async def test_a_restart_counts_on_where_the_last_one_stopped(yard: Yard) -> None:
    await (await begun(yard)).look()
    await yard.record(REFUSED, count=6)
    await yard.log_watch().look()
    yard.nodes = {"nod_b"}
    await yard.record(REFUSED, count=4)
    await yard.log_watch("nod_b").look()
    assert [told.alert.count for told in await yard.listed()] == [10]


async def test_of_two_nodes_one_counts(yard: Yard) -> None:
    yard.nodes = {"nod_a", "nod_b"}
    watches = [await begun(yard), await begun(yard, node_id="nod_b")]
    await yard.record(REFUSED, count=12)
    for watch in reversed(watches):
        await watch.look()
    assert [told.alert.count for told in await yard.listed()] == [12]


async def test_a_log_longer_than_a_batch_is_read_to_its_end(yard: Yard) -> None:
    watch = await begun(yard)
    await yard.record(AuditEvent.DEVICE_RENAMED, count=BATCH + 3)
    await yard.record(REFUSED, count=10)
    await watch.look()
    assert await yard.states() == [("sign_ins_refused", "", "firing")]


async def test_each_device_has_an_alert_and_a_fleet_one_for_all_the_rest(yard: Yard) -> None:
    watch = await begun(yard)
    for number in range(MAX_OPEN + 5):
        await yard.record(AuditEvent.DEVICE_PAIRED, f"dev_{number}")
    await watch.look()
    listed = await yard.listed()
    assert len(listed) == MAX_OPEN + 1
    assert [told.alert.count for told in listed if not told.alert.subject] == [5]
    yard.later(timedelta(hours=2))
    await watch.look()
    assert {state for _, _, state in await yard.states()} == {"cleared"}
    assert {message.kind for message in await yard.messages()} == {"fired"}, "nobody is told that news is over"


@pytest.mark.parametrize(
    ("facts", "fires"),
    [
        ({"role": "owner", "before": "member"}, True),
        ({"role": "admin"}, True),
        ({"role": "owner", "before": "owner"}, False),
        ({"role": "member", "before": "owner"}, False),
    ],
)
async def test_only_who_is_raised_is_told(yard: Yard, facts: dict[str, Any], fires: bool) -> None:
    watch = await begun(yard)
    await yard.record(AuditEvent.USER_CHANGED, "usr_x", count=1, **facts)
    await watch.look()
    assert await yard.states() == ([("person_raised", "usr_x", "firing")] if fires else [])


async def test_a_receiver_that_recovers_ends_its_own_alert(yard: Yard) -> None:
    watch = await begun(yard)
    for sink in ("one", "two"):
        await yard.record(AuditEvent.AUDIT_SINK_FAILED, sink=sink)
    await watch.look()
    await yard.record(AuditEvent.AUDIT_SINK_RECOVERED, sink="two")
    await watch.look()
    assert await yard.states() == [("audit_sink_failed", "one", "firing"), ("audit_sink_failed", "two", "cleared")]


async def test_a_rule_that_is_switched_off_fires_nothing_and_ends_what_it_fired(yard: Yard) -> None:
    watch = await begun(yard)
    await yard.record(REFUSED, count=10)
    await watch.look()
    off = await begun(yard, AlertRule(id=RuleId.SIGN_INS_REFUSED, enabled=False))
    await yard.record(REFUSED, count=10)
    await off.look()
    assert await yard.states() == [("sign_ins_refused", "", "cleared")]


async def test_alerts_do_not_feed_on_what_is_recorded_of_them(yard: Yard) -> None:
    watch = await begun(yard)
    await yard.record(REFUSED, count=10)
    for _ in range(3):
        await watch.look()
    page = await yard.database.read(lambda tx: yard.audit.find(tx, after=0, limit=500))
    events = [found.entry.event for found in page.entries]
    assert [one for one in events if one.startswith("alert.")] == ["alert.fired"]
    assert not [one for one in HITS if one.startswith("alert.")]


async def test_people_who_may_see_alerts_have_it_on_their_streams(yard: Yard) -> None:
    owner = await yard.owner()
    await yard.fire()
    events = await yard.database.read(lambda tx: yard.stream.after(tx, owner.user_id, 0))
    assert [(one.scope, one.topic) for one in events] == [("notify", "alerts")]
    assert '"rule":"disk_low"' in events[0].event


# -- numbers


async def test_a_number_of_a_node_fires_after_its_window_and_is_over_behind_its_margin(yard: Yard) -> None:
    watch = yard.level_watch()
    yard.numbers[RuleId.DISK_LOW] = 5
    await watch.look()
    assert await yard.states() == []
    yard.later(timedelta(minutes=1))
    await watch.look()
    yard.later(timedelta(minutes=1))
    await watch.look()
    (told,) = await yard.listed()
    assert (told.alert.node, told.alert.facts) == ("here", {"value": 5})
    yard.numbers[RuleId.DISK_LOW] = 11
    await watch.look()
    assert await yard.states() == [("disk_low", "", "firing")]
    yard.numbers[RuleId.DISK_LOW] = 50
    await watch.look()
    assert await yard.states() == [("disk_low", "", "cleared")]


async def test_a_counter_fires_by_how_much_it_grew(yard: Yard) -> None:
    watch = yard.level_watch()
    yard.numbers[RuleId.LIMITS_HIT] = 100_000
    await watch.look()
    assert await yard.states() == [], "what was before this start is no growth"
    yard.numbers[RuleId.LIMITS_HIT] += 600
    yard.later(timedelta(minutes=1))
    await watch.look()
    assert await yard.states() == [("limits_hit", "", "firing")]
    yard.later(timedelta(minutes=6))
    await watch.look()
    assert await yard.states() == [("limits_hit", "", "cleared")]


async def test_two_nodes_have_alerts_of_their_own_and_those_of_one_that_is_gone_end(yard: Yard) -> None:
    rules = yard.alerts([AlertRule(id=RuleId.DISK_LOW, window=timedelta(0))])
    here, there = yard.level_watch("here", rules), yard.level_watch("there", rules)
    yard.numbers[RuleId.DISK_LOW] = 1
    await here.look()
    await there.look()
    assert len(await yard.states()) == 2
    await here.end_of_gone()
    assert [state for _, _, state in await yard.states()] == ["firing", "firing"]
    yard.later(timedelta(minutes=11))
    await here.look()
    await here.end_of_gone()
    assert {one.alert.node: str(one.alert.state) for one in await yard.listed()} == {
        "here": "firing", "there": "cleared",
    }  # fmt: skip


async def test_a_look_at_which_nothing_changed_writes_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = yard.alerts([AlertRule(id=RuleId.DISK_LOW, window=timedelta(0))])
    yard.numbers[RuleId.DISK_LOW] = 1
    log, level = await begun(yard), yard.level_watch("here", rules)
    for _ in range(2):
        await level.look()
    await yard.record(REFUSED, count=10)
    for _ in range(2):  # what it fires is in the log, too
        await log.look()
    assert {state for _, _, state in await yard.states()} == {"firing"}

    async def write(*_: Any, **__: Any) -> None:
        raise AssertionError("this look wrote")

    monkeypatch.setattr(yard.database, "write", write)
    await log.look()
    await level.look()
    await level.end_of_gone()


async def test_a_restarted_node_goes_on_with_its_own_alert(yard: Yard) -> None:
    rules = yard.alerts([AlertRule(id=RuleId.DISK_LOW, window=timedelta(0))])
    yard.numbers[RuleId.DISK_LOW] = 1
    for _ in range(2):
        await yard.level_watch("here", rules).look()
    assert await yard.states() == [("disk_low", "", "firing")]
    yard.numbers[RuleId.DISK_LOW] = 90
    await yard.level_watch("here", rules).look()
    assert await yard.states() == [("disk_low", "", "cleared")]


# -- the chain


async def test_an_altered_entry_is_found_among_the_new_and_among_the_old(yard: Yard, tmp_path: Path) -> None:
    await yard.record(AuditEvent.DEVICE_RENAMED, count=10)
    watch = ChainWatch(yard.watching())
    await watch.look()
    assert await yard.states() == []
    await yard.record(AuditEvent.DEVICE_RENAMED, count=10, by="x")
    change(tmp_path, "UPDATE audit_log SET facts='{}' WHERE seq=15")
    await watch.look()
    (told,) = await yard.listed()
    assert (told.alert.rule, told.alert.facts) == ("audit_chain_broken", {"defect": "edited", "seq": 15})
    change(tmp_path, 'UPDATE audit_log SET facts=\'{"by":"x"}\' WHERE seq=15')
    await watch.look()
    assert [state for _, _, state in await yard.states()] == ["firing"], "only the whole log ends it"
    yard.later(timedelta(days=1))
    await watch.look()
    assert [state for _, _, state in await yard.states()] == ["cleared"]
    change(tmp_path, 'UPDATE audit_log SET facts=\'{"by":"me"}\' WHERE seq=3')
    await watch.look()
    assert [state for _, _, state in await yard.states()] == ["cleared"], "it looks at what is new"
    yard.later(timedelta(days=1))
    await watch.look()
    assert [state for _, _, state in await yard.states()] == ["cleared", "firing"]


async def test_a_cut_off_end_is_found(yard: Yard, tmp_path: Path) -> None:
    await yard.record(AuditEvent.DEVICE_RENAMED, count=10)
    watch = ChainWatch(yard.watching())
    await watch.look()
    change(tmp_path, "DELETE FROM audit_log WHERE seq > 8")
    await watch.look()
    (told,) = await yard.listed()
    assert told.alert.facts == {"defect": "cut_tail", "seq": 9}
