"""Client certificates of boards: issued for an API key, bounded, and ended with it."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from entobot.core.errors import Code, Problem, StartupRefused
from entobot.core.principal import Principal
from entobot.devices import credential_store
from entobot.devices.api_keys import parse_key
from entobot.devices.certificate_desk import MAX_GOOD_CERTIFICATES, CertificateDesk
from entobot.devices.issuing import Issuing
from entobot.devices.key_desk import CreatedKey
from entobot.devices.model import ConnectionRefused, Refusal
from tests.devices.conftest import House

LIFE = timedelta(days=30)
KEY = ec.generate_private_key(ec.SECP256R1())


def desk_of(house: House, seal_key: bytes = b"s" * 32) -> CertificateDesk:
    house.devices.certificates = CertificateDesk(
        database=house.database,
        clock=house.clock,
        ids=house.ids,
        audit=house.audit,
        accounts=house.accounts,
        issuing=Issuing(house.database, house.clock, house.entropy, seal_key),
        guard=house.devices.guard,
        life=LIFE,
    )
    return house.devices.certificates


def asked(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = KEY) -> bytes:
    """A request that claims to be somebody else."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev_somebody_else")])
    how = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, how)
    return request.public_bytes(serialization.Encoding.DER)


async def make(house: House, expires_in_s: int | None = None) -> tuple[CreatedKey, Principal]:
    owner = await house.devices.local_owner()
    made = await house.devices.create_api_key(owner, "Board", expires_in_s=expires_in_s)
    return made, (await house.devices.authenticate_key_connection(made.secret, "192.0.2.7")).principal


async def issue(desk: CertificateDesk, principal: Principal, request: bytes | None = None) -> x509.Certificate:
    (found,) = pkcs7.load_der_pkcs7_certificates(await desk.issue(principal, request or asked()))
    return found


async def enter(desk: CertificateDesk, certificate: x509.Certificate) -> Principal | Refusal:
    try:
        return (await desk.authenticate(certificate.public_bytes(serialization.Encoding.DER))).principal
    except ConnectionRefused as refused:
        return refused.reason


async def test_a_certificate_lets_in_the_device_that_got_it_whatever_its_request_says(house: House) -> None:
    desk = desk_of(house)
    made, principal = await make(house)
    certificate = await issue(desk, principal)
    (authority,) = pkcs7.load_der_pkcs7_certificates(await desk.authority())
    certificate.verify_directly_issued_by(authority)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == made.device.device_id
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    entered = await enter(desk, certificate)
    assert isinstance(entered, Principal)
    assert (entered.device_id, entered.scopes) == (made.device.device_id, made.device.scopes)
    assert entered.expires_at_ms == round(certificate.not_valid_after_utc.timestamp() * 1000)
    house.clock.advance(LIFE.total_seconds())
    assert await enter(desk, certificate) is Refusal.EXPIRED


async def test_a_certificate_that_nobody_was_given_is_not_known_even_if_the_authority_signed_it(house: House) -> None:
    desk = desk_of(house)
    _, principal = await make(house)
    await issue(desk, principal)
    authority = await desk.issuing.authority()
    copied = await desk.issuing.issue(principal.device_id or "", asked(), house.now_ms + 60_000)
    copied.verify_directly_issued_by(authority.certificate)
    assert await enter(desk, copied) is Refusal.BAD_CREDENTIALS


async def test_it_ends_alone_with_its_key_and_with_its_device(house: House) -> None:
    desk, owner, machines = desk_of(house), await house.devices.local_owner(), house.devices.machines
    made, principal = await make(house)
    device_id = made.device.device_id
    first, second, third = [await issue(desk, principal) for _ in range(3)]
    entered = await enter(desk, first)
    assert isinstance(entered, Principal)
    await machines.revoke(owner, device_id, entered.credential_id)
    assert (await enter(desk, first), isinstance(await enter(desk, second), Principal)) == (Refusal.REVOKED, True)
    assert await house.database.read(lambda tx: machines.has_ended(tx, entered))
    await house.devices.suspend(owner, device_id)
    assert await enter(desk, second) is Refusal.SUSPENDED
    await house.devices.reactivate(owner, device_id)
    await machines.rotate(owner, device_id, overlap_s=60)
    still = await enter(desk, second)
    assert isinstance(still, Principal)
    house.clock.advance(60)
    assert await enter(desk, second) is Refusal.EXPIRED
    assert await house.database.read(lambda tx: machines.has_ended(tx, still))
    held = await machines.held(owner, device_id)
    assert [is_good for _, is_good in held.certificates] == [False] * 3
    await house.devices.revoke(owner, device_id)
    assert await enter(desk, third) is Refusal.REVOKED


async def test_it_lives_no_longer_than_its_key_and_is_given_to_nobody_without_one(house: House) -> None:
    desk = desk_of(house)
    made, principal = await make(house, expires_in_s=3600)
    certificate = await issue(desk, principal)
    assert round(certificate.not_valid_after_utc.timestamp() * 1000) == made.expires_at_ms
    entered = await enter(desk, certificate)
    assert isinstance(entered, Principal)
    for who in (entered, await house.devices.local_owner()):
        with pytest.raises(Problem) as caught:
            await desk.issue(who, asked())
        assert caught.value.code is Code.FORBIDDEN
    await house.devices.machines.revoke(
        await house.devices.local_owner(), made.device.device_id, parse_key(made.secret)
    )
    with pytest.raises(Problem) as caught:
        await desk.issue(principal, asked())
    assert caught.value.code is Code.UNAUTHENTICATED


async def test_certificates_whose_key_is_over_take_no_place(house: House) -> None:
    desk, owner = desk_of(house), await house.devices.local_owner()
    made, principal = await make(house)
    for _ in range(MAX_GOOD_CERTIFICATES):
        await issue(desk, principal)
    with pytest.raises(Problem) as caught:
        await issue(desk, principal)
    assert caught.value.code is Code.QUOTA_EXCEEDED
    again = await house.devices.machines.rotate(owner, made.device.device_id, overlap_s=0)
    entered = (await house.devices.authenticate_key_connection(again.secret, "192.0.2.7")).principal
    assert isinstance(await enter(desk, await issue(desk, entered)), Principal)


async def test_requests_that_prove_nothing_or_too_little_are_refused(house: House) -> None:
    desk = desk_of(house)
    _, principal = await make(house)
    good = asked()
    forged = good[:-1] + bytes([good[-1] ^ 1])
    weak = rsa.generate_private_key(65537, 1024)
    for request in (b"x", b"0" * 8000, forged, asked(weak), asked(ed25519.Ed25519PrivateKey.generate())):
        with pytest.raises(Problem) as caught:
            await desk.issue(principal, request)
        assert caught.value.code is Code.INVALID
    for _ in range(MAX_GOOD_CERTIFICATES):
        await issue(desk, principal)
    with pytest.raises(Problem) as caught:
        await desk.issue(principal, good)
    assert caught.value.code is Code.QUOTA_EXCEEDED


async def test_the_authority_is_made_once_and_its_key_is_sealed(house: House) -> None:
    with pytest.raises(Problem) as caught:
        await desk_of(house).authority()
    assert caught.value.code is Code.NOT_FOUND, "whoever looks makes nothing"
    first = await desk_of(house).issuing.authority()
    again = await desk_of(house).issuing.authority()
    assert first.pem == again.pem
    sealed = await house.database.read(credential_store.find_authority)
    assert sealed is not None
    assert b"PRIVATE KEY" not in sealed
    with pytest.raises(StartupRefused, match="another server key"):
        await desk_of(house, b"t" * 32).issuing.authority()
