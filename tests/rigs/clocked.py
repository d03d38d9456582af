"""`entobot` with a clock that a test sets while it runs: `python -m tests.rigs.clocked FILE up …`.

FILE holds milliseconds to add to the real time. Durations (`monotonic`) go on as they are, as when an administrator or
NTP sets the time of day.
"""

import sys
from pathlib import Path

from entobot.__main__ import main
from entobot.app import up
from entobot.core.clock import SystemClock


class SetClock(SystemClock):
    file = Path()

    def now_ms(self) -> int:
        return super().now_ms() + int(self.file.read_text())


if __name__ == "__main__":
    SetClock.file = Path(sys.argv.pop(1))
    up.SystemClock = SetClock
    main()
