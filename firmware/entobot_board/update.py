"""Updates: what the gateway offers, which of two slots runs, and what is told about it (docs/protocol.md §9).

`slot.json` says which slot the loader (firmware/slots/main.py) starts. A new release is on trial until it was connected
for a while; `fetch` brings it into the other slot, before a
`Board` is made.
"""

import json
import os

from .settings import Wrong, read, write

OFFERED = ("release_id", "version", "envelope_bytes", "size")
RETRY_MS = 600000
"""After tries that all failed. What was downloaded stays."""


class Updates:
    """In the `folder` with settings.json. `restart()` starts the board again and does not return."""

    def __init__(self, folder: str, wanted: dict, clock, restart) -> None:
        self.folder = folder
        self.wanted = wanted
        self.clock = clock
        self.restart = restart
        self.marker = _read(folder + "/slot.json") or {"slot": "a", "good": True}
        self.running = _read(self.slot_path() + "/release.json") or {}
        """What runs: `version`, `counter` and `release_id`; empty for what was copied by hand."""
        self.offer = _read(folder + "/update.json")
        self._good_after_ms = wanted.get("good_after_s", 30) * 1000
        self._trial_ms = wanted.get("trial_s", 900) * 1000
        self._unsaid = []
        self._begun_ms = clock.ms()
        self._connected_ms = None
        self._next_try_ms = 0
        back, offer = self.marker.get("back"), self.offer
        if back:
            self._say(back["release_id"], "rolled_back", back["reason"])
        if offer and offer["release_id"] in (self.running.get("release_id"), back and back["release_id"]):
            self.forget()  # the power went between the switch and this
        elif offer and "failed" in offer:
            self._say(offer["release_id"], "failed", offer["failed"])
        elif offer and not offer.get("is_told"):
            self._say(offer["release_id"], "downloading", "")
            self._next_try_ms = RETRY_MS if offer.get("has_tried") else 0

    def slot_path(self, *, spare: bool = False) -> str:
        slot = self.marker["slot"]
        return self.folder + "/app_" + (("b" if slot == "a" else "a") if spare else slot)

    @property
    def is_trial(self) -> bool:
        return not self.marker["good"]

    # -- what is said

    def take(self, payload: bytes) -> None:
        """An offer. It is on flash when this returns, so that it may be acknowledged."""
        try:
            said = json.loads(payload)
            release_id = said["release_id"]
            is_whole = isinstance(release_id, str) and isinstance(said["version"], str)
            is_whole = is_whole and isinstance(said["envelope_bytes"], int) and isinstance(said["size"], int)
        except (ValueError, KeyError, TypeError):
            return
        back = self.marker.get("back")
        if back and back["release_id"] == release_id:
            self._say(release_id, "rolled_back", back["reason"])
        elif is_whole and release_id != self.running.get("release_id") and not self.is_trial:
            if not self.offer or self.offer["release_id"] != release_id:
                self.offer = {name: said[name] for name in OFFERED}  # what else stands here is the board's own
                try:
                    self.keep()
                except OSError:
                    self.forget()
                    self._say(release_id, "failed", "there is no room for the offer on the flash")
                    return
            if "failed" in self.offer:
                self._say(release_id, "failed", self.offer["failed"])
            else:
                self._say(release_id, "downloading", "")

    def unsaid(self) -> "dict | None":
        return self._unsaid[0] if self._unsaid else None

    def was_said(self, said: dict) -> None:
        if said in self._unsaid:
            self._unsaid.remove(said)
        if self.offer and said["state"] == "downloading":
            self.offer["is_told"] = True
        elif self.offer and said["state"] == "failed":
            self.forget()

    def _say(self, release_id: str, state: str, reason: str) -> None:
        said = {"release_id": release_id, "state": state, "reason": reason[:100]}
        if said not in self._unsaid:
            self._unsaid.append(said)

    # -- what is done

    def is_due(self) -> bool:
        """There is something to download, and the gateway knows it."""
        return bool(self.offer and self.offer.get("is_told")) and self.clock.ms() >= self._next_try_ms

    def begin(self) -> None:
        """The next start downloads before it loads anything else: there is no memory for both."""
        self.keep()
        self.restart()

    def keep(self) -> None:
        write(self.folder + "/update.json", self.offer)

    def fail(self, reason: str) -> None:
        self.offer = {"release_id": self.offer["release_id"], "failed": reason[:100]}
        self._keep_or_forget()

    def later(self) -> None:
        self.offer["is_told"] = False
        self.offer["has_tried"] = True
        self._keep_or_forget()

    def _keep_or_forget(self) -> None:
        """An offer that stays as it was would be downloaded at each start."""
        try:
            self.keep()
        except OSError:
            self.forget()  # the gateway makes it again

    def forget(self) -> None:
        self.offer = None
        for name in ("/update.json", "/update.part"):
            _remove(self.folder + name)

    def switch(self) -> None:
        """What is in the other slot is tried from the next start on."""
        slot = self.marker["slot"]
        marker = {
            "slot": "b" if slot == "a" else "a",
            "good": False,
            "tries": 0,
            "from": slot,
            "release_id": self.offer["release_id"],
            "counter": self.floor(),
        }
        write(self.folder + "/slot.json", marker)

    def floor(self) -> int:
        """No release with a lower counter is taken."""
        return max(self.marker.get("counter", 0), 0 if self.is_trial else self.running.get("counter", 0))

    def look(self, *, is_connected: bool) -> None:
        """On trial: good after it was connected for long enough; else the board starts again, and may fall back."""
        if not self.is_trial:
            return
        now = self.clock.ms()
        if not is_connected:
            self._connected_ms = None
            if now - self._begun_ms > self._trial_ms:
                self.restart()
        elif self._connected_ms is None:
            self._connected_ms = now
        elif now - self._connected_ms >= self._good_after_ms:
            counter = max(self.marker.get("counter", 0), self.running.get("counter", 0))
            marker = {"slot": self.marker["slot"], "good": True, "counter": counter}
            try:
                write(self.folder + "/slot.json", marker)
            except OSError:
                self._connected_ms = now  # the flash is full: again when readings have gone from it
                return
            self.marker = marker


def _read(path: str) -> "dict | None":
    try:
        return read(path)
    except Wrong:
        return None


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except OSError:
        pass  # it is not there
