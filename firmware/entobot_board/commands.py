"""Commands: each carried out once, whatever is repeated, and answered with the same result whenever it is asked again.

That holds over a restart: `path` remembers the last ones, and one that a power cut interrupted is told as such.
"""

import json

from .clock import day_ms_of
from .settings import read, write

REMEMBERED = 16
RESULT_BYTES = 4096


class Commands:
    """`handlers` maps names to functions of the arguments; what they return is the result, what they raise the error."""

    def __init__(self, path: str, clock) -> None:
        self.handlers = {}
        self.slow = set()
        """Names of those that are acknowledged first, as `accepted`."""
        self._path = path
        self._clock = clock
        self._unsaid = []  # results that were not acknowledged: (command id, payload)
        self._queue = []  # what is to be carried out: (command id, name, arguments)
        try:
            known = read(path).get("known", [])
        except ValueError:
            known = []
        self._known = []  # [command id, result or None while it is carried out], oldest first
        for one in known:
            if one[1] is None:
                one[1] = _failed(one[0], "the board was restarted before it was done")
            self._known.append(one)
            self._unsaid.append((one[0], one[1]))

    def take(self, payload: bytes) -> None:
        """From the gateway. It is on flash when this returns, so that it may be acknowledged."""
        try:
            said = json.loads(payload)
            command_id, name = said["command_id"], said["name"]
            args = said.get("args") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # no command
        if not (isinstance(command_id, str) and isinstance(name, str) and isinstance(args, dict)):
            return
        for known in self._known:
            if known[0] == command_id:
                if known[1] is not None:
                    self._say(command_id, known[1])
                return
        refusal = self._refusal(name, said.get("expires_at"))
        if refusal is not None:
            self._remember(command_id, _failed(command_id, refusal))
            self._say(command_id, self._known[-1][1])
            return
        self._remember(command_id, None)
        self._queue.append((command_id, name, args))
        if name in self.slow:
            self._say(command_id, {"command_id": command_id, "state": "accepted"})

    def step(self) -> None:
        """Carry one out."""
        if not self._queue:
            return
        command_id, name, args = self._queue.pop(0)
        try:
            result = {"command_id": command_id, "state": "done", "result": self.handlers[name](args)}
            if len(json.dumps(result)) > RESULT_BYTES:
                result = _failed(command_id, "the result is too long")
        except Exception as error:  # noqa: BLE001  whatever a handler raises is an answer
            result = _failed(command_id, str(error) or type(error).__name__)
        for known in self._known:
            if known[0] == command_id:
                known[1] = result
        self._save()
        self._say(command_id, result)

    def unsaid(self) -> "tuple[str, dict] | None":
        """The next result to publish."""
        return self._unsaid[0] if self._unsaid else None

    def was_said(self, said) -> None:
        if said in self._unsaid:
            self._unsaid.remove(said)

    def _refusal(self, name: str, expires_at) -> "str | None":
        if name not in self.handlers:
            return "the board knows no command of this name"
        if len(self._queue) >= REMEMBERED // 2:
            return "the board has too much to do"
        if expires_at is not None:
            now = self._clock.day_ms()
            if now is None:
                return "the board does not know what time it is"
            try:
                if now > day_ms_of(expires_at):
                    return "it came too late"
            except (ValueError, TypeError):
                return "expires_at is no time"
        return None

    def _say(self, command_id: str, result: dict) -> None:
        if (command_id, result) not in self._unsaid:
            self._unsaid.append((command_id, result))

    def _remember(self, command_id: str, result: "dict | None") -> None:
        self._known.append([command_id, result])
        while len(self._known) > REMEMBERED:
            self._known.pop(0)
        self._save()

    def _save(self) -> None:
        write(self._path, {"known": self._known})


def _failed(command_id: str, why: str) -> dict:
    return {"command_id": command_id, "state": "failed", "error": why[:200]}
