"""The form of API keys: every change shows."""

import binascii
import string
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.ids import ulid
from entobot.core.permissions import Scope
from entobot.core.secrets import CROCKFORD, b64u
from entobot.devices.api_keys import API_KEY_SCOPES, LENGTH, ApiKeys, KeyMalformed, parse_key, write_key
from tests.support.time import SeededEntropy

ON_EVERY_STORE = True
KEYS = st.builds(
    lambda at_ms, tail, secret: write_key(ulid(at_ms, tail), b64u(secret)),
    st.integers(0, 2**48 - 1),
    st.binary(min_size=10, max_size=10),
    st.binary(min_size=32, max_size=32),
)
ALPHABET = string.ascii_letters + string.digits + "-_"


@given(KEYS)
def test_a_key_reads_as_documented(key: str) -> None:
    assert len(key) == LENGTH == 8 + 26 + 1 + 43 + 6
    assert key.startswith("ent_key_")
    assert key[34] == "_"
    assert parse_key(key) == "key_" + key[8:34]
    crc = binascii.crc32(key[:78].encode()).to_bytes(4, "big")
    assert key[78:] == urlsafe_b64encode(crc).decode().rstrip("=")


def test_the_checksum_is_crc_32_iso_hdlc() -> None:
    assert binascii.crc32(b"123456789") == 0xCBF43926
    key = write_key("0" * 26, "A" * 43)
    assert key == f"ent_key_{'0' * 26}_{'A' * 43}{b64u(binascii.crc32(key[:78].encode()).to_bytes(4, 'big'))}"


@given(KEYS, st.integers(0, LENGTH - 1), st.sampled_from(ALPHABET + "=. \n\0é"))
def test_a_key_with_any_other_character_anywhere_is_refused(key: str, place: int, character: str) -> None:
    changed = key[:place] + character + key[place + 1 :]
    if changed == key:
        return
    with pytest.raises(KeyMalformed):
        parse_key(changed)


@given(KEYS, st.integers(0, LENGTH - 2))
def test_two_neighbours_changing_places_show(key: str, place: int) -> None:
    swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
    if swapped == key:
        return
    with pytest.raises(KeyMalformed):
        parse_key(swapped)


@given(KEYS, st.integers(0, LENGTH - 1), st.sampled_from(ALPHABET))
def test_a_key_that_is_cut_or_longer_is_refused(key: str, length: int, more: str) -> None:
    for text in (key[:length], key[length + 1 :], key + more, more + key, key + "\n"):
        with pytest.raises(KeyMalformed):
            parse_key(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(KeyMalformed):
        parse_key(text)


@given(st.integers(0, 25), st.sampled_from("ILOUilou"))
def test_an_id_outside_crockfords_alphabet_is_refused_even_with_its_checksum(place: int, letter: str) -> None:
    with pytest.raises(KeyMalformed):
        parse_key(write_key("0" * place + letter + "0" * (25 - place), "A" * 43))


def test_an_id_beyond_128_bits_and_a_secret_with_a_loose_end_are_refused() -> None:
    for body in (("8" + "0" * 25, "A" * 43), ("0" * 26, "A" * 42 + "B")):
        with pytest.raises(KeyMalformed):
            parse_key(write_key(*body))


def test_keys_differ_and_only_their_keyed_digest_tells_them() -> None:
    ours, others = ApiKeys(b"a" * 32, SeededEntropy()), ApiKeys(b"b" * 32, SeededEntropy())
    key_id = "key_" + CROCKFORD[:7] + "0" * 19
    first, second = ours.mint(key_id), ours.mint(key_id)
    assert parse_key(first) == parse_key(second) == key_id
    assert first != second
    assert ours.digest(first) == ours.digest(first) != ours.digest(second)
    assert ours.digest(first) != others.digest(first)


def test_no_key_may_decide_let_in_or_change_the_gateway() -> None:
    assert {Scope.APPROVE, Scope.PAIR, Scope.USERS_MANAGE, Scope.SETTINGS}.isdisjoint(API_KEY_SCOPES)
