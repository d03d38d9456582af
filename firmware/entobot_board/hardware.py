"""What differs between an ESP32, a Pico W, MicroPython's Unix port and CPython."""

import os
import sys
import time

from .clock import Clock

WIFI_RETRY_MS = 20000
PICO_WATCHDOG_MS = 8300
"""The longest that its hardware knows."""


def clock() -> Clock:
    if sys.implementation.name == "micropython":
        return Clock(time.ticks_ms, time.ticks_diff, time.sleep_ms)
    return Clock(lambda: time.monotonic_ns() // 1000000, lambda a, b: a - b, lambda ms: time.sleep(ms / 1000))


def random_byte() -> int:
    return os.urandom(1)[0]


def restart() -> None:
    """The board starts again. Where it is a program, that ends, and whoever started it does so again."""
    try:
        from machine import reset
    except ImportError:
        sys.exit(75)
    reset()


def watchdog(seconds: int, now):
    """A function to call from the loop: where it is not called for so long, the board starts again.

    A Pico's hardware waits 8.3 s at most, less than a TLS handshake over a bad network may take: there a timer feeds
    it, and stops when the loop has been silent for too long.
    """
    if sys.platform == "esp32":
        from machine import WDT

        return WDT(timeout=seconds * 1000).feed
    if sys.platform != "rp2":
        return lambda: None
    from machine import WDT, Timer

    hardware = WDT(timeout=PICO_WATCHDOG_MS)
    lease = Lease(seconds * 1000, now, hardware.feed)
    lease.timer = Timer(period=2000, callback=lambda _: lease.pass_on())
    return lease.renew


class Lease:
    """Feeds on, for `most_ms` after it was last renewed."""

    def __init__(self, most_ms: int, now, feed) -> None:
        self._most_ms = most_ms
        self._now = now
        self._feed = feed
        self._renewed_ms = now()
        self.timer = None
        """What calls `pass_on`. A timer that nobody holds is collected, and with it ends the feeding."""

    def renew(self) -> None:
        self._renewed_ms = self._now()

    def pass_on(self) -> None:
        if self._now() - self._renewed_ms <= self._most_ms:
            self._feed()


def network(settings, now):
    """A function that says whether there is a network, and asks for it again where there is none."""
    if not settings.ssid:
        return lambda: True
    try:
        import network as driver
    except ImportError:
        return lambda: True  # no radio that is ours: the system's affair
    if settings.country:
        driver.country(settings.country)
    return Wifi(driver.WLAN(driver.STA_IF), settings.ssid, settings.password, now).is_up


class Wifi:
    def __init__(self, radio, ssid: str, password: str, now) -> None:
        self._radio = radio
        self._ssid = ssid
        self._password = password
        self._now = now
        self._next_ms = 0

    def is_up(self) -> bool:
        if self._radio.isconnected():
            return True
        if self._now() >= self._next_ms:
            self._next_ms = self._now() + WIFI_RETRY_MS
            self._radio.active(False)  # a driver that is stuck lets go
            self._radio.active(True)
            self._radio.connect(self._ssid, self._password)
        return False
