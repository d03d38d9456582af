"""The local CA: chains and constraints as Python's ssl sees them, files, renewal, given certificates."""

import asyncio
import ipaddress
import plistlib
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.web.addresses import lan_addresses, primary_lan_address
from entobot.web.certificates import (
    Authority,
    Machine,
    describe,
    ensure_local_tls,
    fingerprint_sha256,
    load_given,
    make_authority,
    make_leaf,
    mobileconfig,
    spki_sha256,
    this_machine,
)
from entobot.web.tls import TlsFiles, server_context
from tests.support.served import Served

DAY_MS = 24 * 3600 * 1000
NOW_MS = SystemClock().now_ms()
MACHINE = Machine(("box", "box.local", "localhost"), ("192.168.1.5", "203.0.113.7", "127.0.0.1", "::1"))
ENTROPY = SystemEntropy()


def write_pair(folder: Path, authority: Authority, machine: Machine) -> TlsFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = make_leaf(authority, key.public_key(), machine, NOW_MS, ENTROPY)
    (folder / "leaf.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "leaf.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return TlsFiles(folder / "leaf.crt", folder / "leaf.key")


async def handshake(files: TlsFiles, authority: x509.Certificate, name: str) -> str:
    """A real handshake on loopback with a client that trusts the CA only; the TLS version, or ssl's error."""
    trusting = ssl.create_default_context(cadata=authority.public_bytes(serialization.Encoding.PEM).decode())
    accepted = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        accepted.set()

    async with Served(serve, tls=server_context(files)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting, server_hostname=name)
        version = writer.get_extra_info("ssl_object").version()
        writer.transport.abort()
        return version


@pytest.mark.parametrize("name", ["box", "box.local", "localhost", "192.168.1.5", "203.0.113.7", "127.0.0.1", "::1"])
async def test_a_client_that_trusts_the_ca_accepts_the_gateways_names(tmp_path: Path, name: str) -> None:
    local = ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY)
    assert await handshake(local.files, local.authority, name) == "TLSv1.3"


@pytest.mark.parametrize(
    ("names", "addresses", "asked"),
    [
        (("example.com",), (), "example.com"),
        (("box.local", "example.com"), (), "box.local"),
        (("box.local.example.com",), (), "box.local.example.com"),
        (("notlocal",), (), "notlocal"),
        ((), ("8.8.8.8",), "8.8.8.8"),
        ((), ("203.0.113.8",), "203.0.113.8"),
        ((), ("2001:4860:4860::8888",), "2001:4860:4860::8888"),
    ],
)
async def test_a_leaf_for_the_wide_world_is_refused_though_the_ca_signed_it(
    tmp_path: Path, names: tuple[str, ...], addresses: tuple[str, ...], asked: str
) -> None:
    authority = make_authority(MACHINE, NOW_MS, ENTROPY)
    files = write_pair(tmp_path, authority, Machine(names, addresses))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        await handshake(files, authority.certificate, asked)


async def test_a_leaf_cannot_sign_and_the_ca_cannot_have_children(tmp_path: Path) -> None:
    authority = make_authority(MACHINE, NOW_MS, ENTROPY)
    basic = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
    assert authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).critical
    assert authority.certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3640)


def test_files_are_private_and_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "tls"
    first = ensure_local_tls(folder, MACHINE, NOW_MS, ENTROPY)
    assert first.has_new_leaf
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "ca.key", "leaf.crt", "leaf.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = ensure_local_tls(folder, MACHINE, NOW_MS + 59 * DAY_MS, ENTROPY)
    assert not again.has_new_leaf
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("machine", "later_ms"),
    [
        (MACHINE, 61 * DAY_MS),
        (MACHINE, -2 * DAY_MS),
        (Machine(MACHINE.names, (*MACHINE.addresses, "10.0.0.9")), 0),
        (Machine((*MACHINE.names, "other.local"), MACHINE.addresses), 0),
        (Machine(MACHINE.names, MACHINE.addresses[:-1]), 0),
    ],
    ids=["a third of its life is left", "the clock went back", "a new address", "a new name", "an address less"],
)
def test_a_leaf_is_renewed_with_its_key_kept(tmp_path: Path, machine: Machine, later_ms: int) -> None:
    first = ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY)
    second = ensure_local_tls(tmp_path / "tls", machine, NOW_MS + later_ms, ENTROPY)
    assert second.has_new_leaf
    assert second.leaf.serial_number != first.leaf.serial_number
    assert spki_sha256(second.leaf) == spki_sha256(first.leaf)
    assert spki_sha256(second.authority) == spki_sha256(first.authority)
    assert second.leaf.not_valid_after_utc - second.leaf.not_valid_before_utc <= timedelta(days=397)


def test_names_that_the_ca_may_not_vouch_for_are_left_out_and_told(tmp_path: Path) -> None:
    ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY)
    moved = Machine(("vps.example.com", "localhost"), ("198.51.100.4", "10.1.2.3"))
    second = ensure_local_tls(tmp_path / "tls", moved, NOW_MS, ENTROPY)
    assert second.left_out == ("vps.example.com", "198.51.100.4")
    assert describe(second.leaf).names == ("localhost", "10.1.2.3")


@pytest.mark.parametrize("name", ["ca.key", "ca.crt", "leaf.key", "leaf.crt"])
def test_a_damaged_file_refuses_to_start_and_is_not_replaced(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tls"
    ensure_local_tls(folder, MACHINE, NOW_MS, ENTROPY)
    (folder / name).write_bytes(b"damaged")
    with pytest.raises(StartupRefused, match=name):
        ensure_local_tls(folder, MACHINE, NOW_MS, ENTROPY)
    assert (folder / name).read_bytes() == b"damaged"


def test_a_ca_certificate_of_another_key_refuses_to_start(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    ensure_local_tls(folder, MACHINE, NOW_MS, ENTROPY)
    other = ensure_local_tls(tmp_path / "other", MACHINE, NOW_MS, ENTROPY)
    (folder / "ca.crt").write_bytes(other.authority.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(StartupRefused, match="does not belong"):
        ensure_local_tls(folder, MACHINE, NOW_MS, ENTROPY)


def test_a_given_pair_is_read_and_what_is_wrong_with_it_is_said(tmp_path: Path) -> None:
    local = ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY)
    certificate, key = local.files.certificate, local.files.key
    assert load_given(certificate, key, NOW_MS) == local.leaf
    with pytest.raises(StartupRefused, match="is not the key of"):
        load_given(certificate, tmp_path / "tls" / "ca.key", NOW_MS)
    with pytest.raises(StartupRefused, match=r"expired on 20\d\d-"):
        load_given(certificate, key, NOW_MS + 91 * DAY_MS)
    with pytest.raises(StartupRefused, match="not valid before"):
        load_given(certificate, key, NOW_MS - DAY_MS)
    with pytest.raises(StartupRefused, match=r"cannot be read: No such file"):
        load_given(tmp_path / "none.crt", key, NOW_MS)
    with pytest.raises(StartupRefused, match="not a PEM certificate"):
        load_given(key, key, NOW_MS)
    with pytest.raises(StartupRefused, match="not an unencrypted PEM key"):
        load_given(certificate, certificate, NOW_MS)


def test_a_certificate_is_described(tmp_path: Path) -> None:
    local = ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY)
    told = describe(local.leaf)
    assert told.kind == "local-ca"
    assert told.names == (*MACHINE.names, *MACHINE.addresses)
    assert abs(told.not_after_ms - NOW_MS - 90 * DAY_MS) < 2000
    fingerprint = fingerprint_sha256(local.leaf)
    assert bytes.fromhex(fingerprint.replace(":", "")) == local.leaf.fingerprint(hashes.SHA256())
    assert fingerprint.count(":") == 31


def test_a_pin_is_the_same_from_the_certificate_and_from_either_key(tmp_path: Path) -> None:
    local = ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY)
    key = serialization.load_pem_private_key(local.files.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert spki_sha256(local.leaf) == spki_sha256(key) == spki_sha256(key.public_key())


def test_the_ios_profile_holds_the_ca_and_keeps_its_identity(tmp_path: Path) -> None:
    authority = ensure_local_tls(tmp_path / "tls", MACHINE, NOW_MS, ENTROPY).authority
    profile = plistlib.loads(mobileconfig(authority, "Kitchen"))
    (payload,) = profile["PayloadContent"]
    assert x509.load_der_x509_certificate(payload["PayloadContent"]) == authority
    assert payload["PayloadType"] == "com.apple.security.root"
    assert mobileconfig(authority, "Kitchen") == mobileconfig(authority, "Kitchen")


def test_this_machine_has_names_and_addresses_that_parse() -> None:
    machine = this_machine()
    assert "localhost" in machine.names
    assert {"127.0.0.1", "::1"} <= set(machine.addresses)
    for address in lan_addresses():
        assert not ipaddress.ip_address(address).is_loopback
    primary = primary_lan_address()
    assert primary is None or primary == lan_addresses()[0]
