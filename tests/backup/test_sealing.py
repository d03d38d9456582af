"""A sealed archive is opened whole by those it is for, and by nobody else."""

from pathlib import Path
from typing import BinaryIO

import pytest

from entobot.backup import age
from entobot.backup.sealing import Lock, Opener, seal_to, unsealed
from entobot.core.errors import StartupRefused

PLAIN = bytes(range(256)) * 4096
PASSPHRASE = "correct horse battery staple"


def produce(target: BinaryIO) -> None:
    target.writelines(PLAIN[start : start + 100_000] for start in range(0, len(PLAIN), 100_000))


def sealed(path: Path, lock: Lock) -> Opener:
    with path.open("wb") as file:
        return seal_to(produce, file, lock)


def opened(path: Path, opener: Opener) -> bytes:
    with unsealed(path, opener) as stream:
        return stream.read()


def for_two(path: Path) -> tuple[Opener, list[Opener]]:
    pairs = [age.new_identity() for _ in range(2)]
    own = sealed(path, Lock(tuple(age.text_of(recipient) for _, recipient in pairs)))
    return own, [Opener((identity,)) for identity, _ in pairs]


def test_each_recipient_opens_it_and_so_does_the_one_who_checks(tmp_path: Path) -> None:
    own, openers = for_two(tmp_path / "file")
    assert PLAIN[:1000] not in (tmp_path / "file").read_bytes()
    for opener in (own, *openers):
        assert opened(tmp_path / "file", opener) == PLAIN


def test_a_stranger_and_nobody_are_told_apart(tmp_path: Path) -> None:
    for_two(tmp_path / "file")
    with pytest.raises(StartupRefused, match="not for this key"):
        opened(tmp_path / "file", Opener((age.new_identity()[0],)))
    with pytest.raises(StartupRefused, match="--identity"):
        opened(tmp_path / "file", Opener())


@pytest.mark.parametrize("at", [50, 300, 70_000, -10])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path, at: int) -> None:
    _, (opener, _) = for_two(tmp_path / "file")
    data = bytearray((tmp_path / "file").read_bytes())
    data[at] ^= 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(StartupRefused, match=r"cannot be opened|not for this key"):
        opened(tmp_path / "file", opener)


@pytest.mark.parametrize("kept", [100, 200_000, -1, -70_000])
def test_a_file_that_is_cut_off_is_found(tmp_path: Path, kept: int) -> None:
    _, (opener, _) = for_two(tmp_path / "file")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:kept])
    with pytest.raises(StartupRefused, match="cannot be opened"):
        opened(tmp_path / "file", opener)


def test_a_reader_that_stops_early_still_learns_that_the_rest_was_altered(tmp_path: Path) -> None:
    _, (opener, _) = for_two(tmp_path / "file")
    data = bytearray((tmp_path / "file").read_bytes())
    data[-10] ^= 1
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(StartupRefused, match="cannot be opened"), unsealed(tmp_path / "file", opener) as stream:
        stream.read(10)


def test_a_passphrase_opens_it_and_another_does_not(tmp_path: Path) -> None:
    sealed(tmp_path / "file", Lock(passphrase=PASSPHRASE))
    assert opened(tmp_path / "file", Opener(passphrase=PASSPHRASE)) == PLAIN
    with pytest.raises(StartupRefused, match="passphrase"):
        opened(tmp_path / "file", Opener(passphrase="wrong horse battery staple"))
    with pytest.raises(StartupRefused, match="--passphrase-file"):
        opened(tmp_path / "file", Opener())


def test_a_passphrase_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("hunter2\n")
    with pytest.raises(StartupRefused, match="7 characters"):
        age.read_passphrase(tmp_path / "words")


def test_what_fails_while_writing_is_told_and_nothing_hangs(tmp_path: Path) -> None:
    def fail(target: BinaryIO) -> None:
        target.write(PLAIN)
        raise StartupRefused("the workspace is gone")

    recipient = age.text_of(age.new_identity()[1])
    with pytest.raises(StartupRefused, match="workspace is gone"), (tmp_path / "file").open("wb") as file:
        seal_to(fail, file, Lock((recipient,)))


@pytest.mark.parametrize("text", ["age1abc", "ssh-ed25519 AAAA", ""])
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(StartupRefused, match="no age recipient"):
        age.parse_recipients((text,))


def test_a_file_without_an_identity_is_refused(tmp_path: Path) -> None:
    for text in ("", "# only a comment\n", "age1notsecret\n"):
        (tmp_path / "id").write_text(text)
        with pytest.raises(StartupRefused, match="age identity"):
            age.read_identities(tmp_path / "id")
