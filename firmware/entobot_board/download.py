"""The bytes of a release over HTTPS, from where the files on flash end."""

import os

from .flash import size_of
from .https import status_of
from .outcomes import Gone

HEAD_BYTES = 3072
FLUSH_BYTES = 4096
"""What a power cut may cost of a file."""
WITHIN_MS = 15000
POLL_MS = 5


class Download:
    def __init__(self, settings, open_link, clock, release_id, between) -> None:
        self._settings = settings
        self._open_link = open_link
        self._clock = clock
        self._path = "/api/v1/updates/releases/" + release_id + "/content"
        self._between = between

    def bring(self, files, begins: int, ends: int) -> None:
        """Bytes from `begins` to `ends` into these files (path, size), from where they end on flash."""
        at, rest = begins, []
        for path, size in files:
            there = size_of(path)
            if there > size:
                os.remove(path)
                there = 0
            if rest and there:
                os.remove(path)  # of what comes behind a gap nothing counts
                there = 0
            if there < size or not size:
                rest.append((path, size - there))
            at += there
        if at >= ends:
            for path, _ in rest:
                open(path, "ab").close()  # empty ones
            return
        link = self._open_link(self._settings.host, self._settings.port, self._settings.pin)
        try:
            self._ask(link, at, ends)
            self._take(link, rest)
        finally:
            link.close()

    def _ask(self, link, at: int, ends: int) -> None:
        head = "GET {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\nAuthorization: Bearer {}\r\nRange: bytes={}-{}\r\n\r\n"
        settings = self._settings
        asked = head.format(self._path, settings.host, settings.port, settings.key, at, ends - 1)
        link.write(asked.encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._read(link)
            if len(got) > HEAD_BYTES:
                raise OSError("an answer that is too long")
        head, _, self._held = got.partition(b"\r\n\r\n")
        status = status_of(head)
        if status in (401, 403, 404, 422):
            raise Gone("the gateway does not give it: " + str(status))
        if status != 206 or ("content-range: bytes " + str(at) + "-").encode() not in head.lower():
            raise OSError("the gateway answered " + str(status))

    def _take(self, link, rest) -> None:
        for path, size in rest:
            missing, since = size, 0
            with open(path, "ab") as file:
                while missing:
                    if not self._held:
                        self._held = self._read(link)
                    some = self._held[:missing]
                    self._held = self._held[len(some) :]
                    file.write(some)
                    missing -= len(some)
                    since += len(some)
                    if since >= FLUSH_BYTES:
                        file.flush()
                        since = 0

    def _read(self, link) -> bytes:
        until = self._clock.ms() + WITHIN_MS
        while True:
            self._between()
            data = link.read()
            if data is not None:
                return data
            if self._clock.ms() > until:
                raise OSError("the gateway is silent")
            self._clock.sleep(POLL_MS)
