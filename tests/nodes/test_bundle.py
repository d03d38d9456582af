"""What makes a folder another node of the same gateway."""

from pathlib import Path

import pytest

from entobot.core.errors import StartupRefused
from entobot.home import Home, create_private
from entobot.nodes.bundle import KEYS, export_node, join_nodes


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    home = Home(tmp_path / "a")
    home.prepare()
    for name in KEYS:
        create_private(home.keys / name, name.encode())
    create_private(home.tls / "ca.crt", b"ca")
    export_node(home, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_keys_and_certificates_arrive_for_the_owner_alone(bundle: Path, tmp_path: Path) -> None:
    assert bundle.stat().st_mode & 0o777 == 0o600
    home = Home(tmp_path / "b")
    join_nodes(home, bundle)
    join_nodes(home, bundle)
    assert (home.keys / "server.key").read_bytes() == b"server.key"
    assert (home.tls / "ca.crt").read_bytes() == b"ca"
    assert (home.keys / "server.key").stat().st_mode & 0o777 == 0o600


def test_a_folder_with_other_keys_or_a_database_is_left_as_it_is(bundle: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "b")
    home.prepare()
    create_private(home.keys / "server.key", b"other")
    with pytest.raises(StartupRefused, match="differs"):
        join_nodes(home, bundle)
    assert not (home.keys / "audit.key").exists()


def test_a_file_that_others_can_read_or_that_is_no_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    bundle.chmod(0o644)
    with pytest.raises(StartupRefused, match="open to others"):
        join_nodes(Home(tmp_path / "b"), bundle)
    strange = tmp_path / "strange"
    create_private(strange, b"not a bundle" * 100)
    with pytest.raises(StartupRefused, match="was not made by"):
        join_nodes(Home(tmp_path / "b"), strange)
