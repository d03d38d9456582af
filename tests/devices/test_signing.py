"""The gateway's own keys."""

import json
from collections.abc import Callable

import pytest

from entobot.core.errors import StartupRefused
from entobot.devices.jws import SignatureRefused
from entobot.devices.signing import SigningKeys
from tests.devices.conftest import File
from tests.support.time import ManualClock

DAY_S = 86_400


def opened(file: File, clock: ManualClock) -> SigningKeys:
    return SigningKeys.open(file.load, file.save, clock.now_ms())


def kids(keys: SigningKeys, clock: ManualClock) -> list[str]:
    return [key["kid"] for key in keys.jwks(clock.now_ms())["keys"]]


def verify(keys: SigningKeys, text: str, clock: ManualClock) -> dict[str, object]:
    return keys.verify(text, typ="test+jwt", max_bytes=4096, now_ms=clock.now_ms())


def test_keys_are_made_once_and_kept(clock: ManualClock) -> None:
    file = File()
    first = opened(file, clock)
    stored = file.content
    again = opened(file, clock)
    assert again.active_kid == first.active_kid
    assert file.content == stored
    assert verify(again, first.sign("test+jwt", {"a": 1}), clock) == {"a": 1}


def test_the_published_keys_are_public_only_and_hold_the_next_one(clock: ManualClock) -> None:
    keys = opened(File(), clock)
    published = keys.jwks(clock.now_ms())["keys"]
    assert len(published) == 2
    for key in published:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_the_next_key_must_have_been_published_for_a_day(clock: ManualClock) -> None:
    keys = opened(File(), clock)
    clock.advance(DAY_S - 1)
    before = kids(keys, clock)
    assert not keys.rotate(clock.now_ms())
    assert kids(keys, clock) == before
    clock.advance(1)
    assert keys.rotate(clock.now_ms())
    assert keys.active_kid == before[1]
    assert keys.rotate(clock.now_ms(), force=True)


def test_rotation_is_due_after_ninety_days(clock: ManualClock) -> None:
    keys = opened(File(), clock)
    clock.advance(90 * DAY_S - 1)
    assert not keys.is_due(clock.now_ms())
    clock.advance(1)
    assert keys.is_due(clock.now_ms())
    assert keys.rotate(clock.now_ms())
    assert not keys.is_due(clock.now_ms())


def test_a_retired_key_verifies_tokens_as_long_as_one_may_live_and_then_no_more(clock: ManualClock) -> None:
    keys = opened(File(), clock)
    token, old = keys.sign("test+jwt", {"a": 1}), keys.active_kid
    keys.rotate(clock.now_ms(), force=True)
    clock.advance(330)
    assert verify(keys, token, clock) == {"a": 1}
    assert old in kids(keys, clock)
    clock.advance(3600)
    with pytest.raises(SignatureRefused):
        verify(keys, token, clock)
    assert old not in kids(keys, clock)


def test_a_signature_counts_for_its_type_only(clock: ManualClock) -> None:
    keys = opened(File(), clock)
    with pytest.raises(SignatureRefused):
        verify(keys, keys.sign("at+jwt", {"a": 1}), clock)


def test_keys_that_verify_nothing_any_more_are_dropped(clock: ManualClock) -> None:
    file = File()
    for _ in range(5):
        clock.advance(91 * DAY_S)
        assert opened(file, clock).rotate(clock.now_ms(), force=True)
    assert [row["state"] for row in json.loads(file.content or b"")["keys"]] == ["next", "active", "retired"]


def test_the_private_half_of_a_retired_key_is_erased(clock: ManualClock) -> None:
    file = File()
    keys = opened(file, clock)
    keys.rotate(clock.now_ms(), force=True)
    rows = json.loads(file.content or b"")["keys"]
    assert {row["state"]: "d" in row for row in rows} == {"active": True, "next": True, "retired": False}


def test_a_rotation_that_cannot_be_stored_does_not_happen(clock: ManualClock) -> None:
    file = File()

    def full(content: bytes) -> None:
        raise OSError("disk full")

    opened(file, clock)
    keys = SigningKeys.open(file.load, full, clock.now_ms())
    before = keys.active_kid
    with pytest.raises(OSError, match="disk full"):
        keys.rotate(clock.now_ms(), force=True)
    assert keys.active_kid == before


def with_halves_swapped(text: bytes) -> bytes:
    tree = json.loads(text)
    one, two, *_ = tree["keys"]
    one["d"], two["d"] = two["d"], one["d"]
    return json.dumps(tree).encode()


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda text: b"",
    lambda text: b"{}",
    lambda text: b"\xff\xfe",
    lambda text: text[:-20],
    with_halves_swapped,
    lambda text: text.replace(b'"active"', b'"retired"'),
    lambda text: text.replace(b'"d": "', b'"d": "A'),
    lambda text: text.replace(b'"version": 1', b'"version": 2'),
]


@pytest.mark.parametrize("spoil", DAMAGES)
def test_a_damaged_keyring_refuses_to_start_and_is_not_replaced(
    clock: ManualClock, spoil: Callable[[bytes], bytes]
) -> None:
    file = File()
    opened(file, clock)
    file.content = spoiled = spoil(file.content or b"")
    with pytest.raises(StartupRefused):
        opened(file, clock)
    assert file.content == spoiled
