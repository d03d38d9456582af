"""Put a call to people: whom, when aloud, when once more, and when to others as well."""

from collections.abc import Callable
from dataclasses import replace

from entobot.accounts.service import Accounts
from entobot.approvals import asking_store, store
from entobot.approvals.action import Action, action_text, parse_args
from entobot.approvals.model import Approval, ApprovalState, Asking, Question
from entobot.approvals.policy import Judged, Terms, read_terms
from entobot.approvals.telling import Telling
from entobot.audit.events import AuditEvent
from entobot.audit.service import Fact
from entobot.config_approvals import REQUESTER, ROLE, ApprovalsSettings
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Role
from entobot.core.secrets import Entropy
from entobot.storage.database import Database, Transaction, Unit

WINDOW_MS = 10 * 60_000
SWEEP_COUNT = 100
MAX_PEOPLE = 50
"""Who are asked for one approval. Of a larger role those who were added first."""
LEAST_NUMBER, NUMBERS = 10, 90


class Asker:
    """`settings` are read at each question."""

    def __init__(
        self,
        *,
        ids: Ids,
        entropy: Entropy,
        accounts: Accounts,
        telling: Telling,
        settings: Callable[[], ApprovalsSettings],
    ) -> None:
        self._ids = ids
        self._entropy = entropy
        self._accounts = accounts
        self._telling = telling
        self._settings = settings

    def request(self, tx: Transaction, asked: Question, judged: Judged, *, expires_at_ms: int, now_ms: int) -> Approval:
        """Put a tool call to those who may decide, and show it to the person for whom it is. Raises
        `action_not_presentable`.
        """
        approval_id = self._ids.new(Prefix.APPROVAL)
        terms = judged.terms
        approval = Approval(
            approval_id=approval_id,
            user_id=asked.user_id,
            run_id=asked.run_id,
            conversation_id=asked.conversation_id,
            tool_call_id=asked.tool_call_id,
            tool=asked.tool,
            action=action_text(Action(approval_id, asked.run_id, asked.tool, parse_args(asked.args_json))),
            title=asked.title,
            risk=judged.risk,
            state=ApprovalState.PENDING,
            created_at_ms=now_ms,
            expires_at_ms=expires_at_ms if judged.expire_ms is None else now_ms + judged.expire_ms,
            terms_json=terms.to_json(),
            remind_at_ms=None if judged.remind_ms is None else now_ms + judged.remind_ms,
            escalate_at_ms=None if judged.escalate_ms is None else now_ms + judged.escalate_ms,
            asked_by_device_id=asked.asked_by_device_id,
            number=self._new_number() if terms.needs_number else None,
        )
        store.insert_approval(tx, approval)
        deciders = self._people(tx, terms.deciders, asked.user_id)
        for user_id in [*deciders, *([] if asked.user_id in deciders else [asked.user_id])]:
            self._ask(tx, approval, user_id, now_ms, may_decide=user_id in deciders)
        facts: dict[str, Fact] = {"risk": judged.risk, "people": len(deciders), "quorum": terms.quorum}
        self._telling.record(tx, AuditEvent.APPROVAL_REQUESTED, approval, now_ms, facts=facts)
        return approval

    def _ask(self, tx: Transaction, approval: Approval, user_id: str, now_ms: int, *, may_decide: bool) -> None:
        """Show it to one person; aloud where they may decide and have not been asked aloud too often."""
        aloud = may_decide and self._may_prompt(tx, user_id, now_ms)
        waits = may_decide and not aloud
        asking = Asking(approval.approval_id, user_id, may_decide, now_ms, now_ms if waits else None, int(aloud))
        if not asking_store.ask(tx, asking):
            if may_decide:
                asking_store.let_decide(tx, approval.approval_id, user_id, now_ms)
                self._telling.requested(tx, approval, replace(asking, prompts=0), now_ms)
            return
        seq = self._telling.requested(tx, approval, asking, now_ms)
        if aloud:
            asking_store.note_first_prompt(tx, asking, now_ms)
            self._telling.aloud(tx, approval, user_id, seq, now_ms)

    def _may_prompt(self, tx: Transaction, user_id: str, now_ms: int) -> bool:
        return asking_store.count_prompts(tx, user_id, now_ms - WINDOW_MS) < self._settings().prompts

    def _people(self, tx: Transaction, words: tuple[str, ...], requester_id: str) -> list[str]:
        """Who is meant, of those who may approve anything; the person for whom it is first."""
        found: dict[str, None] = {}
        for word in sorted(words, key=lambda one: one != REQUESTER):
            if word == REQUESTER:
                ids = [requester_id]
            elif word.startswith(ROLE):
                ids = self._accounts.in_role(tx, Role(word.removeprefix(ROLE)))
            else:
                user = self._accounts.find_by_login(tx, word)
                ids = [] if user is None else [user.user_id]
            found |= dict.fromkeys(ids)
        terms = Terms(deciders=words)
        users = [user for user_id in found if (user := self._accounts.find(tx, user_id)) is not None]
        may = [user.user_id for user in users if terms.permits(user, requester_id, is_escalated=False)]
        return may[:MAX_PEOPLE]

    def _new_number(self) -> str:
        return str(LEAST_NUMBER + int.from_bytes(self._entropy.bytes(8), "big") % NUMBERS)

    # -- while it waits

    def is_anything_due(self, tx: Transaction, now_ms: int) -> bool:
        return bool(
            store.to_escalate(tx, now_ms, 1)
            or store.to_remind(tx, now_ms, 1)
            or asking_store.people_to_prompt(tx, now_ms)
        )

    async def sweep(self, database: Database, now_ms: int) -> None:
        """Escalate, remind and ask aloud what is due."""
        for unit in (self._escalate_some, self._remind_some, self._prompt_some):
            while await database.write(_bound(unit, now_ms)) >= SWEEP_COUNT:
                pass

    def _escalate_some(self, tx: Transaction, now_ms: int) -> int:
        due = store.to_escalate(tx, now_ms, SWEEP_COUNT)
        for approval in due:
            if store.note_escalated(tx, approval.approval_id, now_ms):
                self._escalate(tx, replace(approval, escalate_at_ms=None, escalated_at_ms=now_ms), now_ms)
        return len(due)

    def _escalate(self, tx: Transaction, approval: Approval, now_ms: int) -> None:
        words = read_terms(approval.terms_json).escalate_to
        people = self._people(tx, words, approval.user_id)
        known = {one.user_id for one in asking_store.askings_for(tx, approval.approval_id) if one.may_decide}
        for user_id in people:
            if user_id not in known:
                self._ask(tx, approval, user_id, now_ms, may_decide=True)
        facts: dict[str, Fact] = {"people": len(set(people) - known)}
        self._telling.record(tx, AuditEvent.APPROVAL_ESCALATED, approval, now_ms, facts=facts)

    def _remind_some(self, tx: Transaction, now_ms: int) -> int:
        due = store.to_remind(tx, now_ms, SWEEP_COUNT)
        for approval in due:
            if not store.note_reminded(tx, approval.approval_id, now_ms):
                continue
            voted = {vote.user_id for vote in asking_store.votes_on(tx, approval.approval_id)}
            for asking in asking_store.askings_for(tx, approval.approval_id):
                if asking.may_decide and asking.user_id not in voted:
                    asking_store.prompt_at(tx, approval.approval_id, asking.user_id, now_ms)
        return len(due)

    def _prompt_some(self, tx: Transaction, now_ms: int) -> int:
        """Those whose turn has come; whoever was asked aloud often enough waits on. Returns how many were asked."""
        people = asking_store.people_to_prompt(tx, now_ms)
        if not people:
            return 0
        asking_store.forget_prompts(tx, now_ms - WINDOW_MS)
        return sum(self._prompt(tx, user_id, now_ms) for user_id in people)

    def _prompt(self, tx: Transaction, user_id: str, now_ms: int) -> int:
        room = self._settings().prompts - asking_store.count_prompts(tx, user_id, now_ms - WINDOW_MS)
        due = asking_store.due_prompts(tx, user_id, now_ms, max(0, room))
        for asking in due:
            approval = store.find_approval(tx, asking.approval_id)
            if asking_store.note_prompted(tx, asking, now_ms) and approval is not None:
                self._telling.prompted(tx, approval, user_id, now_ms)
        return len(due)


def _bound(unit: Callable[[Transaction, int], int], now_ms: int) -> Unit[int]:
    return lambda tx: unit(tx, now_ms)
