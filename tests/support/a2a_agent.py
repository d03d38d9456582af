"""An A2A agent on the protocol's own SDK, server and all. What it is told says what it does."""

import asyncio
from typing import Any

from a2a.helpers.proto_helpers import new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Message, Task, TaskState, TaskStatus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from tests.support.remote import InThread

KEY = "sk-a2a-0123456789"


class Executor(AgentExecutor):
    """`heard` are the words it was told, with the names of task and context; `cancelled` tasks."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.cancelled: list[str] = []

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        text, task_id, context_id = context.get_user_input(), str(context.task_id), str(context.context_id)
        self.heard.append((text, task_id, context_id))
        word = text.rpartition("\n")[2]
        say = TaskUpdater(event_queue, task_id, context_id)
        if word == "plainly":
            await event_queue.enqueue_event(say.new_agent_message([new_text_part("plain words")]))
            return
        if context.current_task is None:
            status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            await event_queue.enqueue_event(Task(id=task_id, context_id=context_id, status=status))
        await say.start_work(self._message(say, "let me see"))
        await self._do(word, say)

    async def _do(self, word: str, say: TaskUpdater) -> None:
        if word == "ask":
            await say.requires_input(self._message(say, "Which colour?"))
        elif word == "sign in":
            await say.requires_auth(self._message(say, "See https://sign-in.example.org/"))
        elif word == "fail":
            await say.failed(self._message(say, "SECRET"))
        elif word == "refuse":
            await say.reject(self._message(say, "SECRET"))
        elif word == "hang":
            await asyncio.Event().wait()
        elif word == "status":
            await say.complete(self._message(say, "all in its status"))
        elif word == "nothing":
            await say.complete()
        else:
            await say.add_artifact([new_text_part(word[:3])], artifact_id="answer")
            if word[3:]:
                await say.add_artifact([new_text_part(word[3:])], artifact_id="answer", append=True, last_chunk=True)
            await say.complete()

    @staticmethod
    def _message(say: TaskUpdater, text: str) -> Message:
        return say.new_agent_message([new_text_part(text)])

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        self.cancelled.append(str(context.task_id))
        await TaskUpdater(event_queue, str(context.task_id), str(context.context_id)).cancel()


class A2aAgent(InThread):
    """`streams` as its card says."""

    def __init__(self, *, streams: bool = True) -> None:
        self.executor = Executor()
        self._streams = streams
        super().__init__(self._make)

    def _make(self, url: str) -> Any:
        card = AgentCard(
            name="Painter",
            description="Paints",
            version="1",
            supported_interfaces=[
                AgentInterface(url="grpc://127.0.0.1:1", protocol_binding="GRPC", protocol_version="1.0"),
                AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version="1.0"),
            ],
            capabilities=AgentCapabilities(streaming=self._streams),
            skills=[AgentSkill(id="paint", name="Paint", description="Paints", tags=["art"])],
            default_input_modes=["text/plain"],
            default_output_modes=["text/plain"],
        )
        handler = DefaultRequestHandler(self.executor, InMemoryTaskStore(), card)
        app = Starlette(routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/rpc")])

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if Request(scope).headers.get("x-api-key") != KEY:
                await JSONResponse({}, 401)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded
