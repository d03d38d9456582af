"""REST of alerts: translate only."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from entobot.alerts.desk import ChannelState, Desk, Shown
from entobot.alerts.model import Message, MessageKind, MessageState, State, Watched
from entobot.alerts.service import MAX_PAGE, Alerts, Told
from entobot.alerts.wording import seen_text
from entobot.core.alert_rules import RULES, RuleId, Severity, Watches
from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MessageRow(_Body):
    channel: str
    kind: MessageKind
    state: MessageState = Field(description="`folded`: a digest told of it.")
    attempts: int
    made_at: str
    due_at: str | None = Field(description="When a queued one is tried next.")
    ended_at: str | None
    reason: str = Field(description="Why the last attempt failed; empty when it did not.")


class AlertRow(_Body):
    """`node` is empty for what all nodes share; `subject` names the thing, where each has an alert of its own."""

    alert_id: str
    rule: RuleId
    title: str
    severity: Severity
    state: State
    subject: str
    node: str
    count: int = Field(description="How often it was seen, where that is counted.")
    facts: dict[str, Any]
    seen: str = Field(description="The facts in words, on one line; may be empty.")
    fix: str = Field(description="What to do.")
    docs: str = Field(description="A page of the documentation, in the source tree.")
    first_at: str
    last_at: str
    acknowledged_by: str | None = Field(description="A user id.")
    acknowledged_at: str | None
    cleared_at: str | None
    messages: list[MessageRow] = Field(description="Who was told, the first 20.")


class AlertPage(_Body):
    rows: list[AlertRow]
    next: str | None = Field(description="Pass as `cursor` for the following page.")
    firing: int = Field(description="Alerts that nobody has acknowledged, on all pages.")


class RuleRow(_Body):
    """A rule as the settings have it."""

    id: RuleId
    title: str
    what: str = Field(description="What it looks at.")
    watches: Watches
    severity: Severity
    enabled: bool
    threshold: float
    is_low: bool = Field(description="It fires at or below the threshold, instead of at or above.")
    unit: str
    window_s: float = Field(description="Within which is counted, or for how long a level must hold.")
    fix: str
    docs: str


class RuleList(_Body):
    rows: list[RuleRow]


class ChannelRow(_Body):
    """`place` is the host that it goes to. Addresses of people and secrets are not told."""

    name: str
    kind: str
    place: str
    severity: Severity = Field(description="From which severity on it is told.")
    state: ChannelState
    per_hour: int
    sent_last_hour: int
    queued: int
    last: MessageRow | None = Field(description="The last attempt.")


class ChannelList(_Body):
    rows: list[ChannelRow]


class Tested(_Body):
    channel: str
    state: Literal["failed", "sent"]
    reason: str


def add_routes(api: Api, alerts: Alerts, desk: Desk) -> None:
    async def list_alerts(
        state: Annotated[State | Literal["open"] | None, Query(description="`open`: firing or acknowledged.")] = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> AlertPage:
        of_state = None if state == "open" else state
        page = await alerts.find_page(of_state, cursor=cursor, limit=limit, is_open=state == "open")
        return AlertPage(rows=[_alert(one) for one in page.rows], next=page.next, firing=page.firing)

    async def acknowledge_alert(alert_id: str, principal: Caller) -> AlertRow:
        """Say that somebody has taken it up. One that is acknowledged or over stays as it is."""
        return _alert(await alerts.acknowledge(principal, alert_id))

    async def list_alert_rules() -> RuleList:
        return RuleList(rows=[_rule(one) for one in alerts.rules.values()])

    async def list_alert_channels() -> ChannelList:
        return ChannelList(rows=[_channel(one) for one in await desk.channels()])

    async def test_alert_channel(channel: str, principal: Caller) -> Tested:
        """Send a test and wait for what becomes of it. 200 also where it failed: `state` says so."""
        done = await desk.test(principal, channel)
        return Tested(
            channel=channel, state="sent" if done.state is MessageState.SENT else "failed", reason=done.reason
        )

    at = "/api/v1/alerts"
    api.add("GET", at, list_alerts, problems=[Code.INVALID])
    api.add("GET", f"{at}/channels", list_alert_channels)
    api.add("GET", f"{at}/rules", list_alert_rules)
    api.add("POST", f"{at}/channels/{{channel}}/test", test_alert_channel, problems=[Code.NOT_FOUND], idempotent=False)
    api.add("POST", f"{at}/{{alert_id}}/acknowledge", acknowledge_alert, problems=[Code.NOT_FOUND])


def _alert(told: Told) -> AlertRow:
    one, rule = told.alert, RULES[told.alert.rule]
    return AlertRow(
        alert_id=one.alert_id,
        rule=one.rule,
        title=rule.title,
        severity=one.severity,
        state=one.state,
        subject=one.subject,
        node=one.node,
        count=one.count,
        facts=dict(one.facts),
        seen=seen_text(one),
        fix=rule.fix,
        docs=rule.docs,
        first_at=rfc3339(one.first_at_ms),
        last_at=rfc3339(one.last_at_ms),
        acknowledged_by=one.acknowledged_by,
        acknowledged_at=rfc3339_or_none(one.acknowledged_at_ms),
        cleared_at=rfc3339_or_none(one.cleared_at_ms),
        messages=[_message(message) for message in told.messages],
    )


def _message(one: Message) -> MessageRow:
    return MessageRow(
        channel=one.channel,
        kind=one.kind,
        state=one.state,
        attempts=one.attempts,
        made_at=rfc3339(one.made_at_ms),
        due_at=rfc3339(one.due_at_ms) if one.state is MessageState.QUEUED else None,
        ended_at=rfc3339_or_none(one.ended_at_ms),
        reason=one.reason,
    )


def _rule(one: Watched) -> RuleRow:
    return RuleRow(
        id=one.id,
        title=one.rule.title,
        what=one.rule.what,
        watches=one.rule.watches,
        severity=one.rule.severity,
        enabled=one.is_enabled,
        threshold=one.threshold,
        is_low=one.rule.is_low,
        unit=one.rule.unit,
        window_s=one.window_ms / 1000,
        fix=one.rule.fix,
        docs=one.rule.docs,
    )


def _channel(one: Shown) -> ChannelRow:
    return ChannelRow(
        name=one.name,
        kind=one.kind,
        place=one.place,
        severity=one.severity,
        state=one.state,
        per_hour=one.per_hour,
        sent_last_hour=one.sent_last_hour,
        queued=one.queued,
        last=None if one.last is None else _message(one.last),
    )
