"""The board's Ed25519 and SHA-512 against RFC 8032, and against `cryptography` on inputs made to be refused."""

import hashlib
import json
import random
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from entobot.updates.signing import is_usable_key
from entobot_board.ed25519 import _BX, _BY, _L, _P, _add, _double, _point, verify
from entobot_board.sha512 import sha512
from tests.firmware.programs import FIRMWARE, interpreter
from tests.support.process import GENEROUS_S

# RFC 8032 §7.1: TEST 1, 2, 3 and SHA(abc); public key, message, signature
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
SMALL = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (_P - 1).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]
"""Points whose order divides 8, in their one form."""


def by_library(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_signatures_of_the_rfc_are_good_and_no_bit_of_them_may_change(key: str, message: str, signature: str) -> None:
    public, said, signed = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert verify(public, said, signed)
    dice = random.Random(key)
    for data in (public, signed):
        for at in dice.sample(range(len(data) * 8), 6):
            changed = bytearray(data)
            changed[at // 8] ^= 1 << at % 8
            key_now, signed_now = (bytes(changed), signed) if data is public else (public, bytes(changed))
            assert not verify(key_now, said, signed_now)
    assert not verify(public, said + b"x", signed)


def test_it_agrees_with_the_library_on_random_keys_and_messages() -> None:
    dice = random.Random(1)
    for size in (0, 1, 50, 111, 112, 200):
        private = Ed25519PrivateKey.from_private_bytes(dice.randbytes(32))
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        message = dice.randbytes(size)
        assert verify(public, message, private.sign(message))
        assert verify(public, message, dice.randbytes(64)) is by_library(public, message, dice.randbytes(64)) is False


def test_a_signature_has_one_form() -> None:
    """S and S + L verify the same equation; only the lower is a signature."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signed = private.sign(b"m")
    s = int.from_bytes(signed[32:], "little")
    for other in (s + _L, s + 2 * _L, _L):
        assert not verify(public, b"m", signed[:32] + other.to_bytes(32, "little"))
    for cut in (b"", signed[:63], signed + b"\0"):
        assert not verify(public, b"m", cut)
    for cut in (b"", public[:31], public + b"\0"):
        assert not verify(cut, b"m", signed)


@pytest.mark.parametrize("key", SMALL)
def test_a_key_for_which_anybody_can_sign_is_none(key: bytes) -> None:
    """With a key of small order R = s·B verifies for every message whose hash is a multiple of the order."""
    assert not is_usable_key(key)
    assert not is_usable_key(key[:31] + bytes([key[31] | 0x80]))
    base = _BX, _BY, 1, _BX * _BY % _P
    two = _double(base)
    inverse = pow(two[2], -1, _P)
    x, y = two[0] * inverse % _P, two[1] * inverse % _P
    forged = (y | (x & 1) << 255).to_bytes(32, "little") + (2).to_bytes(32, "little")
    assert not any(verify(key, bytes([n]), forged) for n in range(16))


def test_a_point_has_one_form() -> None:
    for y in (_P, _P + 1, _P + 3, 2**255 - 1):
        key = y.to_bytes(32, "little")
        assert _point(key) is None
        assert not verify(key, b"m", bytes(64))
        assert not is_usable_key(key)
    nowhere = next(y for y in range(2, 50) if not _is_on_curve(y)).to_bytes(32, "little")
    assert not verify(nowhere, b"m", bytes(64))


def _is_on_curve(y: int) -> bool:
    d = -121665 * pow(121666, -1, _P)
    xx = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
    return pow(xx, (_P - 1) // 2, _P) in (0, 1)


def test_doubling_is_adding_to_itself() -> None:
    point = _BX, _BY, 1, _BX * _BY % _P
    for _ in range(5):
        one, other = _add(point, point), _double(point)
        assert one[0] * other[2] % _P == other[0] * one[2] % _P
        assert one[1] * other[2] % _P == other[1] * one[2] % _P
        point = one


@pytest.mark.parametrize("size", [0, 1, 111, 112, 113, 127, 128, 129, 239, 240, 1000])
def test_sha512_is_the_one_of_the_library(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert sha512(data) == hashlib.sha512(data).digest()


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import binascii
from entobot_board.ed25519 import verify
print([verify(*[binascii.unhexlify(part) for part in one]) for one in json.load(open(sys.argv[2]))])
"""


def test_micropython_comes_to_the_same_within_48_kib(tmp_path: Path) -> None:
    wrong = [(key, message + "00", signature) for key, message, signature in VECTORS]
    (tmp_path / "asked.json").write_text(json.dumps([*VECTORS, *wrong]))
    (tmp_path / "main.py").write_text(PROGRAM)
    command = [
        *interpreter("micropython", "48k"),
        str(tmp_path / "main.py"),
        str(FIRMWARE),
        str(tmp_path / "asked.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GENEROUS_S, check=False)
    assert done.stdout.strip() == str([True] * 4 + [False] * 4), done.stdout + done.stderr
