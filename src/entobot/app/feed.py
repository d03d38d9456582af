"""What the gateway kit needs of the features: where a connection starts, snapshots, standing, credentials."""

from functools import partial

from entobot.approvals.rows import approval_row
from entobot.approvals.service import Approvals
from entobot.conversations.rows import conversation_row
from entobot.conversations.service import Conversations
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices.model import Status
from entobot.devices.service import Devices
from entobot.gateway.feed import Feed, Opening, Standing
from entobot.gateway.wire import Close, Resume
from entobot.storage.database import Transaction
from entobot.stream.model import Position, reset_reason
from entobot.stream.service import Stream

SNAPSHOT_CONVERSATIONS = 500
SNAPSHOT_APPROVALS = 500
"""Of the newest. What a person has beyond that is asked for by command, page by page."""


class Snapshots:
    """A user's state at one `seq`, composed from one provider per feature."""

    def __init__(self, conversations: Conversations, approvals: Approvals) -> None:
        self._conversations = conversations
        self._approvals = approvals

    def compose(self, tx: Transaction, principal: Principal, seen: int) -> dict[str, list[object] | int]:
        """`conversations`, `pending_approvals` and `unread`; what the scopes do not cover is empty."""
        user_id = principal.user_id
        conversations: list[object] = []
        unread = 0
        if Scope.CHAT in principal.scopes:
            found = self._conversations.latest(tx, user_id, SNAPSHOT_CONVERSATIONS)
            conversations = [conversation_row(one, last) for one, last in found]
            unread = self._conversations.unread(tx, user_id, seen)
        approvals: list[object] = []
        if Scope.APPROVE in principal.scopes:
            approvals = [approval_row(one) for one in self._approvals.pending(tx, user_id, SNAPSHOT_APPROVALS)]
        return {"conversations": conversations, "pending_approvals": approvals, "unread": unread}


def _standing(devices: Devices, tx: Transaction, principal: Principal) -> Standing | None:
    if principal.device_id is None:
        return None
    device = devices.get_device(tx, principal.device_id)
    if device.status is Status.REVOKED:
        return Standing(Close.REVOKED, "this device was revoked")
    if device.status is Status.SUSPENDED:
        return Standing(Close.SUSPENDED, "this device is suspended")
    if device.epoch != principal.epoch:
        return Standing(Close.TOKEN_EXPIRED, "the credentials were replaced")
    if devices.machines.has_ended(tx, principal):
        return Standing(Close.REVOKED, "this key was revoked, or has run out")
    return None


def make_feed(stream: Stream, devices: Devices, snapshots: Snapshots) -> Feed:
    def open_(tx: Transaction, principal: Principal, resume: Resume | None) -> Opening:
        head = stream.head(tx, principal.user_id)
        position = None if resume is None else Position(resume.stream, resume.after)
        reason = reset_reason(position, head)
        seen = 0 if principal.device_id is None else stream.seen(tx, principal.user_id, principal.device_id)
        if reason is None and resume is not None:
            return Opening(head.stream_id, head.seq, resume.after, None, None, seen)
        return Opening(head.stream_id, head.seq, head.seq, reason, snapshots.compose(tx, principal, seen), seen)

    def acknowledge(tx: Transaction, device_id: str, user_id: str, seq: int, now_ms: int) -> None:
        def is_known() -> bool:
            found = devices.find_device(tx, device_id)
            return found is not None and found.status is not Status.REVOKED

        stream.acknowledge(tx, device_id, user_id, seq, now_ms, is_known=is_known)

    return Feed(
        open=open_,
        after=stream.after,
        standing=partial(_standing, devices),
        acknowledge=acknowledge,
        writing=stream.writing,
    )
