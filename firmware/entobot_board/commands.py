"""Commands: each carried out once, whatever is repeated, and answered with the same result whenever it is asked again.

That holds over a restart: `path` remembers them until they are told, and the last ones after that; one that a power cut
interrupted is told as such.
"""

import json

from .clock import day_ms_of
from .settings import read, write

QUEUED = 8
UNSAID = 64
"""So many answers may wait. A gateway lets half as many commands of a board wait."""
REMEMBERED = 64
"""Of the commands that were told, by their id and how they ended."""
WHOLE = 8
"""The last of them, by their results too, where these are short."""
SHORT_BYTES = 256
RESULT_BYTES = 4096
HELD_BYTES = 8192
"""Of all results that were not told yet."""
ID_BYTES = 64


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
            kept = read(path)
        except (ValueError, MemoryError):  # what there is no memory for now, there is none for at the next start
            kept = {}
        self._known = []  # [command id, result or None while it is carried out], oldest first
        self._over = kept.get("over", "\n")  # lines of command id and state: a list would take three times the memory
        for one in kept.get("known", []):
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
        if len(command_id) > ID_BYTES or len(self._unsaid) + len(self._queue) >= UNSAID or self._repeats(command_id):
            return
        if len(self._queue) >= QUEUED:  # not remembered: a flood leaves what was done in memory
            self._say(command_id, _failed(command_id, "the board has too much to do"))
            return
        refusal = self._refusal(name, said.get("expires_at"))
        known = [command_id, None if refusal is None else _failed(command_id, refusal)]
        self._known.append(known)
        if refusal is None and not self._save():
            known[1] = _failed(command_id, "the board has no room to remember it")
        if known[1] is not None:
            self._say(command_id, known[1])
            return
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
            size = len(json.dumps(result))
            if size > RESULT_BYTES:
                result = _failed(command_id, "the result is too long")
            elif size > SHORT_BYTES and size + self._held() > HELD_BYTES:
                result = _failed(command_id, "it was done, and there is no memory for its result")
        except Exception as error:  # noqa: BLE001  whatever a handler raises is an answer
            result = _failed(command_id, str(error) or type(error).__name__)
        for known in self._known:
            if known[0] == command_id:
                known[1] = result
        self._save()  # where there is no room, another start tells that it was interrupted
        self._say(command_id, result)

    def unsaid(self) -> "tuple[str, dict] | None":
        """The next result to publish."""
        return self._unsaid[0] if self._unsaid else None

    def was_said(self, said) -> None:
        if said in self._unsaid:
            self._unsaid.remove(said)
        unsaid = [command_id for command_id, _ in self._unsaid]
        told = [known for known in self._known if known[1] is not None and known[0] not in unsaid]
        more = len(told) - WHOLE
        for known in told:
            if more > 0 or len(json.dumps(known[1])) > SHORT_BYTES:
                more -= 1
                self._known.remove(known)
                self._over += known[0] + " " + known[1]["state"] + "\n"
        while self._over.count("\n") > REMEMBERED + 1:
            self._over = self._over[self._over.find("\n", 1) :]

    def _repeats(self, command_id: str) -> bool:
        """Whether it was heard before, refused ones as long as that is not told. Then it is answered again, or will be."""
        for unsaid, result in self._unsaid:
            if unsaid == command_id and result["state"] != "accepted":
                return True
        for known in self._known:
            if known[0] == command_id:
                if known[1] is not None:
                    self._say(command_id, known[1])
                return True
        for state in ("done", "failed"):
            if "\n" + command_id + " " + state + "\n" in self._over:
                self._say(command_id, {"command_id": command_id, "state": state})
                return True
        return False

    def _refusal(self, name: str, expires_at) -> "str | None":
        if name not in self.handlers:
            return "the board knows no command of this name"
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

    def _held(self) -> int:
        return sum([len(json.dumps(result)) for _, result in self._unsaid])

    def _save(self) -> bool:
        """Whether there was room for it."""
        try:
            write(self._path, {"known": self._known, "over": self._over})
        except (OSError, MemoryError):
            return False
        return True


def _failed(command_id: str, why: str) -> dict:
    return {"command_id": command_id, "state": "failed", "error": why[:200]}
