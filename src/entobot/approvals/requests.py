"""Approvals for agents that run elsewhere: asked for by a token, decided like any other, fetched by who asked."""

from dataclasses import replace
from datetime import timedelta

import rfc8785

from entobot.approvals import request_store as store
from entobot.approvals.action import parse_args
from entobot.approvals.model import Approval, ApprovalState, Question
from entobot.approvals.request_model import (
    MAX_LIFE_S,
    MAX_OPEN,
    MIN_LIFE_S,
    Outcome,
    Request,
    Requester,
    Wish,
    outside_tool,
)
from entobot.approvals.service import Approvals
from entobot.callbacks.model import Kind
from entobot.callbacks.service import Callbacks
from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.principal import Principal
from entobot.core.secrets import sha256_b64u
from entobot.devices.service import Devices
from entobot.notifications.wording import one_line
from entobot.storage.database import Database, Transaction

KEPT_FOR = timedelta(days=60)
"""After they were made; the longest waits for 30 days."""


class Requests:
    """Methods that take a transaction are units, or parts of them."""

    def __init__(self, approvals: Approvals, *, ids: Ids, devices: Devices, callbacks: Callbacks) -> None:
        self._approvals = approvals
        self._callbacks = callbacks
        approvals.on_outside_end = callbacks.ended
        self._ids = ids
        self._devices = devices

    # -- asking

    def request(self, tx: Transaction, principal: Principal, wish: Wish, now_ms: int) -> Outcome:
        """Let it through by a rule for this very program, or put it to whoever decides by the policies. With a key that
        the program has used before: that request, as it is now.

        Raises `action_not_presentable`, `address_refused`, `invalid`, `rate_limited` while too many wait, `idempotency_mismatch` for a
        known key with other words.
        """
        self._approvals.guard(tx, principal)
        requester = Requester(principal.user_id, principal.device_id)
        request = self._request(wish, requester, now_ms)
        known = None if wish.key is None else store.find_by_key(tx, requester, wish.key)
        if known is not None:
            return self._same(tx, known, request)
        if store.count_open(tx, requester) >= MAX_OPEN:
            said = f"{MAX_OPEN} requests wait for a decision already. Wait, or take some back."
            raise Problem(Code.RATE_LIMITED, said, retry_after_s=60)
        if not store.insert(tx, request):
            raise Problem(Code.RATE_LIMITED, "This is being asked at this moment. Ask again.", retry_after_s=1)
        self._callbacks.register(tx, principal, Kind.APPROVAL_REQUEST, request.request_id, wish.callback_url, now_ms)
        asked = self._question(tx, principal, request, wish)
        found = self._approvals.ask(tx, asked, expires_at_ms=request.expires_at_ms, now_ms=now_ms)
        if isinstance(found, Approval):
            settled = replace(request, approval_id=found.approval_id, risk=found.risk)
        else:
            settled = replace(request, rule_id=found.rule_id, risk=found.risk)
            self._callbacks.ended(tx, request.request_id, now_ms)
        store.settle(tx, settled)
        return Outcome(settled, found if isinstance(found, Approval) else None)

    def _request(self, wish: Wish, requester: Requester, now_ms: int) -> Request:
        if not MIN_LIFE_S <= wish.life_s <= MAX_LIFE_S:
            raise Problem(Code.INVALID, f"A request waits for {MIN_LIFE_S} to {MAX_LIFE_S} seconds.")
        args_json = rfc8785.dumps(parse_args(wish.args_json)).decode("utf-8")
        words = [wish.tool, args_json, wish.title, str(wish.risk), wish.takes_edits]
        return Request(
            request_id=self._ids.new(Prefix.REQUEST),
            requester=requester,
            key=wish.key,
            tool=wish.tool,
            title=one_line(wish.title or wish.tool),
            args_json=args_json,
            words_sha256=sha256_b64u(rfc8785.dumps(words).decode("utf-8")),
            risk=wish.risk,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + wish.life_s * 1000,
        )

    def _question(self, tx: Transaction, principal: Principal, request: Request, wish: Wish) -> Question:
        """The run is the agent's own, so the request stands for it. People read which program asks."""
        device = None if principal.device_id is None else self._devices.find_device(tx, principal.device_id)
        name = "An agent on the gateway's machine" if device is None else device.name
        return Question(
            user_id=principal.user_id,
            run_id=request.request_id,
            conversation_id="",
            tool_call_id="",
            tool=outside_tool(wish.tool),
            args_json=request.args_json,
            title=one_line(f"{name}: {request.title}"),
            risk=wish.risk,
            asked_by_device_id=principal.device_id,
            takes_edits=wish.takes_edits,
        )

    def _same(self, tx: Transaction, known: Request, asked: Request) -> Outcome:
        if known.words_sha256 != asked.words_sha256:
            raise Problem(Code.IDEMPOTENCY_MISMATCH, "Something else was asked under this key. Take another key.")
        return self._outcome(tx, known)

    # -- what became of it

    def get(self, tx: Transaction, principal: Principal, request_id: str) -> Outcome:
        """For the program that asked, and nobody else. Raises `not_found`."""
        request = store.find(tx, request_id)
        if request is None or request.requester != Requester(principal.user_id, principal.device_id):
            raise Problem(Code.NOT_FOUND, "There is no such request of this program.")
        return self._outcome(tx, request)

    def find(self, tx: Transaction, request_id: str) -> Outcome | None:
        """For the gateway's own work: whoever's it is."""
        request = store.find(tx, request_id)
        return None if request is None else self._outcome(tx, request)

    def _outcome(self, tx: Transaction, request: Request) -> Outcome:
        return Outcome(request, None if request.approval_id is None else self._approvals.find(tx, request.approval_id))

    def take(self, tx: Transaction, outcome: Outcome, now_ms: int) -> None:
        """Its end is told to who asked: from now on it counts as taken up."""
        if outcome.state is ApprovalState.PENDING or not store.take(tx, outcome.request.request_id, now_ms):
            return
        if outcome.approval is not None:
            self._approvals.consumed(tx, outcome.approval.approval_id, now_ms)

    def take_back(self, tx: Transaction, principal: Principal, request_id: str, now_ms: int) -> Outcome:
        """By who asked. Raises `not_found`, `approval_already_decided`, `approval_expired`."""
        self._approvals.guard(tx, principal)
        outcome = self.get(tx, principal, request_id)
        self._approvals.withdraw(tx, outcome.approval, now_ms, by=principal)
        store.take(tx, request_id, now_ms)
        return self._outcome(tx, outcome.request)

    def end_of_device(self, tx: Transaction, device_id: str, now_ms: int) -> None:
        """A program whose token was suspended or revoked: what it asks for is not decided any more."""
        self._end(tx, store.open_of_device(tx, device_id), now_ms)

    def end_all(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves."""
        del by  # the entry about the person says who
        self._end(tx, store.open_of_user(tx, user_id), now_ms)

    def _end(self, tx: Transaction, request_ids: list[str], now_ms: int) -> None:
        for request_id in request_ids:
            self._approvals.cancel_for_run(tx, request_id, now_ms)

    async def forget(self, database: Database, now_ms: int) -> None:
        await database.write(lambda tx: store.forget(tx, now_ms - to_ms(KEPT_FOR)))
