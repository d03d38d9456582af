"""One person's answer: who it is, that it is theirs to give, that it says what was asked, and whether that is enough."""

from collections.abc import Callable
from dataclasses import replace

from entobot.accounts.service import Accounts
from entobot.approvals import asking_store, store
from entobot.approvals.action import Action, Args, parse_args
from entobot.approvals.code_model import Reply, Writer, words_for
from entobot.approvals.matching import parse_wish
from entobot.approvals.model import (
    MAX_SIGNATURE_BYTES,
    MAX_WRONG_NUMBERS,
    RANK,
    SIGNATURE_HEADER,
    SIGNATURE_TYPE,
    Answer,
    Approval,
    ApprovalState,
    Decision,
    Verified,
    Vote,
    check_answer,
    check_open,
    checked_edit,
)
from entobot.approvals.policy import Judged, Terms, read_terms
from entobot.approvals.rules import Rules
from entobot.approvals.telling import Telling
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Fact
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.core.secrets import same, sha256
from entobot.devices.keys import SignatureRefused, verify_compact
from entobot.devices.model import Status
from entobot.devices.service import Devices
from entobot.signin.passkeys import Passkeys
from entobot.storage.database import Transaction

BY_GATEWAY = "gateway"
FRESH_MS = 5 * 60_000
"""So long a passkey stands for an answer."""

JudgeEdit = Callable[[Approval, Args], Judged]
"""The terms under which a call would be asked now, with other arguments. Raises Problem for one that cannot run."""


class Decider:
    """`audience` is the gateway's origin, as devices sign it."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        devices: Devices,
        rules: Rules,
        telling: Telling,
        judge: JudgeEdit,
        audience: str,
        passkeys: Passkeys | None,
    ) -> None:
        self._accounts = accounts
        self._devices = devices
        self._rules = rules
        self._telling = telling
        self._judge = judge
        self._audience = audience
        self._passkeys = passkeys

    def decide(
        self, tx: Transaction, principal: Principal, approval: Approval, answer: Answer, signature: str, now_ms: int
    ) -> Approval | Problem:
        """The approval as it stands after this answer: decided, or waiting for more people. A refusal is returned."""
        terms = read_terms(approval.terms_json)
        try:
            check_open(approval, now_ms)
            payload, verified = self._verified(tx, principal, answer, signature, now_ms)
            edited = check_answer(approval, answer, payload, audience=self._audience, now_ms=now_ms)
            self._check_turn(tx, principal, approval, terms)
            judged = None if edited is None else self.judge_edit(approval, terms, edited)
            if answer.decision is Decision.APPROVE:
                _check_verified(terms, verified)
                self._check_number(tx, approval, answer, now_ms)
            vote = _vote(principal, approval, answer, verified, now_ms)
            after = self._after(tx, approval, terms, answer, vote, now_ms)
            if answer.rule is not None:
                self._make_rule(tx, principal, after, terms, answer, judged, now_ms)
        except Problem as problem:
            return self._refused(tx, principal, approval, problem, now_ms)
        self._record(tx, principal, after, answer, signature, now_ms)
        self._count(tx, after, vote, now_ms)
        return after

    def decide_by_sms(
        self, tx: Transaction, by: Writer, approval: Approval, reply: Reply, now_ms: int
    ) -> Approval | Problem:
        """As `decide`, where a code has come back from this person's number. What is not decided so is refused."""
        principal, terms = by.principal, read_terms(approval.terms_json)
        answer = Answer(approval.approval_id, reply.decision, reply.action_sha256)
        vote = _vote(principal, approval, answer, Verified.SMS, now_ms)
        try:
            check_open(approval, now_ms)
            self._check_turn(tx, principal, approval, terms)
            _check_reply(approval, reply)
            after = self._after(tx, approval, terms, answer, vote, now_ms)
        except Problem as problem:
            return self._refused(tx, principal, approval, problem, now_ms)
        facts: dict[str, Fact] = {
            "decision": reply.decision,
            "edited": False,
            "message": by.message_key,
            "verified": Verified.SMS,
            "weak": True,
        }
        personal = {"phone_number": by.e164}
        event = AuditEvent.APPROVAL_DECIDED
        self._telling.record(tx, event, after, now_ms, actor=principal, facts=facts, personal=personal)
        self._count(tx, after, vote, now_ms)
        return after

    def may_answer(self, tx: Transaction, principal: Principal, approval: Approval, now_ms: int) -> bool:
        """Whether this person could decide on it now."""
        try:
            check_open(approval, now_ms)
            self._check_turn(tx, principal, approval, read_terms(approval.terms_json))
        except Problem:
            return False
        return True

    def _count(self, tx: Transaction, after: Approval, vote: Vote, now_ms: int) -> None:
        counted = asking_store.insert_vote(tx, vote)
        assert counted, "it was looked whether this person has answered in this very unit"
        if after.state is ApprovalState.PENDING:
            self._telling.voted(tx, after, vote, now_ms)
            return
        won = store.leave_pending(tx, after)
        assert won, "the row was pending in this very unit"
        self._telling.decided(tx, after, vote.user_id, now_ms, vote.verified)

    # -- whose answer it is

    def _verified(
        self, tx: Transaction, principal: Principal, answer: Answer, signature: str, now_ms: int
    ) -> tuple[dict[str, object], Verified]:
        """What was signed, and by what: a device's key, a passkey beside it, or in the dashboard a passkey alone.

        The passkey's challenge is the hash of the text in `signature`, so it stands for that answer and no other.
        """
        if principal.device_id is None:
            payload: dict[str, object] = parse_args(signature)
        else:
            payload = self._signed(tx, principal.device_id, signature)
        if answer.assertion is None:
            if principal.device_id is None:
                raise Problem(Code.USER_VERIFICATION_REQUIRED, "In the dashboard decisions are made with a passkey.")
            return payload, Verified.KEY
        if self._passkeys is None:
            raise Problem(Code.INVALID, "No passkeys are taken here.")
        challenge = sha256(signature.encode("utf-8", "surrogatepass"))
        self._passkeys.verify(tx, principal, challenge, answer.assertion, now_ms)
        iat = payload.get("iat")
        if type(iat) is not int or now_ms - iat * 1000 > FRESH_MS:
            raise Problem(Code.SIGNATURE_INVALID, "The passkey was shown too long ago. Try again.")
        return payload, Verified.PASSKEY

    def _signed(self, tx: Transaction, device_id: str, signature: str) -> dict[str, object]:
        key = self._devices.public_key(tx, device_id)
        try:
            return verify_compact(
                signature, key, typ=SIGNATURE_TYPE, header_members=SIGNATURE_HEADER, max_bytes=MAX_SIGNATURE_BYTES
            )
        except SignatureRefused:
            raise Problem(Code.SIGNATURE_INVALID, "The signature is not one by this device's key.") from None

    def check_edit(
        self, tx: Transaction, principal: Principal, approval: Approval, edited_action: str, now_ms: int
    ) -> Judged:
        """What an edit would come to, before it is signed. Raises what deciding would refuse it with."""
        terms = read_terms(approval.terms_json)
        check_open(approval, now_ms)
        self._check_turn(tx, principal, approval, terms)
        return self.judge_edit(approval, terms, checked_edit(approval, edited_action))

    def _check_turn(self, tx: Transaction, principal: Principal, approval: Approval, terms: Terms) -> None:
        """Raises `forbidden` for whoever only sees it, `approval_already_answered` for a second answer of one person."""
        asking = asking_store.find_asking(tx, approval.approval_id, principal.user_id)
        user = self._accounts.get_user(tx, principal.user_id)
        is_escalated = approval.escalated_at_ms is not None
        may = asking is not None and asking.may_decide
        if not may or not terms.permits(user, approval.user_id, is_escalated=is_escalated):
            raise Problem(Code.FORBIDDEN, "This is for others to decide. You see it because your agent asks for it.")
        if any(vote.user_id == principal.user_id for vote in asking_store.votes_on(tx, approval.approval_id)):
            raise Problem(
                Code.APPROVAL_ALREADY_ANSWERED, "You have agreed to this already; it waits for somebody else."
            )

    # -- what the answer says

    def judge_edit(self, approval: Approval, terms: Terms, edited: Action) -> Judged:
        """What is at stake now. Raises `edit_too_risky` for what people were not asked about, and what the tool says."""
        if not terms.takes_edits:
            raise Problem(Code.INVALID, "The agent that asks takes no other arguments. Deny it with a reason.")
        judged = self._judge(approval, edited.args)
        if not terms.is_for_one:
            raise Problem(
                Code.EDIT_TOO_RISKY,
                "Several people decide on this, each on the same text. Deny it with a reason, so that the agent asks anew.",
            )
        if RANK[judged.risk] > RANK[approval.risk] or not judged.terms.is_covered_by(terms):
            raise Problem(
                Code.EDIT_TOO_RISKY,
                f"With these arguments the call is of {judged.risk} risk or for others to decide; you were asked about "
                f"one of {approval.risk} risk. Deny it, and let the agent ask for this.",
            )
        return judged

    def _check_number(self, tx: Transaction, approval: Approval, answer: Answer, now_ms: int) -> None:
        """Raises `number_required` and `number_wrong`; the third wrong one closes the question as denied."""
        if approval.number is None:
            return
        if answer.number is None:
            raise Problem(
                Code.NUMBER_REQUIRED,
                "Type the two digits that are shown where this was asked for: in that chat, in the terminal or in the "
                "dashboard. Whoever does not see them did not ask for this.",
            )
        if same(answer.number, approval.number):
            return
        store.note_wrong_number(tx, approval.approval_id)
        left = MAX_WRONG_NUMBERS - approval.wrong_numbers - 1
        if left > 0:
            raise Problem(Code.NUMBER_WRONG, f"These are not the digits. Wrong ones left before it is denied: {left}.")
        reason = "The digits were wrong three times."
        closed = replace(approval, state=ApprovalState.DENIED, decided_at_ms=now_ms, reason=reason)
        if store.leave_pending(tx, closed):
            self._telling.decided(tx, closed, BY_GATEWAY, now_ms)
            self._telling.record(
                tx, AuditEvent.APPROVAL_DECIDED, closed, now_ms, facts={"decision": "deny", "why": "number_wrong"}
            )
        raise Problem(Code.NUMBER_WRONG, "These are not the digits, for the third time: it is denied.")

    def _after(
        self, tx: Transaction, approval: Approval, terms: Terms, answer: Answer, vote: Vote, now_ms: int
    ) -> Approval:
        """The approval once this vote counts."""
        if vote.decision is Decision.DENY:
            state = ApprovalState.DENIED
        else:
            agreed = [
                one.user_id
                for one in asking_store.votes_on(tx, approval.approval_id)
                if self._stands(tx, approval, terms, one)
            ]
            is_met = terms.is_met([*agreed, vote.user_id], approval.user_id)
            state = ApprovalState.APPROVED if is_met else ApprovalState.PENDING
        if state is ApprovalState.PENDING:
            return approval
        return replace(
            approval,
            state=state,
            edited_action=answer.edited_action,
            reason=answer.reason,
            decided_at_ms=now_ms,
            decided_by_device_id=vote.device_id,
        )

    def _stands(self, tx: Transaction, approval: Approval, terms: Terms, vote: Vote) -> bool:
        """Whether an earlier yes still counts: its person may decide, and its device was not revoked since."""
        user = self._accounts.find(tx, vote.user_id)
        is_escalated = approval.escalated_at_ms is not None
        if user is None or not terms.permits(user, approval.user_id, is_escalated=is_escalated):
            return False
        device = None if vote.device_id is None else self._devices.find_device(tx, vote.device_id)
        return device is None or device.status is not Status.REVOKED

    def _make_rule(
        self,
        tx: Transaction,
        principal: Principal,
        after: Approval,
        terms: Terms,
        answer: Answer,
        judged: Judged | None,
        now_ms: int,
    ) -> None:
        if answer.decision is not Decision.APPROVE:
            raise Problem(Code.INVALID, "A rule is made with an approval, not with a denial.")
        wish = parse_wish(answer.rule or "")
        risk = after.risk if judged is None else judged.risk
        user = self._accounts.get_user(tx, principal.user_id)
        if not terms.is_for_one or not terms.permits(user, after.user_id, is_escalated=False):
            raise Problem(
                Code.RULE_NOT_ALLOWED,
                "Such calls are not yours alone to decide, so no rule of yours can let them through. Approve this one.",
            )
        self._rules.make(tx, principal, after, wish, risk, now_ms)

    # -- the log

    def _record(
        self, tx: Transaction, principal: Principal, after: Approval, answer: Answer, signature: str, now_ms: int
    ) -> None:
        facts: dict[str, Fact] = {"decision": answer.decision, "edited": answer.edited_action is not None}
        # A reason is a person's text: then the signature that spells it out is kept where it can be erased.
        personal = {} if answer.reason is None else {"signature": signature}
        facts |= {} if personal else {"signature": signature}
        if principal.address:
            personal["address"] = principal.address
        event = AuditEvent.APPROVAL_VOTED if after.state is ApprovalState.PENDING else AuditEvent.APPROVAL_DECIDED
        self._telling.record(tx, event, after, now_ms, actor=principal, facts=facts, personal=personal)

    def _refused(
        self, tx: Transaction, principal: Principal, approval: Approval, problem: Problem, now_ms: int
    ) -> Problem:
        is_late = problem.code is Code.APPROVAL_ALREADY_DECIDED
        event = AuditEvent.APPROVAL_ALREADY_DECIDED if is_late else AuditEvent.APPROVAL_REFUSED
        facts: dict[str, Fact] = {"code": str(problem.code)}
        self._telling.record(tx, event, approval, now_ms, actor=principal, outcome=Outcome.DENIED, facts=facts)
        return problem


def _check_verified(terms: Terms, verified: Verified) -> None:
    if terms.needs_verification and verified is not Verified.PASSKEY:
        raise Problem(
            Code.USER_VERIFICATION_REQUIRED,
            "A call of high risk is approved with a passkey: in the phone app, which can make one for this device, or in "
            "the dashboard. A terminal has none.",
        )


def _check_reply(approval: Approval, reply: Reply) -> None:
    if reply.action_sha256 != approval.action_sha256:
        raise Problem(Code.HASH_MISMATCH, "This code was made for another action.")
    if words_for(approval) is None:
        raise Problem(Code.FORBIDDEN, "This is not decided by SMS. Open the app.")


def _vote(principal: Principal, approval: Approval, answer: Answer, verified: Verified, now_ms: int) -> Vote:
    return Vote(
        approval_id=approval.approval_id,
        user_id=principal.user_id,
        decision=answer.decision,
        device_id=principal.device_id,
        session_id=principal.session_id,
        address=principal.address,
        verified=verified,
        reason=answer.reason,
        at_ms=now_ms,
    )
