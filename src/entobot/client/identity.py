"""What a paired device keeps, and where: its key, its tokens, and how it recognises its gateway."""

import contextlib
import fcntl
import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from entobot.client.keys import DeviceKey
from entobot.client.trust import Trust
from entobot.home import read_private, write_private


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's credentials. `expires_at_ms` is of the access token, by the gateway's clock."""

    origin: str
    key: DeviceKey
    trust: Trust
    device_id: str
    user_id: str
    scopes: tuple[str, ...]
    refresh_token: str
    access_token: str = ""
    expires_at_ms: int = 0

    def renewed(self, body: dict[str, Any], now_ms: int) -> "Identity":
        """With what collect or refresh answered at `now_ms`."""
        return replace(
            self,
            device_id=body["device_id"],
            user_id=body["user_id"],
            scopes=tuple(body["scopes"]),
            refresh_token=body["refresh_token"],
            access_token=body["access_token"],
            expires_at_ms=now_ms + body["expires_in"] * 1000,
        )


class IdentityStore(Protocol):
    """Keeps one identity. Its methods may block: the client calls them in a thread."""

    def load(self) -> Identity | None:
        """What was saved last, None before that."""
        ...

    def save(self, identity: Identity) -> None:
        """After a crash the old or the new one is there, whole."""
        ...

    def try_lock(self) -> AbstractContextManager[object] | None:
        """Held while the tokens are replaced, against every other process that uses the same identity. Locked when
        it is returned; None while somebody else holds it.
        """
        ...


class MemoryIdentity:
    """For one process that needs no second life."""

    def __init__(self, identity: Identity | None = None) -> None:
        self._identity = identity

    def load(self) -> Identity | None:
        return self._identity

    def save(self, identity: Identity) -> None:
        self._identity = identity

    def try_lock(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()


class IdentityFile:
    """A JSON file of mode 0600. Raises StartupRefused when others could have read it."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def load(self) -> Identity | None:
        data = read_private(self._path)
        if data is None:
            return None
        stored: dict[str, Any] = json.loads(data)
        authority = stored["trust"]["authority"]
        stored["trust"] = Trust(stored["trust"]["pin"], None if authority is None else Path(authority))
        stored["key"] = DeviceKey.from_text(stored["key"])
        stored["scopes"] = tuple(stored["scopes"])
        return Identity(**stored)

    def save(self, identity: Identity) -> None:
        stored = {name: getattr(identity, name) for name in Identity.__slots__} | {
            "key": identity.key.to_text(),
            "trust": asdict(identity.trust),
        }
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._path, json.dumps(stored, default=str, indent=1).encode())

    def try_lock(self) -> AbstractContextManager[object] | None:
        """Beside the file, since the file itself is replaced."""
        name = self._path.with_name(f"{self._path.name}.lock")
        file = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "rb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file
