"""Merkle trees and signed notes as their definitions say."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.audit.note import Checkpoint, NoteSigner, VerifierKey, open_note, open_notes, origin_of, split_notes
from entobot.audit.tree import EMPTY, Frontier
from entobot.core.secrets import sha256

LEAVES = [bytes.fromhex(one) for one in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
"""The vectors of Certificate Transparency."""


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, word by word."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0])
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + by_definition(leaves[:k]) + by_definition(leaves[k:]))


@pytest.mark.parametrize("size", ROOTS)
def test_the_roots_are_those_of_the_known_vectors(size: int) -> None:
    assert EMPTY.grown(LEAVES[:size]).root.hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), max_size=70), st.integers(0, 70))
def test_a_frontier_grows_to_the_tree_of_the_definition_wherever_it_rests(leaves: list[bytes], rest: int) -> None:
    first = EMPTY.grown(leaves[:rest])
    again = Frontier.unpacked(first.size, first.packed())
    assert again == first
    assert again.grown(leaves[rest:]).root == by_definition(leaves)


@pytest.mark.parametrize(("size", "data"), [(1, b""), (2, bytes(64)), (3, bytes(63)), (-1, b""), (0, bytes(32))])
def test_what_is_no_frontier_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"frontier|digest"):
        Frontier.unpacked(size, data)


SIGNER = NoteSigner(b"s" * 32)
POINT = Checkpoint(origin_of("aud_1"), 5, sha256(b"root"))
KEY = SIGNER.verifier(POINT.origin)


def test_keys_and_signatures_are_those_of_the_note_format() -> None:
    """The example of golang.org/x/mod/sumdb/note."""
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    data = base64.b64decode(line)
    assert data[:4] == key.hash
    assert key.verifies(text, data[4:])
    assert str(key) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_a_note_says_what_was_signed() -> None:
    note = SIGNER.sign(POINT)
    lines = note.split("\n")
    assert lines[:4] == ["entobot/audit/aud_1", "5", base64.b64encode(POINT.root).decode(), ""]
    assert lines[4].startswith("\N{EM DASH} entobot/audit/aud_1 ")
    assert open_note(note, KEY) == POINT
    assert VerifierKey.parse(str(KEY)) == KEY


def test_a_witness_may_sign_as_well() -> None:
    note = SIGNER.sign(POINT)
    other = NoteSigner(b"w" * 32).sign(POINT).rpartition("\n\n")[2]
    assert open_note(note + other, KEY) == POINT
    assert open_note(note.replace("\n\n", f"\n\n{other}"), KEY) == POINT


@given(st.data())
def test_no_changed_note_is_good(data: st.DataObject) -> None:
    note = SIGNER.sign(POINT)
    at = data.draw(st.integers(0, len(note) - 1))
    changed = note[:at] + data.draw(st.sampled_from([*"0aA+/= \n", "", "\N{EM DASH}"])) + note[at + 1 :]
    if changed != note:
        with pytest.raises(ValueError, match=r".+"):
            open_note(changed, KEY)


def test_a_good_note_of_another_key_or_log_is_not_ours() -> None:
    with pytest.raises(ValueError, match="not signed by this key"):
        open_note(SIGNER.sign(Checkpoint(origin_of("aud_2"), 5, POINT.root)), KEY)
    with pytest.raises(ValueError, match="not signed by this key"):
        open_note(NoteSigner(b"o" * 32).sign(POINT), KEY)


def test_a_file_may_hold_one_note_after_the_other() -> None:
    notes = [SIGNER.sign(Checkpoint(POINT.origin, size, POINT.root)) for size in (1, 2, 3)]
    for between in ("", "\n", "\n\n"):
        assert list(split_notes(between.join(notes))) == notes
        assert [one.size for one in open_notes([between.join(notes)], KEY)] == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["", "a+b", "a b+c74f20a3+AR==", "a+00000000+" + base64.b64encode(b"\1" + bytes(32)).decode()]
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        VerifierKey.parse(text)
