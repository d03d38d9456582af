"""How often an address may fail to claim. Pure; the counts come from the store."""

import ipaddress
from collections.abc import Sequence
from datetime import timedelta

from entobot.core.clock import to_ms
from entobot.core.errors import Code, Problem

WINDOW = timedelta(minutes=10)
MAX_FAILURES_PER_ADDRESS = 10
MAX_FAILURES = 300
"""In all: who commands many addresses still gets no more guesses than this."""
UNKNOWN_ADDRESS = "unknown"
"""Callers without an address (a Unix socket) share one counter."""


def address_key(address: str) -> str:
    """What failures are counted under: an IPv4 address, the /64 of an IPv6 address.

    One customer line usually holds a whole /64, so single IPv6 addresses are free to change.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN_ADDRESS
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def window_start_ms(now_ms: int) -> int:
    return now_ms - to_ms(WINDOW)


def refusal(of_address: Sequence[int], of_all: Sequence[int], now_ms: int) -> Problem | None:
    """`rate_limited` while a limit is reached. The arguments are times of failures in the window, oldest first."""
    for failures, most in ((of_address, MAX_FAILURES_PER_ADDRESS), (of_all, MAX_FAILURES)):
        if len(failures) >= most:
            # The window has room again once so many have left it that fewer than `most` remain.
            free_at_ms = failures[len(failures) - most] + to_ms(WINDOW)
            return Problem(
                Code.RATE_LIMITED,
                "Too many failed attempts to pair. Wait, then ask for a new invite.",
                retry_after_s=max(1, -(-(free_at_ms - now_ms) // 1000)),
            )
    return None
