"""DPoP proofs, met with hostile input."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import ECKey

from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.secrets import sha256_b64u
from entobot.devices.dpop import Proof, verify_proof
from tests.devices.phone import ORIGIN, Phone, raw_jws

NOW_MS = 1_790_000_000_000
PATH = "/api/v1/devices"


@pytest.fixture(scope="module")
def phone() -> Phone:
    return Phone()


def check(proof: str, *, token: str | None = None, nonce: str | None = None, now_ms: int = NOW_MS) -> Proof:
    return verify_proof(proof, method="GET", url=ORIGIN + PATH, now_ms=now_ms, access_token=token, nonce=nonce)


def refused(proof: str, **options: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        check(proof, **options)
    return caught.value


def header_of(phone: Phone, **members: Any) -> dict[str, Any]:
    return {"typ": "dpop+jwt", "alg": "ES256", "jwk": phone.jwk} | members


def test_a_good_proof_tells_whose_it_is(phone: Phone) -> None:
    proof = check(phone.proof(PATH, NOW_MS))
    assert proof.thumbprint == proof.key.thumbprint == phone.key.thumbprint()
    assert proof.iat_ms == NOW_MS


def test_a_proof_may_name_any_configured_address(phone: Phone) -> None:
    proof = phone.proof(PATH, NOW_MS)
    urls = ("https://other.test" + PATH, ORIGIN + PATH)
    verify_proof(proof, method="GET", url=urls, now_ms=NOW_MS, access_token=None, nonce=None)


def test_no_proof_is_told_from_a_bad_one() -> None:
    assert refused("").code is Code.PROOF_REQUIRED


def test_the_age_limit_is_sixty_seconds_either_way(phone: Phone) -> None:
    for seconds in (-60, 60):
        assert check(phone.proof(PATH, NOW_MS + seconds * 1000))
    for seconds in (-61, 61):
        problem = refused(phone.proof(PATH, NOW_MS + seconds * 1000))
        assert problem.code is Code.PROOF_STALE
        assert problem.extra == {"server_time": rfc3339(NOW_MS)}
        assert problem.retry


def test_a_server_nonce_replaces_the_clock(phone: Phone) -> None:
    old = NOW_MS - 86_400_000
    assert check(phone.proof(PATH, old, nonce="n-1"), nonce="n-1")
    assert refused(phone.proof(PATH, old, nonce="n-2"), nonce="n-1").code is Code.PROOF_INVALID
    assert refused(phone.proof(PATH, NOW_MS), nonce="n-1").code is Code.PROOF_INVALID
    assert refused(phone.proof(PATH, NOW_MS, nonce="n-1")).code is Code.PROOF_INVALID


def test_the_access_token_is_part_of_the_proof(phone: Phone) -> None:
    assert check(phone.proof(PATH, NOW_MS, ath=sha256_b64u("token")), token="token")
    assert refused(phone.proof(PATH, NOW_MS, ath=sha256_b64u("other")), token="token").code is Code.PROOF_INVALID
    assert refused(phone.proof(PATH, NOW_MS), token="token").code is Code.PROOF_INVALID
    assert refused(phone.proof(PATH, NOW_MS, ath=sha256_b64u("token"))).code is Code.PROOF_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"htm": "POST"},
        {"htm": "get"},
        {"htu": "https://evil.test" + PATH},
        {"htu": ORIGIN + PATH + "?status=active"},
        {"htu": ORIGIN + PATH + "/"},
        {"htu": ORIGIN.upper() + PATH},
        {"htu": "http" + ORIGIN[5:] + PATH},
        {"htu": [ORIGIN + PATH]},
        {"htu": {"a": 1}},
        {"jti": ""},
        {"jti": "j" * 65},
        {"jti": "a\u0000b"},
        {"jti": "a\u202eb"},
        {"jti": 7},
        {"jti": None},
        {"iat": NOW_MS / 1000},
        {"iat": float(NOW_MS // 1000) + 0.5},
        {"iat": True},
        {"iat": str(NOW_MS // 1000)},
        {"iat": None},
        {"iat": -1},
        {"iat": 10**30},
        {"ath": "x"},
        {"exp": NOW_MS // 1000 + 60},
    ],
)
def test_any_other_payload_is_refused(phone: Phone, change: dict[str, Any]) -> None:
    claims = phone.claims(PATH, NOW_MS) | change
    problem = refused(raw_jws(json.dumps(header_of(phone)), json.dumps(claims), phone.key))
    assert problem.code is Code.PROOF_INVALID


@pytest.mark.parametrize("missing", ["htm", "htu", "jti", "iat"])
def test_nothing_may_be_left_out(phone: Phone, missing: str) -> None:
    claims = phone.claims(PATH, NOW_MS)
    del claims[missing]
    problem = refused(phone.sign({"typ": "dpop+jwt", "jwk": phone.jwk}, claims))
    assert problem.code is Code.PROOF_INVALID


def other_curve() -> dict[str, Any]:
    return ECKey.generate_key("P-384", private=False).as_dict(private=False)


OTHER_HEADERS: list[Callable[[Phone], dict[str, Any]]] = [
    lambda phone: {"alg": "none"},
    lambda phone: {"alg": "HS256"},
    lambda phone: {"alg": "ES384"},
    lambda phone: {"typ": "jwt"},
    lambda phone: {"kid": "x"},
    lambda phone: {"jku": "https://evil.test"},
    lambda phone: {"jwk": phone.key.as_dict(private=True)},
    lambda phone: {"jwk": phone.jwk | {"use": "sig"}},
    lambda phone: {"jwk": Phone().jwk},
    lambda phone: {"jwk": other_curve()},
    lambda phone: {"jwk": None},
    lambda phone: {"jwk": [phone.jwk]},
]


@pytest.mark.parametrize("change", OTHER_HEADERS)
def test_any_other_header_is_refused(phone: Phone, change: Any) -> None:
    header = json.dumps(header_of(phone) | change(phone))
    problem = refused(raw_jws(header, json.dumps(phone.claims(PATH, NOW_MS)), phone.key))
    assert problem.code is Code.PROOF_INVALID


def test_duplicate_members_are_refused_wherever_they_stand(phone: Phone) -> None:
    header, claims = json.dumps(header_of(phone)), json.dumps(phone.claims(PATH, NOW_MS))
    assert check(raw_jws(header, claims, phone.key))
    for spoiled in (header[:-1] + ', "typ": "dpop+jwt"}', header.replace('"kty"', '"kty": "EC", "kty"')):
        assert refused(raw_jws(spoiled, claims, phone.key)).code is Code.PROOF_INVALID
    assert refused(raw_jws(header, claims[:-1] + ', "jti": "second"}', phone.key)).code is Code.PROOF_INVALID


def test_a_proof_over_two_kibibytes_is_refused_unread(phone: Phone) -> None:
    assert refused("A" * 2049).code is Code.PROOF_INVALID
    assert refused(phone.proof(PATH, NOW_MS) + "A" * 2048).code is Code.PROOF_INVALID


def test_a_refusal_repeats_nothing_that_was_sent(phone: Phone) -> None:
    problem = refused(phone.proof(PATH, NOW_MS, ath="leaked-secret"), token="secret-token")
    assert "secret" not in problem.detail
