"""The process of an agent: its own folder, few variables, no shell, and nobody left behind when it ends."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from entobot.agents.acp_lines import MAX_LINE_BYTES

INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
"""Variables of the gateway that every agent gets. Keys are not among them."""
GRACE_S = 0.5
MAX_KEPT_LINES = 5
MAX_KEPT_CHARACTERS = 200


class NotStarted(Exception):  # noqa: N818  reads as what happened
    """The program did not start. The text is for whoever runs the gateway."""


def variables_for(environment: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """What the agent's process gets of the gateway's environment."""
    return {name: environment[name] for name in (*INHERITED, *names) if name in environment}


def make_folder(folder: Path, *, is_own: bool) -> None:
    """Blocks. `is_own`: of the data folder, and made when missing. Raises NotStarted."""
    try:
        if is_own:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_dir():
            raise NotStarted(f"its folder {folder} is not there")
    except OSError as error:
        raise NotStarted(f"its folder {folder} cannot be used ({error.strerror})") from None


class AgentProcess:
    """One process and everything that it starts in its session."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors: deque[str] = deque(maxlen=MAX_KEPT_LINES)
        assert process.stdin is not None, "it was started with a pipe"
        assert process.stdout is not None, "it was started with a pipe"
        self.stdin, self.stdout = process.stdin, process.stdout
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> "AgentProcess":
        """Raises NotStarted."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder,
                env=dict(variables),
                limit=MAX_LINE_BYTES,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise NotStarted(f"there is no program '{command[0]}'") from None
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else "its command cannot be used"
            raise NotStarted(f"'{command[0]}' cannot be started ({said})") from None
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> str:
        """Wait for its end; how it ended."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await asyncio.shield(self._listening)  # what it said last is still under way
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
        last = self._errors[-1] if self._errors else ""
        return f"{how}: {last}" if last else how

    async def stop(self) -> None:
        """End it and what it started: asked first, then by force. Within a second."""
        if self._process.returncode is None:
            with contextlib.suppress(OSError):
                self.stdin.close()
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):  # wait_for of Python 3.11 may swallow that we are cancelled
                    await self._process.wait()
        self._signal(signal.SIGKILL)  # the group may outlive its first member
        await self._process.wait()
        self._listening.cancel()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _listen(self) -> None:
        """Keep the last lines that it wrote to its standard error: they say why it ended."""
        errors = self._process.stderr
        assert errors is not None, "it was started with a pipe"
        rest = b""
        while piece := await errors.read(4096):
            *lines, rest = (rest + piece).split(b"\n")
            rest = rest[-4096:]
            for line in lines:
                self._keep(line)
        self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = "".join(c if c.isprintable() else " " for c in line.decode("utf-8", "replace")).strip()
        if text:
            self._errors.append(text[:MAX_KEPT_CHARACTERS])
