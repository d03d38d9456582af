"""Texts that are being written: kept in memory between their first and last live event. Loop thread only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from entobot.core.permissions import Scope
from entobot.gateway.feed import Writing
from entobot.gateway.live import Piece

MAX_PIECE_CHARACTERS = 32 * 1024
"""Of one content event: even if every character is escaped, it fits a frame."""


@dataclass(slots=True)
class _Text:
    topic: str
    scope: Scope | None
    at_ms: int
    start: Mapping[str, object]
    parts: list[str] = field(default_factory=list[str])
    length: int = 0


class Texts:
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
