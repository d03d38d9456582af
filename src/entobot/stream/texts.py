"""Texts that are being written: kept in memory between their first and last live event. Loop thread only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from entobot.core.permissions import Scope
from entobot.gateway.feed import Writing
from entobot.gateway.live import Live, Piece

MAX_PIECE_CHARACTERS = 32 * 1024
"""Of one content event: even if every character is escaped, it fits a frame."""

MAX_TEXTS = 10_000
"""Kept in all; what others write beyond it is not shown to whoever connects meanwhile."""
MAX_SILENT_TICKS = 3


@dataclass(slots=True)
class _Text:
    topic: str
    scope: Scope | None
    at_ms: int
    start: Mapping[str, object]
    parts: list[str] = field(default_factory=list[str])
    length: int = 0
    silent_for: int | None = None
    """Ticks since another node's piece came; None for what is written here, whose end cannot be missed."""


def ending(event: Mapping[str, object], topic: str) -> str | None:
    """Which texts a durable event ends, for other nodes: a message id, or the topic of all; None for no text."""
    kind = event.get("type")
    if kind in ("RUN_FINISHED", "RUN_ERROR"):
        return topic
    data = event.get("data")
    if kind == "message.created" and isinstance(data, Mapping):
        said = cast("Mapping[str, object]", data)
        return str(said.get("message_id", "")) if said.get("role") == "assistant" else None
    return None


class Texts:
    """Those of this node, and as far as they were heard whole those of others."""

    def __init__(self) -> None:
        self._by_user: dict[str, dict[str, _Text]] = {}

    def follow(
        self, user_id: str, event: Mapping[str, object], *, topic: str, scope: Scope | None, now_ms: int
    ) -> Piece | None:
        """Note a live event; its place in a text when it belongs to one."""
        kind = event.get("type")
        message_id = str(event.get("messageId", ""))
        if kind == "TEXT_MESSAGE_START":
            self._by_user.setdefault(user_id, {})[message_id] = _Text(topic, scope, now_ms, event)
            return Piece(message_id, 0, 0, is_first=True)
        text = self._by_user.get(user_id, {}).get(message_id)
        if text is None:
            return None
        if kind == "TEXT_MESSAGE_CONTENT":
            delta = str(event.get("delta", ""))
            piece = Piece(message_id, text.length, len(delta))
            text.parts.append(delta)
            text.length += len(delta)
            return piece
        if kind == "TEXT_MESSAGE_END":
            self._drop(user_id, message_id)
            return Piece(message_id, text.length, 0, is_last=True)
        return None

    def hear(self, user_id: str, live: Live) -> None:
        """A live event of another node. A text of which a piece was missed is forgotten: parts of it are worth nothing."""
        piece = live.piece
        if piece is None:
            return
        if piece.is_first:
            if sum(len(mine) for mine in self._by_user.values()) < MAX_TEXTS:
                text = _Text(live.topic, live.scope, live.at_ms, json.loads(live.event), silent_for=0)
                self._by_user.setdefault(user_id, {})[piece.message_id] = text
            return
        text = self._by_user.get(user_id, {}).get(piece.message_id)
        if text is None:
            return
        if piece.is_last or piece.offset != text.length:
            self._drop(user_id, piece.message_id)
            return
        text.parts.append(str(json.loads(live.event).get("delta", "")))
        text.length += piece.length
        text.silent_for = 0

    def hear_end(self, user_id: str, ended: str) -> None:
        """What `ending` said on another node."""
        for message_id, text in tuple(self._by_user.get(user_id, {}).items()):
            if ended in (message_id, text.topic):
                self._drop(user_id, message_id)

    def tick(self) -> None:
        """Called every few seconds: other nodes' texts of which nothing is heard any more are forgotten."""
        for user_id, mine in tuple(self._by_user.items()):
            for message_id, text in tuple(mine.items()):
                if text.silent_for is not None:
                    text.silent_for += 1
                    if text.silent_for > MAX_SILENT_TICKS:
                        self._drop(user_id, message_id)

    def settle(self, user_id: str, event: Mapping[str, object], topic: str) -> None:
        """A durable event that ends texts: the stored message itself, or the end of the run that wrote them."""
        kind = event.get("type")
        if kind == "message.created":
            data = event.get("data")
            if isinstance(data, Mapping):
                self._drop(user_id, str(cast("Mapping[str, object]", data).get("message_id", "")))
            return
        if kind not in ("RUN_FINISHED", "RUN_ERROR"):
            return
        for message_id, text in tuple(self._by_user.get(user_id, {}).items()):
            if text.topic == topic:
                self._drop(user_id, message_id)

    def writing(self, user_id: str) -> list[Writing]:
        shown: list[Writing] = []
        for message_id, text in self._by_user.get(user_id, {}).items():
            events = [json.dumps(text.start, ensure_ascii=False)]
            text.parts = ["".join(text.parts)]
            for start in range(0, text.length, MAX_PIECE_CHARACTERS):
                delta = text.parts[0][start : start + MAX_PIECE_CHARACTERS]
                content = {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}
                events.append(json.dumps(content, ensure_ascii=False))
            shown.append(Writing(message_id, text.length, text.topic, text.scope, text.at_ms, events))
        return shown

    def _drop(self, user_id: str, message_id: str) -> None:
        mine = self._by_user.get(user_id)
        if mine is None:
            return
        mine.pop(message_id, None)
        if not mine:
            self._by_user.pop(user_id, None)
