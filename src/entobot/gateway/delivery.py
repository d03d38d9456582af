"""Deliver one user's events to one connection: open, replay, live, at the speed of its acknowledgements."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from entobot.core.clock import Clock
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.gateway import wire
from entobot.gateway.channel import Channel, Frame
from entobot.gateway.feed import EventsGone, Feed, Opening
from entobot.gateway.link import Timer, Timers
from entobot.gateway.live import Live, Piece
from entobot.gateway.meters import DeliveryMeters
from entobot.gateway.window import MAX_PAUSE_S, MAX_QUEUED_EVENTS, MIN_PAUSE_S, Window
from entobot.gateway.wire import Close
from entobot.storage.database import Database, StorageFailed
from entobot.telemetry.meters import Meters

log = logging.getLogger(__name__)

MAX_BUFFERED_BYTES = 512 * 1024
"""Written and not yet taken by the kernel; above it live events are dropped and everything else waits."""
MAX_SHOWN = 64
"""Texts whose progress is remembered before those that ended unseen are forgotten."""
_OVER = 2**62
"""Progress of a text that ended while pieces of it still travel: none of them is shown."""


class Outlet(Protocol):
    """Where frames go."""

    @property
    def buffered_bytes(self) -> int: ...
    def send(self, payload: bytes) -> None: ...


class Delivery:
    """From `open` on, every durable event after the opening position is sent in order, none missing, none twice.

    Live events are sent only while nothing durable waits, and are dropped otherwise; when the connection is up to
    date again, a text that is being written is shown anew from its beginning. Snapshots wait for the kernel, too.
    """

    def __init__(
        self,
        *,
        database: Database,
        feed: Feed,
        principal: Principal,
        outlet: Outlet,
        end: Callable[[Close, str], None],
        clock: Clock,
        timers: Timers,
        meters: DeliveryMeters | None = None,
        connection_id: int | None = None,
    ) -> None:
        """`connection_id` is for log lines."""
        self._connection_id = connection_id
        self._database = database
        self._feed = feed
        self._principal = principal
        self._outlet = outlet
        self._end = end
        self._clock = clock
        self._timers = timers
        self._meters = meters or DeliveryMeters(Meters(), "websocket")
        self._window = Window()
        self._channel: Channel | None = None
        self._cursor = 0
        self._replay_to: int | None = None
        self._missed_live = False
        self._shown: dict[str, int] = {}
        self._opening: deque[bytes] = deque()
        self._refill: asyncio.Task[None] | None = None
        self._full_since_s: float | None = None
        self._paused_at_seq: int | None = None
        self._paused_since_s = 0.0
        self._patience_due_s = 0.0
        self._patience: Timer | None = None
        self._is_retrying = False
        self._is_stopped = False

    def open(self, opening: Opening, channel: Channel) -> None:
        """Send what `opening` says and go on from there."""
        self._cursor = opening.after
        if opening.reset is None:
            self._replay_to = opening.seq
        else:
            self._opening.append(wire.reset(opening.reset))
            self._opening.extend(wire.snapshots(opening.seq, opening.snapshot or {}, max_bytes=wire.MAX_FRAME_BYTES))
            self._cursor = opening.seq
        self._missed_live = True  # shows what is being written right now
        self._channel = channel
        channel.starts_at(opening.seq)
        self.pull()

    def reauthenticated(self, principal: Principal) -> None:
        """The same device with new credentials: its scopes may have been narrowed."""
        self._principal = principal

    def stop(self) -> None:
        """Idempotent."""
        self._is_stopped = True
        self._meters.behind.discard(self)
        self._meters.unacknowledged.value -= self._window.give_up()
        self._opening.clear()
        if self._refill is not None:
            self._refill.cancel()
        if self._patience is not None:
            self._patience.cancel()

    # -- events

    def news(self) -> None:
        channel = self._channel
        frame = None if channel is None else channel.next_after(self._cursor)
        if frame is not None and self._is_flowing:
            self._cursor = frame.seq
            if self._may_see(frame.scope) and not self._has_expired(frame):
                self._outlet.send(frame.payload)
                self._note_sent(frame)
            if self._window.is_open:
                return
        self.pull()

    @property
    def _is_flowing(self) -> bool:
        """Everything before was sent, and nothing is paused: the next event only has to go out."""
        return (
            self._replay_to is None
            and self._refill is None
            and self._full_since_s is None
            and self._paused_at_seq is None
            and not (self._missed_live or self._opening or self._is_stopped)
            and self._window.is_open
            and self._kernel_has_room
        )

    def show(self, live: Live, payload: bytes) -> None:
        if self._channel is None or self._is_stopped or not self._may_see(live.scope):
            return
        if self._missed_live or not self._is_up_to_date or not self._kernel_has_room:
            self._missed_live = True
            self.pull()
        elif live.piece is None or self._continues(live.piece):
            self._outlet.send(payload)

    def _continues(self, piece: Piece) -> bool:
        """True when this piece is the next one of its text; a gap makes the text be shown anew."""
        shown = self._shown.get(piece.message_id)
        if piece.is_first:
            self._shown[piece.message_id] = shown or 0
            return shown is None
        if piece.is_last:
            return self._shown.pop(piece.message_id, None) == piece.offset
        if shown is None or piece.offset > shown:
            self._shown.pop(piece.message_id, None)
            self._missed_live = True
            self.pull()
            if not self._missed_live:
                self._shown.setdefault(piece.message_id, _OVER)
            return False
        if piece.offset < shown:
            return False
        self._shown[piece.message_id] = shown + piece.length
        return True

    def acknowledged(self, seq: int) -> bool:
        """The client has everything up to `seq`. False when it was never sent that far."""
        if seq > self._cursor:
            return False
        self._window.acknowledged(seq, self._arrived)
        self.pull()
        return True

    def _note_sent(self, frame: Frame) -> None:
        at_ms = frame.at_ms if self._replay_to is None else -frame.at_ms
        self._window.sent(frame.seq, len(frame.payload), self._clock.monotonic(), at_ms)
        self._meters.sent.value += 1
        self._meters.unacknowledged.value += 1

    def _arrived(self, at_ms: int) -> None:
        """The one place that knows when an event is delivered. Replayed ones were marked by their sign."""
        self._meters.unacknowledged.value -= 1
        self._meters.arrived((self._clock.now_ms() - abs(at_ms)) / 1000, is_replayed=at_ms < 0)

    def device_has(self, seq: int) -> None:
        """The device has everything up to `seq`, perhaps by another connection that is further than this one."""
        self.acknowledged(min(seq, self._cursor))

    def writable(self) -> None:
        """The kernel takes bytes again."""
        self.pull()

    @property
    def _is_up_to_date(self) -> bool:
        """Exactly where the channel is: ahead of it, live events would be older than what was sent."""
        channel = self._channel
        return channel is not None and not self._opening and self._cursor == channel.latest and self._window.is_open

    def _may_see(self, scope: Scope | None) -> bool:
        return scope is None or scope in self._principal.scopes

    def _has_expired(self, frame: Frame) -> bool:
        return frame.expires_at_ms is not None and frame.expires_at_ms <= self._clock.now_ms()

    def pull(self) -> None:
        """Send as much as window and kernel allow; the rest waits for `acknowledged` or `writable`."""
        channel = self._channel
        if channel is None or self._refill is not None or self._is_stopped:
            return
        if self._kernel_has_room:
            self._full_since_s = None
        while self._opening and self._kernel_has_room:
            self._outlet.send(self._opening.popleft())
        self._finish_replay()  # before anything later, also when there was nothing to replay
        while self._has_room and self._cursor < self._target(channel):
            frames = channel.recent_after(self._cursor)
            if frames is None:
                self._refill = asyncio.get_running_loop().create_task(self._read_more(channel))
                break
            if not frames:
                break
            self._send(frames)
        self._finish_replay()
        self._show_writing()
        self._note_full_kernel(channel)
        self._note_pause(channel)
        self._note_behind()

    @property
    def waiting_events(self) -> int:
        """Of the log, not sent yet; those that this device may not see are among them."""
        return 0 if self._channel is None else max(0, self._target(self._channel) - self._cursor)

    def _note_behind(self) -> None:
        if self.waiting_events and not self._is_stopped:
            self._meters.behind.add(self)
        else:
            self._meters.behind.discard(self)

    @property
    def _kernel_has_room(self) -> bool:
        return self._outlet.buffered_bytes <= MAX_BUFFERED_BYTES

    @property
    def _has_room(self) -> bool:
        return not self._opening and self._window.is_open and self._kernel_has_room

    def _target(self, channel: Channel) -> int:
        return max(channel.latest, self._replay_to or 0)

    def _note_full_kernel(self, channel: Channel) -> None:
        if self._kernel_has_room:
            return
        if not self._opening and not self._missed_live and self._cursor >= self._target(channel):
            return
        if self._full_since_s is None:
            self._full_since_s = self._clock.monotonic()
        if not self._is_retrying:  # the kernel may take it all at once, and then it never says `writable`
            self._is_retrying = True
            asyncio.get_running_loop().call_soon(self._retry)

    # -- patience

    def _note_pause(self, channel: Channel) -> None:
        """Let the client go that was paused for too long, or for whom too much came meanwhile."""
        if self._is_stopped or (self._full_since_s is None and self._window.is_open):
            self._paused_at_seq = None
            return
        now_s = self._clock.monotonic()
        if self._paused_at_seq is None:
            self._paused_at_seq, self._paused_since_s = channel.latest, now_s
        due_s = self._window.patience_ends_s
        if self._full_since_s is not None:
            due_s = min(due_s, self._full_since_s + MAX_PAUSE_S)
        if channel.latest - self._paused_at_seq > MAX_QUEUED_EVENTS:
            due_s = min(due_s, self._paused_since_s + MIN_PAUSE_S)
        if now_s >= due_s:
            self._end(Close.SLOW_CONSUMER, "events wait for acknowledgements")
        else:
            self._decide_at(due_s, now_s)

    def _decide_at(self, due_s: float, now_s: float) -> None:
        if self._patience is not None:
            if self._patience_due_s <= due_s:
                return
            self._patience.cancel()
        self._patience_due_s = due_s
        self._patience = self._timers.after(due_s - now_s, self._patience_ends)

    def _patience_ends(self) -> None:
        """Of the pause for which the timer was set; there may be a later one now."""
        self._patience = None
        self.pull()

    def _retry(self) -> None:
        self.pull()
        self._is_retrying = False

    def _send(self, frames: list[Frame]) -> None:
        for frame in frames:
            if not self._has_room:
                return
            self._cursor = frame.seq
            if self._may_see(frame.scope) and not self._has_expired(frame):
                self._outlet.send(frame.payload)
                self._note_sent(frame)
            self._finish_replay()

    async def _read_more(self, channel: Channel) -> None:
        target = self._target(channel)
        try:
            page = await channel.replay_after(self._cursor)
        except StorageFailed:
            self._end(Close.DRAINING, "the store does not answer")
            return
        except EventsGone:  # it comes back, and the position that it names then is answered with a snapshot
            self._end(Close.SLOW_CONSUMER, "events that were not taken in time are kept no longer")
            return
        except Exception:
            log.exception("events could not be read", extra={"connection_id": self._connection_id})
            self._end(Close.DRAINING, "something went wrong here")
            return
        finally:
            self._refill = None
        if self._is_stopped:
            return
        frames = [frame for frame in page if frame.seq <= target]
        if not frames:  # the log ends before the target: it was told of more than was there
            self._cursor = target
        self._send(frames)
        self.pull()

    def _finish_replay(self) -> None:
        if self._replay_to is not None and self._cursor >= self._replay_to:
            self._outlet.send(wire.resume_done(self._replay_to))
            self._replay_to = None

    def _show_writing(self) -> None:
        is_ready = self._is_up_to_date and self._replay_to is None and self._kernel_has_room
        if not self._missed_live or not is_ready:
            return
        self._missed_live = False
        found = self._feed.writing(self._principal.user_id)
        if len(self._shown) > MAX_SHOWN:
            current = {writing.message_id for writing in found}
            self._shown = {key: shown for key, shown in self._shown.items() if key in current}
        for writing in found:
            if self._may_see(writing.scope) and self._shown.get(writing.message_id) != writing.length:
                self._shown[writing.message_id] = writing.length
                for event in writing.events:
                    self._outlet.send(wire.event(at_ms=writing.at_ms, topic=writing.topic, event_json=event))
