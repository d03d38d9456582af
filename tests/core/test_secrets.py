import base64
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.secrets import (
    CROCKFORD,
    SystemEntropy,
    b64u,
    keyed_digest,
    normalise_code,
    random_code,
    random_digits,
    random_secret,
    same,
    sha256_b64u,
    unb64u,
)
from tests.support.time import SeededEntropy

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(max_size=100))
def test_base64url_reads_back_what_it_wrote(data: bytes) -> None:
    text = b64u(data)
    assert unb64u(text) == data
    assert set(text) <= set(ALPHABET)


@given(st.text(ALPHABET + "=+/ \n.é", max_size=24))
def test_only_what_it_would_write_is_read(text: str) -> None:
    try:
        data = unb64u(text)
    except ValueError:
        return
    assert b64u(data) == text


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "+/8", "QQ ", "QQ\n", "é"])
def test_padding_foreign_characters_and_loose_tails_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unb64u(text)


def test_hashes_are_those_of_the_standards() -> None:
    # RFC 7636 appendix B; RFC 4231 case 2.
    assert sha256_b64u("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    digest = keyed_digest(b"Jefe", b"what do ya want for nothing?")
    assert digest.hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@given(st.text(CROCKFORD, min_size=8, max_size=8), st.integers(0, 2**32))
def test_a_code_typed_carelessly_is_the_code(code: str, seed: int) -> None:
    typed = code.replace("0", "oO0"[seed % 3]).replace("1", "iIlL1"[seed % 5])
    typed = typed.lower() if seed % 2 else typed
    assert normalise_code(f" {typed[:4]}-{typed[4:]} ") == code


@given(st.text(max_size=20))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise_code(text)
    assert normalise_code(once) == once


def test_codes_are_written_in_characters_that_normalising_keeps() -> None:
    code = random_code(SystemEntropy(), 4096)
    assert set(code) == set(CROCKFORD)
    assert normalise_code(code) == code


class Extreme:
    """The lowest or the highest bytes there are."""

    def __init__(self, byte: int) -> None:
        self._byte = byte

    def bytes(self, count: int) -> bytes:
        return bytes([self._byte]) * count


@pytest.mark.parametrize("count", [1, 6, 7, 20])
def test_digits_have_their_length_at_both_ends_of_the_range(count: int) -> None:
    for byte in (0, 255):
        digits = random_digits(Extreme(byte), count)
        assert len(digits) == count
        assert digits.isdecimal()
    assert random_digits(Extreme(0), count) == "0" * count


def test_digits_are_spread_evenly() -> None:
    entropy = SeededEntropy()
    drawn = [random_digits(entropy, 2) for _ in range(20_000)]
    counts = Counter(drawn)
    assert set(counts) == {f"{number:02d}" for number in range(100)}
    chi_squared = sum((counts[value] - 200) ** 2 / 200 for value in counts)
    assert chi_squared < 160, "99 degrees of freedom; the seed is fixed, so this is no matter of luck"


def test_digits_have_no_modulo_bias_to_speak_of() -> None:
    asked: list[int] = []

    class Counting(SeededEntropy):
        def bytes(self, count: int) -> bytes:
            asked.append(count)
            return super().bytes(count)

    random_digits(Counting(), 6)
    assert 256 ** asked[0] / 10**6 >= 2**64


def test_secrets_are_as_long_as_they_say_and_never_twice_the_same() -> None:
    entropy = SystemEntropy()
    made = {random_secret(entropy) for _ in range(100)}
    assert len(made) == 100
    assert {len(unb64u(secret)) for secret in made} == {32}


def test_same_compares_text_and_bytes() -> None:
    assert same("é", "é".encode())
    assert not same("a", "b")
    assert not same(b"a", b"aa")


def test_digests_of_different_keys_differ() -> None:
    assert keyed_digest(b"1", b"x") != keyed_digest(b"2", b"x")
    assert base64.urlsafe_b64decode(b64u(keyed_digest(b"1", b"x")) + "=") == keyed_digest(b"1", b"x")
