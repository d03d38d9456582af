"""Batches as they travel: sealed with a key that only this gateway's nodes hold, so that the way need not be trusted.

Who can write to the server in between can neither read what travels nor make any of it up, nor repeat it.
"""

from collections import OrderedDict

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entobot.core.secrets import Entropy

NONCE_BYTES = 12
OVERHEAD_BYTES = NONCE_BYTES + 16 + 64
"""Nonce, tag, and the node's id and the batch's number."""
MAX_KNOWN_NODES = 1024
_ABOUT = b"entobot/bus/v1"


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What one node sends at once. `number` grows by one, from 1 when the node starts."""

    node_id: str
    number: int
    messages: list[tuple[str, bytes]]


class Seal:
    """AES-256-GCM under `key`, 32 bytes, with random nonces."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._cipher = AESGCM(key)
        self._entropy = entropy

    def close(self, batch: Batch) -> bytes:
        nonce = self._entropy.bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(batch), _ABOUT)

    def open(self, sealed: bytes) -> Batch | None:
        """None when it is none of ours."""
        try:
            plain = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _ABOUT)
            return msgspec.msgpack.decode(plain, type=Batch)
        except (InvalidTag, ValueError, msgspec.DecodeError):
            return None


class Numbers:
    """Which batch of each node came last, to tell repeated ones and to count those that never arrived. Bounded."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()
        self.missed = 0

    def is_news(self, batch: Batch) -> bool:
        last = self._last.get(batch.node_id)
        if last is not None and batch.number <= last:
            return False
        if last is not None:
            self.missed += batch.number - last - 1
        self._last[batch.node_id] = batch.number
        self._last.move_to_end(batch.node_id)
        if len(self._last) > MAX_KNOWN_NODES:
            self._last.popitem(last=False)
        return True
