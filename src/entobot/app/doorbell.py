"""Which bus rings: none beyond this process, the database's own, or NATS."""

from entobot.bus.bus import Bus
from entobot.bus.bus_local import LocalBus
from entobot.bus.bus_nats import nats_bus
from entobot.bus.bus_postgres import postgres_bus
from entobot.bus.sealing import Seal
from entobot.config import Settings
from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy, sha256

POSTGRES = ("postgresql://", "postgres://")


def make_bus(settings: Settings, node_id: str, key: bytes, entropy: Entropy) -> Bus:
    """The bus that the settings ask for, not started. `key` is the nodes' own. Raises StartupRefused."""
    url, store = settings.bus.url.get_secret_value(), settings.storage.url.get_secret_value()
    if not store.startswith(POSTGRES):
        if url:
            raise StartupRefused(
                "bus.url is set, but the store is SQLite, which belongs to one node. "
                "Set storage.url to a PostgreSQL database that the nodes share, or unset bus.url."
            )
        return LocalBus()
    seal = Seal(key, entropy)
    # Several gateways may use one server: each has a name of its own there, which tells nothing of the key.
    name = sha256(b"entobot/bus-name/" + key).hex()[:16]
    if not url or url.startswith(POSTGRES):
        password_file = None if url else settings.storage.password_file
        channel = f"entobot_{name}"
        return postgres_bus(
            url or store, channel=channel, node_id=node_id, seal=seal, entropy=entropy, password_file=password_file
        )
    authority = None if settings.bus.authority is None else str(settings.bus.authority)
    return nats_bus(url, subject=f"entobot.{name}", node_id=node_id, seal=seal, entropy=entropy, authority=authority)
