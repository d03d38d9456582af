"""What the use cases take and give."""

from dataclasses import dataclass, field
from datetime import timedelta

from entobot.core.permissions import Scope
from entobot.devices.keys import PublicKey
from entobot.pairing.model import DEFAULT_TTL, SMS_TTL, Confirm, DeviceInfo, Invite, Kind


@dataclass(frozen=True, slots=True)
class InviteRequest:
    """`user_id` None means the caller; `scopes` None means the usual ones, as far as the caller holds them. `confirm`
    and `ttl` None mean the usual ones of the kind. `phone_number` goes with kind `sms`, and with no other.
    """

    kind: Kind
    user_id: str | None = None
    label: str = ""
    scopes: frozenset[Scope] | None = None
    confirm: Confirm | None = None
    ttl: timedelta | None = None
    allow_bearer: bool = False
    """Also a device without a key may claim it, by the simple protocol, for an API key."""
    phone_number: str | None = field(default=None, repr=False)

    @property
    def way(self) -> Confirm:
        """How it is confirmed: by SMS the phone is somewhere else, so that nobody can read its digits off it."""
        return self.confirm or (Confirm.APPROVE if self.kind is Kind.SMS else Confirm.TYPE)

    @property
    def lives(self) -> timedelta:
        usual = SMS_TTL if self.kind is Kind.SMS else DEFAULT_TTL
        return usual if self.ttl is None else self.ttl


@dataclass(frozen=True, slots=True)
class CreatedInvite:
    """The only time that the secret (with `url`, `qr_svg`), or for kind `code` the code, can be seen. For kind `sms` they
    go to the phone and to nobody else; they stand here only where nothing is sent, for development.
    """

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
