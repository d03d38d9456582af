"""Named groups of settings, each a page of its own: the same keys, changed in the same way."""

from entobot.settings.model import fields

GROUPS: dict[str, tuple[str, ...]] = {
    "enterprise": (
        "gateway.name",
        "gateway.allowed_networks",
        "gateway.allowed_origins",
        "gateway.trusted_proxies",
        *(key for key in fields() if key.startswith("limits.")),
        "stream.keep_events",
        "stream.keep_for",
        "backup.every",
        "backup.keep",
        "log.level",
    ),
    "mobile": (
        "gateway.public_url",
        "gateway.heartbeat",
        "gateway.max_connections",
        "gateway.max_connections_per_address",
        "limits.pairing_per_second",
        "limits.pairing_burst",
        "limits.unauthenticated_per_address",
        "limits.unauthenticated",
        "stream.keep_events",
        "stream.keep_for",
        "agent.approval_timeout",
    ),
}
assert all(key in fields() for keys in GROUPS.values() for key in keys), "a group of settings that there are not"
