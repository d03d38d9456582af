"""Whether pushes can reach phones: what of the set-up keeps them from it, and whether they leave."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from entobot.app.texting import is_private
from entobot.app.weak_points import Grade, Topic, WeakPoint
from entobot.notifications.model import Channel

if TYPE_CHECKING:
    from entobot.app.gateway import Gateway

HOW = "docs/how-to/push.md"


def push_points(gateway: "Gateway") -> Iterator[WeakPoint]:
    if what := _untrusted(gateway):
        fix = f"Have a certificate that every browser trusts; until then ntfy, UnifiedPush, e-mail or SMS reach people: {HOW}."
        yield WeakPoint(Topic.PUSH, Grade.NOTE, what, fix)
    if not gateway.ground.settings.notifications.contact and is_private(gateway.ground.origin):
        what = f"Push services are told to write to {gateway.ground.origin}, which they cannot reach; some refuse it."
        fix = f'Set notifications.contact = "mailto:you@example.org": {HOW}.'
        yield WeakPoint(Topic.PUSH, Grade.NOTE, what, fix)
    for channel in (Channel.PUSH, Channel.UNIFIEDPUSH, Channel.NTFY):
        if said := gateway.notifying.trouble(channel):
            what = f"What was sent last by {channel} was not taken: {said}"
            fix = f"Look at Notifications in the dashboard, and send a test: {HOW}."
            yield WeakPoint(Topic.PUSH, Grade.WARN, what, fix)


def _untrusted(gateway: "Gateway") -> str:
    """Why browsers give no subscription here; empty where they do."""
    certificate, ground = gateway.certificates.served, gateway.ground
    if certificate is None:
        is_proxied = ground.settings.gateway.trusted_proxies and ground.origin.startswith("https:")
        return "" if is_proxied else "Phones get no Web Push over plain HTTP."
    if certificate.public.ca_crt is None or ground.settings.tls.mode == "acme":
        return ""
    return "Web Push works only on devices that trust this gateway's own certificate authority."
