"""Who may call what: the one table. A route or command that is not listed here cannot be registered."""

from enum import Enum

from entobot.core.permissions import Scope


class Open(Enum):
    """Access that needs no scope."""

    ANYONE = "anyone"
    """No credentials at all."""
    PROOF = "proof"
    """A DPoP proof by the key in question; the handler checks it itself."""
    AUTHENTICATED = "authenticated"
    """Any device or the local owner; the handler limits it to the caller's own objects."""


Access = Open | Scope

ROUTES: dict[str, Access] = {
    "GET /.well-known/jwks.json": Open.ANYONE,
    "GET /api/certificate": Open.ANYONE,
    "GET /api/docs": Open.ANYONE,
    "GET /api/health": Open.ANYONE,
    "GET /api/openapi.json": Open.ANYONE,
    "GET /api/ready": Open.ANYONE,
    "GET /api/v1/alerts": Scope.AUDIT,
    "GET /api/v1/alerts/channels": Scope.AUDIT,
    "GET /api/v1/alerts/rules": Scope.AUDIT,
    "GET /api/v1/approval-rules": Scope.APPROVE,
    "GET /api/v1/approval-rules/{rule_id}": Scope.APPROVE,
    "GET /api/v1/approvals": Scope.APPROVE,
    "GET /api/v1/approvals/{approval_id}": Scope.APPROVE,
    "GET /api/v1/audit": Scope.AUDIT,
    "GET /api/v1/audit/checkpoint": Scope.AUDIT,
    "GET /api/v1/audit/export": Scope.AUDIT,
    "GET /api/v1/audit/verify": Scope.AUDIT,
    "GET /api/v1/audit/verify/progress": Scope.AUDIT,
    "GET /api/v1/auth/devices": Open.AUTHENTICATED,
    "GET /api/v1/certificate": Scope.SETTINGS,
    "GET /api/v1/conversations": Scope.CHAT,
    "GET /api/v1/conversations/{conversation_id}/messages": Scope.CHAT,
    "GET /api/v1/devices": Open.AUTHENTICATED,
    "GET /api/v1/devices/{device_id}": Open.AUTHENTICATED,
    "GET /api/v1/devices/{device_id}/connections": Open.AUTHENTICATED,
    "GET /api/v1/events": Scope.CHAT,
    "GET /api/v1/logs": Scope.SETTINGS,
    "GET /api/v1/me": Open.AUTHENTICATED,
    "GET /api/v1/me/factors": Open.AUTHENTICATED,
    "GET /api/v1/me/passkeys": Open.AUTHENTICATED,
    "GET /api/v1/metrics": Scope.METRICS,
    "GET /api/v1/metrics/history": Scope.METRICS,
    "GET /api/v1/overview": Scope.METRICS,
    "GET /api/v1/pairing/invites": Scope.PAIR,
    "GET /api/v1/pairing/invites/{invite_id}": Scope.PAIR,
    "GET /api/v1/posture": Scope.AUDIT,
    "GET /api/v1/sessions": Open.AUTHENTICATED,
    "GET /api/v1/settings": Scope.SETTINGS,
    "GET /api/v1/settings/bot": Scope.SETTINGS,
    "GET /api/v1/settings/enterprise": Scope.SETTINGS,
    "GET /api/v1/settings/history": Scope.SETTINGS,
    "GET /api/v1/settings/mobile": Scope.SETTINGS,
    "GET /api/v1/settings/providers": Scope.SETTINGS,
    "GET /api/v1/sign-in": Open.ANYONE,
    "GET /api/v1/users": Scope.USERS_MANAGE,
    "GET /api/v1/users/{user_id}": Open.AUTHENTICATED,
    "GET /ca.crt": Open.ANYONE,
    "GET /ca.mobileconfig": Open.ANYONE,
    "GET /metrics": Scope.METRICS,
    "PATCH /api/v1/devices/{device_id}": Open.AUTHENTICATED,
    "PATCH /api/v1/me/passkeys/{passkey_id}": Open.AUTHENTICATED,
    "PATCH /api/v1/settings": Scope.SETTINGS,
    "PATCH /api/v1/users/{user_id}": Scope.USERS_MANAGE,
    "POST /api/v1/alerts/channels/{channel}/test": Scope.SETTINGS,
    "POST /api/v1/alerts/{alert_id}/acknowledge": Scope.SETTINGS,
    "POST /api/v1/api-keys": Scope.DEVICES_MANAGE,
    "POST /api/v1/auth/pair": Open.ANYONE,
    "POST /api/v1/auth/pair/{claim_id}/collect": Open.PROOF,
    "POST /api/v1/auth/refresh": Open.PROOF,
    "POST /api/v1/auth/ws-ticket": Open.AUTHENTICATED,
    "POST /api/v1/certificate/renew": Scope.SETTINGS,
    "POST /api/v1/commands": Open.AUTHENTICATED,
    "POST /api/v1/devices/{device_id}/reactivate": Scope.DEVICES_MANAGE,
    "POST /api/v1/devices/{device_id}/suspend": Scope.DEVICES_MANAGE,
    "POST /api/v1/me/passkey-options": Open.AUTHENTICATED,
    "POST /api/v1/me/passkeys": Open.AUTHENTICATED,
    "POST /api/v1/me/recovery-codes": Open.AUTHENTICATED,
    "POST /api/v1/me/totp": Open.AUTHENTICATED,
    "POST /api/v1/me/totp/confirm": Open.AUTHENTICATED,
    "POST /api/v1/pairing/invites": Scope.PAIR,
    "POST /api/v1/pairing/invites/{invite_id}/confirm": Scope.PAIR,
    "POST /api/v1/pairing/invites/{invite_id}/resend": Scope.PAIR,
    "POST /api/v1/settings/providers/{name}/test": Scope.SETTINGS,
    "POST /api/v1/sign-in/link": Open.ANYONE,
    "POST /api/v1/sign-in/passkey": Open.ANYONE,
    "POST /api/v1/sign-in/passkey/options": Open.ANYONE,
    "POST /api/v1/sign-in/password": Open.ANYONE,
    "POST /api/v1/sign-out": Open.AUTHENTICATED,
    "POST /api/v1/users": Scope.USERS_MANAGE,
    "POST /api/v1/users/{user_id}/disable": Scope.USERS_MANAGE,
    "POST /api/v1/users/{user_id}/enable": Scope.USERS_MANAGE,
    "POST /api/v1/users/{user_id}/reset-factors": Scope.USERS_MANAGE,
    "POST /api/v1/users/{user_id}/sign-in-link": Scope.USERS_MANAGE,
    "PUT /api/v1/me/password": Open.AUTHENTICATED,
    "PUT /api/v1/settings/bot": Scope.SETTINGS,
    "PUT /api/v1/settings/enterprise": Scope.SETTINGS,
    "PUT /api/v1/settings/mobile": Scope.SETTINGS,
    "PUT /api/v1/settings/providers/{name}": Scope.SETTINGS,
    "DELETE /api/v1/approval-rules/{rule_id}": Scope.APPROVE,
    "DELETE /api/v1/devices/{device_id}": Open.AUTHENTICATED,
    "DELETE /api/v1/me/passkeys/{passkey_id}": Open.AUTHENTICATED,
    "DELETE /api/v1/me/password": Open.AUTHENTICATED,
    "DELETE /api/v1/me/totp": Open.AUTHENTICATED,
    "DELETE /api/v1/pairing/invites/{invite_id}": Scope.PAIR,
    "DELETE /api/v1/sessions/{session_id}": Open.AUTHENTICATED,
}
"""REST. `AUTHENTICATED` routes narrow to the caller's own objects in their service."""

FRESH = frozenset(
    {
        "DELETE /api/v1/me/passkeys/{passkey_id}",
        "DELETE /api/v1/me/password",
        "DELETE /api/v1/me/totp",
        "GET /api/v1/audit/export",
        "PATCH /api/v1/settings",
        "PATCH /api/v1/users/{user_id}",
        "POST /api/v1/alerts/channels/{channel}/test",
        "POST /api/v1/api-keys",
        "POST /api/v1/certificate/renew",
        "POST /api/v1/devices/{device_id}/reactivate",
        "POST /api/v1/me/passkey-options",
        "POST /api/v1/me/passkeys",
        "POST /api/v1/me/recovery-codes",
        "POST /api/v1/me/totp",
        "POST /api/v1/me/totp/confirm",
        "POST /api/v1/pairing/invites",
        "POST /api/v1/pairing/invites/{invite_id}/confirm",
        "POST /api/v1/settings/providers/{name}/test",
        "POST /api/v1/users",
        "POST /api/v1/users/{user_id}/disable",
        "POST /api/v1/users/{user_id}/enable",
        "POST /api/v1/users/{user_id}/reset-factors",
        "POST /api/v1/users/{user_id}/sign-in-link",
        "PUT /api/v1/me/password",
        "PUT /api/v1/settings/bot",
        "PUT /api/v1/settings/enterprise",
        "PUT /api/v1/settings/mobile",
        "PUT /api/v1/settings/providers/{name}",
    }
)
"""What a browser may do only within five minutes of a sign-in: else `step_up_required`."""

COMMANDS: dict[str, Access] = {
    "approval.decide": Scope.APPROVE,
    "approval.list": Scope.APPROVE,
    "approval_rule.end": Scope.APPROVE,
    "approval_rule.list": Scope.APPROVE,
    "conversation.create": Scope.CHAT,
    "conversation.history": Scope.CHAT,
    "conversation.list": Scope.CHAT,
    "conversation.rename": Scope.CHAT,
    "device.rename": Open.AUTHENTICATED,
    "events.ack": Scope.CHAT,
    "message.send": Scope.CHAT,
    "run.cancel": Scope.CHAT,
}
"""Device commands, over WebSocket and `POST /api/v1/commands` alike."""
