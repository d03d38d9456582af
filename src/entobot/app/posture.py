"""What is not ideal about a running set-up, and how to fix it. One list for the banner and the dashboard."""

import ctypes
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entobot.app.certificate import Certificate
from entobot.app.posture_push import push_points
from entobot.app.posture_settings import weak_settings
from entobot.app.texting import is_private, receipts_origin
from entobot.app.weak_points import COST, Grade, Topic, WeakPoint
from entobot.core.clock import to_ms
from entobot.core.networks import Networks, plain_address
from entobot.web.addresses import primary_lan_address

if TYPE_CHECKING:
    from entobot.app.gateway import Gateway

EXPIRES_SOON = timedelta(days=14)
TIMEX_BYTES = 256
"""More than `struct timex` has."""
TIME_ERROR = 5


def score(points: Sequence[WeakPoint]) -> int:
    """From 0 to 100."""
    worst: dict[Topic, int] = {}
    for point in points:
        worst[point.topic] = max(worst.get(point.topic, 0), COST[point.grade])
    return max(0, 100 - sum(worst.values()))


def find_weak_points(gateway: "Gateway") -> list[WeakPoint]:
    """Of everything in `Topic`, as it is now."""
    looks = (
        _of_address,
        _of_certificate,
        _of_networks,
        _of_store,
        _of_signing_in,
        _of_sms,
        push_points,
        _of_keeping,
        _of_stored,
        _of_agent,
    )
    found = [point for look in looks for point in look(gateway)]
    return [*found, *weak_settings(gateway.ground.settings)]


def _of_store(gateway: "Gateway") -> Iterator[WeakPoint]:
    ground = gateway.ground
    for said in ground.tightened:
        yield WeakPoint(Topic.SECRETS, Grade.NOTE, said, "Nothing to do; it was put right at this start.")
    durability = ground.database.durability()
    if not durability.survives_power_cut:
        what = f"The store may lose acknowledged messages in a power cut ({durability.detail})."
        yield WeakPoint(Topic.STORE, Grade.BAD, what, durability.fix)
    if said := ground.database.trouble():
        yield WeakPoint(Topic.STORE, Grade.BAD, f"The store does not commit: {said}", "Look at 'entobot doctor'.")
    bus = ground.bus.health()
    if not bus.is_connected:
        what = f"Nodes cannot ring one another ({bus.detail}); they look at the database instead, which is later."
        fix = "Look at bus.url and its server. Nothing is lost, and it goes on by itself."
        yield WeakPoint(Topic.BUS, Grade.WARN, what, fix)


def _of_signing_in(gateway: "Gateway") -> Iterator[WeakPoint]:
    if gateway.ground.settings.signin.passwords:
        what = "Browsers may sign in with passwords, which can be given away and guessed."
        yield WeakPoint(Topic.SIGN_IN, Grade.NOTE, what, "Where everybody has a passkey, leave out signin.passwords.")


def _of_sms(gateway: "Gateway") -> Iterator[WeakPoint]:
    sms, origin = gateway.ground.settings.sms, gateway.ground.origin
    how = "docs/how-to/invite-by-sms.md"
    if sms.provider == "console":
        what = "sms.provider is 'console': invites by SMS are not sent."
        yield WeakPoint(Topic.SMS, Grade.NOTE, what, f"Name a provider, or none: {how}.")
    elif sms.provider and is_private(origin):
        what = f"SMS holds links to {origin}, which phones outside this network cannot open."
        yield WeakPoint(Topic.SMS, Grade.WARN, what, "Give gateway.public_url a public name; phones then pair again.")
    if sms.approvals:
        what = "Calls of low risk are approved by SMS, which proves no person and no device (sms.approvals)."
        yield WeakPoint(Topic.SMS, Grade.WARN, what, f"Leave out sms.approvals, and approve in the app: {how}.")
    if sms.provider == "twilio" and not receipts_origin(sms, origin):
        what = "Twilio cannot reach this gateway, so that nobody learns whether an SMS arrived."
        yield WeakPoint(
            Topic.SMS, Grade.NOTE, what, f"Give gateway.public_url a public name, or sms.receipts_origin: {how}."
        )


def _of_keeping(gateway: "Gateway") -> Iterator[WeakPoint]:
    if said := gateway.backups.restore_note():
        fix = "Look at 'entobot devices list' and 'users list', and end what should not be there."
        yield WeakPoint(Topic.BACKUP, Grade.WARN, said, fix)
    if said := gateway.backups.complaint():
        fix = "Make one with 'entobot backup', or set backup.every: docs/how-to/back-up.md."
        yield WeakPoint(Topic.BACKUP, Grade.WARN, said, fix)
    fix = "Look at the receiver. Nothing is lost, and it goes on by itself: docs/how-to/audit.md."
    for said in gateway.audit_keeping.complaints():
        yield WeakPoint(Topic.AUDIT, Grade.WARN, said, fix)
    if clock_is_synchronised() is False:
        what = "This machine's clock is not kept right by a time server: proofs of devices may be refused."
        yield WeakPoint(Topic.CLOCK, Grade.WARN, what, "Switch on NTP, for example 'timedatectl set-ntp true'.")


def _of_agent(gateway: "Gateway") -> Iterator[WeakPoint]:
    if gateway.bot.choice.fix is not None:
        what = f"The built-in echo agent answers. {gateway.bot.choice.why}"
        yield WeakPoint(Topic.AGENT, Grade.NOTE, what, gateway.bot.choice.fix)


def clock_is_synchronised() -> bool | None:
    """As the kernel knows it (adjtimex(2), which only reads here); None where there is no such kernel."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return None
    state = adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    return None if state < 0 else state != TIME_ERROR


def _of_address(gateway: "Gateway") -> list[WeakPoint]:
    """The origin is chosen once and kept; a port given later does not change what phones were told."""
    settings = gateway.ground.settings.gateway
    parts = urlsplit(gateway.ground.origin)
    told = parts.port or (443 if parts.scheme == "https" else 80)
    if settings.public_url or told == gateway.port:
        return []
    return [
        WeakPoint(
            Topic.ADDRESS,
            Grade.WARN,
            f"Phones look for this gateway at {gateway.ground.origin}, but it listens on port {gateway.port}.",
            f"Start it on port {told}, or give it another address with --public-url; phones then pair again.",
        )
    ]


def _of_certificate(gateway: "Gateway") -> list[WeakPoint]:
    certificate, ground = gateway.certificates.served, gateway.ground
    if certificate is None and ground.settings.gateway.trusted_proxies and ground.origin.startswith("https:"):
        return []  # TLS ends at the proxy, on this machine
    if certificate is None:
        return [
            WeakPoint(
                Topic.CERTIFICATE,
                Grade.NOTE,
                "Plain HTTP, on this machine only.",
                'Leave out tls.mode = "off" to reach it by phone.',
            )
        ]
    points: list[WeakPoint] = []
    if certificate.public.ca_crt is not None and ground.settings.tls.mode != "acme":
        points.append(
            WeakPoint(
                Topic.CERTIFICATE,
                Grade.NOTE,
                "The certificate is this gateway's own: phones warn once, and cannot install the app.",
                f"Open {ground.origin}/certificate on the phone and install it, "
                "or have a public one: docs/how-to/public-certificate.md.",
            )
        )
    if said := gateway.certificates.complaint():
        points.append(
            WeakPoint(
                Topic.CERTIFICATE,
                Grade.BAD,
                said,
                "Put that right, then 'entobot cert renew'. 'entobot cert status' tells more.",
            )
        )
    left_ms = certificate.description.not_after_ms - ground.clock.now_ms()
    if 0 < left_ms < to_ms(EXPIRES_SOON) and _is_late(gateway, certificate):
        days = left_ms // to_ms(timedelta(days=1))
        points.append(
            WeakPoint(
                Topic.CERTIFICATE,
                Grade.BAD,
                f"The certificate ends in {days} days.",
                "Renew it; the new files are taken up by themselves.",
            )
        )
    if certificate.left_out:
        names = ", ".join(certificate.left_out)
        points.append(
            WeakPoint(
                Topic.CERTIFICATE,
                Grade.WARN,
                f"The certificate does not cover {names}.",
                f"Move {ground.home.tls / 'ca.crt'} away and restart.",
            )
        )
    return points


def _is_late(gateway: "Gateway", certificate: Certificate) -> bool:
    """Some live for days only, and are renewed in time by this gateway."""
    source = gateway.certificates.source
    renews_at_ms = None if source is None else source.renews_at_ms(certificate)
    return renews_at_ms is None or renews_at_ms < gateway.ground.clock.now_ms()


def _of_networks(gateway: "Gateway") -> list[WeakPoint]:
    left_out = outside_allowed(gateway.ground.settings.gateway.allowed_networks, gateway.ground.origin)
    if left_out is None:
        return []
    return [
        WeakPoint(
            Topic.NETWORKS,
            Grade.WARN,
            f"gateway.allowed_networks leaves out {left_out}, this machine's own address: phones beside it are refused.",
            "Add its network, if that is not what you want.",
        )
    ]


def _of_stored(gateway: "Gateway") -> Iterator[WeakPoint]:
    """Stored settings that are not in force: those that cannot be used, and those that wait."""
    for key, why in gateway.settings.refused.items():
        fix = f"Set it anew, or run 'entobot config unset {key}'."
        yield WeakPoint(Topic.SETTINGS, Grade.WARN, f"The stored {key} is left out: it {why}", fix)
    if waiting := gateway.settings.waiting:
        what = f"Changed settings wait for a restart: {', '.join(waiting)}."
        yield WeakPoint(Topic.SETTINGS, Grade.NOTE, what, "Restart the gateway.")


def outside_allowed(allowed_networks: Sequence[str], origin: str) -> str | None:
    """This machine's address in its own network when the allow-list leaves it out: a lock-out that nobody meant."""
    allowed = Networks(allowed_networks)
    host = (urlsplit(origin).hostname or "").strip("[]")
    address = host if _is_address(host) else primary_lan_address()
    return address if allowed and address is not None and address not in allowed else None


def _is_address(host: str) -> bool:
    try:
        plain_address(host)
    except ValueError:
        return False
    return True
