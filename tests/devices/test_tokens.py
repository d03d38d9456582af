"""Access and refresh tokens."""

from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from entobot.core.permissions import Scope
from entobot.devices.signing import SigningKeys
from entobot.devices.tokens import MAX_AHEAD_S, TokenRefused, Tokens
from tests.devices.conftest import File
from tests.devices.phone import ORIGIN
from tests.support.time import ManualClock, SeededEntropy

FAMILY = "fam_01K0000000000000000000000A"


@pytest.fixture
def keys(clock: ManualClock) -> SigningKeys:
    file = File()
    return SigningKeys.open(file.load, file.save, clock.now_ms())


@pytest.fixture
def tokens(keys: SigningKeys, entropy: SeededEntropy) -> Tokens:
    return Tokens(keys, ORIGIN, b"k" * 32, entropy)


def mint(tokens: Tokens, clock: ManualClock, scopes: frozenset[Scope] = frozenset({Scope.CHAT})) -> str:
    token, _ = tokens.mint_access(
        user_id="usr_1", device_id="dev_1", epoch=3, scopes=scopes, thumbprint="thumb", now_ms=clock.now_ms()
    )
    return token


def test_a_token_says_what_was_put_into_it(tokens: Tokens, clock: ManualClock) -> None:
    scopes = frozenset({Scope.CHAT, Scope.DEVICES_MANAGE})
    token, jti = tokens.mint_access(
        user_id="usr_1", device_id="dev_1", epoch=3, scopes=scopes, thumbprint="thumb", now_ms=clock.now_ms()
    )
    claims = tokens.verify_access(token, clock.now_ms())
    assert (claims.user_id, claims.device_id, claims.epoch, claims.scopes) == ("usr_1", "dev_1", 3, scopes)
    assert (claims.thumbprint, claims.jti) == ("thumb", jti)
    assert claims.expires_at_ms - claims.issued_at_ms == 300_000


def test_other_software_can_verify_a_token_with_the_published_keys(
    tokens: Tokens, keys: SigningKeys, clock: ManualClock
) -> None:
    jwks: Any = keys.jwks(clock.now_ms())
    token = jwt.decode(mint(tokens, clock), KeySet.import_key_set(jwks), algorithms=["ES256"])
    assert token.header["typ"] == "at+jwt"
    assert set(token.claims) == {"iss", "aud", "sub", "dev", "ep", "scope", "iat", "exp", "jti", "cnf"}
    assert token.claims["iss"] == token.claims["aud"] == ORIGIN


def test_a_token_lives_five_minutes_also_when_it_was_verified_before(tokens: Tokens, clock: ManualClock) -> None:
    token = mint(tokens, clock)
    clock.advance(299)
    assert tokens.verify_access(token, clock.now_ms())
    clock.advance(1)
    with pytest.raises(TokenRefused) as caught:
        tokens.verify_access(token, clock.now_ms())
    assert caught.value.is_expired


def test_a_token_made_before_the_clock_was_set_back_is_to_be_refreshed_and_not_final(
    tokens: Tokens, clock: ManualClock
) -> None:
    token, now_ms = mint(tokens, clock), clock.now_ms()
    with pytest.raises(TokenRefused) as caught:
        tokens.verify_access(token, now_ms - 3600_000)
    assert caught.value.is_expired
    assert tokens.verify_access(token, now_ms - MAX_AHEAD_S * 1000)


def test_a_token_of_another_origin_or_of_other_keys_is_refused(
    tokens: Tokens, keys: SigningKeys, clock: ManualClock, entropy: SeededEntropy
) -> None:
    file = File()
    strange_keys = SigningKeys.open(file.load, file.save, clock.now_ms())
    for stranger in (
        Tokens(keys, "https://elsewhere.test", b"k" * 32, entropy),
        Tokens(strange_keys, ORIGIN, b"k" * 32, entropy),
    ):
        with pytest.raises(TokenRefused):
            tokens.verify_access(mint(stranger, clock), clock.now_ms())


@pytest.mark.parametrize(
    "change",
    [
        {"ep": "3"},
        {"ep": True},
        {"sub": 1},
        {"dev": None},
        {"aud": [ORIGIN]},
        {"scope": "chat everything"},
        {"scope": ["chat"]},
        {"cnf": {}},
        {"cnf": "thumb"},
        {"cnf": {"jkt": 1}},
        {"exp": 2_000_000_000},
        {"exp": 0},
        {"iat": 1_790_000_031, "exp": 1_790_000_331},
        {"extra": 1},
    ],
)
def test_claims_of_a_wrong_shape_are_refused_although_we_signed_them(
    tokens: Tokens, keys: SigningKeys, clock: ManualClock, change: dict[str, Any]
) -> None:
    now = clock.now_ms() // 1000
    claims: dict[str, Any] = {
        "iss": ORIGIN,
        "aud": ORIGIN,
        "sub": "usr_1",
        "dev": "dev_1",
        "ep": 1,
        "scope": "chat",
        "iat": now,
        "exp": now + 300,
        "jti": "j",
        "cnf": {"jkt": "thumb"},
    }
    assert tokens.verify_access(keys.sign("at+jwt", claims), clock.now_ms())
    with pytest.raises(TokenRefused):
        tokens.verify_access(keys.sign("at+jwt", claims | change), clock.now_ms())
    with pytest.raises(TokenRefused):
        tokens.verify_access(keys.sign("entobot-audit-head+jwt", claims), clock.now_ms())


@pytest.mark.parametrize("text", ["", "a.b.c", "A" * 8193, "\ud800", "ent_key_x"])
def test_what_is_no_token_is_refused(tokens: Tokens, clock: ManualClock, text: str) -> None:
    with pytest.raises(TokenRefused):
        tokens.verify_access(text, clock.now_ms())


def test_no_more_verified_tokens_are_remembered_than_fit(
    tokens: Tokens, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entobot.devices.tokens._CACHED_TOKENS", 3)
    minted = [mint(tokens, clock) for _ in range(10)]
    for token in minted:
        tokens.verify_access(token, clock.now_ms())
    assert len(tokens._verified) == 3
    assert tokens.verify_access(minted[0], clock.now_ms())


def test_a_refresh_token_is_the_same_each_time_and_tells_its_generation(tokens: Tokens) -> None:
    token = tokens.mint_refresh(FAMILY, 7)
    assert token == tokens.mint_refresh(FAMILY, 7)
    assert token.startswith("ent_rt_01K0000000000000000000000A_7_")
    claims = tokens.read_refresh(token)
    assert (claims.family_id, claims.generation) == (FAMILY, 7)
    assert len({tokens.mint_refresh(FAMILY, generation) for generation in range(1, 50)}) == 49


CHANGED: list[Callable[[str], str]] = [
    lambda token: token.replace("_7_", "_8_"),
    lambda token: token.replace("_7_", "_07_"),
    lambda token: token.replace("_7_", "_-7_"),
    lambda token: token.replace("_7_", "_7\u0667_"),
    lambda token: token.replace("A_7", "B_7"),
    lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
    lambda token: token + "\n",
    lambda token: token + "A" * 200,
    lambda token: token[:-1] + "é",
    lambda token: token.lower(),
    lambda token: "",
    lambda token: "\ud800",
]


@pytest.mark.parametrize("spoil", CHANGED)
def test_a_changed_refresh_token_is_refused(tokens: Tokens, spoil: Any) -> None:
    with pytest.raises(TokenRefused):
        tokens.read_refresh(spoil(tokens.mint_refresh(FAMILY, 7)))


def test_a_refresh_token_of_another_server_key_is_refused(
    tokens: Tokens, keys: SigningKeys, entropy: SeededEntropy
) -> None:
    with pytest.raises(TokenRefused):
        tokens.read_refresh(Tokens(keys, ORIGIN, b"z" * 32, entropy).mint_refresh(FAMILY, 7))
