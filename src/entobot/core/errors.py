"""Problems: errors that are safe to show. One sorted vocabulary for HTTP (RFC 9457) and the wire."""

from enum import StrEnum


class Code(StrEnum):
    ACTION_NOT_PRESENTABLE = "action_not_presentable"
    ADDRESS_REFUSED = "address_refused"
    APPROVAL_ALREADY_ANSWERED = "approval_already_answered"
    APPROVAL_ALREADY_DECIDED = "approval_already_decided"
    APPROVAL_EXPIRED = "approval_expired"
    CLAIM_CHANGED = "claim_changed"
    DEVICE_SUSPENDED = "device_suspended"
    DRAINING = "draining"
    EDIT_TOO_RISKY = "edit_too_risky"
    ENROLMENT_USED = "enrolment_used"
    FILE_NOT_WHOLE = "file_not_whole"
    FORBIDDEN = "forbidden"
    HASH_MISMATCH = "hash_mismatch"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    INTERNAL = "internal"
    INVALID = "invalid"
    INVITE_BURNED = "invite_burned"
    INVITE_EXPIRED = "invite_expired"
    INVITE_NOT_FOUND = "invite_not_found"
    INVITE_USED = "invite_used"
    KEY_KNOWN = "key_known"
    LAST_OWNER = "last_owner"
    LOGIN_TAKEN = "login_taken"
    NOT_FOUND = "not_found"
    NUMBER_REFUSED = "number_refused"
    NUMBER_REQUIRED = "number_required"
    NUMBER_WRONG = "number_wrong"
    PAIRING_DENIED = "pairing_denied"
    POLICY_CHANGED = "policy_changed"
    POLICY_UNAVAILABLE = "policy_unavailable"
    PROOF_INVALID = "proof_invalid"
    PROOF_REQUIRED = "proof_required"
    PROOF_STALE = "proof_stale"
    QUESTION_CLOSED = "question_closed"
    QUOTA_EXCEEDED = "quota_exceeded"
    RATE_LIMITED = "rate_limited"
    RECEIPT_REPEATED = "receipt_repeated"
    REFRESH_INVALID = "refresh_invalid"
    REFRESH_SUPERSEDED = "refresh_superseded"
    RULE_NOT_ALLOWED = "rule_not_allowed"
    SECOND_FACTOR_REQUIRED = "second_factor_required"
    SETTINGS_CHANGED = "settings_changed"
    SIGNATURE_INVALID = "signature_invalid"
    SMS_UNAVAILABLE = "sms_unavailable"
    STEP_UP_REQUIRED = "step_up_required"
    STORAGE_FULL = "storage_full"
    TOO_LARGE = "too_large"
    TOTP_REQUIRED = "totp_required"
    TRANSCRIPTION_FAILED = "transcription_failed"
    TYPE_REFUSED = "type_refused"
    UNAUTHENTICATED = "unauthenticated"
    USER_VERIFICATION_REQUIRED = "user_verification_required"
    VOICE_UNAVAILABLE = "voice_unavailable"


STATUS: dict[Code, int] = {
    Code.ACTION_NOT_PRESENTABLE: 422,
    Code.ADDRESS_REFUSED: 422,
    Code.APPROVAL_ALREADY_ANSWERED: 409,
    Code.APPROVAL_ALREADY_DECIDED: 409,
    Code.APPROVAL_EXPIRED: 410,
    Code.CLAIM_CHANGED: 409,
    Code.DEVICE_SUSPENDED: 403,
    Code.DRAINING: 503,
    Code.EDIT_TOO_RISKY: 403,
    Code.ENROLMENT_USED: 409,
    Code.FILE_NOT_WHOLE: 409,
    Code.FORBIDDEN: 403,
    Code.HASH_MISMATCH: 409,
    Code.IDEMPOTENCY_MISMATCH: 409,
    Code.INTERNAL: 500,
    Code.INVALID: 422,
    Code.INVITE_BURNED: 409,
    Code.INVITE_EXPIRED: 410,
    Code.INVITE_NOT_FOUND: 404,
    Code.INVITE_USED: 409,
    Code.KEY_KNOWN: 409,
    Code.LAST_OWNER: 409,
    Code.LOGIN_TAKEN: 409,
    Code.NOT_FOUND: 404,
    Code.NUMBER_REFUSED: 422,
    Code.NUMBER_REQUIRED: 403,
    Code.NUMBER_WRONG: 403,
    Code.PAIRING_DENIED: 403,
    Code.POLICY_CHANGED: 409,
    Code.POLICY_UNAVAILABLE: 409,
    Code.PROOF_INVALID: 400,
    Code.PROOF_REQUIRED: 401,
    Code.PROOF_STALE: 401,
    Code.QUESTION_CLOSED: 409,
    Code.QUOTA_EXCEEDED: 409,
    Code.RATE_LIMITED: 429,
    Code.RECEIPT_REPEATED: 409,
    Code.REFRESH_INVALID: 401,
    Code.REFRESH_SUPERSEDED: 409,
    Code.RULE_NOT_ALLOWED: 403,
    Code.SECOND_FACTOR_REQUIRED: 403,
    Code.SETTINGS_CHANGED: 409,
    Code.SIGNATURE_INVALID: 400,
    Code.SMS_UNAVAILABLE: 409,
    Code.STEP_UP_REQUIRED: 403,
    Code.STORAGE_FULL: 507,
    Code.TOO_LARGE: 413,
    Code.TOTP_REQUIRED: 401,
    Code.TRANSCRIPTION_FAILED: 502,
    Code.TYPE_REFUSED: 415,
    Code.UNAUTHENTICATED: 401,
    Code.USER_VERIFICATION_REQUIRED: 403,
    Code.VOICE_UNAVAILABLE: 409,
}
"""HTTP status of each code (RFC 9110)."""

WAIT_S: dict[Code, float] = {Code.DRAINING: 1.0, Code.RATE_LIMITED: 1.0}
"""Told with these codes where nobody knows a better time: whoever says "not now" says when."""
RETRYABLE = frozenset({Code.DRAINING, Code.INTERNAL, Code.PROOF_STALE, Code.RATE_LIMITED, Code.TRANSCRIPTION_FAILED})


class Problem(Exception):  # noqa: N818  the field's word (RFC 9457); it is shown, not only raised
    """An error that may be shown to the person who can act on it.

    `detail` says what happened and what to do; it never holds a secret or an internal exception's text.
    `challenge` says how to authenticate (RFC 9110 §11.6.1) where that is not as everywhere else.
    `extra` members are added to the problem+json body (e.g. `server_time`).
    """

    def __init__(
        self, code: Code, detail: str, *, retry_after_s: float | None = None, extra: dict[str, object] | None = None
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = WAIT_S.get(code) if retry_after_s is None else retry_after_s
        self.extra = extra or {}
        self.challenge = ""

    @property
    def status(self) -> int:
        return STATUS[self.code]

    @property
    def retry(self) -> bool:
        return self.code in RETRYABLE

    def to_json(self) -> dict[str, object]:
        """The RFC 9457 members plus `code`, `retry` and, where known, `retry_after_s`."""
        body: dict[str, object] = {
            "type": f"/docs/errors#{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "code": str(self.code),
            "detail": self.detail,
            "retry": self.retry,
        }
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        return body | self.extra


class NoLonger(Problem):
    """A refusal of credentials that are ours and do not hold any more: ran out, were replaced or taken back. No guess."""


class StartupRefused(Exception):  # noqa: N818  a refusal, told to the operator at start
    """The gateway will not start (or a command will not run) like this; the text says what to change."""
