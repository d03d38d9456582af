"""Keeps a device connected: opens, authenticates, comes back, and carries frames between gateway and application."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx
from msgspec import Raw

from entobot.client import exchange as frames
from entobot.client.events import CaughtUp, Event, Settled, Snapshot, TextContent, TextStart
from entobot.client.exchange import Exchange, NotAFrame, Told, read_frame
from entobot.client.journal import Position
from entobot.client.link import CannotOpen, Link
from entobot.client.link_http import HttpLink
from entobot.client.link_websocket import WebSocketLink
from entobot.client.outbox import Outbox
from entobot.client.reach import Reach
from entobot.client.requests import Requests
from entobot.client.returning import (
    NEVER_OPENED,
    NOT_WANTED,
    SUSPENDED_RETRY_S,
    Ended,
    Next,
    causes_of,
    ended_by,
    next_step,
    refused_as,
)
from entobot.client.states import NoAnswer, State, Stopped, Surroundings
from entobot.client.trust import WrongKey
from entobot.core.errors import Code, Problem

log = logging.getLogger(__name__)

MAX_QUEUED = 1024
"""Events for the application; above it live ones are dropped. Durable ones are bounded by the gateway's window."""
FAILED_OPENS = 2
"""In a row, after which the way over HTTP is tried, if the gateway is healthy."""
HTTP_FOR_S = 300.0
READY_TIMEOUT_S = 30.0


class Connector:
    """One task supervises; frames are handled as they come, on the loop."""

    def __init__(
        self,
        requests: Requests,
        reach: Reach,
        around: Surroundings,
        *,
        settled: Callable[[str, dict[str, Any] | None, Exception | None], Settled | None],
    ) -> None:
        self.state = State.CONNECTING
        self.stopped: Stopped | None = None
        self.outbox = Outbox()
        self.link: Link | None = None
        self.scopes: frozenset[str] = frozenset()
        self.dropped_live = 0
        self.connections = 0
        self.wants_events = True
        self.position: Position | None = None
        self.ready = asyncio.Event()
        self._requests = requests
        self._reach = reach
        self._around = around
        self._settled = settled
        self._exchange = Exchange()
        self._inbox: deque[Told | Settled] = deque()
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ended: asyncio.Future[Ended] | None = None
        self._retry_after_s: float | None = None
        self._acked = -1
        self._ack_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_opens = 0
        self._http_until_s = 0.0
        self._partial: set[str] = set()

    def start_at(self, position: Position | None) -> None:
        """Where an earlier process had come to; before `run`."""
        self.position = self._exchange.received = position

    # -- the application's side

    async def next(self) -> Told | Settled | None:
        """What comes next, None after `close`. Raises Stopped when nothing more will come."""
        while not self._inbox:
            if self.stopped is not None:
                raise self.stopped
            if self.state is State.CLOSED:
                return None
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft()

    def processed(self, position: Position) -> None:
        """The application has done with everything up to here; the gateway is told soon."""
        self.position = position
        if not self._ack_is_due:
            self._ack_is_due = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def flush(self) -> None:
        """Send what is due, and come back when more will be."""
        link = self.link
        if link is not None and self.ready.is_set():
            for command in self.outbox.to_send(self._now_s()):
                link.send({"type": "command", "id": command.id, "name": command.name, "data": Raw(command.data.encode())})  # fmt: skip
        self._schedule()

    def retry_now(self) -> None:
        """Do not wait any longer: the network changed, or the user asks."""
        self._hurry.set()

    def reconnect(self) -> None:
        """Leave this connection without a word and open another at once."""
        if self.link is not None:
            self.link.abort()
        self._hurry.set()
        self._end(Ended(NEVER_OPENED, "left"))

    async def close(self) -> None:
        self._set(State.CLOSED)
        for task in tuple(self._tasks):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._acknowledge()
        if self.link is not None:
            await self.link.close()
        self._news.set()

    # -- supervision

    async def run(self) -> None:
        """Until `close`, or until the gateway says not to come back."""
        try:
            while True:
                begun_s = self._now_s()
                ended = await self._one_connection()
                self._around.observer.note("ended", connection=self.connections, code=ended.code, reason=ended.reason)
                self._around.backoff.lasted(self._now_s() - begun_s if self.ready.is_set() else 0.0)
                self.ready.clear()
                await self._before_the_next(ended)
        except Stopped as stopped:
            self._stop(stopped)
        except Exception as error:
            log.exception("the client failed")
            self._stop(Stopped("internal", f"The client failed: {type(error).__name__}"))

    def _stop(self, stopped: Stopped) -> None:
        self.stopped = stopped
        self._set(State.STOPPED)
        self._news.set()
        self.ready.set()  # whoever waits for it looks at `stopped`
        for command_id in self.outbox.ids():
            self._settled(command_id, None, stopped)

    async def _before_the_next(self, ended: Ended) -> None:
        step = next_step(ended.code)
        if step is Next.STOP:
            raise Stopped(ended.error or ended.code, ended.reason)
        if step is Next.WAIT_SUSPENDED:
            self._set(State.SUSPENDED)
            await self._pause(SUSPENDED_RETRY_S)
            return
        if step is Next.REFRESH_FIRST:
            refreshing = await self._refreshed(self._requests.identity.access_token)
            if refreshing is not None:
                await self._before_the_next(refreshing)
                return
            if self._around.backoff.failures == 0:
                self._around.backoff.failures = 1
                return
        self._set(State.WAITING)
        await self._pause(self._around.backoff.delay_s(ended.retry_after_s))

    async def _pause(self, seconds: float) -> None:
        """Cut short by `retry_now`."""
        sleeping = asyncio.ensure_future(self._around.sleep(seconds))
        hurrying = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait((sleeping, hurrying), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            hurrying.cancel()
        self._hurry.clear()

    async def _refreshed(self, refused_token: str | None = None) -> Ended | None:
        """None when the tokens are good; else why not."""
        try:
            await self._requests.refresh(unless_newer_than=refused_token)
        except Problem as problem:
            return ended_by(problem)
        except WrongKey as error:
            return Ended(NOT_WANTED, str(error), error="wrong_key")
        except (OSError, httpx.TransportError) as error:
            await self._nobody_answered(error)
            return Ended(NEVER_OPENED, str(error) or type(error).__name__)
        return None

    async def _one_connection(self) -> Ended:
        self._set(State.CONNECTING)
        refused = await self._refreshed()
        if refused is not None:
            return refused
        self._begin()
        try:
            return await self._opened_and_ended()
        finally:
            link, self.link = self.link, None
            if link is not None:
                link.abort()

    def _begin(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._retry_after_s = None
        self._acked = -1
        self.connections += 1
        self.outbox.link_is_new()
        self._exchange.begin()

    async def _opened_and_ended(self) -> Ended:
        assert self._ended is not None
        try:
            await self._open()
        except Problem as problem:
            return refused_as(problem)
        except WrongKey as error:
            return Ended(NOT_WANTED, str(error), error="wrong_key")
        except (CannotOpen, OSError, httpx.TransportError) as error:
            await self._nobody_answered(error)
            await self._note_failed_open()
            return Ended(NEVER_OPENED, str(error))
        ended = await self._until_the_end(self._ended)
        if ended.code == NEVER_OPENED and not self.ready.is_set():
            await self._note_failed_open()
        if ended.retry_after_s is None and self._retry_after_s is not None:
            return replace(ended, retry_after_s=self._retry_after_s)
        return ended

    async def _nobody_answered(self, error: BaseException) -> None:
        """Where it was the certificate, it may have been renewed. Requests that were cut off while they connected
        keep their place in httpx's pool; where there is none left, a new pool is the way out.
        """
        causes = causes_of(error)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            await self._reach.trust_anew()
        elif any(isinstance(cause, httpx.PoolTimeout) for cause in causes):
            await self._reach.close()

    async def _until_the_end(self, ended: asyncio.Future[Ended]) -> Ended:
        """A gateway that does not get as far as `ready` is left."""
        becoming_ready = asyncio.ensure_future(self.ready.wait())
        try:
            await asyncio.wait((ended, becoming_ready), timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            becoming_ready.cancel()
        if not self.ready.is_set() and not ended.done():
            return Ended(NEVER_OPENED, "the gateway did not say ready")
        return await ended

    async def _open(self) -> None:
        where = await self._reach.websocket()
        if where is None or self._now_s() < self._http_until_s:
            self.link = http = HttpLink(self._requests, self._on_frame, self._end)
            await http.open(self._exchange.received)
        else:
            self.link = websocket = WebSocketLink(self._on_frame, self._end)
            await websocket.open(*where)

    async def _note_failed_open(self) -> None:
        """After two in a row ask over HTTP; if that works, it is the WebSocket that something between does not let through."""
        self._failed_opens += 1
        if self._failed_opens < FAILED_OPENS or self._now_s() < self._http_until_s:
            return
        try:
            response = await (await self._reach.http()).get("/api/health", timeout=10)
        except WrongKey:
            return
        except (OSError, httpx.TransportError) as error:
            await self._nobody_answered(error)
            return
        if response.is_success:
            self._http_until_s = self._now_s() + HTTP_FOR_S
            self._hurry.set()

    # -- frames

    def _on_frame(self, payload: bytes) -> None:
        try:
            frame = read_frame(payload)
            if frame is not None:
                self._handle(frame, payload)
        except (NotAFrame, ValueError) as error:
            if self.link is not None:
                self.link.abort()
            self._end(Ended(NEVER_OPENED, f"not a frame of the protocol: {error}"))

    def _handle(self, frame: frames.Frame, payload: bytes) -> None:
        match frame:
            case frames.EventFrame():
                self._on_event(frame, payload)
            case frames.Result():
                self._answered(frame.id, frame.data, None)
            case frames.Error():
                self._on_error(frame)
            case frames.Hello():
                self._requests.gateway_clock(frame.ts)
                self._start(self._authenticate(frame.nonce, self._exchange.received))
            case frames.Reauth():
                self._start(self._authenticate(frame.nonce, None))
            case frames.Ready():
                self._on_ready(frame)
            case frames.Reauthed() | frames.Pong():
                pass
            case _:
                self._on_opening(frame)

    def _on_opening(self, frame: frames.Reset | frames.SnapshotFrame | frames.ResumeDone) -> None:
        match frame:
            case frames.Reset():
                self._note("reset", reason=frame.reason)
                self._exchange.reset(frame)
                self._forget_what_waits()
            case frames.SnapshotFrame():
                self._tell(self._exchange.snapshot(frame))
            case frames.ResumeDone():
                self._note("resume_done", seq=frame.seq)
                self._tell(self._exchange.resume_done(frame))

    def _forget_what_waits(self) -> None:
        """The snapshot to come holds all of it, and what was processed is of another history."""
        self.position = None
        outcomes = [one for one in self._inbox if isinstance(one, Settled)]
        self._inbox.clear()
        self._inbox.extend(outcomes)

    async def _authenticate(self, nonce: str, resume: Position | None) -> None:
        ended = await self._refreshed()
        if ended is not None:
            if self.link is not None:
                self.link.abort()
            self._end(ended)
            return
        token = self._requests.identity.access_token
        frame: dict[str, Any] = {"type": "auth", "token": token}
        frame["proof"] = self._requests.proof("GET", "/ws", token, nonce)
        frame["resume"] = None if resume is None else {"stream": resume.stream, "after": resume.after}
        if self.link is not None:
            self.link.send(frame)

    def _on_ready(self, frame: frames.Ready) -> None:
        resume = self._exchange.received
        self._exchange.ready(frame)
        self.scopes = frozenset(frame.scopes)
        self._failed_opens = 0
        self._note(
            "ready",
            device=frame.device_id,
            user=frame.user_id,
            seq=frame.seq,
            resume=None if resume is None else {"stream": resume.stream, "after": resume.after},
        )
        self._set(State.READY)
        self.ready.set()
        self._acknowledge()
        self.flush()

    def _on_event(self, frame: frames.EventFrame, payload: bytes) -> None:
        if frame.seq is not None:
            self._note("event", seq=frame.seq, frame=payload)
        self._tell(self._exchange.event(frame))

    def _tell(self, told: Told | None) -> None:
        if told is None:
            return
        if isinstance(told.item, Snapshot):
            self._note("snapshot", seq=told.item.seq)
        if not self.wants_events:
            if told.reaches is not None:
                self.processed(told.reaches)
        elif told.reaches is not None or isinstance(told.item, CaughtUp) or self._has_room(told.item):
            self._inbox.append(told)
            self._news.set()

    def _has_room(self, item: Event | Snapshot) -> bool:
        """For a live event. A text that lost a piece is not continued: its stored message brings it whole."""
        body = item.body if isinstance(item, Event) else None
        if isinstance(body, TextStart):
            self._partial.discard(body.message_id)
        if len(self._inbox) < MAX_QUEUED and not (isinstance(body, TextContent) and body.message_id in self._partial):
            return True
        self.dropped_live += 1
        if isinstance(body, TextStart | TextContent) and len(self._partial) < MAX_QUEUED:
            self._partial.add(body.message_id)
        return False

    def _on_error(self, frame: frames.Error) -> None:
        if frame.id is not None:
            problem = frame.problem
            if self.outbox.refused(frame.id, problem, self._now_s()):
                self._answered(frame.id, None, problem)
            else:
                self._around.observer.note("put_off", id=frame.id, code=str(problem.code))
                self._schedule()
            return
        self._retry_after_s = frame.retry_after_s
        if frame.code == Code.RATE_LIMITED and self.ready.is_set():
            self._acked = -1
            self.outbox.one_was_dropped(self._now_s() + (frame.retry_after_s or 1.0))
            self._schedule()

    def _answered(self, command_id: str, data: dict[str, Any] | None, problem: Exception | None) -> None:
        settled = self._settled(command_id, data, problem)
        if settled is not None:
            self._inbox.append(settled)
            self._news.set()
        self.flush()

    def _acknowledge(self) -> None:
        self._ack_is_due = False
        position = self.position
        if self.link is None or position is None or not self.ready.is_set() or position.after <= self._acked:
            return
        if self._exchange.may_acknowledge(position):
            self._acked = position.after
            self._note("ack", seq=position.after)
            self.link.send({"type": "ack", "seq": position.after})

    def _end(self, ended: Ended) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(ended)

    # -- parts

    def _schedule(self) -> None:
        """One timer for what is sent later and for deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state is State.CLOSED:
            return
        waits = [] if not self.ready.is_set() else [due for due in [self.outbox.next_due_s()] if due is not None]
        waits = [max(0.01, due - self._now_s()) for due in waits]
        deadline_ms = self.outbox.next_deadline_ms()
        if deadline_ms is not None:
            waits.append(max(0.01, (deadline_ms - self._around.clock.now_ms()) / 1000))
        if waits:
            self._timer = asyncio.get_running_loop().call_later(min(waits), self._due)

    def _due(self) -> None:
        for command in self.outbox.expired(self._around.clock.now_ms()):
            self._answered(command.id, None, NoAnswer(command.id, command.name))
        self.flush()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, kind: str, **what: object) -> None:
        self._around.observer.note(kind, connection=self.connections, stream=self._exchange.stream, **what)

    def _set(self, state: State) -> None:
        if self.state is not state and self.state is not State.CLOSED:
            self.state = state
            self._around.on_state(state)

    def _now_s(self) -> float:
        return self._around.clock.monotonic()
