"""A board that talks with the agent: the simple protocol (docs/protocol.md §8), one conversation, answers as text."""

import json

from .clock import Backoff
from .websocket import MAX_BYTES, Closed, WebSocket

ANSWER_MS = 15000
PING_MS = 25000
STEADY_MS = 60000
WAITING = 8


class Talk:
    """`on_answer(text)` for what the agent says. What is said while there is no connection waits in memory; where an
    acknowledgement was lost it is said again.
    """

    def __init__(self, settings, clock, *, open_link, is_online, feed, random_byte, on_answer, log=print) -> None:
        self._settings = settings
        self._clock = clock
        self._open_link = open_link
        self._is_online = is_online
        self._feed = feed
        self._on_answer = on_answer
        self._log = log
        self._backoff = Backoff(random_byte)
        self._socket = None
        self._is_known = False
        self._asked = False  # the first of the texts was sent and is not acknowledged
        self._texts = []
        self._next_try_ms = 0
        self._opened_ms = 0
        self._heard_ms = 0
        self._said_ms = 0

    def say(self, text: str) -> bool:
        """False where too much waits already, or it is too long."""
        if len(self._texts) >= WAITING or len(text.encode()) > MAX_BYTES // 2:
            return False
        self._texts.append(text)
        return True

    @property
    def waiting(self) -> int:
        """Texts that were not acknowledged yet."""
        return len(self._texts)

    def step(self) -> None:
        """Call it again and again, also while nothing is said: it feeds the watchdog."""
        self._feed()
        try:
            if self._socket is None:
                self._connect()
            else:
                self._converse()
        except (OSError, ValueError, MemoryError) as error:
            self._lose(error)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _connect(self) -> None:
        if self._clock.ms() < self._next_try_ms or not self._is_online():
            return
        settings = self._settings
        link = self._open_link(settings.host, settings.port, settings.pin)
        self._socket = WebSocket(link, settings.host + ":" + str(settings.port), "/ws")
        self._is_known = self._asked = False
        self._opened_ms = self._heard_ms = self._said_ms = self._clock.ms()

    def _converse(self) -> None:
        was_open = self._socket.is_open
        for text in self._socket.receive():
            self._heard_ms = self._clock.ms()
            self._take(json.loads(text))
        if self._socket.is_open and not was_open:
            self._send({"type": "auth", "api_key": self._settings.key})
        now = self._clock.ms()
        if now - self._heard_ms > PING_MS + ANSWER_MS or (not self._is_known and now - self._opened_ms > ANSWER_MS):
            raise OSError("the gateway is silent")
        if not self._is_known:
            return
        if self._texts and not self._asked:
            self._send({"type": "message", "content": self._texts[0]})
            self._asked = True
        if now - self._said_ms > PING_MS:
            self._send({"type": "ping"})
        if now - self._opened_ms > STEADY_MS:
            self._backoff.begin_again()

    def _take(self, said: dict) -> None:
        kind = said.get("type")
        if kind == "auth_success":
            self._is_known = True
            self._log("connected to " + self._settings.host)
        elif kind == "ack" and self._asked:
            self._texts.pop(0)
            self._asked = False
        elif kind == "message":
            self._on_answer(said["content"])
        elif kind == "error":
            self._log(said.get("message", ""))
            if self._asked and said.get("code") in ("invalid", "too_large"):
                self._texts.pop(0)  # it would be refused again
                self._asked = False
            elif self._asked:
                raise OSError("it was not taken")

    def _send(self, said: dict) -> None:
        self._socket.send(json.dumps(said))
        self._said_ms = self._clock.ms()

    def _lose(self, error: Exception) -> None:
        is_refused = isinstance(error, Closed) and error.code >= 4500
        pause_ms = self._backoff.longest_ms() if is_refused else self._backoff.pause_ms()
        self._log("{}; again in {} s".format(error, pause_ms // 1000))
        self._next_try_ms = self._clock.ms() + pause_ms
        if self._socket is not None:
            self._socket.drop()
        self._socket = None
