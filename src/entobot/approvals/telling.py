"""Who hears of an approval: everybody who sees it by an event, the audit log, whoever waits by a bell."""

from collections.abc import Iterable

from entobot.accounts.service import Accounts
from entobot.approvals import asking_store
from entobot.approvals.model import Approval, Asking, Verified, Vote
from entobot.approvals.rows import requested_data, vote_row
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.core.clock import rfc3339
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.notifications.model import Kind, Note, Priority
from entobot.notifications.service import Notifications
from entobot.storage.database import Transaction
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric


class Telling:
    """`notifications` None: nobody is told beside the stream."""

    def __init__(
        self,
        *,
        stream: Stream,
        bus: Bus,
        audit: Audit,
        accounts: Accounts,
        meters: Meters,
        notifications: Notifications | None,
    ) -> None:
        self._stream = stream
        self._bus = bus
        self._audit = audit
        self._accounts = accounts
        self._meters = meters
        self._notifications = notifications

    def names(self, tx: Transaction, user_ids: Iterable[str]) -> dict[str, str]:
        """What people are called."""
        found = {user_id: self._accounts.find(tx, user_id) for user_id in set(user_ids)}
        return {user_id: user.name for user_id, user in found.items() if user is not None}

    def ring(self, tx: Transaction, approval: Approval) -> None:
        """For the run, or the agent elsewhere, that waits."""
        topic = topics.CONTROL_APPROVALS if approval.is_outside else topics.WORK_APPROVALS
        bell = approval.run_id.encode("ascii")
        tx.after_commit(lambda: self._bus.publish(topic, bell))

    def requested(self, tx: Transaction, approval: Approval, asking: Asking, now_ms: int) -> int:
        """Tell one person of the question; the event's number."""
        name = self.names(tx, [approval.user_id]).get(approval.user_id, "")
        data = requested_data(approval, asking, name)
        return self._append(tx, asking.user_id, "approval.requested", data, now_ms, approval.expires_at_ms)

    def aloud(self, tx: Transaction, approval: Approval, user_id: str, event_seq: int, now_ms: int) -> None:
        """Ask somebody aloud: wherever they are reached."""
        if self._notifications is None:
            return
        note = Note(
            user_id=user_id,
            kind=Kind.APPROVAL,
            title=approval.title,
            priority=Priority.HIGH,
            link=f"/approvals/{approval.approval_id}",
            conversation_id=approval.conversation_id or None,
            collapse_key=_collapse_key(approval),
            expires_at_ms=approval.expires_at_ms,
            event_seq=event_seq,
        )
        self._notifications.post(tx, note, now_ms)

    def prompted(self, tx: Transaction, approval: Approval, user_id: str, now_ms: int) -> None:
        """It is asked aloud now, or once more."""
        data: dict[str, object] = {"approval_id": approval.approval_id, "at": rfc3339(now_ms)}
        seq = self._append(tx, user_id, "approval.prompted", data, now_ms, approval.expires_at_ms)
        self.aloud(tx, approval, user_id, seq, now_ms)

    def voted(self, tx: Transaction, approval: Approval, vote: Vote, now_ms: int) -> None:
        """One of several has agreed."""
        name = self.names(tx, [vote.user_id]).get(vote.user_id, "")
        data: dict[str, object] = {"approval_id": approval.approval_id, "vote": vote_row(vote, name)}
        self._to_all(tx, approval, "approval.voted", data, now_ms)
        self._settle(tx, approval, vote.user_id, now_ms)

    def decided(
        self, tx: Transaction, approval: Approval, by: str, now_ms: int, verified: Verified | None = None
    ) -> None:
        data: dict[str, object] = {
            "approval_id": approval.approval_id,
            "decision": approval.decision,
            "by": by,
            "device_id": approval.decided_by_device_id,
            "verified": verified,
            "at": rfc3339(now_ms),
        }
        for user_id in self._to_all(tx, approval, "approval.decided", data, now_ms):
            self._settle(tx, approval, user_id, now_ms)
        asking_store.silence(tx, approval.approval_id)
        waited = self._meters.histogram(Metric.APPROVAL_WAIT_SECONDS, outcome=approval.state)
        tx.after_commit(lambda: waited.observe((now_ms - approval.created_at_ms) / 1000))

    def unconsumed(self, tx: Transaction, approval: Approval, now_ms: int) -> None:
        """A decision that its run does not take up."""
        data: dict[str, object] = {"approval_id": approval.approval_id, "at": rfc3339(now_ms)}
        self._append(tx, approval.user_id, "approval.unconsumed", data, now_ms)

    def record(
        self,
        tx: Transaction,
        event: AuditEvent,
        approval: Approval,
        now_ms: int,
        *,
        actor: Principal | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        facts: dict[str, Fact] | None = None,
        personal: dict[str, str] | None = None,
    ) -> None:
        known: dict[str, Fact] = {
            "run_id": approval.run_id,
            "tool": approval.tool,
            "action_sha256": approval.action_sha256,
        }
        if approval.is_outside:
            known["asked_by_device_id"] = approval.asked_by_device_id
        self._audit.record(
            tx,
            event,
            now_ms=now_ms,
            outcome=outcome,
            actor=actor,
            subject=approval.approval_id,
            facts=known | (facts or {}),
            personal=personal,
        )

    def _to_all(
        self, tx: Transaction, approval: Approval, kind: str, data: dict[str, object], now_ms: int
    ) -> list[str]:
        people = [asking.user_id for asking in asking_store.askings_for(tx, approval.approval_id)]
        for user_id in people:
            self._append(tx, user_id, kind, data, now_ms)
        return people

    def _settle(self, tx: Transaction, approval: Approval, user_id: str, now_ms: int) -> None:
        if self._notifications is not None:
            self._notifications.settle(tx, user_id, _collapse_key(approval), now_ms)

    def _append(
        self,
        tx: Transaction,
        user_id: str,
        kind: str,
        data: dict[str, object],
        now_ms: int,
        expires_at_ms: int | None = None,
    ) -> int:
        return self._stream.append(
            tx,
            user_id,
            {"type": kind, "data": data},
            topic=topics.APPROVALS,
            scope=Scope.APPROVE,
            now_ms=now_ms,
            expires_at_ms=expires_at_ms,
        )


def _collapse_key(approval: Approval) -> str:
    return f"approval:{approval.approval_id}"
