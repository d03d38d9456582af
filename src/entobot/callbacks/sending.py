"""Post what is due: signed as Standard Webhooks, to addresses that may be reached, tried again, by one node each."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.callbacks import store
from entobot.callbacks.model import MAX_REASON_CHARACTERS, Callback, State, again_after_s
from entobot.callbacks.service import Delivered, Describe
from entobot.core.clock import Clock, rfc3339
from entobot.core.webhook_signing import decode_secret, signed
from entobot.outgoing.guarded_http import AddressRefused, GuardedHttp, Unreachable
from entobot.storage.database import Database, Transaction

BATCH = 20
GONE = 410
LOST = "the gateway was stopped while it was posted; it may have arrived"

log = structlog.get_logger("callbacks")


@dataclass(frozen=True, slots=True)
class Tried:
    """`reason` is empty for what arrived. `is_final`: another try would change nothing."""

    reason: str = ""
    is_final: bool = False


class Sender:
    """`alive` reads the ids of the nodes that live. The secret is read for each message, so that it can be replaced."""

    def __init__(
        self,
        http: GuardedHttp,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        node_id: str,
        alive: Callable[[Transaction], frozenset[str]],
        secret_file: Path | None,
        describe: Describe,
        delivered: Delivered,
    ) -> None:
        self._http = http
        self._database = database
        self._clock = clock
        self._audit = audit
        self._node_id = node_id
        self._alive = alive
        self._secret_file = secret_file
        self._describe = describe
        self._delivered = delivered

    async def look(self) -> None:
        """Post everything that is due. Raises StorageFailed; what was being posted then is swept later."""
        while True:
            now_ms = self._clock.now_ms()
            found = await self._database.read(lambda tx, at=now_ms: store.due(tx, at, BATCH), is_small=True)
            if not found:
                return
            done = await asyncio.gather(*(self._one(one) for one in found))
            if not any(done):
                return

    async def sweep(self) -> None:
        """What a node that is gone was posting is posted again: its receiver knows a repeat by `webhook-id`."""
        if not await self._database.read(self._lost, is_small=True):
            return
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> None:
            for one in self._lost(tx):
                store.move(tx, one, self._after(one, Tried(LOST), now_ms))

        await self._database.write(unit)

    def _lost(self, tx: Transaction) -> list[Callback]:
        found = store.sending(tx, BATCH)
        alive = self._alive(tx) if found else frozenset[str]()
        return [one for one in found if one.node not in alive]

    async def _one(self, one: Callback) -> bool:
        """Whether this node had it."""
        claimed = replace(one, state=State.SENDING, tries=one.tries + 1, node=self._node_id, next_at_ms=None)

        def claim(tx: Transaction) -> tuple[bool, dict[str, object] | None]:
            return store.move(tx, one, claimed), self._describe(tx, one)

        is_ours, data = await self._database.write(claim)
        if not is_ours:
            return False
        tried = Tried("what was asked is known no more", is_final=True) if data is None else await self._post(one, data)
        await self._database.write(lambda tx: self._settle(tx, claimed, tried))
        if tried.reason:
            log.warning("callback.not_delivered", callback=one.callback_id, tries=claimed.tries, reason=tried.reason)
        return True

    async def _post(self, one: Callback, data: dict[str, object]) -> Tried:
        now_ms = self._clock.now_ms()
        told = {"type": f"{one.kind}.closed", "timestamp": rfc3339(now_ms), "data": data}
        body = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            secret = await asyncio.to_thread(self._secret)
            headers = {"content-type": "application/json"} | signed(secret, one.callback_id, now_ms // 1000, body)
            reply = await self._http.post(one.url, body, headers)
        except AddressRefused as error:
            return Tried(f"the receiver is refused: {error}", is_final=True)
        except Unreachable as error:
            return Tried(f"the receiver: {error}")
        except (OSError, ValueError) as error:
            return Tried(f"callbacks.secret_file: {error}")
        if 200 <= reply.status < 300:
            return Tried()
        return Tried(f"the receiver answered {reply.status}", is_final=reply.status == GONE)

    def _secret(self) -> bytes:
        """Blocks."""
        if self._secret_file is None:
            raise ValueError("is not set any more")
        return decode_secret(self._secret_file.read_text("utf-8"))

    def _settle(self, tx: Transaction, claimed: Callback, tried: Tried) -> None:
        now_ms = self._clock.now_ms()
        after = self._after(claimed, tried, now_ms)
        if not store.move(tx, claimed, after):
            return
        if after.state is State.DELIVERED:
            self._delivered(tx, after, now_ms)
        elif after.state is State.FAILED:
            facts = {"subject": after.subject, "tries": after.tries, "reason": after.reason}
            self._audit.record(
                tx,
                AuditEvent.CALLBACK_FAILED,
                now_ms=now_ms,
                outcome=Outcome.FAILURE,
                subject=after.callback_id,
                facts=dict(facts),
            )

    def _after(self, one: Callback, tried: Tried, now_ms: int) -> Callback:
        if not tried.reason:
            return replace(one, state=State.DELIVERED, node="", reason="", ended_at_ms=now_ms)
        reason = tried.reason[:MAX_REASON_CHARACTERS]
        wait_s = None if tried.is_final else again_after_s(one.tries)
        if wait_s is None:
            return replace(one, state=State.FAILED, node="", reason=reason, ended_at_ms=now_ms)
        return replace(one, state=State.DUE, node="", reason=reason, next_at_ms=now_ms + wait_s * 1000)
