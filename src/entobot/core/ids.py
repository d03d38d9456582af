"""Ids: `prefix_` + ULID (26 Crockford characters, 48 bit time + 80 bit random), made by an injected source."""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from entobot.core.clock import Clock
from entobot.core.secrets import CROCKFORD, Entropy

ULID_PATTERN = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_ULID = re.compile(ULID_PATTERN)


class Prefix(StrEnum):
    ACTION = "act_"
    ALERT = "alr_"
    ALERT_MESSAGE = "alm_"
    API_KEY = "key_"
    APPROVAL = "apr_"
    AUDIT = "aud_"
    AUTOMATION = "aut_"
    CALLBACK = "cbk_"
    CERTIFICATE = "crt_"
    CLAIM = "clm_"
    COMMAND = "cmd_"
    CONVERSATION = "cnv_"
    DEVICE = "dev_"
    ENROLMENT_KEY = "enk_"
    FAMILY = "fam_"
    FILE = "fil_"
    FIRING = "fir_"
    INVITE = "inv_"
    MEMO = "mem_"
    MESSAGE = "msg_"
    NODE = "nod_"
    NOTIFICATION = "ntf_"
    NOTIFICATION_ATTEMPT = "nat_"
    NOTIFICATION_PLACE = "npl_"
    QUESTION = "qst_"
    RELEASE = "rel_"
    REQUEST = "req_"
    ROLLOUT = "rlo_"
    RULE = "rul_"
    RUN = "run_"
    SESSION = "ses_"
    SMS = "sms_"
    STREAM = "str_"
    TOOL_CALL = "tcl_"
    USER = "usr_"


class Ids(Protocol):
    def new(self, prefix: Prefix) -> str:
        """A fresh id; unique without coordination."""
        ...


_PAIRS = tuple(one + two for one in CROCKFORD for two in CROCKFORD)


def ulid(at_ms: int, random80: bytes) -> str:
    high, low = int.from_bytes(random80[:5], "big"), int.from_bytes(random80[5:], "big")
    return _time(at_ms) + _eight(high) + _eight(low)


@lru_cache(maxsize=4)
def _time(at_ms: int) -> str:
    """48 bits, in ten characters."""
    return _PAIRS[at_ms >> 40] + _eight(at_ms & 0xFFFFFFFFFF)


def _eight(bits40: int) -> str:
    return _PAIRS[bits40 >> 30] + _PAIRS[(bits40 >> 20) & 1023] + _PAIRS[(bits40 >> 10) & 1023] + _PAIRS[bits40 & 1023]


def is_ulid(text: str) -> bool:
    return _ULID.fullmatch(text) is not None


def is_id(text: str, prefix: Prefix) -> bool:
    return text.startswith(prefix) and is_ulid(text[len(prefix) :])


class RandomIds:
    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy

    def new(self, prefix: Prefix) -> str:
        return prefix + ulid(self._clock.now_ms(), self._entropy.bytes(10))
