"""Sessions, and what they are opened with: links, passkeys, passwords and second factors. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Scope, narrow
from entobot.core.principal import Principal

HOUR_MS = 3600_000
SESSION_IDLE_MS = 12 * HOUR_MS
SESSION_LIFE_MS = 7 * 24 * HOUR_MS
FRESH_MS = 5 * 60_000
"""For so long after signing in may what wants a fresh sign-in be done."""
LINK_LIFE_MS = HOUR_MS
FIRST_LINK_LIFE_MS = 10 * 60_000
"""Of the link that the first start shows in the terminal."""
CHALLENGE_LIFE_MS = 5 * 60_000
MAX_PASSKEYS = 20
MAX_AGENT_CHARACTERS = 200


class Method(StrEnum):
    """How a session was opened."""

    LINK = "link"
    PASSKEY = "passkey"
    PASSWORD = "password"  # noqa: S105  a word for how
    """Nothing but a password."""
    RECOVERY = "recovery"
    """A password and a recovery code."""
    TOTP = "totp"
    """A password and the code of an authenticator app."""


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that is signed in. Of its secret only a keyed digest is kept.

    `rests_on_password`: opened by a password alone, or by what such a session added; so it is with passkeys and apps.
    """

    session_id: str
    user_id: str
    digest: bytes
    method: Method
    user_agent: str
    address: str
    created_at_ms: int
    last_seen_at_ms: int
    rests_on_password: bool = False

    def is_over(self, now_ms: int) -> bool:
        """After a week, and after twelve hours in which nobody used it."""
        return now_ms >= self.created_at_ms + SESSION_LIFE_MS or now_ms >= self.last_seen_at_ms + SESSION_IDLE_MS

    def narrowed(self, scopes: frozenset[Scope]) -> frozenset[Scope]:
        """What of its person's scopes it may use: a password alone never opens more than a member has."""
        return narrow(scopes, DEFAULT_DEVICE_SCOPES) if self.method is Method.PASSWORD else scopes

    @property
    def fresh_until_ms(self) -> int:
        return self.created_at_ms + FRESH_MS


@dataclass(frozen=True, slots=True)
class Passkey:
    """A WebAuthn credential (W3C Web Authentication Level 3). `passkey_id` is its credential id in base64url.

    One that a device made for itself (`device_id`) says who holds that device, and signs nobody in.
    `public_key` is a COSE key. `is_backed_up` says that it is synchronised: losing the phone does not lose it.
    """

    passkey_id: str
    user_id: str
    name: str
    public_key: bytes
    sign_count: int
    is_backed_up: bool
    created_at_ms: int
    last_used_at_ms: int | None
    device_id: str | None = None
    rests_on_password: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """Signs one person in, once. `maker` is who made it, as they were then; None for the owner at the local socket."""

    digest: bytes
    user_id: str
    expires_at_ms: int
    maker: Principal | None = None


@dataclass(frozen=True, slots=True)
class Password:
    """`encoded` is Argon2's own form: parameters, salt and hash."""

    user_id: str
    encoded: str
    set_at_ms: int


@dataclass(frozen=True, slots=True)
class Authenticator:
    """An authenticator app (RFC 6238). `sealed` is its secret; `last_step` the newest step whose code was accepted."""

    user_id: str
    sealed: bytes
    last_step: int
    created_at_ms: int
    rests_on_password: bool = False


@dataclass(frozen=True, slots=True)
class RecoveryCode:
    """Stands for the authenticator app, once. Of the code only a keyed digest is kept."""

    digest: bytes
    user_id: str
    used_at_ms: int | None = None


def needs_second_factor(scopes: frozenset[Scope]) -> bool:
    """Whether a password alone is too little for who holds these: they reach what is not only theirs."""
    return not scopes <= DEFAULT_DEVICE_SCOPES
