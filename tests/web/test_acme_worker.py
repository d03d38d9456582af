"""What the process that orders adds to its library."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytest.importorskip("acme", reason="the extra `acme` is not installed")

from acme import challenges, messages
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from entobot.web import acme_worker
from entobot.web.acme_words import Job
from entobot.web.acme_worker import Network, Ordering, Refused, certificate_id, seconds

KEY = ec.generate_private_key(ec.SECP256R1())


def test_a_certificate_is_named_as_in_the_example_of_rfc_9773() -> None:
    now = datetime.now(UTC)
    key_identifier = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(0x87654321)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier, None, None), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    assert certificate_id(pem) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("120", 120.0),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("9" * 15, 86_400.0),
        ("9" * 400, None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, expected: float | None) -> None:
    assert seconds(text) == expected


def test_an_order_says_what_it_replaces_and_other_requests_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    network = Network(JWKEC(key=KEY), alg=ES256)
    monkeypatch.setattr(network, "_post_once", lambda url, obj, **_: sent.append(obj.to_partial_json()))
    order = messages.NewOrder(identifiers=[messages.Identifier(typ=messages.IDENTIFIER_FQDN, value="a.example")])
    network.post("https://ca.example/order", order)
    network.replaces = "key.serial"
    network.post("https://ca.example/order", order)
    network.post("https://ca.example/account", messages.NewRegistration())
    assert [dict(one).get("replaces") for one in sent] == [None, "key.serial", None]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert "identifiers" in dict(sent[1])  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("refused", [0, 1, acme_worker.NONCE_TRIES - 1])
def test_refused_nonces_are_tried_again(monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    network, left = Network(JWKEC(key=KEY), alg=ES256), [refused]

    def post(url: str, obj: object, **_: object) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise messages.Error.with_code("badNonce")
        return "done"

    monkeypatch.setattr(network, "_post_once", post)
    assert network.post("https://ca.example/", messages.NewRegistration()) == "done"


def test_a_nonce_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    network, tried = Network(JWKEC(key=KEY), alg=ES256), []

    def post(url: str, obj: object, **_: object) -> str:
        tried.append(url)
        raise messages.Error.with_code("badNonce")

    monkeypatch.setattr(network, "_post_once", post)
    with pytest.raises(messages.Error):
        network.post("https://ca.example/", messages.NewRegistration())
    assert len(tried) == acme_worker.NONCE_TRIES


def test_the_challenge_that_the_library_lost_is_read() -> None:
    found = challenges.Challenge.from_json(
        {"type": "tls-alpn-01", "token": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
    )
    assert isinstance(found, acme_worker.TlsAlpn01)
    assert found.response(JWKEC(key=KEY)).to_partial_json() == {}


def test_the_proof_of_a_name_that_was_not_ordered_is_refused_before_anybody_is_told_of_it() -> None:
    """The name goes to the DNS hook, a program that may trust it."""
    names = x509.SubjectAlternativeName([x509.DNSName("gate.example.org"), x509.DNSName("*.home.example.org")])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    csr = request.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    ordering = object.__new__(Ordering)
    ordering.job = Job("https://ca.example", "", "", "dns-01", csr=csr)
    for name in ("bank.example", "gate.example.org\nserver 203.0.113.9", "example.org"):
        body = SimpleNamespace(identifier=SimpleNamespace(value=name), challenges=[])
        with pytest.raises(Refused) as caught:
            ordering._prove(SimpleNamespace(body=body))
        assert caught.value.failed.kind == "malformed"
    for name in ("gate.example.org", "home.example.org"):
        body = SimpleNamespace(identifier=SimpleNamespace(value=name), challenges=[])
        with pytest.raises(Refused) as caught:
            ordering._prove(SimpleNamespace(body=body))
        assert caught.value.failed.kind == "challengeNotOffered", "as far as the name, all is well"
