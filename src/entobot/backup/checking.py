"""Look at an unpacked backup as a gateway would: store whole, rows counted, keys readable, audit log verified."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from entobot.app.store import open_database
from entobot.audit.heads import RunUnit
from entobot.audit.service import Audit
from entobot.audit.signer_local import LocalHeadSigner
from entobot.backup import manifest as manifests
from entobot.backup.manifest import Manifest
from entobot.config import StorageSettings
from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.ids import RandomIds
from entobot.core.secrets import SystemEntropy
from entobot.devices.signing import SigningKeys
from entobot.home import Home, read_private
from entobot.storage import snapshot
from entobot.telemetry.meters import Meters

Progress = Callable[[str, int, int], None]
"""Called with (what is done, done, in all)."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`audit_entries` is None where the log could not be walked here: a dump of PostgreSQL is not loaded for it."""

    rows: int
    audit_entries: int | None


async def check(folder: Path, manifest: Manifest, progress: Progress) -> Checked:
    """`folder` holds what `archive.extract` wrote; an older schema is brought to the present one there.

    Raises StartupRefused naming the first thing that is wrong.
    """
    home = Home(folder)
    check_keys(home, manifest)
    rows = sum(manifest.tables.values())
    if manifest.store == "postgresql":
        from entobot.storage.postgres_dump import count_rows

        dump = folder / manifests.POSTGRES_MEMBER
        progress("rows of the dump", 0, rows)
        counted = await count_rows(dump)  # it may hold schemas of others
        _same_rows(manifest, {name: rows for name, rows in counted.items() if name in manifest.tables})
        return Checked(rows, None)
    _check_sqlite(home, manifest)
    async with AsyncExitStack() as stack:
        database = open_database(home, StorageSettings(), SystemEntropy(), Meters())
        await database.start()
        stack.push_async_callback(database.stop)
        entries = await verify_audit(home, database.read, progress)
    if manifest.audit is not None and entries != manifest.audit.entries:
        raise StartupRefused(f"The audit log has {entries} entries and not {manifest.audit.entries}.")
    return Checked(rows, entries)


async def verify_audit(home: Home, read: RunUnit, progress: Progress) -> int:
    """How many entries the log has, all of them whole and in order. Raises StartupRefused."""
    found = await open_audit(home).verify(read, lambda done, total: progress("audit log", done, total))
    if found.finding is not None:
        raise StartupRefused(
            f"The audit log does not verify at entry {found.finding.seq}: {found.finding.detail} "
            "Run 'entobot audit verify' on the gateway. A backup of what is there all the same: --no-verify."
        )
    return found.checked


def check_keys(home: Home, manifest: Manifest) -> None:
    """Raises StartupRefused when a key is missing, damaged, or not of the gateway that the manifest names."""
    for name in ("server.key", "audit.key", "signing.json"):
        if not (home.keys / name).exists():
            raise StartupRefused(f"The backup holds no keys/{name}.")
    home.server_keys(SystemEntropy())
    SigningKeys.open(lambda: read_private(home.keys / "signing.json"), _keep, SystemClock().now_ms())
    if (told := open_signer(home).fingerprint) != manifest.gateway:
        raise StartupRefused(f"The audit key in the backup is {told}, and its manifest names {manifest.gateway}.")
    for certificate, key in (("ca.crt", "ca.key"), ("leaf.crt", "leaf.key")):
        _check_pair(home.tls / certificate, home.tls / key)


def _check_pair(certificate: Path, key: Path) -> None:
    pem, secret = read_private(certificate), read_private(key)
    if pem is None or secret is None:
        return  # a certificate that somebody else gave lies where the settings say
    try:
        public = x509.load_pem_x509_certificate(pem).public_key()
        own = serialization.load_pem_private_key(secret, None).public_key()
    except (ValueError, TypeError) as error:
        raise StartupRefused(f"{certificate.name} or {key.name} in the backup cannot be read: {error}.") from None
    if public != own:
        raise StartupRefused(f"{certificate.name} in the backup does not belong to {key.name}.")


def _check_sqlite(home: Home, manifest: Manifest) -> None:
    fault = snapshot.integrity_fault(home.database)
    if fault:
        raise StartupRefused(f"The database in the backup is damaged: {fault}")
    found = snapshot.contents(home.database)
    if found.schema != manifest.db_schema:
        raise StartupRefused(f"The database has schema {found.schema}, and the manifest says {manifest.db_schema}.")
    _same_rows(manifest, found.tables)


def _same_rows(manifest: Manifest, found: dict[str, int]) -> None:
    if found != manifest.tables:
        names = sorted(n for n in found.keys() | manifest.tables.keys() if found.get(n) != manifest.tables.get(n))
        told = ", ".join(f"{name} {found.get(name)} instead of {manifest.tables.get(name)}" for name in names[:5])
        raise StartupRefused(f"The rows in the backup are not those that were counted: {told}.")


def open_signer(home: Home) -> LocalHeadSigner:
    """Of a folder that has its audit key."""
    return LocalHeadSigner.open(lambda: read_private(home.keys / "audit.key"), _keep)


def open_audit(home: Home) -> Audit:
    entropy = SystemEntropy()
    ids = RandomIds(SystemClock(), entropy)
    return Audit(ids=ids, entropy=entropy, signer=open_signer(home), head_file=home.audit_head)


def _keep(_: bytes) -> None:
    raise StartupRefused("A key is missing that was there a moment ago.")
