"""Use cases of automations: make, change, switch, remove, look at them and at what they did."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import tzinfo

from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.automations import firing_store, store
from entobot.automations.doing import is_about_others, recipients
from entobot.automations.model import MAX_RULES, Action, Firing, Kind
from entobot.automations.rules import Rule, RuleBody, RuleThen
from entobot.automations.watching import Watcher, Zones, zones_of
from entobot.conversations.service import Conversations
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix, is_id
from entobot.core.permissions import Scope, narrow
from entobot.core.principal import Principal
from entobot.storage.database import Database, Transaction
from entobot.things.service import Reach, Seen, Things

MAX_PAGE = 100
KEEP_FIRINGS = 1000
"""Of one rule."""
AT_ONCE = 200
USED = frozenset(
    {Scope.APPROVE, Scope.CHAT, Scope.DEVICES_MANAGE, Scope.DEVICES_READ, Scope.NOTIFY, Scope.NOTIFY_OTHERS}
)
"""What a rule can have use for: it holds no other scope."""

ZoneOf = Callable[[str], Awaitable[tzinfo | None]]


@dataclass(frozen=True, slots=True)
class Shown:
    """A rule with what is shown of it. `thing` is what it looks at, by name; `things` the names of those it commands."""

    rule: Rule
    thing: str
    things: dict[str, str]
    maker: str


@dataclass(frozen=True, slots=True)
class Done:
    """An action, and how the command that it gave is now."""

    action: Action
    command_state: str


class Automations:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        accounts: Accounts,
        things: Things,
        conversations: Conversations,
        watcher: Watcher,
        zones: Zones,
        zone_of: ZoneOf,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._things = things
        self._conversations = conversations
        self._watcher = watcher
        self._zones = zones
        self._zone_of = zone_of

    # -- time zones

    async def find_zones(self, body: RuleBody) -> None:
        """Once before a unit that needs them. Raises `invalid` for one that is not known."""
        for name in body.zones:
            if self._zones.find(name) is None:
                zone = await self._zone_of(name)
                if zone is None:
                    raise Problem(Code.INVALID, f"There is no time zone '{name}'. Name it as in Europe/Berlin.")
                self._zones.put(name, zone)

    async def look(self) -> None:
        """Fire what is due."""
        now_ms = self._clock.now_ms()
        while await self._database.read(lambda tx: self._watcher.has_work(tx, now_ms), is_small=True):
            for name in await self._database.read(lambda tx: zones_of(store.all_on(tx))):
                zone = None if self._zones.find(name) else await self._zone_of(name)
                if zone is not None:
                    self._zones.put(name, zone)
            if not await self._database.write(lambda tx: self._watcher.sweep(tx, now_ms)):
                return

    # -- make and change

    def add(self, tx: Transaction, by: Principal, body: RuleBody, now_ms: int) -> Rule:
        """Raises `invalid`, `not_found` for what it names, `forbidden`, `quota_exceeded`. See `find_zones`."""
        if store.count_of(tx, by.user_id) >= MAX_RULES:
            raise Problem(Code.QUOTA_EXCEEDED, f"A person has at most {MAX_RULES} automations. Remove some first.")
        body = self._resolve(tx, by, body)
        rule = Rule(
            automation_id=self._ids.new(Prefix.AUTOMATION),
            user_id=by.user_id,
            body=body,
            is_on=True,
            why_off="",
            scopes=narrow(USED, by.scopes),
            made_by_device_id=by.device_id,
            made_at_ms=now_ms,
            changed_at_ms=now_ms,
            device_id=body.when.thing,
            type=body.when.type,
            next_at_ms=self._next(body, now_ms),
        )
        store.insert_rule(tx, rule)
        self._watcher.forget(tx)
        self._record(tx, AuditEvent.AUTOMATION_MADE, by, rule, now_ms)
        return rule

    def change(self, tx: Transaction, by: Principal, automation_id: str, body: RuleBody, now_ms: int) -> Rule:
        """With the rights of whoever changes it from now on, and looking anew. Raises as `add` does."""
        rule = self._own(tx, by, automation_id)
        body = self._resolve(tx, by, body)
        changed = replace(
            rule,
            body=body,
            scopes=narrow(USED, by.scopes),
            made_by_device_id=by.device_id,
            changed_at_ms=now_ms,
            device_id=body.when.thing,
            type=body.when.type,
            next_at_ms=self._next(body, now_ms) if rule.is_on else None,
        )
        store.change(tx, changed)
        store.drop_watches(tx, automation_id)
        self._watcher.forget(tx)
        self._record(tx, AuditEvent.AUTOMATION_CHANGED, by, changed, now_ms)
        return changed

    def switch(self, tx: Transaction, by: Principal, automation_id: str, now_ms: int, *, is_on: bool) -> Rule:
        """On by whoever made it, with the rights that they come with; off by whoever manages devices, too.

        Raises `not_found`, `forbidden`.
        """
        rule = self._own(tx, by, automation_id) if is_on else self._reached(tx, by, automation_id)
        if rule.is_on is is_on:
            return rule
        if is_on:
            self._resolve(tx, by, rule.body)
            taken = replace(rule, scopes=narrow(USED, by.scopes), made_by_device_id=by.device_id)
            store.change(tx, taken)
            next_at_ms = self._next(rule.body, now_ms)
            store.switch(tx, automation_id, is_on=True, why_off="", next_at_ms=next_at_ms)
            store.drop_watches(tx, automation_id)
            self._watcher.forget(tx)
        else:
            who = "" if by.user_id == rule.user_id else "Somebody who manages devices switched it off."
            self._watcher.rest(tx, automation_id, who, now_ms)
        after = store.find_rule(tx, automation_id)
        assert after is not None
        self._record(tx, AuditEvent.AUTOMATION_SWITCHED, by, after, now_ms)
        return after

    def remove(self, tx: Transaction, by: Principal, automation_id: str, now_ms: int) -> Rule:
        """Raises `not_found`, `forbidden`."""
        rule = self._reached(tx, by, automation_id)
        self._watcher.rest(tx, automation_id, "", now_ms)
        store.delete_rule(tx, automation_id)
        self._record(tx, AuditEvent.AUTOMATION_REMOVED, by, rule, now_ms)
        return rule

    def _next(self, body: RuleBody, now_ms: int) -> int | None:
        zone = self._zones.find(body.when.zone)
        if not body.when.is_time:
            return None
        assert zone is not None, "it was looked up before the unit"
        return body.when.schedule(zone).after(now_ms)

    def _resolve(self, tx: Transaction, by: Principal, body: RuleBody) -> RuleBody:
        """With things by their ids, where whoever makes it may do all that it says."""
        reach = Reach.of(by.user_id, by.scopes)
        when = body.when
        if when.thing is not None:
            when = when.model_copy(update={"thing": self._things.named(tx, reach, when.thing).thing.device_id})
        elif when.type is not None:
            self._things.get_type(tx, when.type)
        then = tuple(self._resolve_then(tx, by, reach, one) for one in body.then)
        return body.model_copy(update={"when": when, "then": then})

    def _resolve_then(self, tx: Transaction, by: Principal, reach: Reach, then: RuleThen) -> RuleThen:
        if then.do == "ask" and then.conversation is not None:
            self._conversations.get(tx, by.user_id, then.conversation)
        if is_about_others(then, by.user_id):
            by.require(Scope.NOTIFY_OTHERS)
            to = recipients(then.to)
            if to.user_id is not None and self._accounts.find(tx, to.user_id) is None:
                raise Problem(Code.INVALID, "'to' is 'me', a role, or the id of a user.")
        if then.do != "command" or then.thing is None:
            return then
        by.require(Scope.APPROVE)
        seen = self._things.named(tx, reach, then.thing)
        self._things.risk_of(seen, then.command or "", then.args)
        if not reach.commands_all and seen.thing.user_id != by.user_id:
            raise Problem(Code.FORBIDDEN, "This is somebody else's thing. Commanding it needs 'devices.manage'.")
        return then.model_copy(update={"thing": seen.thing.device_id})

    # -- look

    def get(self, tx: Transaction, by: Principal, automation_id: str) -> Rule:
        """One's own, or anybody's for whoever manages devices. Raises `not_found`."""
        rule = store.find_rule(tx, automation_id) if is_id(automation_id, Prefix.AUTOMATION) else None
        if rule is None or (rule.user_id != by.user_id and Scope.DEVICES_MANAGE not in by.scopes):
            raise Problem(Code.NOT_FOUND, "There is no such automation.")
        return rule

    def own(self, tx: Transaction, by: Principal, automation_id: str) -> Rule:
        """Raises `not_found`, and `forbidden` for somebody else's."""
        return self._own(tx, by, automation_id)

    def _own(self, tx: Transaction, by: Principal, automation_id: str) -> Rule:
        rule = self.get(tx, by, automation_id)
        if rule.user_id != by.user_id:
            raise Problem(Code.FORBIDDEN, "This is somebody else's automation: it can be switched off or removed.")
        return rule

    def _reached(self, tx: Transaction, by: Principal, automation_id: str) -> Rule:
        rule = self.get(tx, by, automation_id)
        if not self._accounts.reaches(tx, by.user_id, rule.user_id):
            raise Problem(Code.FORBIDDEN, "This is an automation of somebody with more rights.")
        return rule

    def find_page(
        self, tx: Transaction, by: Principal, before: str | None, limit: int, *, of_all: bool
    ) -> tuple[list[Rule], str | None]:
        """Newest first, and the cursor of the next page. Raises `forbidden`."""
        if of_all:
            by.require(Scope.DEVICES_MANAGE)
        rows = store.page(tx, None if of_all else by.user_id, before or store.NEWEST, limit + 1)
        return rows[:limit], rows[limit - 1].automation_id if len(rows) > limit else None

    def show(self, tx: Transaction, by: Principal, rule: Rule) -> Shown:
        """With the names of things, as far as whoever looks sees them."""
        reach = Reach.of(by.user_id, by.scopes)
        ids = {one.thing for one in rule.body.then if one.thing is not None}
        names = {device_id: self._name(tx, reach, device_id) for device_id in ids}
        thing = f"all of type {rule.type}" if rule.type else ""
        if rule.device_id is not None:
            thing = self._name(tx, reach, rule.device_id)
        maker = self._accounts.find(tx, rule.user_id)
        return Shown(rule, thing, names, "" if maker is None else maker.name)

    def _name(self, tx: Transaction, reach: Reach, device_id: str) -> str:
        try:
            return self._things.view(tx, reach, device_id).name
        except Problem:
            return "a thing that is gone"

    def history(
        self, tx: Transaction, automation_id: str, before: str | None, limit: int
    ) -> tuple[list[tuple[Firing, list[Done]]], str | None]:
        """Newest first, and the cursor of the next page. Of a rule that was seen in this unit."""
        rows = firing_store.page(tx, automation_id, before or firing_store.NEWEST, limit + 1)
        found = [(one, self._done(tx, one)) for one in rows[:limit]]
        return found, rows[limit - 1].firing_id if len(rows) > limit else None

    def _done(self, tx: Transaction, firing: Firing) -> list[Done]:
        return [
            Done(one, self._things.state_of(tx, one.ref) if one.kind is Kind.COMMAND and one.ref else "")
            for one in firing_store.actions_of(tx, firing.firing_id)
        ]

    def seen(self, tx: Transaction, by: Principal, rule: Rule) -> list[Seen]:
        """The things that a rule looks at, as whoever asks sees them."""
        reach = Reach.of(by.user_id, by.scopes)
        if rule.type is not None:
            return self._things.of_type(tx, reach, rule.type)
        return [] if rule.device_id is None else [self._things.view(tx, reach, rule.device_id)]

    # -- what ends them

    def end_all(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves: nothing of theirs fires any more."""
        del by  # the entry about the person says who
        for rule in store.on_of_user(tx, user_id):
            self._watcher.switch_off(tx, rule, "Its person was disabled.", now_ms, is_told=False)

    def end_of_device(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """What was made on a device that is suspended or revoked is off until its person looks at it."""
        for rule in store.on_of_maker(tx, device_id):
            why = "The device on which it was made was suspended or revoked. Look at it, then switch it on."
            self._watcher.switch_off(tx, rule, why, now_ms)

    async def tidy(self, keep_ms: int) -> None:
        """Forget what fired long ago, and of each rule what is beyond the newest."""
        before_ms = self._clock.now_ms() - keep_ms
        while found := await self._database.read(lambda tx: firing_store.old(tx, before_ms, AT_ONCE)):
            await self._database.write(lambda tx, found=found: firing_store.delete_firings(tx, found))
        for rule in await self._database.read(store.all_on):
            of = rule.automation_id
            while found := await self._database.read(
                lambda tx, of=of: firing_store.beyond(tx, of, KEEP_FIRINGS, AT_ONCE)
            ):
                await self._database.write(lambda tx, found=found: firing_store.delete_firings(tx, found))

    def _record(self, tx: Transaction, event: AuditEvent, by: Principal, rule: Rule, now_ms: int) -> None:
        facts = {"user_id": rule.user_id, "is_on": rule.is_on, "commands": rule.body.commands}
        self._audit.record(
            tx, event, now_ms=now_ms, actor=by, subject=rule.automation_id, facts=facts,
            personal={"name": rule.body.name},
        )  # fmt: skip
