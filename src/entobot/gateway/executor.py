"""Execute commands: checked, idempotent, effect and result in one unit."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec

from entobot.core.clock import Clock, to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import is_ulid
from entobot.core.principal import Principal
from entobot.core.secrets import sha256
from entobot.core.unreadable import UNREADABLE
from entobot.gateway import store
from entobot.gateway.commands import Command
from entobot.gateway.meters import CommandMeters
from entobot.storage.database import Database, Settle, StorageFailed, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.tracing import NO_SPAN, NoTracer, Span, Tracer, request_span

log = logging.getLogger(__name__)

RESULTS_KEPT = timedelta(hours=24)
FORGOTTEN_AT_ONCE = 500
FAILURE_TOLD_EVERY_S = 60.0

Guard = Callable[[Transaction, Principal], None]
"""Raises Problem when the principal's device was suspended, revoked or re-keyed since it authenticated."""


class Executor:
    """Runs commands for every transport alike."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        commands: Mapping[str, Command],
        guard: Guard,
        meters: Meters | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._commands = commands
        self._guard = guard
        self._failure_told_s = float("-inf")
        self._tracer = tracer or NoTracer()
        self._meters = CommandMeters(meters or Meters(), commands)
        self._decoders = {name: msgspec.json.Decoder(command.data) for name, command in commands.items()}

    async def execute(self, principal: Principal, command_id: str, name: str, data: bytes) -> bytes:
        """As `submit`; raises what that settles with."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def settle(result: bytes | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result or b"")

        self.submit(principal, command_id, name, data, settle)
        return await future

    def submit(
        self, principal: Principal, command_id: str, name: str, data: bytes | memoryview, settle: Settle[bytes]
    ) -> None:
        """Settles with the JSON text of the result, after the effect is committed and fsynced; perhaps at once.

        Or with a Problem; then nothing changed. The same `command_id` of a device has its effect once in 24 h and gets
        the first result again; with other data it is an `idempotency_mismatch`.
        """
        begun_s = self._clock.monotonic()
        span = self._start(name) if self._tracer.is_on else NO_SPAN

        def finish(answer: bytes | Problem | None, error: BaseException | None) -> None:
            if isinstance(answer, Problem):
                answer, error = None, answer
            elif isinstance(error, StorageFailed):
                self._tell(error)
                error = error.as_problem()
            if error is None:
                self._meters.done(name, self._clock.monotonic() - begun_s)
                span.end()
            else:
                code = error.code if isinstance(error, Problem) else Code.INTERNAL
                self._meters.refused(name, code)
                span.end(code, is_failed=code is Code.INTERNAL)
            settle(answer, error)

        try:
            command, request = self._checked(principal, command_id, name, data)
            if command.writes:
                unit = self._write_unit(command, principal, command_id, request, span)
                self._database.submit_write(unit, finish, principal.user_id)
            else:
                self._database.submit_read(self._read_unit(command, principal, request), finish)
        except (Problem, StorageFailed) as error:
            finish(None, error)

    def _start(self, name: str) -> Span:
        known = name if name in self._commands else "unknown"
        return self._tracer.start(f"command {known}", request_span.get(), command=known)

    def _checked(
        self, principal: Principal, command_id: str, name: str, data: bytes | memoryview
    ) -> tuple[Command, object]:
        command = self._commands.get(name)
        if command is None:
            raise Problem(Code.NOT_FOUND, f"There is no command '{name[:40]}'.")
        if not is_ulid(command_id):
            raise Problem(Code.INVALID, "A command id is a ULID: 26 Crockford characters.")
        command.check(principal)
        return command, self._decode(name, data)

    def _tell(self, failure: StorageFailed) -> None:
        """Once a minute: a line for each command would fill what is left of a full disk."""
        now_s = self._clock.monotonic()
        if now_s - self._failure_told_s >= FAILURE_TOLD_EVERY_S:
            self._failure_told_s = now_s
            log.error("commands are not committed: %s", failure)

    def _decode(self, name: str, data: bytes | memoryview) -> object:
        try:
            return self._decoders[name].decode(data)
        except UNREADABLE as error:
            raise Problem(Code.INVALID, f"The data of {name} is not right: {str(error)[:200]}") from None

    def _read_unit(self, command: Command, principal: Principal, request: object) -> Callable[[Transaction], bytes]:
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> bytes:
            self._guard(tx, principal)
            return msgspec.json.encode(command.run(tx, principal, request, now_ms))

        return unit

    def _write_unit(
        self, command: Command, principal: Principal, command_id: str, request: object, span: Span
    ) -> Callable[[Transaction], bytes | Problem]:
        now_ms = self._clock.now_ms()
        digest = sha256(command.name.encode() + b"\n" + msgspec.json.encode(request))
        owner = principal.device_id or principal.session_id or principal.user_id

        def unit(tx: Transaction) -> bytes | Problem:
            self._guard(tx, principal)
            earlier = store.find_result(tx, owner, command_id)
            if earlier is not None:
                return _same_result(earlier, digest)
            outcome = command.run(tx, principal, request, now_ms)
            if isinstance(outcome, Problem):
                return outcome
            if span is not NO_SPAN and command.begets is not None:
                begotten = command.begets(outcome)
                tx.after_commit(lambda: self._tracer.remember(begotten, span))
            result = msgspec.json.encode(outcome)
            store.insert_result(tx, device_id=owner, command_id=command_id, digest=digest, result=result, now_ms=now_ms)
            return result

        return unit

    async def sweep(self) -> None:
        """Forget results older than 24 h, some a commit, so that commands go on meanwhile."""
        before = self._clock.now_ms() - to_ms(RESULTS_KEPT)
        while await self._database.write(lambda tx: store.forget_results(tx, before, FORGOTTEN_AT_ONCE)):
            pass


def _same_result(earlier: tuple[bytes, bytes], digest: bytes) -> bytes:
    known, result = earlier
    if known != digest:
        raise Problem(Code.IDEMPOTENCY_MISMATCH, "This command id was used for another command. Use a new one.")
    return result


def try_store(tx: Transaction, key: str, now_ms: int) -> None:
    """Write a row under this node's own `key` and take it back: fails where a command would."""
    store.try_write(tx, key, now_ms)
