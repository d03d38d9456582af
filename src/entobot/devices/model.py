"""Devices, and the families of refresh tokens they hold. Pure: transitions return a new value or raise."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from entobot.core.errors import Code, NoLonger, Problem
from entobot.core.names import clean_name, is_showable
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.topic_limits import NO_LIMITS, TopicLimits

MAX_VERSION_CHARACTERS = 64
MAX_TAGS = 16
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
IDLE_LIFE_MS = 14 * 24 * 3600_000
WHOLE_LIFE_MS = 90 * 24 * 3600_000
SUPERSEDED_GRACE_MS = 10_000
"""A second tab that comes a moment late with the token that the first has just replaced is no thief."""


class Platform(StrEnum):
    ANDROID = "android"
    DESKTOP = "desktop"
    IOS = "ios"
    IOT = "iot"
    WEB = "web"


class Status(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"
    SUSPENDED = "suspended"


class Change(StrEnum):
    """`change` of the event `device.changed`."""

    LABELLED = "labelled"
    PAIRED = "paired"
    PAIRING = "pairing"
    REACTIVATED = "reactivated"
    RENAMED = "renamed"
    REVOKED = "revoked"
    SIGNED_OUT = "signed_out"
    SUSPENDED = "suspended"


class Refusal(StrEnum):
    """Why a connection was refused."""

    BAD_CREDENTIALS = "bad_credentials"
    EXPIRED = "expired"
    RATE_LIMITED = "rate_limited"
    REVOKED = "revoked"
    STALE = "stale"
    SUSPENDED = "suspended"


class ConnectionRefused(Exception):  # noqa: N818  reads as what happened
    """The credentials of a connection do not stand. The text is safe to show.

    `retry_after_s` where the same ones may stand later.
    """

    def __init__(self, reason: Refusal, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Device:
    """A device that was paired or was given an API key. `epoch` moves with everything that must void the access tokens it holds.

    `jwk` is its public key as RFC 7638 canonical JSON text; a device that holds an API key has none. A revoked device stays as a tombstone, so that its
    key is known for ever. `confirmed_by_mode` is how the pairing was confirmed: `type`, `approve` or `none`, or
    `api_key` or `enrolment` where there was none. `device_type` and `tags` are words that its operator chose.
    """

    device_id: str
    user_id: str
    name: str
    platform: Platform
    app_version: str
    os_version: str
    jwk: str | None
    thumbprint: str | None
    scopes: frozenset[Scope]
    status: Status
    epoch: int
    created_at_ms: int
    last_seen_at_ms: int | None
    first_used_at_ms: int | None
    paired_by: str
    confirmed_by_mode: str
    device_type: str = ""
    tags: tuple[str, ...] = ()

    def suspend(self) -> "Device":
        return self._move(Status.SUSPENDED)

    def reactivate(self) -> "Device":
        return self._move(Status.ACTIVE)

    def revoke(self) -> "Device":
        return self._move(Status.REVOKED)

    def rename(self, name: str) -> "Device":
        """Raises `invalid`."""
        self._refuse_if_revoked()
        return replace(self, name=clean_name(name))

    def label(self, device_type: str | None, tags: Sequence[str] | None) -> "Device":
        """None leaves what is there. Raises `invalid`."""
        self._refuse_if_revoked()
        kept = self.device_type if device_type is None else clean_word(device_type, "type")
        return replace(self, device_type=kept, tags=self.tags if tags is None else clean_tags(tags))

    def renew_credentials(self) -> "Device":
        """The same device, all its access tokens void."""
        return replace(self, epoch=self.epoch + 1)

    def _move(self, status: Status) -> "Device":
        """The device itself when it is there already. Raises `invalid` for a revoked one: that is final."""
        if status is self.status:
            return self
        self._refuse_if_revoked()
        return replace(self, status=status, epoch=self.epoch + 1)

    def _refuse_if_revoked(self) -> None:
        if self.status is Status.REVOKED:
            raise Problem(Code.INVALID, "This device was revoked, which is final. Pair it again, with a new key.")


def not_found() -> Problem:
    return Problem(Code.NOT_FOUND, "There is no such device.")


@dataclass(frozen=True, slots=True)
class Binding:
    """Of a device only what a credential is checked against."""

    user_id: str
    thumbprint: str
    status: Status
    epoch: int


def refusal(device: Device | Binding | None, *, user_id: str, epoch: int, thumbprint: str | None) -> Refusal | None:
    """Why a credential of that user, epoch and key does not stand for the device any more, or None when it does."""
    if device is None or device.user_id != user_id or device.thumbprint != thumbprint:
        return Refusal.BAD_CREDENTIALS
    if device.status is Status.REVOKED:
        return Refusal.REVOKED
    if device.status is Status.SUSPENDED:
        return Refusal.SUSPENDED
    return None if device.epoch == epoch else Refusal.STALE


_REFUSAL_TEXTS = {
    Refusal.BAD_CREDENTIALS: "The device of this token is not known here.",
    Refusal.EXPIRED: "This API key has expired. Make a new one.",
    Refusal.RATE_LIMITED: "Too many credentials from this address were refused. Wait a little.",
    Refusal.REVOKED: "This device was revoked. Pair it again, with a new key.",
    Refusal.STALE: "The access token is no longer valid; refresh it.",
    Refusal.SUSPENDED: "This device is suspended. Its owner can reactivate it.",
}


def refused_connection(reason: Refusal, retry_after_s: float | None = None) -> ConnectionRefused:
    return ConnectionRefused(reason, _REFUSAL_TEXTS[reason], retry_after_s)


def refused_request(reason: Refusal) -> Problem:
    code = Code.DEVICE_SUSPENDED if reason is Refusal.SUSPENDED else Code.UNAUTHENTICATED
    kind = Problem if reason is Refusal.BAD_CREDENTIALS else NoLonger
    return kind(code, _REFUSAL_TEXTS[reason])


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device collects, and gets at each refresh. Secret: shown once, stored nowhere."""

    device_id: str
    user_id: str
    scopes: frozenset[Scope]
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    token_type: str = "DPoP"  # noqa: S105  the name of a scheme (RFC 9449)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who holds a connection, and until when its credentials let it; None for an API key without an end."""

    principal: Principal
    device: Device
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A device's API key as it is stored: `digest` is keyed, see `api_keys.ApiKeys`."""

    key_id: str
    device_id: str
    digest: str
    created_at_ms: int
    expires_at_ms: int | None
    last_used_at_ms: int | None = None
    revoked_at_ms: int | None = None
    topics: TopicLimits = NO_LIMITS

    def is_over(self, now_ms: int) -> bool:
        return self.expires_at_ms is not None and now_ms >= self.expires_at_ms

    def is_good(self, now_ms: int) -> bool:
        return self.revoked_at_ms is None and not self.is_over(now_ms)


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A client certificate as it is stored: `fingerprint` is SHA-256 of it. It rests on the API key `key_id`."""

    certificate_id: str
    device_id: str
    key_id: str
    fingerprint: str
    created_at_ms: int
    expires_at_ms: int
    last_used_at_ms: int | None = None
    revoked_at_ms: int | None = None

    def is_over(self, now_ms: int) -> bool:
        return now_ms >= self.expires_at_ms

    def is_good(self, now_ms: int) -> bool:
        return self.revoked_at_ms is None and not self.is_over(now_ms)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A permission to open one connection, as it is stored; `digest` is SHA-256, base64url.

    `credential_id` is the API key or certificate that it was asked with, "" where it was neither. `origin` is the Origin
    header of the request that got it, None where there was none. `connection_ends_ms` is when
    a connection opened with it must have shown better credentials.
    """

    digest: str
    user_id: str
    device_id: str
    epoch: int
    thumbprint: str | None
    credential_id: str
    scopes: frozenset[Scope]
    origin: str | None
    expires_at_ms: int
    connection_ends_ms: int


@dataclass(frozen=True, slots=True)
class Family:
    """The refresh tokens of one device. `generation` is the newest one given out, at `rotated_at_ms`, not used yet;
    the one before it may still be repeated. `digest` is SHA-256 of the newest, base64url.
    """

    family_id: str
    device_id: str
    thumbprint: str
    generation: int
    digest: str
    created_at_ms: int
    rotated_at_ms: int

    @property
    def expires_at_ms(self) -> int:
        return min(self.rotated_at_ms + IDLE_LIFE_MS, self.created_at_ms + WHOLE_LIFE_MS)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new generation, to be stored if the family still has the one before it."""

    generation: int


@dataclass(frozen=True, slots=True)
class SameSuccessor:
    """The answer was lost: the token of `generation` is given out again."""

    generation: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """Came a moment late; whoever rotated has the newer token."""


@dataclass(frozen=True, slots=True)
class RevokeFamily:
    """A token that was replaced and whose successor is in use: one of two holders is a thief."""


@dataclass(frozen=True, slots=True)
class WrongKey:
    """A valid token by another key: stolen, and useless to the thief. The family stays."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A token of ours that is newer than the row: the tables are of an older copy (a backup, a standby that lagged).

    Nobody without the server key can have made it, and it came with the device's key. Both sides go on from it.
    """

    generation: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The family is over."""


Rotation = Rotated | SameSuccessor | Superseded | RevokeFamily | WrongKey | CaughtUp | Expired


def rotate(family: Family, presented_generation: int, thumbprint: str, now_ms: int) -> Rotation:
    """What becomes of a refresh with the token of `presented_generation`, proven by the key `thumbprint`."""
    if thumbprint != family.thumbprint:
        return WrongKey()
    if now_ms >= family.expires_at_ms:
        return Expired()
    if presented_generation >= family.generation:
        is_known = presented_generation == family.generation
        return Rotated(family.generation + 1) if is_known else CaughtUp(presented_generation + 1)
    if presented_generation == family.generation - 1:
        return SameSuccessor(family.generation)
    # The successor of the generation before the previous was used when the newest was given out.
    if presented_generation == family.generation - 2 and now_ms - family.rotated_at_ms <= SUPERSEDED_GRACE_MS:
        return Superseded()
    return RevokeFamily()


def clean_word(text: str, what: str) -> str:
    """A word that policies may name, in lower case: empty, or 1 to 32 of a-z, 0-9 and . _ -. Raises `invalid`."""
    word = text.strip().lower()
    if word and _WORD.fullmatch(word) is None:
        raise Problem(Code.INVALID, f"A {what} has 1 to 32 of a-z, 0-9 and . _ - and begins with a letter or a digit.")
    return word


def clean_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Sorted, each once. Raises `invalid`."""
    found = sorted({clean_word(tag, "tag") for tag in tags} - {""})
    if len(found) > MAX_TAGS:
        raise Problem(Code.INVALID, f"A device has at most {MAX_TAGS} tags.")
    return tuple(found)


def clean_version(text: str) -> str:
    """An app's or system's version as the device tells it: at most 64 characters, or empty. Raises `invalid`."""
    version = text.strip()
    if len(version) > MAX_VERSION_CHARACTERS or (version and not is_showable(version)):
        raise Problem(Code.INVALID, f"A version has at most {MAX_VERSION_CHARACTERS} visible characters.")
    return version
