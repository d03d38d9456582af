"""What the use cases take and give."""

from dataclasses import dataclass, field
from datetime import timedelta

from entobot.core.permissions import Scope
from entobot.devices.keys import PublicKey
from entobot.pairing.model import DEFAULT_TTL, Confirm, DeviceInfo, Invite, Kind


@dataclass(frozen=True, slots=True)
class InviteRequest:
    """`user_id` None means the caller; `scopes` None means the usual ones, as far as the caller holds them."""

    kind: Kind
    user_id: str | None = None
    label: str = ""
    scopes: frozenset[Scope] | None = None
    confirm: Confirm = Confirm.TYPE
    ttl: timedelta = DEFAULT_TTL
    allow_bearer: bool = False
    """Also a device without a key may claim it, by the simple protocol, for an API key."""


@dataclass(frozen=True, slots=True)
class CreatedInvite:
    """The only time that the secret (with `url`, `qr_svg`), or for kind `code` the code, can be seen."""

    invite: Invite
    secret: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    qr_svg: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Either `invite_id` and `secret`, or `code`. `proof` is a compact JWS, see `proof.py`."""

    public_key: PublicKey
    device: DeviceInfo
    proof: str
    invite_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Claimed:
    """`confirmation_code` is for the claiming device's screen and nowhere else."""

    claim_id: str
    is_confirmed: bool
    confirmation_code: str = field(repr=False)
    gateway_name: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class BearerCredentials:
    """A device that holds an API key: shown once, stored nowhere."""

    device_id: str
    device_name: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """Claimed; the operator has not answered yet. `expires_at_ms` is when that is too late."""

    expires_at_ms: int
