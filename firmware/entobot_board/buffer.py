"""Readings that could not be handed over yet, on flash: bounded, whole after a power cut, sent in batches.

A file holds one batch. Its name is the batch's id, the same whenever it is sent again, so that the gateway counts it
once; it goes when it was acknowledged. Where there is no room, by its own bound or on the flash, the oldest batch goes,
and is counted.
"""

import json
import os

from .settings import BLOCK_BYTES, NO_ROOM

BATCH_BYTES = 1024
"""Of a file. As a message it is about twice as long."""


class Buffer:
    """In a `folder` of its own, of `most_bytes` of flash, but two files at least. `boot` is another text after each start."""

    def __init__(self, folder: str, most_bytes: int, boot: str, clock) -> None:
        self._folder = folder
        self._most = max(2, most_bytes // BLOCK_BYTES)
        self._boot = boot
        self._clock = clock
        self._files = []  # names, oldest first; the last may still grow
        self._room = 0  # bytes that the last one has left
        self.lost = 0
        """Batches that went for want of room, and single readings that the flash did not take at all."""
        try:
            os.mkdir(folder)
        except OSError:
            pass  # it is there
        try:
            self._files = sorted([name for name in os.listdir(folder) if name.endswith(".log")])
        except OSError:
            pass  # there was no room for it
        self._next = int(self._files[-1].split("-")[0]) + 1 if self._files else 0
        self._day_of = {}  # earlier start: what makes its clock the time of day
        self._shift_of = {}  # earlier start: what makes its clock this one, where nobody knows the time of day
        self._date()

    def __len__(self) -> int:
        """Batches."""
        return len(self._files)

    def add(self, name: str, value, day_ms: "int | None", up_ms: int) -> None:
        """`day_ms` is when it was, as far as that is known; `up_ms` by the clock of this start.

        Raises nothing where the flash is full: a board that ends here never hands over what fills it.
        """
        line = json.dumps([name, value, day_ms, up_ms]) + "\n"
        error = self._write(line)
        while error is not None:
            self._room = 0  # half a line may stand there
            self.lost += 1
            if error.errno != NO_ROOM or not self._files:
                return
            self._remove(0)
            error = self._write(line)

    def first(self) -> "tuple[str, bytearray] | None":
        """The oldest batch that holds something: its id, and the message."""
        while self._files:
            name = self._files[0]
            if len(self._files) == 1:
                self._room = 0  # what comes now begins another: this one is under way
            batch_id = _boot_of(name) + "-" + name[:8]
            message = self._message(name, batch_id)
            if message:
                return batch_id, message
            self._remove(0)
        return None

    def drop(self, batch_id: str) -> None:
        """It was acknowledged."""
        boot, number = batch_id.split("-")
        name = number + "-" + boot + ".log"
        if name in self._files:
            self._remove(self._files.index(name))

    def _begin(self) -> None:
        while len(self._files) >= self._most:
            self._remove(0)
            self.lost += 1
        self._files.append("{:08d}-{}.log".format(self._next, self._boot))
        self._next += 1
        self._room = BATCH_BYTES

    def _write(self, line: str) -> "OSError | None":
        """Why not, where not."""
        is_first = self._room < len(line)
        if is_first:
            self._begin()
        try:
            with open(self._folder + "/" + self._files[-1], "a") as file:
                file.write(line)
        except OSError as error:
            if is_first:
                self._remove(-1)  # nothing is in it
            return error
        self._room -= len(line)
        return None

    def _remove(self, at: int) -> None:
        try:
            os.remove(self._folder + "/" + self._files.pop(at))
        except OSError:
            pass

    def _date(self) -> None:
        """Of earlier starts. Where none of its readings says when it was, it ended right before the next one began:
        that is the latest that it can have been, and no two readings become one.
        """
        begins_ms = 0
        for name in reversed(self._files):
            boot = _boot_of(name)
            first_ms = last_ms = None
            for _, _, day_ms, last_ms in self._lines(name):
                if first_ms is None:
                    first_ms = last_ms
                if day_ms is not None:
                    self._day_of[boot] = day_ms - last_ms
            if first_ms is not None:
                if boot not in self._shift_of:
                    self._shift_of[boot] = begins_ms - 1 - last_ms
                begins_ms = first_ms + self._shift_of[boot]

    def _message(self, name: str, batch_id: str) -> "bytearray | None":
        """Written piece by piece: the same as objects would take several times the memory."""
        boot = _boot_of(name)
        now = self._clock.ms() - self._shift_of.get(boot, 0)
        message = bytearray()
        for one, value, day_ms, up_ms in self._lines(name):
            if day_ms is None and boot not in self._day_of:
                when = '"age_ms":' + str(max(0, now - up_ms))
            else:
                when = '"at":' + str(self._day_of[boot] + up_ms if day_ms is None else day_ms)
            message.extend(b"," if message else ('{"batch":"' + batch_id + '","readings":[').encode())
            message.extend(('{"name":"' + one + '","value":' + json.dumps(value) + "," + when + "}").encode())
        if not message:
            return None
        message.extend(b"]}")
        return message

    def _lines(self, name: str):
        """Without those that a power cut left half written, or that cannot be read."""
        try:
            with open(self._folder + "/" + name, "rb") as file:
                for line in file:
                    try:
                        one, value, day_ms, up_ms = json.loads(line)
                    except (ValueError, TypeError):
                        continue
                    yield one, value, day_ms, up_ms
        except OSError:
            pass


def _boot_of(name: str) -> str:
    return name[9:-4]
