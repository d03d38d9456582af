"""Whether a release is of a key that is trusted, and for this board: whoever has taken over the gateway can offer what it
likes, so nothing of a release is believed before its signature.
"""

import binascii
import gc
import hashlib
import json

from .clock import day_ms_of
from .outcomes import Unfit

MAGIC = b"entobot-release-1\n"


def checked(data: bytes, updates, settings, ask_time) -> dict:
    """The manifest, when it is of a key that is trusted, and for this board. Raises Unfit."""
    try:
        if data[: len(MAGIC)] != MAGIC:
            raise Unfit("it is no release")
        envelope = json.loads(data[len(MAGIC) :])
        text, key = envelope["manifest"].encode(), envelope["key"]
        signature = _unbase64url(envelope["signature"])
        if key not in settings.update["keys"]:
            raise Unfit("it is signed by a key that this board does not trust")
        del envelope
        gc.collect()
        from .ed25519 import verify

        if not verify(_unbase64url(key), MAGIC + hashlib.sha256(text).digest(), signature):
            raise Unfit("its signature is wrong")
        manifest = json.loads(text)
        _check(manifest, updates, settings)
        if manifest["expires"] and ask_time() > day_ms_of(manifest["expires"]):
            raise Unfit("it expired at " + manifest["expires"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unfit("it is no release") from None
    return manifest


def _check(manifest: dict, updates, settings) -> None:
    offer = updates.offer
    if manifest["format"] != 1 or manifest["type"] != settings.update["type"]:
        raise Unfit("it is for boards of the type " + str(manifest["type"]))
    if manifest["version"] != offer["version"]:
        raise Unfit("it is the version " + str(manifest["version"]))
    if manifest["counter"] < updates.floor():
        raise Unfit("its counter is lower than that of what ran here")
    least, runs = manifest["minimum_version"], updates.running.get("version", "0.0.0")
    if least and _numbers(runs) < _numbers(least):
        raise Unfit("it needs " + least + ", and " + runs + " runs")
    size = offer["envelope_bytes"]
    for one in manifest["files"]:
        path = one["path"]
        if path[0] == "/" or ".." in path or "\\" in path or one["size"] < 0:
            raise Unfit(path + " is no file of a slot")
        size += one["size"]
    if size != offer["size"]:
        raise Unfit("its size is not what was offered")


def _numbers(version: str) -> list:
    return [int(part) for part in version.split("-", 1)[0].split(".")]


def _unbase64url(text: str) -> bytes:
    text = text.replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(text + "=" * (-len(text) % 4))
