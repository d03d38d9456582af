"""What is not ideal about a running set-up, and how to fix it. One list for the banner, `doctor` and readiness."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entobot.app.certificate import Certificate
from entobot.core.clock import to_ms
from entobot.core.networks import Networks, plain_address
from entobot.web.addresses import primary_lan_address

if TYPE_CHECKING:
    from entobot.app.gateway import Gateway

EXPIRES_SOON = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class WeakPoint:
    what: str
    fix: str


def find_weak_points(gateway: "Gateway") -> list[WeakPoint]:
    """Certificate, address, agent and storage, as they are now."""
    points = [*_of_address(gateway), *_of_certificate(gateway), *_of_networks(gateway)]
    ground = gateway.ground
    points += [WeakPoint(said, "Nothing to do; it was put right at this start.") for said in ground.tightened]
    if not ground.database.durability().survives_power_cut:
        points.append(
            WeakPoint(
                f"The store may lose acknowledged messages in a power cut ({ground.database.durability().detail}).",
                ground.database.durability().fix,
            )
        )
    bus = ground.bus.health()
    if not bus.is_connected:
        points.append(
            WeakPoint(
                f"Nodes cannot ring one another ({bus.detail}); they look at the database instead, which is later.",
                "Look at bus.url and its server. Nothing is lost, and it goes on by itself.",
            )
        )
    if ground.settings.signin.passwords:
        points.append(
            WeakPoint(
                "Browsers may sign in with passwords, which can be given away and guessed.",
                "Where everybody has a passkey, leave out signin.passwords.",
            )
        )
    if said := gateway.backups.restore_note():
        points.append(
            WeakPoint(said, "Look at 'entobot devices list' and 'users list', and end what should not be there.")
        )
    if said := gateway.backups.complaint():
        points.append(WeakPoint(said, "Make one with 'entobot backup', or set backup.every: docs/how-to/back-up.md."))
    points += [
        WeakPoint(said, "Look at the receiver. Nothing is lost, and it goes on by itself: docs/how-to/audit.md.")
        for said in gateway.audit_keeping.complaints()
    ]
    points += _of_stored(gateway)
    if gateway.bot.choice.fix is not None:
        points.append(WeakPoint(f"The built-in echo agent answers. {gateway.bot.choice.why}", gateway.bot.choice.fix))
    return points


def _of_address(gateway: "Gateway") -> list[WeakPoint]:
    """The origin is chosen once and kept; a port given later does not change what phones were told."""
    settings = gateway.ground.settings.gateway
    parts = urlsplit(gateway.ground.origin)
    told = parts.port or (443 if parts.scheme == "https" else 80)
    if settings.public_url or told == gateway.port:
        return []
    return [
        WeakPoint(
            f"Phones look for this gateway at {gateway.ground.origin}, but it listens on port {gateway.port}.",
            f"Start it on port {told}, or give it another address with --public-url; phones then pair again.",
        )
    ]


def _of_certificate(gateway: "Gateway") -> list[WeakPoint]:
    certificate, ground = gateway.certificates.served, gateway.ground
    if certificate is None and ground.settings.gateway.trusted_proxies and ground.origin.startswith("https:"):
        return []  # TLS ends at the proxy, on this machine
    if certificate is None:
        return [WeakPoint("Plain HTTP, on this machine only.", 'Leave out tls.mode = "off" to reach it by phone.')]
    points: list[WeakPoint] = []
    if certificate.public.ca_crt is not None and ground.settings.tls.mode != "acme":
        points.append(
            WeakPoint(
                "The certificate is this gateway's own: phones warn once, and cannot install the app or get push.",
                f"Open {ground.origin}/certificate on the phone and install it, "
                "or have a public one: docs/how-to/public-certificate.md.",
            )
        )
    if said := gateway.certificates.complaint():
        points.append(WeakPoint(said, "Put that right, then 'entobot cert renew'. 'entobot cert status' tells more."))
    left_ms = certificate.description.not_after_ms - ground.clock.now_ms()
    if 0 < left_ms < to_ms(EXPIRES_SOON) and _is_late(gateway, certificate):
        days = left_ms // to_ms(timedelta(days=1))
        points.append(
            WeakPoint(f"The certificate ends in {days} days.", "Renew it; the new files are taken up by themselves.")
        )
    if certificate.left_out:
        names = ", ".join(certificate.left_out)
        points.append(
            WeakPoint(
                f"The certificate does not cover {names}.", f"Move {ground.home.tls / 'ca.crt'} away and restart."
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
            f"gateway.allowed_networks leaves out {left_out}, this machine's own address: phones beside it are refused.",
            "Add its network, if that is not what you want.",
        )
    ]


def _of_stored(gateway: "Gateway") -> list[WeakPoint]:
    """Stored settings that are not in force: those that cannot be used, and those that wait."""
    points = [
        WeakPoint(f"The stored {key} is left out: it {why}", f"Set it anew, or run 'entobot config unset {key}'.")
        for key, why in gateway.settings.refused.items()
    ]
    if waiting := gateway.settings.waiting:
        points.append(WeakPoint(f"Changed settings wait for a restart: {', '.join(waiting)}.", "Restart the gateway."))
    return points


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
