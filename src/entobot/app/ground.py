"""What the features stand on: data folder, keys, origin, certificate, storage, bus. Blocking parts run in threads."""

import asyncio
import json
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from entobot.app.doorbell import make_bus
from entobot.app.observing import make_tracer
from entobot.app.store import open_database
from entobot.audit.signer_local import LocalHeadSigner
from entobot.bus.bus import Bus
from entobot.config import Settings
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import StartupRefused
from entobot.core.ids import Ids, Prefix, RandomIds
from entobot.core.secrets import Entropy, b64u
from entobot.devices.signing import SigningKeys
from entobot.home import Home, Lock, Purpose, ServerKeys, read_private, write_private
from entobot.storage.database import Database
from entobot.telemetry.meters import Meters
from entobot.telemetry.tracing import Tracer
from entobot.web.addresses import primary_lan_address
from entobot.web.certificates import (
    Description,
    describe,
    ensure_local_tls,
    fingerprint_sha256,
    load_given,
    mobileconfig,
    spki_sha256,
    this_machine,
)
from entobot.web.http import CertificateFiles
from entobot.web.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that is served. `public` is what phones may download about it."""

    files: TlsFiles
    description: Description
    spki: str
    public: CertificateFiles
    left_out: tuple[str, ...]


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
    certificate: Certificate | None
    tightened: list[str]

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may run on the same database."""
        return bool(self.settings.storage.url.get_secret_value())


async def lay_ground(home: Home, settings: Settings, clock: Clock, entropy: Entropy) -> Ground:
    """Everything below the features, ready but not started. Raises StartupRefused."""
    return await asyncio.to_thread(_lay, home, settings, clock, entropy)


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
            name=settings.gateway.name or this_machine().names[0],
            certificate=_certificate(home, settings, now_ms, entropy),
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


def _certificate(home: Home, settings: Settings, now_ms: int, entropy: Entropy) -> Certificate | None:
    tls = settings.tls
    if tls.mode == "off":
        return None
    if tls.mode == "given":
        if tls.certificate is None or tls.key is None:
            raise StartupRefused("tls.mode is 'given': set tls.certificate and tls.key to the PEM files.")
        leaf, authority, left_out = load_given(tls.certificate, tls.key, now_ms), None, ()
        files = TlsFiles(tls.certificate, tls.key)
    else:
        local = ensure_local_tls(home.tls, this_machine(), now_ms, entropy)
        leaf, authority, left_out, files = local.leaf, local.authority, local.left_out, local.files
    about = describe(leaf)
    return Certificate(files, about, b64u(spki_sha256(leaf)), public_files(about, authority), left_out)


def renew_certificate(ground: Ground) -> int | None:
    """Bring the local authority's certificate up to date on disk, where it is used. Blocks.

    Returns when the certificate that is on disk now ends, in milliseconds since 1970; None without TLS. Raises OSError
    or ValueError when it cannot be read.
    """
    if ground.certificate is None:
        return None
    if ground.settings.tls.mode == "local-ca":
        ensure_local_tls(ground.home.tls, this_machine(), ground.clock.now_ms(), ground.entropy)
    leaf = x509.load_pem_x509_certificates(ground.certificate.files.certificate.read_bytes())[0]
    return describe(leaf).not_after_ms


def public_files(about: Description | None, authority: x509.Certificate | None) -> CertificateFiles:
    """What anybody may know of the certificate, and what a phone installs to trust a local CA."""
    description = {
        "kind": "none" if about is None else "local-ca" if authority is not None else "given",
        "ca_fingerprint": None if authority is None else fingerprint_sha256(authority),
        "not_after": None if about is None else rfc3339(about.not_after_ms),
        "names": [] if about is None else list(about.names),
    }
    return CertificateFiles(
        description=json.dumps(description).encode(),
        ca_crt=None if authority is None else authority.public_bytes(serialization.Encoding.DER),
        ca_mobileconfig=None if authority is None else mobileconfig(authority, "Entobot"),
    )
