"""What a new node has to have in common with the others, as one file: keys and certificates. Blocks."""

import io
import tarfile
from pathlib import Path

from entobot.core.errors import StartupRefused
from entobot.home import Home, create_private, read_private

KEYS = ("audit.key", "server.key", "signing.json")
MAX_BYTES = 256 * 1024
"""Of one file; the real ones have a few kilobytes."""


def export_node(home: Home, target: Path) -> list[str]:
    """Write the bundle, for its owner alone. Returns the names of what is in it. Raises StartupRefused."""
    files = [home.keys / name for name in KEYS]
    if home.tls.is_dir():
        files += sorted(path for path in home.tls.iterdir() if path.is_file() and not path.name.startswith("."))
    packed = io.BytesIO()
    names: list[str] = []
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            data = read_private(file)
            if data is None:
                raise StartupRefused(f"{file} is missing. Start this node once, so that it has keys.")
            member = tarfile.TarInfo(f"{file.parent.name}/{file.name}")
            member.size, member.mode = len(data), 0o600
            tar.addfile(member, io.BytesIO(data))
            names.append(member.name)
    if not create_private(target, packed.getvalue()):
        raise StartupRefused(f"{target} is there already. Move it away, or name another file.")
    return names


def join_nodes(home: Home, source: Path) -> list[str]:
    """Put what is in the bundle into a new data folder. Returns the names. Raises StartupRefused; then nothing is changed."""
    packed = read_private(source)
    if packed is None:
        raise StartupRefused(f"There is no file {source}.")
    found = _unpack(packed, source)
    home.prepare()
    with home.lock():
        if home.database.exists():
            raise StartupRefused(f"{home.path} holds a gateway of its own. Take an empty data folder for a new node.")
        for name, data in found.items():
            present = read_private(home.path / name)
            if present is not None and present != data:
                raise StartupRefused(f"{home.path / name} is there already and differs. Take an empty data folder.")
        for name, data in found.items():
            create_private(home.path / name, data)
    return list(found)


def _unpack(packed: bytes, source: Path) -> dict[str, bytes]:
    """By relative path. Only what `export_node` writes is taken."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.partition("/")
                is_known = (folder == "keys" and name in KEYS) or (folder == "tls" and "/" not in name)
                file = tar.extractfile(member) if member.isreg() and member.size <= MAX_BYTES else None
                if not is_known or name.startswith(".") or not name or file is None:
                    raise StartupRefused(f"{source} was not made by 'entobot node export': it holds {member.name!r}.")
                found[member.name] = file.read()
    except tarfile.TarError:
        raise StartupRefused(f"{source} was not made by 'entobot node export'.") from None
    if not {f"keys/{name}" for name in KEYS} <= set(found):
        raise StartupRefused(f"{source} is not whole: make it again with 'entobot node export'.")
    return found
