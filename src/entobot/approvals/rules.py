"""Rules that let calls through without asking again: made with an approval, used, listed and ended."""

import json
from dataclasses import replace

from entobot.accounts.service import Accounts
from entobot.approvals import rule_store as store
from entobot.approvals.action import Action, action_args_json, action_text, parse_args
from entobot.approvals.matching import Wish, covers
from entobot.approvals.model import RANK, Approval, Question, Risk
from entobot.approvals.policy import Terms
from entobot.approvals.rows import rule_row
from entobot.approvals.rule_model import Because, Rule, RuleState
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit, Fact
from entobot.core import topics
from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.secrets import sha256_b64u
from entobot.devices.model import Status
from entobot.devices.service import Devices
from entobot.storage.database import Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

MAX_PAGE = 100
MAX_OPEN_PER_PERSON = 100
BY_GATEWAY = "gateway"
NO_APPROVAL = "apr_" + 26 * "0"
"""In the place of an approval's id, where the text of an action is only measured."""


class Rules:
    """All methods are parts of units."""

    def __init__(
        self, *, ids: Ids, stream: Stream, audit: Audit, devices: Devices, accounts: Accounts, meters: Meters
    ) -> None:
        self._ids = ids
        self._stream = stream
        self._audit = audit
        self._devices = devices
        self._accounts = accounts
        self._used = meters.counter(Metric.APPROVAL_RULE_USES)

    def make(
        self, tx: Transaction, principal: Principal, approval: Approval, wish: Wish, risk: Risk, now_ms: int
    ) -> Rule:
        """From now on, for the runs of the person whose run has asked. `risk` is that of the approved call.

        Raises `rule_not_allowed` for a call of high risk, and `invalid` where the rule does not cover the approved call.
        """
        if risk is Risk.HIGH:
            raise Problem(Code.RULE_NOT_ALLOWED, "Calls of high risk are decided one by one. Approve this one alone.")
        if (wish.approval_id, wish.tool) != (approval.approval_id, approval.tool):
            raise Problem(Code.INVALID, "The rule is for another approval or tool.")
        if not wish.covers(approval.tool, approval.signed_action().args):
            raise Problem(Code.INVALID, "The rule does not cover the call that it was made for.")
        if len(store.open_of(tx, principal.user_id, now_ms)) >= MAX_OPEN_PER_PERSON:
            raise Problem(Code.INVALID, f"A person has at most {MAX_OPEN_PER_PERSON} rules. End some first.")
        rule = Rule(
            rule_id=self._ids.new(Prefix.RULE),
            user_id=approval.user_id,
            tool=approval.tool,
            text=wish.text,
            conditions_json=json.dumps(wish.conditions),
            risk=risk,
            approval_id=approval.approval_id,
            made_by_user_id=principal.user_id,
            made_by_device_id=principal.device_id,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + wish.ends_in_s * 1000,
            for_device_id=approval.asked_by_device_id if approval.is_outside else None,
        )
        store.insert_rule(tx, rule)
        self._tell(tx, rule, now_ms)
        self._record(
            tx,
            AuditEvent.APPROVAL_RULE_MADE,
            rule,
            now_ms,
            actor=principal,
            facts={"approval_id": rule.approval_id, "expires_at_ms": rule.expires_at_ms},
        )
        return rule

    def allow(self, tx: Transaction, asked: Question, terms: Terms, now_ms: int) -> Rule | None:
        """The rule that lets this call through, used up once more in the unit that makes the call ready; None where a
        person has to be asked. Raises `action_not_presentable`, as asking would.

        `asked.risk` and `terms` are those that a person would be asked under. A rule that covers the call and is void
        (its maker left or may not decide this alone any more, its device was revoked, the risk rose) ends here.
        """
        action = Action(NO_APPROVAL, asked.run_id, asked.tool, parse_args(asked.args_json))
        action_text(action)
        for rule in store.active_for(tx, asked.user_id, asked.tool, now_ms):
            if not covers(rule.conditions, action.args):
                continue
            if asked.is_outside and rule.for_device_id != asked.asked_by_device_id:
                continue  # it was made for another program, which may use the same words for something else
            because = self._why_void(tx, rule, asked.risk, terms)
            if because is not None:
                self._end(tx, None, rule, because, now_ms)
            elif store.use(tx, rule.rule_id, now_ms):
                used = replace(rule, uses=rule.uses + 1, last_used_at_ms=now_ms)
                self._tell_use(tx, used, asked, action, now_ms)
                return used
        return None

    def _tell_use(self, tx: Transaction, rule: Rule, asked: Question, action: Action, now_ms: int) -> None:
        tx.after_commit(self._used.add)
        data: dict[str, object] = {
            "rule_id": rule.rule_id,
            "run_id": asked.run_id,
            "conversation_id": asked.conversation_id or None,
            "tool_call_id": asked.tool_call_id or None,
            "tool": asked.tool,
            "title": asked.title,
            "at": rfc3339(now_ms),
        }
        event = {"type": "approval.allowed", "data": data}
        self._stream.append(tx, asked.user_id, event, topic=topics.APPROVALS, scope=Scope.APPROVE, now_ms=now_ms)
        facts: dict[str, Fact] = {
            "run_id": asked.run_id,
            "tool_call_id": asked.tool_call_id or None,
            "args_sha256": sha256_b64u(action_args_json(action)),
            "uses": rule.uses,
        }
        self._record(tx, AuditEvent.APPROVAL_RULE_USED, rule, now_ms, actor=None, facts=facts)

    def _why_void(self, tx: Transaction, rule: Rule, risk: Risk, terms: Terms) -> Because | None:
        if risk is Risk.HIGH or RANK[risk] > RANK[rule.risk]:
            return Because.RISK_ROSE
        gone = self._why_gone(tx, rule)
        if gone is not None:
            return gone
        maker = self._accounts.get_user(tx, rule.made_by_user_id)
        may_alone = terms.is_for_one and terms.permits(maker, rule.user_id, is_escalated=False)
        return None if may_alone else Because.POLICY_CHANGED

    def _why_gone(self, tx: Transaction, rule: Rule) -> Because | None:
        if Scope.APPROVE not in self._accounts.get_user(tx, rule.made_by_user_id).scopes:
            return Because.PERSON_LEFT
        device = None if rule.made_by_device_id is None else self._devices.find_device(tx, rule.made_by_device_id)
        if device is not None and device.status is Status.REVOKED:
            return Because.DEVICE_REVOKED
        return None

    # -- ending

    def end(self, tx: Transaction, principal: Principal, rule_id: str, now_ms: int) -> Rule:
        """One's own, for one's own runs, or, with `users.manage`, anybody's. Ending what has ended changes nothing.

        Raises `not_found`.
        """
        rule = self._get(tx, principal, rule_id)
        if rule.state(now_ms) is RuleState.ACTIVE:
            self._end(tx, principal, rule, Because.ENDED, now_ms)
        return self._get(tx, principal, rule_id)

    def end_all(self, tx: Transaction, principal: Principal, user_id: str, now_ms: int) -> None:
        """End what a person who leaves has made, and what was made for their runs."""
        for rule in store.open_of(tx, user_id, now_ms):
            self._end(tx, principal, rule, Because.PERSON_LEFT, now_ms)

    def _end(self, tx: Transaction, actor: Principal | None, rule: Rule, because: Because, now_ms: int) -> None:
        by = BY_GATEWAY if actor is None else actor.user_id
        if not store.end(tx, rule.rule_id, by=by, because=because, now_ms=now_ms):
            return
        ended = replace(rule, ended_at_ms=now_ms, ended_by=by, ended_because=because)
        self._tell(tx, ended, now_ms)
        self._record(tx, AuditEvent.APPROVAL_RULE_ENDED, ended, now_ms, actor=actor, facts={"because": because})

    # -- looking

    def get(self, tx: Transaction, principal: Principal, rule_id: str) -> Rule:
        """Raises `not_found`, also for one that is not the caller's to see."""
        return self._seen(tx, self._get(tx, principal, rule_id))

    def list(
        self, tx: Transaction, principal: Principal, *, is_everybody: bool, cursor: str | None, limit: int
    ) -> tuple[list[Rule], str | None]:
        """A page, newest first, and the cursor of the next. Raises `forbidden` for everybody's without `users.manage`."""
        if is_everybody:
            principal.require(Scope.USERS_MANAGE)
        limit = max(1, min(limit, MAX_PAGE))
        rows = store.page(tx, None if is_everybody else principal.user_id, cursor or store.LAST, limit + 1)
        shown = [self._seen(tx, rule) for rule in rows[:limit]]
        return shown, shown[-1].rule_id if len(rows) > limit else None

    def _get(self, tx: Transaction, principal: Principal, rule_id: str) -> Rule:
        rule = store.find_rule(tx, rule_id)
        own = rule is not None and principal.user_id in (rule.user_id, rule.made_by_user_id)
        if rule is None or not (own or Scope.USERS_MANAGE in principal.scopes):
            raise Problem(Code.NOT_FOUND, "There is no such rule.")
        return rule

    def _seen(self, tx: Transaction, rule: Rule) -> Rule:
        """As it would be found at its next use."""
        because = self._why_gone(tx, rule) if rule.ended_at_ms is None else None
        if because is None:
            return rule
        return replace(rule, ended_by=BY_GATEWAY, ended_because=because)

    # -- telling

    def _tell(self, tx: Transaction, rule: Rule, now_ms: int) -> None:
        event = {"type": "approval_rule.changed", "data": rule_row(rule, now_ms)}
        for user_id in sorted({rule.user_id, rule.made_by_user_id}):
            self._stream.append(tx, user_id, event, topic=topics.APPROVALS, scope=Scope.APPROVE, now_ms=now_ms)

    def _record(
        self,
        tx: Transaction,
        event: AuditEvent,
        rule: Rule,
        now_ms: int,
        *,
        actor: Principal | None,
        facts: dict[str, Fact],
    ) -> None:
        known: dict[str, Fact] = {"tool": rule.tool, "rule_sha256": sha256_b64u(rule.text), "for": rule.user_id}
        self._audit.record(tx, event, now_ms=now_ms, actor=actor, subject=rule.rule_id, facts=known | facts)
