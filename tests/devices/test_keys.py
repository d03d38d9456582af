"""Public keys and signatures, met with hostile input."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from entobot.core.secrets import b64u, unb64u
from entobot.devices.keys import (
    KeyRefused,
    PublicKey,
    SignatureRefused,
    parse_public_jwk,
    parse_stored_key,
    verify_compact,
)
from tests.devices.phone import Phone, raw_jws

CHANGED = b64u(b'{"a":2}')
HEADER = '{"alg":"ES256","typ":"test+jwt"}'


@pytest.fixture(scope="module")
def phone() -> Phone:
    return Phone()


def read(text: str, phone: Phone, max_bytes: int = 4096) -> dict[str, Any]:
    members = frozenset({"alg", "typ"})
    return verify_compact(
        text, parse_public_jwk(phone.jwk), typ="test+jwt", header_members=members, max_bytes=max_bytes
    )


def test_a_key_survives_being_written_and_read(phone: Phone) -> None:
    key = parse_public_jwk(phone.jwk)
    assert key.to_jwk() == phone.jwk
    assert parse_stored_key(key.canonical) == key


def test_the_thumbprint_is_the_one_other_software_computes(phone: Phone) -> None:
    assert parse_public_jwk(phone.jwk).thumbprint == phone.key.thumbprint()


def test_coordinates_with_leading_zeros_keep_their_length() -> None:
    for number in range(1, 4000):
        point = ec.derive_private_key(number, ec.SECP256R1()).public_key()
        numbers = point.public_numbers()
        if numbers.x >> 248 == 0 or numbers.y >> 248 == 0:
            key = PublicKey.from_point(point)
            assert parse_public_jwk(key.to_jwk()) == key
            return
    raise AssertionError("no such point among the first")


def off_curve(jwk: dict[str, Any]) -> dict[str, Any]:
    x = bytearray(unb64u(jwk["x"]))
    x[-1] ^= 1
    return jwk | {"x": b64u(bytes(x))}


def not_canonical(jwk: dict[str, Any]) -> dict[str, Any]:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(jwk["x"][-1])
    return jwk | {"x": jwk["x"][:-1] + alphabet[last | 1]}


NO_PUBLIC_KEYS: list[Callable[[Any], object]] = [
    lambda jwk: [jwk],
    lambda jwk: None,
    json.dumps,
    lambda jwk: jwk | {"d": jwk["x"]},
    lambda jwk: jwk | {"kid": "mine"},
    lambda jwk: {name: jwk[name] for name in ("kty", "crv", "x")},
    lambda jwk: jwk | {"kty": "RSA"},
    lambda jwk: jwk | {"kty": ["EC"]},
    lambda jwk: jwk | {"crv": "P-384"},
    lambda jwk: jwk | {"crv": "secp256k1"},
    lambda jwk: jwk | {"x": jwk["x"] + "="},
    lambda jwk: jwk | {"x": jwk["x"] + "\n"},
    lambda jwk: jwk | {"x": "\u0000" + jwk["x"][1:]},
    lambda jwk: jwk | {"x": jwk["x"] + "A" * 10_000},
    lambda jwk: jwk | {"x": "\ud800" * 43},
    lambda jwk: jwk | {"x": 7},
    lambda jwk: jwk | {"x": None},
    lambda jwk: jwk | {"x": "A" * 43, "y": "A" * 43},
    lambda jwk: jwk | {"x": jwk["y"], "y": jwk["x"]},
    off_curve,
    not_canonical,
]


@pytest.mark.parametrize("spoil", NO_PUBLIC_KEYS)
def test_anything_but_a_plain_public_p256_key_is_refused(phone: Phone, spoil: Any) -> None:
    with pytest.raises(KeyRefused):
        parse_public_jwk(spoil(phone.jwk))


def test_a_key_on_another_curve_is_refused() -> None:
    other = ECKey.generate_key("P-384", private=False).as_dict(private=False)
    with pytest.raises(KeyRefused):
        parse_public_jwk({name: other[name] for name in ("kty", "crv", "x", "y")} | {"crv": "P-256"})


def test_what_a_key_signed_is_read(phone: Phone) -> None:
    assert read(phone.sign({"typ": "test+jwt"}, {"a": 1, "b": "ü"}), phone) == {"a": 1, "b": "ü"}
    assert read(raw_jws(HEADER, '{"emoji":"\\ud83d\\ude00"}', phone.key), phone) == {"emoji": "😀"}


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none","typ":"test+jwt"}',
        '{"alg":"HS256","typ":"test+jwt"}',
        '{"alg":"es256","typ":"test+jwt"}',
        '{"alg":["ES256"],"typ":"test+jwt"}',
        '{"alg":"ES256","typ":"JWT"}',
        '{"alg":"ES256","typ":"test+jwt\\u0000"}',
        '{"alg":"ES256"}',
        '{"alg":"ES256","typ":"test+jwt","kid":"x"}',
        '{"alg":"ES256","typ":"test+jwt","crit":[]}',
        '{"alg":"none","alg":"ES256","typ":"test+jwt"}',
        '{"alg":"ES256","typ":"test+jwt","typ":"test+jwt"}',
        '["alg","typ"]',
        "null",
        "",
    ],
)
def test_any_other_header_is_refused_although_the_signature_is_right(phone: Phone, header: str) -> None:
    with pytest.raises(SignatureRefused):
        read(raw_jws(header, '{"a":1}', phone.key), phone)


@pytest.mark.parametrize(
    "payload",
    [
        '{"a":1,"a":2}',
        '{"a":{"b":1,"b":1}}',
        '{"a":1.0}',
        '{"a":1e3}',
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":"\\ud800"}',
        '{"\\udfff":1}',
        '{"a":' + "9" * 4500 + "}",
        "[" * 3000 + "]" * 3000,
        '{"a":' * 1500 + "1" + "}" * 1500,
        "[1]",
        '"text"',
        '{"a":1} ,',
        "\ufeff{}",
        "",
    ],
)
def test_a_payload_that_two_readers_could_read_differently_is_refused(phone: Phone, payload: str) -> None:
    with pytest.raises(SignatureRefused):
        read(raw_jws(HEADER, payload, phone.key), phone, max_bytes=65536)


def test_a_signature_with_the_public_key_as_hmac_secret_is_refused(phone: Phone) -> None:
    header = b64u(b'{"alg":"HS256","typ":"test+jwt"}')
    signed = f"{header}.{b64u(b'{}')}"
    secret = parse_public_jwk(phone.jwk).canonical.encode()
    with pytest.raises(SignatureRefused):
        read(f"{signed}.{b64u(hmac.digest(secret, signed.encode(), hashlib.sha256) * 2)}", phone)


def test_a_signature_by_another_key_is_refused(phone: Phone) -> None:
    with pytest.raises(SignatureRefused):
        read(Phone().sign({"typ": "test+jwt"}, {"a": 1}), phone)


MISSHAPEN: list[Callable[[str, str, str], str]] = [
    lambda head, body, mark: f"{head}.{CHANGED}.{mark}",
    lambda head, body, mark: f"{head}.{body}.{b64u(bytes(64))}",
    lambda head, body, mark: f"{head}.{body}.",
    lambda head, body, mark: f"{head}.{body}",
    lambda head, body, mark: f"{head}.{body}.{mark}.{mark}",
    lambda head, body, mark: f"{head}.{body}.{mark}=",
    lambda head, body, mark: f"{head}=.{body}.{mark}",
    lambda head, body, mark: f"{head}.{body}.{mark[:-2]}",
    lambda head, body, mark: f"{head}.{body}.{mark}\n",
    lambda head, body, mark: f" {head}.{body}.{mark}",
    lambda head, body, mark: f"{head}\x00.{body}.{mark}",
    lambda head, body, mark: f"{head}.{body}.{mark}{'A' * 4096}",
    lambda head, body, mark: f"{head}.{body}é.{mark}",
    lambda head, body, mark: "..",
    lambda head, body, mark: "",
]


@pytest.mark.parametrize("spoil", MISSHAPEN)
def test_a_changed_or_misshapen_text_is_refused(phone: Phone, spoil: Any) -> None:
    parts = phone.sign({"typ": "test+jwt"}, {"a": 1}).split(".")
    with pytest.raises(SignatureRefused):
        read(spoil(*parts), phone)


def test_a_text_may_be_as_long_as_allowed_and_no_longer(phone: Phone) -> None:
    text = phone.sign({"typ": "test+jwt"}, {"a": "x" * 100})
    assert read(text, phone, max_bytes=len(text))
    with pytest.raises(SignatureRefused):
        read(text, phone, max_bytes=len(text) - 1)
