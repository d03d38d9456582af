"""Topics of another broker to ours and back. Pure.

What a capture takes is one level of a topic that somebody else chose: it names a board that is known, or a reading, and
is never put into a topic of ours unless it is one clean word. What does not fit changes nothing.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import msgspec

from entobot.core.unreadable import UNREADABLE
from entobot.mqtt.packets import Malformed
from entobot.mqtt.topics import check_name, matches

_CAPTURE = re.compile(r"\{([a-z_]+)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_FOREIGN = re.compile(r"[^a-z0-9_]+")
_UNSAFE = re.compile(r"[/+#\x00-\x1f\x7f-\x9f]")
DEVICE = "device"
EVERYBODY = "*"
MAX_SHOWN = 128
MAX_WHOLE = 2**53
"""Up to here a float without a fraction is the whole number that somebody wrote."""


class Why(StrEnum):
    """Why a message of another broker changed nothing."""

    DEVICE = "device"
    LARGE = "large"
    NAME = "name"
    OLD = "old"
    PAYLOAD = "payload"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Who:
    """A board that is known here."""

    device_id: str
    user_id: str
    name: str
    type: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inward:
    topic: str
    to: str
    pointer: str = ""
    device: str = ""

    @property
    def filter(self) -> str:
        return _CAPTURE.sub("+", self.topic)


@dataclass(frozen=True, slots=True)
class Outward:
    """`of` is `telemetry`, `status` or `command`."""

    of: str
    topic: str
    is_json: bool = False
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What a board is taken to have said, below its own topics."""

    who: Who
    what: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """`said` is the other broker's own word for what did not fit: cut, and for people only."""

    why: Why
    said: str


class Boards:
    """Those that one bridge may speak for and hear of, found by what the other broker calls them."""

    def __init__(self, everybody: Iterable[Who], by: str, devices: Sequence[str], types: Sequence[str]) -> None:
        wanted, of_types = frozenset(devices), frozenset(types)
        self._by_id: dict[str, Who] = {}
        self._by_word: dict[str, Who | None] = {}
        self._words: dict[str, str] = {}
        self._seen: set[str] = set()
        for who in everybody:
            self._seen.add(who.device_id)
            if EVERYBODY in wanted or {who.device_id, who.name} & wanted or who.type in of_types:
                self._add(who, by)

    def _add(self, who: Who, by: str) -> None:
        self._by_id[who.device_id] = who
        words = {"id": (who.device_id,), "name": (who.name,), "tag": who.tags}[by]
        for word in words:  # what names two of them names none
            self._by_word[word] = None if word in self._by_word else who
        self._words[who.device_id] = words[0] if words else who.device_id

    def find(self, word: str) -> Who | None:
        return self._by_word.get(word)

    def named(self, text: str) -> Who | None:
        """By its id, or as the other broker would call it."""
        return self._by_id.get(text) or self._by_word.get(text)

    def get(self, device_id: str) -> Who | None:
        return self._by_id.get(device_id)

    def has_seen(self, device_id: str) -> bool:
        """Whether it was there at all when these were read, wanted or not."""
        return device_id in self._seen

    def word_of(self, who: Who) -> str:
        return self._words[who.device_id]


@dataclass(frozen=True, slots=True)
class Map:
    ins: tuple[Inward, ...] = ()
    outs: tuple[Outward, ...] = ()

    @property
    def filters(self) -> tuple[str, ...]:
        return tuple(sorted({one.filter for one in self.ins}))

    def inward(self, topic: str, payload: bytes, boards: Boards) -> list[Said | Refused]:
        """What came under `topic`, for each mapping that it falls under; a topic that nobody asked for is refused."""
        found = [
            _taken(one, captures, payload, boards)
            for one in self.ins
            if (captures := _captures(one, topic)) is not None
        ]
        return found or [Refused(Why.TOPIC, topic[:MAX_SHOWN])]

    def outward(self, of: str, who: Who, boards: Boards, name: str = "") -> Iterator[tuple[Outward, str]]:
        """The topics under which the other broker is told."""
        words = {DEVICE: boards.word_of(who), "device_id": who.device_id, "name": name}
        for one in self.outs:
            if one.of == of:
                topic = _CAPTURE.sub(lambda found: _UNSAFE.sub("_", words[found[1]]), one.topic)
                try:
                    check_name(topic)
                except Malformed:
                    continue
                yield one, topic


def _captures(one: Inward, topic: str) -> Mapping[str, str] | None:
    """None where the topic does not fall under it."""
    if not matches(one.filter, topic):
        return None
    levels = zip(one.topic.split("/"), topic.split("/"), strict=False)
    return {found[1]: level for pattern, level in levels if (found := _CAPTURE.fullmatch(pattern)) is not None}


def _taken(one: Inward, captures: Mapping[str, str], payload: bytes, boards: Boards) -> Said | Refused:
    word = one.device or captures[DEVICE]
    who = boards.named(word) if one.device else boards.find(word)
    if who is None:
        return Refused(Why.DEVICE, word[:MAX_SHOWN])
    root, slash, name = one.to.partition("/")
    if slash and (found := _CAPTURE.fullmatch(name)) is not None:
        name = _FOREIGN.sub("_", captures[found[1]].lower()).strip("_")
    if slash and _NAME.fullmatch(name) is None:
        return Refused(Why.NAME, name[:MAX_SHOWN])
    if not slash:
        return Said(who, root, payload)
    value = _value(payload, one.pointer)
    return Refused(Why.PAYLOAD, word[:MAX_SHOWN]) if value is None else Said(who, f"{root}/{name}", value)


def _value(payload: bytes, pointer: str) -> bytes | None:
    """A reading as ours are written; None where there is none. A bare word that is no JSON is a text."""
    try:
        found = msgspec.json.decode(payload)
    except UNREADABLE:
        found = None if pointer else _text(payload)
    else:
        found = _pointed(found, pointer)
    if not isinstance(found, bool | int | float | str) or (isinstance(found, int) and abs(found) > MAX_WHOLE):
        return None
    return msgspec.json.encode(found)


def _text(payload: bytes) -> str | None:
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and text and text[0] not in '{["' else None


def _pointed(found: Any, pointer: str) -> Any:
    """RFC 6901; None where it leads nowhere."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(key)
        elif isinstance(found, list) and key.isascii() and key.isdigit() and len(key) < 6:
            rows = cast("list[Any]", found)
            found = rows[int(key)] if int(key) < len(rows) else None
        else:
            return None
    return found


def reading(value: object, at_ms: int, *, is_json: bool) -> bytes:
    """As the other broker is told it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_WHOLE:
        value = int(value)
    said: object = {"value": value, "at": at_ms} if is_json else value
    return said.encode() if isinstance(said, str) else json.dumps(said).encode()
