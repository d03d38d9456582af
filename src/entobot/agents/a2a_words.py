"""What an agent says by A2A 1.0, in our words; the subset of its JSON that matters to a client. Pure.

Names are those of the protocol's JSON, and what is not named here is left.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from entobot.agents.runner import Line, Speaker, TextDelta, ThoughtDelta, TurnEvent

WELL_KNOWN = "/.well-known/agent-card.json"
JSONRPC = "JSONRPC"
VERSION = "1.0"
VERSION_HEADER = "A2A-Version"
MAX_ID_CHARACTERS = 512
MAX_DATA_CHARACTERS = 8 * 1024


class TaskState(StrEnum):
    AUTH_REQUIRED = "TASK_STATE_AUTH_REQUIRED"
    CANCELED = "TASK_STATE_CANCELED"
    COMPLETED = "TASK_STATE_COMPLETED"
    FAILED = "TASK_STATE_FAILED"
    INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"
    REJECTED = "TASK_STATE_REJECTED"
    SUBMITTED = "TASK_STATE_SUBMITTED"
    UNSPECIFIED = "TASK_STATE_UNSPECIFIED"
    WORKING = "TASK_STATE_WORKING"


SETTLED = frozenset(TaskState) - {TaskState.SUBMITTED, TaskState.UNSPECIFIED, TaskState.WORKING}
"""It does not go on by itself."""


class Part(Struct, rename="camel"):
    text: str | None = None
    raw: str | None = None
    url: str | None = None
    data: Any = None
    filename: str = ""
    media_type: str = ""

    def told(self) -> str:
        """Words as they are, data as JSON; files are named, and not fetched."""
        if self.text is not None:
            return self.text
        if self.url is not None or self.raw is not None:
            name = f"{self.filename or 'File'} ({self.media_type or 'of an unknown type'})"
            return f"[{name}: {self.url}]" if self.url is not None else f"[{name}; it is not taken over]"
        return f"```json\n{json.dumps(self.data, ensure_ascii=False, indent=1)[:MAX_DATA_CHARACTERS]}\n```"


class Message(Struct, rename="camel"):
    parts: list[Part] = field(default_factory=list[Part])
    context_id: str = ""
    task_id: str = ""
    role: str = ""


class Status(Struct, rename="camel"):
    state: str = ""
    message: Message | None = None


class Artifact(Struct, rename="camel"):
    artifact_id: str = ""
    parts: list[Part] = field(default_factory=list[Part])


class Task(Struct, rename="camel"):
    id: str
    context_id: str = ""
    status: Status = field(default_factory=Status)
    artifacts: list[Artifact] = field(default_factory=list[Artifact])


class StatusUpdate(Struct, rename="camel"):
    task_id: str = ""
    context_id: str = ""
    status: Status = field(default_factory=Status)


class ArtifactUpdate(Struct, rename="camel"):
    task_id: str = ""
    context_id: str = ""
    artifact: Artifact = field(default_factory=Artifact)
    append: bool = False


class Told(Struct, rename="camel"):
    """One thing that it tells: exactly one of these."""

    task: Task | None = None
    message: Message | None = None
    status_update: StatusUpdate | None = None
    artifact_update: ArtifactUpdate | None = None


class Interface(Struct, rename="camel"):
    url: str = ""
    protocol_binding: str = ""
    protocol_version: str = ""
    tenant: str = ""


class Capabilities(Struct, rename="camel"):
    streaming: bool = False


class Card(Struct, rename="camel"):
    name: str = ""
    supported_interfaces: list[Interface] = field(default_factory=list[Interface])
    capabilities: Capabilities = field(default_factory=Capabilities)


class Kept(Struct):
    """What is kept of a conversation: its name there, and the task that waits for the person."""

    context_id: str = ""
    task_id: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """Where it is spoken to."""

    url: str
    tenant: str
    streams: bool


def card_url(url: str) -> str:
    return url if urlsplit(url).path.endswith(".json") else url.rstrip("/") + WELL_KNOWN


def door_of(card: Card, asked_at: str) -> Door | str:
    """The first interface that we speak, or why there is none. A card leads nowhere but to its own origin: what is sent
    there has the key with it.
    """
    found = [
        one
        for one in card.supported_interfaces
        if one.protocol_binding == JSONRPC and one.protocol_version.partition(".")[0] == VERSION.partition(".")[0]
    ]
    if not found:
        return "its card offers no JSON-RPC interface of A2A 1"
    here = next((one for one in found if _origin(one.url) == _origin(asked_at)), None)
    if here is None:
        return "its card leads to another host than its own"
    return Door(here.url, here.tenant, card.capabilities.streaming)


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port or (443 if parts.scheme == "https" else 80)


def message(transcript: Sequence[Line], message_id: str, kept: Kept) -> dict[str, Any]:
    """What is sent. An agent that knows nothing of the conversation is told what was said before as well."""
    parts = [{"text": transcript[-1].told_without_pictures()}]
    before = transcript[:-1]
    if before and not kept.context_id:
        names = {Speaker.USER: "Person", Speaker.ASSISTANT: "Agent"}
        said = "\n\n".join(f"{names[line.speaker]}: {line.told_without_pictures()}" for line in before)
        parts.insert(0, {"text": f"Earlier in this conversation:\n\n{said}\n\nNow:"})
    made: dict[str, Any] = {"messageId": message_id, "role": "ROLE_USER", "parts": parts}
    if kept.context_id:
        made["contextId"] = kept.context_id
    if kept.task_id:
        made["taskId"] = kept.task_id
    return made


class Hearing:
    """One answer of it. `heard` takes what it tells, in any order, and a whole task as often as it is asked for."""

    def __init__(self) -> None:
        self.context_id = self.task_id = ""
        self.state: TaskState | None = None
        """None as long as it named none; a plain message is an answer that is `COMPLETED`."""
        self._said: list[str] = []
        self._artifacts: dict[str, str] = {}
        self._at = ""
        self._last_status = ""

    @property
    def text(self) -> str:
        return "".join(self._said)

    @property
    def is_settled(self) -> bool:
        return self.state in SETTLED

    def heard(self, told: Told) -> list[TurnEvent]:
        """Raises ValueError for what is no answer."""
        if told.message is not None:
            self._names("", told.message.context_id)
            self.state = TaskState.COMPLETED
            return self._say(_text(told.message.parts))
        if told.task is not None:
            self._names(told.task.id, told.task.context_id)
            shown = [event for one in told.task.artifacts for event in self._artifact(one, is_more=False)]
            return [*shown, *self._status(told.task.status)]
        if told.status_update is not None:
            self._names(told.status_update.task_id, told.status_update.context_id)
            return self._status(told.status_update.status)
        if told.artifact_update is not None:
            self._names(told.artifact_update.task_id, told.artifact_update.context_id)
            return self._artifact(told.artifact_update.artifact, is_more=told.artifact_update.append)
        raise ValueError("it tells nothing")

    def _names(self, task_id: str, context_id: str) -> None:
        if len(task_id) > MAX_ID_CHARACTERS or len(context_id) > MAX_ID_CHARACTERS:
            raise ValueError("a name is too long")
        self.task_id = self.task_id or task_id
        self.context_id = self.context_id or context_id
        if task_id not in ("", self.task_id):
            raise ValueError("it tells of another task")

    def _status(self, status: Status) -> list[TurnEvent]:
        try:
            self.state = TaskState(status.state)
        except ValueError:
            self.state = TaskState.UNSPECIFIED
        text = "" if status.message is None else _text(status.message.parts)
        if not text or text == self._last_status:
            return []
        self._last_status = text
        if not self.is_settled:
            return [ThoughtDelta(f"{text}\n")]
        if self.state in (TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED) or text in self._artifacts.values():
            return []
        return self._say(text)

    def _artifact(self, artifact: Artifact, *, is_more: bool) -> list[TurnEvent]:
        # Parts may be pieces of one text that came one after another.
        text = "".join(part.told() if part.text is not None else f"\n{part.told()}\n" for part in artifact.parts)
        key = artifact.artifact_id
        before = self._artifacts.get(key, "")
        if not is_more:
            if not text.startswith(before):
                before = ""  # another one in its place: what was shown stays, since it was read
            text = text[len(before) :]
        self._artifacts[key] = before + text
        if not text:
            return []
        return self._say(text, is_more=bool(before) and key == self._at, at=key)

    def _say(self, text: str, *, is_more: bool = False, at: str = "") -> list[TurnEvent]:
        self._at = at
        if not text:
            return []
        if self._said and not is_more:
            text = f"\n\n{text}"
        self._said.append(text)
        return [TextDelta(text)]

    def last_words(self) -> str:
        """What it said of how it stands, where it said nothing else."""
        return "" if self._said else self._last_status


def _text(parts: Sequence[Part]) -> str:
    return "\n".join(filter(None, (part.told() for part in parts)))


def told_of(value: object) -> Told:
    """Raises ValueError."""
    try:
        return msgspec.convert(value, Told)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
