"""Decide by SMS: hand out codes, and take one that comes back. Methods are parts of units."""

from entobot.approvals import code_store as store
from entobot.approvals.code_model import (
    DIGITS,
    GUESSES_MS,
    KEPT_MS,
    LEAST_LIFE_MS,
    LIFE_MS,
    MAX_WRONG,
    Code,
    Offer,
    Reply,
    Writer,
    digest_of,
    words_for,
)
from entobot.approvals.model import Decision, View
from entobot.approvals.service import Approvals
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit, Fact
from entobot.core.clock import rfc3339
from entobot.core.errors import Code as ProblemCode
from entobot.core.errors import Problem
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, random_digits, same
from entobot.storage.database import Transaction

LOOKED_AT = 200
"""Codes of one person: more than the limits of SMS let out in a day."""


class Codes:
    """`key` is this purpose's own."""

    def __init__(self, approvals: Approvals, *, audit: Audit, entropy: Entropy, key: bytes) -> None:
        self._approvals = approvals
        self._audit = audit
        self._entropy = entropy
        self._key = key

    # -- going out

    def offer(self, tx: Transaction, user_id: str, place_id: str, approval_id: str, now_ms: int) -> Offer | None:
        """A code for this person, at this number of theirs, in the unit that stores the message; an older one for the
        same approval ends. None for what is decided in the app only, or not by this person.
        """
        approval = self._approvals.find(tx, approval_id)
        words = None if approval is None else words_for(approval)
        if approval is None or words is None or not self._approvals.may_answer(tx, user_id, approval, now_ms):
            return None
        ends_at_ms = min(approval.expires_at_ms, now_ms + LIFE_MS)
        if ends_at_ms - now_ms < LEAST_LIFE_MS or self._is_locked(tx, user_id, now_ms):
            return None
        store.forget_codes(tx, now_ms - KEPT_MS)
        store.replace_codes(tx, user_id, approval_id, now_ms)
        code = self._new_code(tx, user_id, place_id)
        made = Code(
            digest=digest_of(self._key, code, approval_id, approval.action_sha256, user_id, place_id),
            approval_id=approval_id,
            user_id=user_id,
            place_id=place_id,
            action_sha256=approval.action_sha256,
            made_at_ms=now_ms,
            ends_at_ms=ends_at_ms,
        )
        store.insert_code(tx, made)
        facts: dict[str, Fact] = {
            "action_sha256": made.action_sha256,
            "ends_at": rfc3339(ends_at_ms),
            "place_id": place_id,
            "user_id": user_id,
        }
        self._audit.record(tx, AuditEvent.APPROVAL_CODE_MADE, now_ms=now_ms, subject=approval_id, facts=facts)
        return Offer(words, code, ends_at_ms)

    def _new_code(self, tx: Transaction, user_id: str, place_id: str) -> str:
        """One that stands for nothing else of this person's."""
        while True:
            code = random_digits(self._entropy, DIGITS)
            if self._find(tx, user_id, place_id, code) is None:
                return code

    # -- coming back

    def answer(self, tx: Transaction, by: Writer, decision: Decision, code: str, now_ms: int) -> View | Problem:
        """Decide by a code. A refusal is returned, so that what it recorded is committed: `rate_limited` after too many
        wrong ones, `invalid` for one that is wrong or over, and what `Approvals.decide_by_sms` says.
        """
        user_id = by.principal.user_id
        if self._is_locked(tx, user_id, now_ms):
            return Problem(
                ProblemCode.RATE_LIMITED,
                "Too many wrong codes. For a day nothing is decided by SMS. Open the app.",
                retry_after_s=GUESSES_MS // 1000,
            )
        found = self._find(tx, user_id, by.place_id, code)
        if found is None:
            return self._wrong(tx, by, now_ms)
        if not store.spend(tx, found.digest, now_ms):
            why = "used" if found.spent_at_ms is not None else "over"
            self._refused(tx, by, why, now_ms, found.approval_id)
            said = "was used" if found.spent_at_ms is not None else "does not hold any more"
            return Problem(ProblemCode.INVALID, f"This code {said}. PENDING shows what waits.")
        reply = Reply(found.approval_id, decision, found.action_sha256)
        return self._approvals.decide_by_sms(tx, by, reply, now_ms)

    def end_all(self, tx: Transaction, by: Principal, user_id: str, now_ms: int) -> None:
        """Of a person who leaves."""
        del by, now_ms  # the entry about the person says who
        store.drop_codes(tx, user_id)

    def _find(self, tx: Transaction, user_id: str, place_id: str, code: str) -> Code | None:
        """The code of this person at this number, also one that is over."""
        for one in store.codes_at(tx, user_id, place_id, LOOKED_AT):
            bound_to = (one.approval_id, one.action_sha256, one.user_id, one.place_id)
            if same(one.digest, digest_of(self._key, code, *bound_to)):
                return one
        return None

    def _is_locked(self, tx: Transaction, user_id: str, now_ms: int) -> bool:
        return store.wrong_since(tx, user_id, now_ms - GUESSES_MS) >= MAX_WRONG

    def _wrong(self, tx: Transaction, by: Writer, now_ms: int) -> Problem:
        """The last wrong one ends the codes that are out."""
        left = MAX_WRONG - store.count_wrong(tx, by.principal.user_id, now_ms - GUESSES_MS, now_ms)
        if left > 0:
            self._refused(tx, by, "wrong", now_ms)
            return Problem(ProblemCode.INVALID, f"That is no code of yours. Wrong ones left: {left}.")
        store.end_codes(tx, by.principal.user_id, now_ms)
        self._refused(tx, by, "wrong too often", now_ms)
        return Problem(
            ProblemCode.RATE_LIMITED,
            "That is no code of yours, once too often. Open the app.",
            retry_after_s=GUESSES_MS // 1000,
        )

    def _refused(self, tx: Transaction, by: Writer, why: str, now_ms: int, subject: str = "") -> None:
        facts: dict[str, Fact] = {"reason": why, "message": by.message_key, "weak": True}
        self._audit.record(
            tx,
            AuditEvent.APPROVAL_CODE_REFUSED,
            now_ms=now_ms,
            outcome=Outcome.DENIED,
            actor=by.principal,
            subject=subject or by.principal.user_id,
            facts=facts,
            personal={"phone_number": by.e164},
        )
