"""What the features stand on: data folder, keys, origin, certificate, storage, bus. Blocking parts run in threads."""

import asyncio
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from entobot.app.certificate import Certificate, load_certificate
from entobot.app.doorbell import make_bus
from entobot.app.observing import make_tracer
from entobot.app.store import open_database
from entobot.audit.signer_local import LocalHeadSigner
from entobot.bus.bus import Bus
from entobot.config import Settings
from entobot.core.clock import Clock
from entobot.core.ids import Ids, Prefix, RandomIds
from entobot.core.secrets import Entropy
from entobot.devices.signing import SigningKeys
from entobot.home import Home, Lock, Purpose, ServerKeys, read_private, write_private
from entobot.settings.planning import usable
from entobot.settings.service import Stored, read_stored
from entobot.sources import Layers, checked
from entobot.storage.database import Database
from entobot.telemetry.log import set_level
from entobot.telemetry.meters import Meters
from entobot.telemetry.recent_log import RecentLog
from entobot.telemetry.tracing import Tracer
from entobot.web.addresses import primary_lan_address
from entobot.web.certificates import this_machine


@dataclass(frozen=True, slots=True)
class Ground:
    home: Home
    settings: Settings
    clock: Clock
    entropy: Entropy
    ids: Ids
    node_id: str
    lock: Lock
    keys: ServerKeys
    signing: SigningKeys
    head_signer: LocalHeadSigner
    database: Database
    bus: Bus
    meters: Meters
    tracer: Tracer
    origin: str
    name: str
    machine_name: str
    """What `name` is where the settings give none."""
    certificate: Certificate | None
    """What the start found; later ones are in `Certificates.served`."""
    tightened: list[str]
    recent_log: RecentLog = field(default_factory=RecentLog)

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may run on the same database."""
        return bool(self.settings.storage.url.get_secret_value())


async def lay_ground(home: Home, layers: Layers, clock: Clock, entropy: Entropy) -> tuple[Ground, Stored]:
    """Everything below the features, with the database started and what is stored there among the settings.

    Raises StartupRefused, with nothing left open.
    """
    ground = await asyncio.to_thread(_lay, home, checked(layers), clock, entropy)
    try:
        await ground.database.start()
        stored = await read_stored(ground.database)
        settings = usable(layers, stored.values)[0].settings()
    except BaseException:
        await leave_ground(ground)
        raise
    if settings.log.level != ground.settings.log.level:
        set_level(settings.log.level)
    return replace(ground, settings=settings, name=settings.gateway.name or ground.machine_name), stored


async def leave_ground(ground: Ground) -> None:
    """Give back what `lay_ground` took."""
    try:
        await ground.database.stop()
    finally:
        ground.lock.release()


def _lay(home: Home, settings: Settings, clock: Clock, entropy: Entropy) -> Ground:
    tightened = home.prepare()
    lock = home.lock()
    try:
        now_ms = clock.now_ms()
        keys = home.server_keys(entropy)
        ids = RandomIds(clock, entropy)
        node_id = ids.new(Prefix.NODE)
        ring = home.keys / "signing.json"
        meters = Meters()
        machine_name = this_machine().names[0]
        signing = SigningKeys.open(lambda: read_private(ring), lambda data: write_private(ring, data), now_ms)
        return Ground(
            home=home,
            settings=settings,
            clock=clock,
            entropy=entropy,
            ids=ids,
            node_id=node_id,
            lock=lock,
            keys=keys,
            signing=signing,
            head_signer=LocalHeadSigner.open(
                lambda: read_private(home.keys / "audit.key"), lambda pem: write_private(home.keys / "audit.key", pem)
            ),
            database=open_database(home, settings.storage, entropy, meters),
            meters=meters,
            tracer=make_tracer(settings.tracing, node_id),
            bus=make_bus(settings, node_id, keys.key(Purpose.BUS), entropy),
            origin=find_origin(home, settings),
            name=settings.gateway.name or machine_name,
            machine_name=machine_name,
            certificate=load_certificate(home, settings, now_ms, entropy),
            tightened=tightened,
        )
    except BaseException:
        lock.release()
        raise


def find_origin(home: Home, settings: Settings) -> str:
    """The configured public URL, else the one chosen at first start."""
    gateway = settings.gateway
    if gateway.public_url:
        return gateway.public_url.rstrip("/")
    if settings.tls.mode == "off":
        return origin_of("http", gateway.host, gateway.port)
    return home.public_url(lambda: default_origin(settings))


def default_origin(settings: Settings) -> str:
    """The address that phones in this network reach: the bound one, or the primary one when bound to all."""
    host = settings.gateway.host
    if _is_any(host):
        host = primary_lan_address() or "127.0.0.1"
    return origin_of("https", host, settings.gateway.port)


def origin_of(scheme: str, host: str, port: int) -> str:
    """RFC 6454 ASCII serialisation: lowercase host, default port left out."""
    shown = f"[{host}]" if ":" in host else host.lower()
    is_default = (scheme, port) in (("http", 80), ("https", 443))
    return f"{scheme}://{shown}" + ("" if is_default else f":{port}")


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
