"""Failed sign-ins in the audit log: one entry at once, then one with a count. Who guesses fills neither log nor memory.

Pure; times are milliseconds since 1970. Loop thread only.
"""

from dataclasses import dataclass, replace

from entobot.web.addresses import address_key

WINDOW_MS = 10 * 60_000
MAX_PLACES = 200
"""Accounts and networks that are told apart in a window; all others are one."""
ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Refused:
    """`count` failed attempts, for one `reason`, with one account (empty: a login that nobody has) from one network."""

    user_id: str
    network: str
    reason: str
    since_ms: int
    count: int


class Refusals:
    def __init__(self) -> None:
        self._open: dict[tuple[str, str, str], Refused] = {}

    def __len__(self) -> int:
        return len(self._open)

    def note(self, user_id: str, address: str, reason: str, now_ms: int) -> Refused | None:
        """What is to be written now: the first of its kind in a window. The others are counted."""
        key = (user_id, address_key(address), reason)
        if key not in self._open and len(self._open) >= MAX_PLACES:
            key = ("", ELSEWHERE, "")
        known = self._open.get(key)
        if known is not None:
            self._open[key] = replace(known, reason=reason, count=known.count + 1)
            return None
        user_id, network, _ = key
        self._open[key] = Refused(user_id, network, reason, now_ms, 0)
        return Refused(user_id, network, reason, now_ms, 1)

    def take_due(self, now_ms: int) -> list[Refused]:
        """What came after the entries that were written, of windows that are over."""
        over = [key for key, one in self._open.items() if now_ms >= one.since_ms + WINDOW_MS]
        found = [self._open.pop(key) for key in over]
        return [one for one in found if one.count]

    def take_all(self) -> list[Refused]:
        """The same, of all windows."""
        found = [one for one in self._open.values() if one.count]
        self._open.clear()
        return found
