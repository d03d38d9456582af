"""`entobot …` on a pseudo-terminal: what the person at the gateway reads and types."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping

from tests.support.process import GENEROUS_S

Modules = list[list[bool]]
"""A QR code's rows, True is dark; with its quiet zone."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_QR_LINE = re.compile(r"\x1b\[30;107m([ ▀▄█]+)\x1b\[0m")
_HALVES = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}
# The first terminal that the leader of a new session opens becomes its own: Ctrl-C works as it does for people.
_ON_A_TERMINAL = 'terminal=$1; shift; exec <"$terminal" >"$terminal" 2>&1; exec "$@"'


class Terminal:
    """A running command; a thread keeps all that it has written."""

    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        self._main, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 140, 0, 0))
        command = ["sh", "-c", _ON_A_TERMINAL, "sh", os.ttyname(child), sys.executable, "-m", "entobot", *arguments]
        self.process = subprocess.Popen(
            command, env={**environment, "TERM": "xterm-256color"}, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._written = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(child,), daemon=True)
        self._reader.start()

    def _read(self, child: int) -> None:
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        is_held = True
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:  # the last writer has closed its end
                data = b""
            with self._news:
                self._written += decoder.decode(data)
                self._news.notify_all()
            if not data:
                break
            if is_held:  # the command has the terminal open by now: its end ends ours
                os.close(child)
                is_held = False

    @property
    def raw(self) -> str:
        with self._news:
            return self._written

    @property
    def text(self) -> str:
        """All that was written, without colours."""
        return _COLOURS.sub("", self.raw).replace("\r\n", "\n")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in all that was written so far or comes."""
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            match = re.search(pattern, _COLOURS.sub("", self._written))
            found.extend([match] if match else [])
            return match is not None

        with self._news:
            if not self._news.wait_for(is_there, GENEROUS_S):
                raise AssertionError(f"'{pattern}' was not written. There is:\n{self._written}")
        return found[0]

    def type(self, line: str) -> None:
        os.write(self._main, f"{line}\n".encode())

    def press_ctrl_c(self) -> None:
        os.write(self._main, b"\x03")

    def wait(self) -> int:
        """The exit code of a command that ends by itself."""
        return self.process.wait(GENEROUS_S)

    def link(self) -> str:
        return self.wait_for(r"https://\S+/pair#v=1\S+")[0]

    def qr_code(self) -> Modules:
        """The code as it is drawn: half blocks, two modules a character."""
        self.link()  # follows the picture
        rows: Modules = []
        for line in _QR_LINE.findall(self.raw):
            rows += [[_HALVES[block][half] for block in line] for half in (0, 1)]
        return rows

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(GENEROUS_S)
        self._reader.join(GENEROUS_S)
        os.close(self._main)
