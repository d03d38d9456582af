"""REST of automations: translate only."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from entobot.automations.model import ActionState, FiringState
from entobot.automations.rules import MAX_BODY_BYTES, Rule, RuleBody, RuleThen
from entobot.automations.service import MAX_PAGE, Automations, Done, Shown
from entobot.automations.trying import MAX_HOURS, Trying, Would
from entobot.automations.wording import cause_text, rule_text, then_text
from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api

Guard = Callable[[Transaction, Principal], None]
AT = "/api/v1/automations"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AutomationRow(_Row):
    automation_id: str
    name: str
    user_id: str
    user_name: str
    is_on: bool
    why_off: str = Field(description="Why the gateway switched it off; empty where a person did.")
    text: str = Field(description="What it does, in a line.")
    thing: str = Field(description="What it looks at, by name. Empty: the time.")
    things: dict[str, str] = Field(description="The names of the things that it commands, by id.")
    made_at: str
    changed_at: str
    next_at: str | None = Field(description="When its time comes next.")
    fired_at: str | None
    fired: int
    rule: RuleBody


class AutomationPage(_Row):
    rows: list[AutomationRow]
    next: str | None


class ActionRow(_Row):
    text: str
    kind: Literal["notify", "command", "ask"]
    state: ActionState
    outcome: str = Field(description="Why it was refused or failed.")
    approval_id: str | None
    ref: str = Field(description="The id of the command, message or notification that was made.")
    command_state: str = Field(description="How the command is now.")
    ended_at: str | None


class FiringRow(_Row):
    firing_id: str
    state: FiringState
    at: str
    cause: str = Field(description="Why, in a line.")
    device_id: str | None
    reading: str
    value: float | bool | str | None
    since: str = Field(description="Since when it held, or the time that came.")
    actions: list[ActionRow]


class FiringPage(_Row):
    rows: list[FiringRow]
    next: str | None


class WouldRow(_Row):
    at: str
    cause: str
    value: float | bool | str | None
    actions: list[str]


class AutomationTrial(_Row):
    rows: list[WouldRow] = Field(description="When it would have fired, oldest first.")
    looked_at: int = Field(description="Readings that were looked at.")
    is_cut: bool = Field(description="There are more readings, or firings, than were looked at.")
    note: str = Field(description="Why there is nothing to look at.")


class RemovedAutomation(_Row):
    automation_id: str


def add_routes(
    api: Api, automations: Automations, trying: Trying, database: Database, clock: Clock, guard: Guard
) -> None:
    routes = _Routes(automations, trying, database, clock, guard)
    one = f"{AT}/{{automation_id}}"
    gone = [Code.NOT_FOUND]
    problems = [Code.INVALID, Code.NOT_FOUND, Code.QUOTA_EXCEEDED]
    api.add("GET", AT, routes.list_automations)
    api.add("POST", AT, routes.add_automation, status_code=201, max_body_bytes=MAX_BODY_BYTES, problems=problems)
    api.add("GET", one, routes.show_automation, problems=gone)
    api.add("PUT", one, routes.change_automation, max_body_bytes=MAX_BODY_BYTES, problems=[*gone, Code.INVALID])
    api.add("DELETE", one, routes.remove_automation, problems=gone)
    api.add("POST", f"{one}/enable", routes.enable_automation, problems=[*gone, Code.INVALID])
    api.add("POST", f"{one}/disable", routes.disable_automation, problems=gone)
    api.add("GET", f"{one}/history", routes.list_firings, problems=gone)
    api.add("GET", f"{one}/try", routes.try_automation, problems=gone)


class _Routes:
    def __init__(
        self, automations: Automations, trying: Trying, database: Database, clock: Clock, guard: Guard
    ) -> None:
        self._automations = automations
        self._trying = trying
        self._database = database
        self._clock = clock
        self._guard = guard

    async def list_automations(
        self,
        principal: Caller,
        *,
        everybody: Annotated[bool, Query(alias="all", description="Everybody's; needs `devices.manage`.")] = False,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> AutomationPage:
        """The caller's automations, newest first."""

        def unit(tx: Transaction) -> AutomationPage:
            self._guard(tx, principal)
            rows, following = self._automations.find_page(tx, principal, cursor, limit, of_all=everybody)
            return AutomationPage(rows=[self._row(tx, principal, one) for one in rows], next=following)

        return await self._database.read(unit)

    async def add_automation(self, body: RuleBody, principal: Caller) -> AutomationRow:
        """It acts with the rights of the caller, as far as they still hold them when it fires."""
        await self._automations.find_zones(body)
        now_ms = self._clock.now_ms()
        return await self._write(principal, lambda tx: self._automations.add(tx, principal, body, now_ms))

    async def show_automation(self, automation_id: str, principal: Caller) -> AutomationRow:
        """One of them; anybody's for whoever holds `devices.manage`."""

        def unit(tx: Transaction) -> AutomationRow:
            self._guard(tx, principal)
            return self._row(tx, principal, self._automations.get(tx, principal, automation_id))

        return await self._database.read(unit)

    async def change_automation(self, automation_id: str, body: RuleBody, principal: Caller) -> AutomationRow:
        """Have it say something else; it looks anew."""
        await self._automations.find_zones(body)
        now_ms = self._clock.now_ms()
        return await self._write(
            principal, lambda tx: self._automations.change(tx, principal, automation_id, body, now_ms)
        )

    async def remove_automation(self, automation_id: str, principal: Caller) -> RemovedAutomation:
        """For good. What it did stays in the audit log."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            self._guard(tx, principal)
            self._automations.remove(tx, principal, automation_id, now_ms)

        await self._database.write(unit)
        return RemovedAutomation(automation_id=automation_id)

    async def enable_automation(self, automation_id: str, principal: Caller) -> AutomationRow:
        """It looks anew, and acts with the rights of the caller."""
        found = await self._database.read(lambda tx: self._automations.get(tx, principal, automation_id))
        await self._automations.find_zones(found.body)
        return await self._switch(automation_id, principal, is_on=True)

    async def disable_automation(self, automation_id: str, principal: Caller) -> AutomationRow:
        """Nothing more fires, and what waits for leave is withdrawn."""
        return await self._switch(automation_id, principal, is_on=False)

    async def _switch(self, automation_id: str, principal: Principal, *, is_on: bool) -> AutomationRow:
        now_ms = self._clock.now_ms()
        return await self._write(
            principal, lambda tx: self._automations.switch(tx, principal, automation_id, now_ms, is_on=is_on)
        )

    async def list_firings(
        self,
        automation_id: str,
        principal: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
    ) -> FiringPage:
        """What it did and why, newest first."""

        def unit(tx: Transaction) -> FiringPage:
            self._guard(tx, principal)
            self._automations.get(tx, principal, automation_id)
            found, following = self._automations.history(tx, automation_id, cursor, limit)
            rows = [
                FiringRow(
                    firing_id=one.firing_id,
                    state=one.state,
                    at=rfc3339(one.at_ms),
                    cause=cause_text(one.cause),
                    device_id=one.cause.device_id,
                    reading=one.cause.reading,
                    value=one.cause.value,
                    since=rfc3339(one.cause.at_ms),
                    actions=[_action(done) for done in actions],
                )
                for one, actions in found
            ]
            return FiringPage(rows=rows, next=following)

        return await self._database.read(unit)

    async def try_automation(
        self,
        automation_id: str,
        principal: Caller,
        hours: Annotated[float, Query(gt=0, le=MAX_HOURS, description="How far back.")] = 24,
    ) -> AutomationTrial:
        """When it would have fired by what is stored, and what it would have done. Nothing happens."""
        found = await self._database.read(lambda tx: self._automations.get(tx, principal, automation_id))
        await self._automations.find_zones(found.body)

        def unit(tx: Transaction) -> AutomationTrial:
            self._guard(tx, principal)
            rule = self._automations.own(tx, principal, automation_id)
            tried = self._trying.run(tx, principal, rule, hours, self._clock.now_ms())
            rows = [_would(one, rule) for one in tried.fired]
            return AutomationTrial(rows=rows, looked_at=tried.looked_at, is_cut=tried.is_cut, note=tried.note)

        return await self._database.read(unit)

    async def _write(self, principal: Principal, act: Callable[[Transaction], Rule]) -> AutomationRow:
        def unit(tx: Transaction) -> AutomationRow:
            self._guard(tx, principal)
            return self._row(tx, principal, act(tx))

        return await self._database.write(unit)

    def _row(self, tx: Transaction, principal: Principal, rule: Rule) -> AutomationRow:
        return _automation(self._automations.show(tx, principal, rule))


def _automation(one: Shown) -> AutomationRow:
    rule = one.rule
    return AutomationRow(
        automation_id=rule.automation_id,
        name=rule.body.name,
        user_id=rule.user_id,
        user_name=one.maker,
        is_on=rule.is_on,
        why_off=rule.why_off,
        text=rule_text(rule.body, one.thing, one.things),
        thing=one.thing,
        things=one.things,
        made_at=rfc3339(rule.made_at_ms),
        changed_at=rfc3339(rule.changed_at_ms),
        next_at=rfc3339_or_none(rule.next_at_ms),
        fired_at=rfc3339_or_none(rule.fired_at_ms),
        fired=rule.fired,
        rule=rule.body,
    )


def _action(done: Done) -> ActionRow:
    one = done.action
    return ActionRow(
        text=then_text(RuleThen.model_validate_json(one.body), {}),
        kind=one.kind.value,
        state=one.state,
        outcome=one.outcome,
        approval_id=one.approval_id,
        ref=one.ref,
        command_state=done.command_state,
        ended_at=rfc3339_or_none(one.ended_at_ms),
    )


def _would(one: Would, rule: Rule) -> WouldRow:
    return WouldRow(
        at=rfc3339(one.at_ms),
        cause=cause_text(one.cause),
        value=one.cause.value,
        actions=[then_text(then, {}) for then in rule.body.then],
    )
