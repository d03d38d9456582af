"""One life of an agent that speaks ACP: from the start of its process to its end, with its sessions and prompts."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from entobot import __version__
from entobot.agents import acp_words
from entobot.agents.acp_lines import Lines
from entobot.agents.acp_process import AgentProcess, NotStarted
from entobot.agents.acp_prompt import Prompt
from entobot.agents.runner import Line, RunErrorCode, RunFailed
from entobot.telemetry.log import get_logger

if TYPE_CHECKING:
    from acp.connection import Connection

MAX_SESSIONS = 256
AUTH_REQUIRED = -32000
UPDATE = "session/update"
ASKS = "session/request_permission"

log = get_logger("agents")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an agent may take to answer the handshake (some fetch themselves first), for a session, and to stop."""

    start: timedelta = timedelta(seconds=60)
    session: timedelta = timedelta(seconds=30)
    cancel: timedelta = timedelta(seconds=10)


class Life:
    """Nothing of the file system or a terminal is offered to the agent: what it does there it does itself, asking
    first. `gone` is set to the reason when it ends.
    """

    def __init__(self, name: str, process: AgentProcess, folder: Path, patience: Patience) -> None:
        self.name = name
        self._patience = patience
        self._connection: Connection | None = None
        self.title = name
        self._folder = folder
        self._process = process
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._prompts: dict[str, Prompt] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.is_ending = False
        """It takes no prompt any more."""
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    async def begin(cls, name: str, process: AgentProcess, folder: Path, patience: Patience) -> "Life":
        """Shake hands. Raises NotStarted; the process is ended then."""
        life = cls(name, process, folder, patience)
        try:
            await life._shake_hands()
        except BaseException:
            await life.end()
            raise
        return life

    async def _shake_hands(self) -> None:
        from acp.connection import Connection

        lines = Lines(
            self._process.stdout,
            self._process.stdin,
            has_room=self._has_room,
            on_end=self._lose,
            on_eof=self._ends_output,
        )
        self._connection = Connection(self._handle, lines)
        self._spawn(self._watch())
        asked = {
            "protocolVersion": 1,
            "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False},
            "clientInfo": {"name": "entobot", "title": "Entobot", "version": __version__},
        }
        said = await self._call("initialize", asked, self._patience.start)
        version = said.get("protocolVersion")
        if version != 1:
            raise NotStarted(f"it speaks version {version} of ACP and not 1")
        info = said.get("agentInfo")
        if isinstance(info, dict):
            found = cast("dict[str, object]", info)
            self.title = str(found.get("title") or found.get("name") or self.name)[:100]

    async def end(self) -> None:
        self._lose("it was stopped")
        for task in tuple(self._tasks):
            task.cancel()
        await self._process.stop()
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close()

    # -- prompts

    async def prompt(self, run_id: str, conversation_id: str, transcript: Sequence[Line]) -> Prompt:
        """Send what a person said. Raises RunFailed."""
        session_id = self._sessions.get(conversation_id)
        is_new = session_id is None or session_id in self._prompts  # one that was told to stop, and has not yet
        if session_id is None or is_new:
            session_id = await self._new_session(conversation_id)
        self._sessions.move_to_end(conversation_id)
        prompt = self._prompts[session_id] = Prompt(run_id, self.name, session_id)
        self._spawn(self._carry(prompt, acp_words.prompt(transcript, is_new=is_new), conversation_id))
        return prompt

    def cancel(self, prompt: Prompt) -> None:
        """Ask the agent to stop. One that does not listen loses the session, and its life where nobody else needs it."""
        if prompt.is_ended:
            return
        prompt.failed(RunFailed(RunErrorCode.PROVIDER_ERROR, "The answer was stopped."))
        self._spawn(self._insist(prompt))

    async def _insist(self, prompt: Prompt) -> None:
        assert self._connection is not None, "there was a prompt"
        with contextlib.suppress(ConnectionError, OSError, TimeoutError):
            async with asyncio.timeout(self._patience.cancel.total_seconds()):
                await self._connection.send_notification("session/cancel", {"sessionId": prompt.session_id})
                await prompt.was_answered.wait()
        if prompt.was_answered.is_set() or self.gone.done():
            return
        log.warning("agent.deaf", agent=self.name)
        self._forget(prompt.session_id)
        if not self._prompts:
            self._lose("it did not stop when it was told to")

    async def _carry(self, prompt: Prompt, blocks: list[dict[str, Any]], conversation_id: str) -> None:
        assert self._connection is not None, "there is a session"
        try:
            said = await self._connection.send_request(
                "session/prompt", {"sessionId": prompt.session_id, "prompt": blocks}
            )
            reason = cast("dict[str, object]", said).get("stopReason") if isinstance(said, dict) else None
            prompt.done(str(reason))
        except (ConnectionError, OSError):
            prompt.failed(self._broke_off())
        except Exception as error:  # noqa: BLE001  the library's error for whatever the agent answers
            log.warning("agent.prompt_failed", agent=self.name, error=type(error).__name__)
            self._sessions.pop(conversation_id, None)
            prompt.failed(RunFailed(RunErrorCode.PROVIDER_ERROR, "The agent answered with an error."))
        finally:
            prompt.was_answered.set()
            if self._prompts.get(prompt.session_id) is prompt:
                del self._prompts[prompt.session_id]
            self._look_for_room()

    async def _new_session(self, conversation_id: str) -> str:
        asked: dict[str, Any] = {"cwd": str(self._folder), "mcpServers": []}
        try:
            said = await self._call("session/new", asked, self._patience.session)
        except NotStarted as failure:
            raise RunFailed(RunErrorCode.AGENT_NOT_READY, f"The agent gives no session: {failure}.") from None
        session_id = said.get("sessionId")
        if not isinstance(session_id, str) or session_id in self._sessions.values():
            raise RunFailed(RunErrorCode.PROVIDER_ERROR, "The agent gave no session of its own.")
        self._sessions[conversation_id] = session_id
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session_id

    def _forget(self, session_id: str) -> None:
        self._prompts.pop(session_id, None)
        for conversation_id, known in tuple(self._sessions.items()):
            if known == session_id:
                del self._sessions[conversation_id]

    def took(self) -> None:
        """What was told was shown; there may be room for more."""
        self._look_for_room()

    def _look_for_room(self) -> None:
        if not any(prompt.is_full for prompt in self._prompts.values()):
            self._has_room.set()

    # -- what comes from the agent

    async def _handle(self, method: str, params: Any, is_notification: bool) -> Any:  # noqa: FBT001  the library's form
        from acp.exceptions import RequestError
        from acp.schema import RequestPermissionRequest, SessionNotification
        from pydantic import ValidationError

        del is_notification
        if method == UPDATE:
            try:
                found = SessionNotification.model_validate(params)
            except ValidationError:  # of a newer protocol, or none: what cannot be read is not shown
                return None
            update = found.update.model_dump(mode="json", by_alias=True, exclude_none=True)
            prompt = self._prompts.get(found.session_id)
            if prompt is not None:
                prompt.told(update, len(str(update)))
                if prompt.is_full:
                    self._has_room.clear()
            return None
        if method == ASKS:
            asked = RequestPermissionRequest.model_validate(params)
            dumped = asked.model_dump(mode="json", by_alias=True, exclude_none=True)
            prompt = self._prompts.get(asked.session_id)
            if prompt is None:
                return {"outcome": {"outcome": "cancelled"}}
            return await prompt.asks(dumped["toolCall"], dumped["options"])
        raise RequestError.method_not_found(method)

    # -- its end

    async def _watch(self) -> None:
        self._lose(await self._process.ended())

    def _lose(self, why: str) -> None:
        if self.gone.done():
            return
        self.is_ending = True
        self._has_room.set()
        self.gone.set_result(why)
        for prompt in tuple(self._prompts.values()):
            prompt.failed(self._broke_off())

    def _ends_output(self, why: str) -> None:
        self.is_ending = True
        self._spawn(self._after_its_process(why))

    async def _after_its_process(self, why: str) -> None:
        """Its output ends a moment before its process is known to have; how that ended says more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                why = await self._process.ended()
        self._lose(why)

    def _broke_off(self) -> RunFailed:
        return RunFailed(RunErrorCode.PROVIDER_ERROR, f"{self.name} ended in the middle of its answer. Ask again.")

    # -- small parts

    async def _call(self, method: str, params: dict[str, Any], within: timedelta) -> dict[str, Any]:
        """Raises NotStarted."""
        assert self._connection is not None, "it was made before"
        within_s = within.total_seconds()
        request = asyncio.ensure_future(self._connection.send_request(method, params))
        try:
            await asyncio.wait({request, self.gone}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if self.gone.done():
                raise NotStarted(self.gone.result())
            if not request.done():
                raise NotStarted(f"it did not answer '{method}' within {within_s:.0f} s")
            try:
                said = request.result()
            except (ConnectionError, OSError):
                raise NotStarted(await self.gone) from None
            except Exception as error:  # noqa: BLE001  the library's error for whatever the agent answers
                if getattr(error, "code", None) == AUTH_REQUIRED:
                    raise NotStarted("it wants a sign-in, or a key, first") from None
                raise NotStarted(f"it refused '{method}' ({type(error).__name__})") from None
            if not isinstance(said, dict):
                raise NotStarted(f"its answer to '{method}' cannot be read")
            return cast("dict[str, Any]", said)
        finally:
            request.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
