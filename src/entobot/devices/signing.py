"""The gateway's own ES256 keys: next → active → retired, published as a JWKS, kept across restarts.

A key is published as `next` before it signs, so that whoever caches the JWKS knows it; retired keys verify tokens
until the last one they signed is over. The private half of a retired key is erased at once, the rest of it at a
later rotation.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from entobot.core.errors import StartupRefused
from entobot.core.secrets import b64u, unb64u
from entobot.devices.jws import ALG, SignatureRefused, parse_compact, sign, verify
from entobot.devices.keys import PublicKey, parse_public_jwk

Load = Callable[[], bytes | None]
Save = Callable[[bytes], None]

PUBLISH_BEFORE_USE_MS = 24 * 3600_000
ROTATE_EVERY_MS = 90 * 24 * 3600_000
VERIFY_RETIRED_MS = 3600_000
"""More than an access token's five minutes and any leeway."""

_HEADER = frozenset({"typ", "alg", "kid"})


class KeyState(StrEnum):
    ACTIVE = "active"
    NEXT = "next"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`since_ms` is when it came into its state. `private` is None once retired."""

    state: KeyState
    since_ms: int
    public: PublicKey
    private: ec.EllipticCurvePrivateKey | None

    @property
    def kid(self) -> str:
        return self.public.thumbprint


class SigningKeys:
    """The keyring. `load` and `save` are blocking: `open` and `rotate` belong in a thread."""

    def __init__(self, keys: tuple[SigningKey, ...], save: Save) -> None:
        self._save = save
        self._set(keys)

    @classmethod
    def open(cls, load: Load, save: Save, now_ms: int) -> "SigningKeys":
        """The stored keyring, or a new one that is stored at once. Raises StartupRefused when it cannot be read."""
        stored = load()
        if stored is not None:
            return cls(_parse(stored), save)
        ring = cls((_new(KeyState.ACTIVE, now_ms), _new(KeyState.NEXT, now_ms)), save)
        save(_serialise(ring._keys))
        return ring

    @property
    def active_kid(self) -> str:
        return self._active.kid

    def is_due(self, now_ms: int) -> bool:
        return now_ms - self._active.since_ms >= ROTATE_EVERY_MS

    def rotate(self, now_ms: int, *, force: bool = False) -> bool:
        """Make the next key active and retire the active one, stored before it takes effect.

        Returns False, changing nothing, when the next key was published less than 24 h ago, unless forced.
        """
        keys = self._rotated(now_ms, force=force)
        if keys is None:
            return False
        self._save(_serialise(keys))
        self._set(keys)
        return True

    def rotated(self, now_ms: int, *, force: bool = False) -> bytes | None:
        """What `rotate` would store; nothing is changed. To be stored elsewhere first, then adopted."""
        keys = self._rotated(now_ms, force=force)
        return None if keys is None else _serialise(keys)

    def stored(self) -> bytes:
        """The keyring as `adopt` takes it, private halves included."""
        return _serialise(self._keys)

    def adopt(self, stored: bytes) -> None:
        """Use the keyring that all nodes have in common. Blocks. Raises StartupRefused when it cannot be read."""
        keys = _parse(stored)
        self._save(stored)
        self._set(keys)

    def _rotated(self, now_ms: int, *, force: bool) -> "tuple[SigningKey, ...] | None":
        if not force and now_ms - self._next.since_ms < PUBLISH_BEFORE_USE_MS:
            return None
        return (
            _new(KeyState.NEXT, now_ms),
            replace(self._next, state=KeyState.ACTIVE, since_ms=now_ms),
            replace(self._active, state=KeyState.RETIRED, since_ms=now_ms, private=None),
            *(key for key in self._keys if key.state is KeyState.RETIRED and self._verifies_tokens(key, now_ms)),
        )

    def jwks(self, now_ms: int) -> dict[str, list[dict[str, str]]]:
        """The JWK Set (RFC 7517 §5) of the keys that sign, will sign, or signed tokens that may still be valid."""
        shown = [key for key in self._keys if self._verifies_tokens(key, now_ms)]
        return {"keys": [key.public.to_jwk() | {"kid": key.kid, "use": "sig", "alg": ALG} for key in shown]}

    def sign(self, typ: str, payload: Mapping[str, object]) -> str:
        """A compact JWS by the active key; its header is `typ alg kid`."""
        active = self._active
        assert active.private is not None, "an active key has its private half"
        return sign({"typ": typ, "kid": active.kid}, payload, active.private)

    def verify(self, text: str, *, typ: str, max_bytes: int, now_ms: int) -> dict[str, Any]:
        """The payload of a JWS by one of our keys that may still sign or has lately. Raises SignatureRefused."""
        compact = parse_compact(text, typ=typ, header_members=_HEADER, max_bytes=max_bytes)
        key = self._find(compact.header["kid"])
        if key is None or not self._verifies_tokens(key, now_ms):
            raise SignatureRefused("it was not signed by a current key of this gateway")
        return verify(compact, key.public.point)

    def _set(self, keys: tuple[SigningKey, ...]) -> None:
        by_state = {key.state: key for key in reversed(keys)}
        self._active, self._next = by_state[KeyState.ACTIVE], by_state[KeyState.NEXT]
        self._keys = keys

    def _find(self, kid: object) -> SigningKey | None:
        return next((key for key in self._keys if key.kid == kid), None)

    @staticmethod
    def _verifies_tokens(key: SigningKey, now_ms: int) -> bool:
        return key.state is not KeyState.RETIRED or now_ms - key.since_ms <= VERIFY_RETIRED_MS


def _new(state: KeyState, now_ms: int) -> SigningKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(state, now_ms, PublicKey.from_point(private.public_key()), private)


def _serialise(keys: tuple[SigningKey, ...]) -> bytes:
    rows: list[dict[str, object]] = []
    for key in keys:
        row: dict[str, object] = {"state": key.state, "since_ms": key.since_ms, "jwk": key.public.to_jwk()}
        if key.private is not None:
            row["d"] = b64u(key.private.private_numbers().private_value.to_bytes(32, "big"))
        rows.append(row)
    return json.dumps({"version": 1, "keys": rows}, indent=1).encode("ascii")


def _parse(stored: bytes) -> tuple[SigningKey, ...]:
    """Raises StartupRefused: going on with new keys would sign every device out without a word."""
    keys: tuple[SigningKey, ...] = ()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        tree = json.loads(stored)
        if tree["version"] == 1:
            keys = tuple(_parse_key(row) for row in tree["keys"])
    states = [key.state for key in keys]
    if states.count(KeyState.ACTIVE) != 1 or states.count(KeyState.NEXT) != 1:
        raise StartupRefused("The stored signing keys are damaged. Restore them from a backup.")
    return keys


def _parse_key(row: dict[str, Any]) -> SigningKey:
    public, state, private = parse_public_jwk(row["jwk"]), KeyState(row["state"]), None
    if state is not KeyState.RETIRED:
        private = ec.derive_private_key(int.from_bytes(unb64u(row["d"]), "big"), ec.SECP256R1())
        if PublicKey.from_point(private.public_key()) != public:
            raise ValueError("the halves of a key do not belong together")
    return SigningKey(state, int(row["since_ms"]), public, private)
