"""What a client is told, typed. Members and events that are not known here are ignored, as the protocol asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw, Struct


class Message(Struct, frozen=True):
    """One stored message; `role` is `user` or `assistant`, `created_at` RFC 3339."""

    message_id: str
    conversation_id: str
    role: str
    content: str
    created_at: str
    sender_device_id: str | None = None


class Approval(Struct, frozen=True):
    """A tool call that waits for a person. `approvals.read_action` says what it would do; title and risk are hints."""

    approval_id: str
    run_id: str
    conversation_id: str | None
    action: str
    action_sha256: str
    title: str
    risk: str
    created_at: str
    expires_at: str
    state: str = "pending"
    needs_number: bool = False
    needs_verification: bool = False
    may_edit: bool = True
    may_decide: bool = True


class Decided(Struct, frozen=True):
    approval_id: str
    decision: str
    by: str
    device_id: str | None
    at: str


class DeviceChange(Struct, frozen=True):
    device_id: str
    change: str


class MessageCreated(Struct, frozen=True, tag_field="type", tag="message.created"):
    data: Message


class ApprovalRequested(Struct, frozen=True, tag_field="type", tag="approval.requested"):
    data: Approval


class ApprovalDecided(Struct, frozen=True, tag_field="type", tag="approval.decided"):
    data: Decided


class DeviceChanged(Struct, frozen=True, tag_field="type", tag="device.changed"):
    data: DeviceChange


class RunStarted(Struct, frozen=True, tag_field="type", tag="RUN_STARTED", rename="camel"):
    thread_id: str
    run_id: str


class RunFinished(Struct, frozen=True, tag_field="type", tag="RUN_FINISHED", rename="camel"):
    thread_id: str
    run_id: str


class RunError(Struct, frozen=True, tag_field="type", tag="RUN_ERROR", rename="camel"):
    thread_id: str
    run_id: str
    message: str
    code: str = ""
    retry: bool = False


class ToolCallResult(Struct, frozen=True, tag_field="type", tag="TOOL_CALL_RESULT", rename="camel"):
    tool_call_id: str
    tool_call_name: str
    content: str
    state: str = ""


class TextStart(Struct, frozen=True, tag_field="type", tag="TEXT_MESSAGE_START", rename="camel"):
    """Also for a text that is known: then it begins anew."""

    message_id: str


class TextContent(Struct, frozen=True, tag_field="type", tag="TEXT_MESSAGE_CONTENT", rename="camel"):
    message_id: str
    delta: str


class TextEnd(Struct, frozen=True, tag_field="type", tag="TEXT_MESSAGE_END", rename="camel"):
    message_id: str


Known = (
    ApprovalDecided
    | ApprovalRequested
    | DeviceChanged
    | MessageCreated
    | RunError
    | RunFinished
    | RunStarted
    | TextContent
    | TextEnd
    | TextStart
    | ToolCallResult
)


@dataclass(frozen=True, slots=True)
class Other:
    """An event that this version does not know, as it came."""

    type: str
    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One event. Durable ones have a `seq`; the others were live only. `at_ms` is the gateway's clock."""

    seq: int | None
    at_ms: int
    topic: str
    body: Known | Other


@dataclass(frozen=True, slots=True)
class Snapshot:
    """History begins anew: forget what you have, this is all state up to `seq`.

    `reason` is `none` at the first connection, else `stream`, `ahead` or `expired`.
    """

    reason: str
    seq: int
    conversations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pending_approvals: list[Approval] = field(default_factory=list[Approval])
    unread: int = 0


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """After a reconnect: everything that was missed up to `seq` has been told."""

    seq: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of a command that an earlier process sent, or whose caller no longer waits."""

    command_id: str
    name: str
    result: dict[str, Any] | None
    problem: Exception | None


Item = Event | Snapshot | CaughtUp | Settled


class _Type(Struct):
    type: str


_known = msgspec.json.Decoder(Known)
_type = msgspec.json.Decoder(_Type)
_any = msgspec.json.Decoder(dict[str, Any])


def read_body(raw: Raw | bytes) -> Known | Other:
    """The `event` member of an event frame. Raises msgspec.DecodeError when it is no object with a `type`."""
    try:
        return _known.decode(raw)
    except msgspec.ValidationError:  # unknown, or newer than this client
        return Other(_type.decode(raw).type, _any.decode(raw))


class Texts:
    """The texts that are being written (AG-UI), by message id, each as far as it is known."""

    def __init__(self) -> None:
        self._parts: dict[str, list[str]] = {}
        self._topics: dict[str, str] = {}

    def follow(self, event: Event) -> None:
        match event.body:
            case TextStart(message_id=message_id):
                self._parts[message_id] = []
                self._topics[message_id] = event.topic
            case TextContent(message_id=message_id, delta=delta):
                if message_id in self._parts:
                    self._parts[message_id].append(delta)
            case MessageCreated(data=message):
                self.forget(message.message_id)
            case RunFinished() | RunError():
                for message_id in [one for one, topic in self._topics.items() if topic == event.topic]:
                    self.forget(message_id)
            case _:
                pass

    def text(self, message_id: str) -> str:
        """What is known of it, empty when nothing is."""
        return "".join(self._parts.get(message_id, ()))

    def forget(self, message_id: str) -> None:
        """A piece of it was lost: the stored message brings it whole."""
        self._parts.pop(message_id, None)
        self._topics.pop(message_id, None)
