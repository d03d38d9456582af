"""The signing keys of several nodes: one keyring in the database, sealed with a key that only the nodes hold."""

import asyncio

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy
from entobot.devices import store
from entobot.devices.signing import SigningKeys
from entobot.nodes.marks import Mark, move_mark
from entobot.storage.database import Database, Transaction

NONCE_BYTES = 12
_ABOUT = b"entobot/signing-keys/v1"


class SharedRing:
    """Keeps `keys` the same on every node. `seal_key` is 32 bytes."""

    def __init__(self, database: Database, keys: SigningKeys, seal_key: bytes, entropy: Entropy) -> None:
        self._database = database
        self._keys = keys
        self._cipher = AESGCM(seal_key)
        self._entropy = entropy
        self._version = 0

    async def join(self) -> None:
        """Take the keyring from the database; the first node puts its own there. Raises StartupRefused."""
        sealed = self._seal(self._keys.stored())

        def unit(tx: Transaction) -> tuple[int, bytes] | None:
            found = store.find_ring(tx)
            if found is None:
                store.insert_ring(tx, sealed)
            return found

        found = await self._database.write(unit)
        if found is None:
            self._version = 1
        else:
            await self._adopt(*found)

    async def renew(self) -> None:
        """Take the keyring again, where it has changed."""
        found = await self._database.read(store.find_ring)
        if found is not None and found[0] != self._version:
            await self._adopt(*found)

    async def rotate(self, now_ms: int, *, force: bool) -> bool:
        """See `SigningKeys.rotate`; of several nodes that rotate at once one does, and the others take what it made."""
        await self.renew()
        if not force and not self._keys.is_due(now_ms):
            return False
        stored = self._keys.rotated(now_ms, force=force)
        if stored is None:
            return False
        version, sealed = self._version, self._seal(stored)

        def unit(tx: Transaction) -> bool:
            if not store.replace_ring(tx, version, sealed):
                return False
            move_mark(tx, Mark.KEYS)
            return True

        is_ours = await self._database.write(unit)
        await self.renew()
        return is_ours

    async def _adopt(self, version: int, sealed: bytes) -> None:
        try:
            stored = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _ABOUT)
        except InvalidTag:
            raise StartupRefused("The signing keys in the database are sealed with another server key.") from None
        await asyncio.to_thread(self._keys.adopt, stored)
        self._version = version

    def _seal(self, stored: bytes) -> bytes:
        nonce = self._entropy.bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, stored, _ABOUT)
