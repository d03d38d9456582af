"""REST: `POST /api/v1/agents/{agent}/ag-ui`, an AG-UI 1.0 endpoint for clients that know nothing of ours."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from entobot.agents import ag_ui_store
from entobot.agents.ag_ui import Translation
from entobot.agents.ag_ui_follow import Following, Parts, Place
from entobot.agents.ag_ui_input import MAX_BODY_BYTES, Wanted, parse
from entobot.agents.bridging import Bridges
from entobot.conversations.service import Conversations
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix
from entobot.core.principal import Principal
from entobot.storage.database import Transaction
from entobot.web.authentication import caller
from entobot.web.routes import Api

OWN = "entobot"
"""What the gateway's own agent is called here."""
MAX_STREAMS = 500
MAX_STREAMS_PER_CALLER = 8


class AgUi:
    """Tells answers to AG-UI clients. `stop` ends every stream."""

    def __init__(self, parts: Parts, conversations: Conversations, bridges: Bridges) -> None:
        self._parts = parts
        self._conversations = conversations
        self._bridges = bridges
        self._following: dict[Following, str] = {}
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True
        for one in tuple(self._following):
            one.stop()

    async def run(self, request: Request) -> Response:
        principal, agent = caller(request), str(request.path_params["agent"])
        if principal.session_id is not None:
            raise Problem(Code.FORBIDDEN, "This is for devices and tokens; a browser's session has the dashboard.")
        wanted = parse(await request.body())
        key = principal.device_id or principal.user_id
        if len(self._following) >= MAX_STREAMS or Counter(self._following.values())[key] >= MAX_STREAMS_PER_CALLER:
            raise Problem(Code.RATE_LIMITED, "Too many answers are listened to at once. End one.", retry_after_s=5)
        if self._is_stopped:
            raise Problem(Code.DRAINING, "The gateway stops. Come back in a moment.", retry_after_s=2)
        now_ms = self._parts.clock.now_ms()
        place = await self._parts.database.write(lambda tx: self._take(tx, principal, agent, wanted, now_ms))
        following = Following(self._parts, principal, place, Translation(wanted.thread_id, wanted.run_id))
        return _Answer(self, following, key)

    def _take(self, tx: Transaction, principal: Principal, agent: str, wanted: Wanted, now_ms: int) -> Place:
        """Store the newest message, unless it is stored. Raises Problem."""
        self._parts.guard(tx, principal)
        if agent != OWN:
            self._bridges.check(tx, principal.user_id, agent)
        conversation_id = self._find(tx, principal, agent, wanted.thread_id)
        known = None if conversation_id is None else ag_ui_store.find_message(tx, conversation_id, wanted.message_id)
        if conversation_id is not None and known is not None:
            return Place(conversation_id, *known)
        named = agent if conversation_id is None and agent != OWN else None
        sent = self._conversations.send_message(tx, principal, conversation_id, wanted.content, now_ms, agent=named)
        if not self._conversations.is_answered(tx, principal.user_id, sent.conversation_id):
            raise Problem(Code.INVALID, "Nobody answers here: agent.runner is 'none'.")
        if conversation_id is None:
            ag_ui_store.keep_conversation(tx, principal.user_id, agent, wanted.thread_id, sent.conversation_id, now_ms)
        ag_ui_store.keep_message(tx, sent.conversation_id, wanted.message_id, sent.message_id, sent.seq, now_ms)
        return Place(sent.conversation_id, sent.message_id, sent.seq)

    def _find(self, tx: Transaction, principal: Principal, agent: str, thread_id: str) -> str | None:
        """The conversation that the client means; None for a new one. Raises `not_found`, `forbidden`."""
        if not thread_id.startswith(Prefix.CONVERSATION):
            return ag_ui_store.find_conversation(tx, principal.user_id, agent, thread_id)
        conversation = self._conversations.get(tx, principal.user_id, thread_id)
        if (conversation.agent or OWN) != agent:
            raise Problem(Code.FORBIDDEN, "Another agent answers in this conversation.")
        return conversation.conversation_id

    def follow(self, following: Following, key: str) -> None:
        self._following[following] = key

    def leave(self, following: Following) -> None:
        self._following.pop(following, None)


class _Answer(StreamingResponse):
    """Counted while it is sent, also where the reader leaves before its first byte."""

    def __init__(self, desk: AgUi, following: Following, key: str) -> None:
        super().__init__(_body(following), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._desk = desk
        self._following = following
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._desk.follow(self._following, self._key)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.leave(self._following)


async def _body(following: Following) -> AsyncIterator[bytes]:
    async for piece in following.body():
        yield piece


def add_routes(api: Api, desk: AgUi) -> None:
    api.add_raw(
        "POST",
        "/api/v1/agents/{agent}/ag-ui",
        desk.run,
        max_body_bytes=MAX_BODY_BYTES,
        problems=(Code.DRAINING, Code.FORBIDDEN, Code.NOT_FOUND, Code.TOO_LARGE),
        operation=_RUN,
    )


_RUN: dict[str, Any] = {
    "operationId": "run_ag_ui",
    "summary": "Send the newest message to an agent and read the answer as AG-UI 1.0 events.",
    "description": "Taken are `threadId`, `runId`, and id and text of the newest message of the role `user`; the rest "
    "is the client's word, and is left. The same message again listens to the same run. `resume` is refused: "
    "interrupts are approvals, which a paired device decides.",
    "parameters": [
        {
            "name": "agent",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "maxLength": 32},
            "description": "`entobot`, or a name of `GET /api/v1/agents`.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["threadId", "runId", "messages"],
                    "properties": {
                        "threadId": {"type": "string", "minLength": 1, "maxLength": 128},
                        "runId": {"type": "string", "minLength": 1, "maxLength": 128},
                        "messages": {
                            "type": "array",
                            "maxItems": 10_000,
                            "items": {
                                "type": "object",
                                "required": ["id", "role"],
                                "properties": {
                                    "id": {"type": "string", "maxLength": 128},
                                    "role": {"type": "string"},
                                    "content": {},
                                },
                            },
                        },
                        "resume": {"type": "array", "maxItems": 0},
                    },
                }
            }
        },
    },
    "responses": {"200": {"description": "Events of AG-UI 1.0.", "content": {"text/event-stream": {}}}},
}
