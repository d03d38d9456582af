"""Puts a `Board` together, from the settings in a folder and this machine's own network and clock."""

import binascii
import os

from . import hardware
from .clock import day_ms_of
from .https import ask
from .link import open_link
from .settings import Settings, read


def talk(folder: str, on_answer):
    """Raises `settings.Wrong` with what to write."""
    from .talk import Talk

    settings, outside = _ready(folder)
    return Talk(
        settings,
        outside.pop("clock"),
        open_link=open_link,
        random_byte=hardware.random_byte,
        on_answer=on_answer,
        **outside,
    )


def load(folder: str):
    """A `Board`. Raises `settings.Wrong` with what to write."""
    settings, outside = _ready(folder)
    clock = outside.pop("clock")

    def ask_time() -> int:
        said = ask(open_link, clock, settings, "GET", "/api/health")
        try:
            return day_ms_of(said["server_time"])
        except (KeyError, ValueError, TypeError):
            raise OSError("the gateway does not say what time it is") from None

    updates = None
    if settings.update:
        from .update import Updates

        updates = Updates(folder, settings.update, clock, hardware.restart)
        if updates.is_due():
            from .fetch import attempt

            attempt(updates, settings, open_link=open_link, ask_time=ask_time, **outside)
    from .board import Board
    from .buffer import Buffer
    from .commands import Commands

    boot = binascii.hexlify(os.urandom(4)).decode()
    return Board(
        settings,
        clock,
        Buffer(folder + "/buffer", settings.buffer_kib * 1024, boot, clock),
        Commands(folder + "/commands.json", clock),
        open_link=open_link,
        ask_time=ask_time,
        random_byte=hardware.random_byte,
        updates=updates,
        **outside,
    )


def _ready(folder: str) -> "tuple[Settings, dict]":
    """The settings, with a device and its key, and what is outside; waits for the gateway where it has to enrol."""
    settings = Settings(read(folder + "/settings.json"))
    clock = hardware.clock()
    outside = {
        "is_online": hardware.network(settings, clock.ms),
        "feed": hardware.watchdog(settings.watchdog_s, clock.ms),
    }
    if not settings.key:
        from .enrol import enrol

        random_byte = hardware.random_byte
        enrol(folder, settings, clock, open_link=open_link, random_byte=random_byte, **outside)
    outside["clock"] = clock
    return settings, outside
