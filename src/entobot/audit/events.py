"""Every audit event, sorted. `<subject>.<what happened>`; retired names stay as comments."""

from enum import StrEnum


class AuditEvent(StrEnum):
    API_KEY_CREATED = "api_key.created"
    APPROVAL_ALREADY_DECIDED = "approval.already_decided"
    APPROVAL_CANCELLED = "approval.cancelled"
    APPROVAL_DECIDED = "approval.decided"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_REFUSED = "approval.refused"
    APPROVAL_REQUESTED = "approval.requested"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_PERSONAL_ERASED = "audit.personal_erased"
    AUTHENTICATOR_ADDED = "authenticator.added"
    AUTHENTICATOR_REMOVED = "authenticator.removed"
    AUDIT_SINK_FAILED = "audit.sink_failed"
    AUDIT_SINK_RECOVERED = "audit.sink_recovered"
    AUTH_REFUSED = "auth.refused"
    CERTIFICATE_ISSUED = "certificate.issued"
    CERTIFICATE_RENEWAL_FAILED = "certificate.renewal_failed"
    CERTIFICATE_REPLACED = "certificate.replaced"
    DEVICE_PAIRED = "device.paired"
    DEVICE_REACTIVATED = "device.reactivated"
    DEVICE_RENAMED = "device.renamed"
    DEVICE_REVOKED = "device.revoked"
    DEVICE_SUSPENDED = "device.suspended"
    GATEWAY_RESTORED = "gateway.restored"
    GATEWAY_STARTED = "gateway.started"
    GATEWAY_STOPPED = "gateway.stopped"
    INVITE_BURNED = "invite.burned"
    INVITE_CANCELLED = "invite.cancelled"
    INVITE_CLAIMED = "invite.claimed"
    INVITE_CLAIM_REFUSED = "invite.claim_refused"
    INVITE_CONFIRMED = "invite.confirmed"
    INVITE_CREATED = "invite.created"
    INVITE_DENIED = "invite.denied"
    INVITE_EXPIRED = "invite.expired"
    KEY_ROTATED = "key.rotated"
    PASSKEY_ADDED = "passkey.added"
    PASSKEY_REMOVED = "passkey.removed"
    PASSWORD_REMOVED = "password.removed"  # noqa: S105  an event name
    PASSWORD_SET = "password.set"  # noqa: S105  an event name
    RECOVERY_CODES_MADE = "recovery_codes.made"
    RECOVERY_CODE_USED = "recovery_code.used"
    RUN_CANCELLED = "run.cancelled"
    SESSION_ENDED = "session.ended"
    SESSION_OPENED = "session.opened"
    SETTINGS_CHANGED = "settings.changed"
    SIGN_IN_LINK_MADE = "sign_in.link_made"
    SIGN_IN_REFUSED = "sign_in.refused"
    TOKEN_FAMILY_CAUGHT_UP = "token.family_caught_up"  # noqa: S105  an event name
    TOKEN_FAMILY_REVOKED = "token.family_revoked"  # noqa: S105  an event name
    TOKEN_REFRESH_REFUSED = "token.refresh_refused"  # noqa: S105  an event name
    TOOL_EXECUTED = "tool.executed"
    TOOL_OUTCOME_UNKNOWN = "tool.outcome_unknown"
    USER_ADDED = "user.added"
    USER_CHANGED = "user.changed"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_FACTORS_RESET = "user.factors_reset"


class Outcome(StrEnum):
    DENIED = "denied"
    FAILURE = "failure"
    SUCCESS = "success"
