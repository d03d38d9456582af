"""Decide for every notification that is due, and write down what is to be sent. Any number of nodes do it at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

from entobot.core.clock import Clock
from entobot.core.ids import Ids, Prefix
from entobot.notifications import attempt_store, place_store, store
from entobot.notifications.model import (
    Attempt,
    AttemptState,
    Channel,
    Kind,
    Note,
    Notification,
    Place,
    Priority,
    State,
)
from entobot.notifications.routing import Case, Decision, decide
from entobot.notifications.service import Notifications, drop
from entobot.notifications.wording import digest_text
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

BATCH = 100
MAX_FOLDED = 100
LISTED = 10
"""Titles in a digest."""
NOT_SEEN = "no device acknowledged it within 10 s"
NOBODY_CONNECTED = "no device was connected"

log = get_logger("notifications")

IsSeen = Callable[[Transaction, str, int], bool]
"""Port, filled by the composition root: has a device that a person looks at acknowledged this event of this person?"""
WhoIsConnected = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""The same: which of these people have a device that is connected, to any node?"""
ZoneOf = Callable[[str], Awaitable[tzinfo | None]]
"""The same: a time zone by its name, None where it is not known."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a batch was decided with."""

    connected: frozenset[str]
    zones: dict[str, tzinfo]


class Router:
    """`channels` are those that this installation has."""

    def __init__(
        self,
        notifications: Notifications,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        meters: Meters,
        channels: frozenset[Channel],
        is_seen: IsSeen,
        who_is_connected: WhoIsConnected,
        zone_of: ZoneOf,
    ) -> None:
        self._notifications = notifications
        self._database = database
        self._clock = clock
        self._ids = ids
        self._channels = channels
        self._is_seen = is_seen
        self._who_is_connected = who_is_connected
        self._zone_of = zone_of
        self._live_seconds = meters.histogram(Metric.NOTIFICATION_SECONDS, channel=Channel.LIVE)

    async def look(self) -> bool:
        """Decide for all that is due; whether anything is to be sent now. Raises StorageFailed."""
        has_sent = False
        while True:
            now_ms = self._clock.now_ms()
            found = await self._database.read(lambda tx, at=now_ms: store.due(tx, at, BATCH), is_small=True)
            if not found:
                return has_sent
            look = await self._prepare(found)
            steps = [self._database.write(lambda tx, one=one, look=look: self._step(tx, one, look)) for one in found]
            has_sent |= any(await asyncio.gather(*steps))  # together they are one commit, where the store can do that

    async def _prepare(self, found: Sequence[Notification]) -> _Look:
        user_ids = sorted({one.user_id for one in found})
        names = await self._database.read(
            lambda tx: {user_id: place_store.rules_of(tx, user_id).time_zone for user_id in user_ids}
        )
        zones = {name: await self._zone_of(name) or UTC for name in set(names.values())}
        return _Look(await self._who_is_connected(user_ids), zones)

    def _step(self, tx: Transaction, found: Notification, look: _Look) -> bool:
        """Of one notification. Whoever comes second finds it moved on."""
        now_ms = self._clock.now_ms()
        one = store.find(tx, found.notification_id)
        if one is None or one.state is not State.OPEN or one.look_at_ms != found.look_at_ms:
            return False
        case = self._case(tx, one, look)
        decision = decide(case, now_ms)
        if decision.ends is State.SEEN and all(a.channel is Channel.LIVE for a in case.attempts):
            drop(tx, one.notification_id)  # a device showed it before anybody had to be told
            return False
        self._note_live(tx, case, decision, now_ms)
        if decision.ends is not None:
            self._notifications.end(tx, one, decision.ends, now_ms)
            return False
        return self._carry_out(tx, case, decision, now_ms)

    def _case(self, tx: Transaction, one: Notification, look: _Look) -> Case:
        rules = place_store.rules_of(tx, one.user_id)
        places = [place for place in place_store.places_of(tx, one.user_id) if self._is_usable(place)]
        return Case(
            notification=one,
            rules=rules,
            zone=look.zones.get(rules.time_zone, UTC),
            places=places,
            attempts=attempt_store.attempts_of(tx, one.notification_id),
            is_seen=one.event_seq > 0 and self._is_seen(tx, one.user_id, one.event_seq),
            is_connected=one.user_id in look.connected,
        )

    def _is_usable(self, place: Place) -> bool:
        return place.is_confirmed and place.channel in self._channels

    def _carry_out(self, tx: Transaction, case: Case, decision: Decision, now_ms: int) -> bool:
        one = case.notification
        if decision.escalates:
            self._escalate(tx, one, now_ms)
        if decision.is_digest:
            self._digest(tx, one, now_ms)
            return False
        for place in decision.to:
            attempt_store.insert_attempt(tx, self._attempt(one, place, now_ms))
        after = replace(
            one,
            look_at_ms=decision.look_at_ms,
            step=decision.step,
            since_ms=one.since_ms if decision.since_ms is None else decision.since_ms,
            escalation=replace(one.escalation, at_ms=None) if decision.escalates and one.escalation else one.escalation,
        )
        store.move(tx, after)
        return bool(decision.to)

    def _attempt(self, one: Notification, place: Place, now_ms: int) -> Attempt:
        return Attempt(
            attempt_id=self._ids.new(Prefix.NOTIFICATION_ATTEMPT),
            notification_id=one.notification_id,
            user_id=one.user_id,
            channel=place.channel,
            place_id=place.place_id,
            state=AttemptState.QUEUED,
            reason="",
            tries=0,
            made_at_ms=now_ms,
            due_at_ms=now_ms,
        )

    def _note_live(self, tx: Transaction, case: Case, decision: Decision, now_ms: int) -> None:
        """What became of the live connections, once."""
        one = case.notification
        if any(attempt.channel is Channel.LIVE for attempt in case.attempts):
            return
        if not case.is_seen and not decision.live_failed:
            return
        reason = "" if case.is_seen else NOT_SEEN if case.is_connected else NOBODY_CONNECTED
        attempt = Attempt(
            attempt_id=self._ids.new(Prefix.NOTIFICATION_ATTEMPT),
            notification_id=one.notification_id,
            user_id=one.user_id,
            channel=Channel.LIVE,
            place_id="",
            state=AttemptState.DELIVERED if case.is_seen else AttemptState.FAILED,
            reason=reason,
            tries=1,
            made_at_ms=one.created_at_ms,
            due_at_ms=one.created_at_ms,
            sent_at_ms=one.created_at_ms,
            ended_at_ms=now_ms,
        )
        attempt_store.insert_attempt(tx, attempt)
        if case.is_seen:
            tx.after_commit(lambda: self._live_seconds.observe((now_ms - one.created_at_ms) / 1000))

    def _escalate(self, tx: Transaction, one: Notification, now_ms: int) -> None:
        """Those who were named are told; what they are told ends with this one."""
        assert one.escalation is not None, "only what has one is escalated"
        for user_id in self._notifications.people_of(tx, one.escalation):
            if user_id != one.user_id:
                note = Note(
                    user_id=user_id,
                    kind=one.kind,
                    title=one.title,
                    body=one.body,
                    priority=one.priority,
                    link=one.link,
                    collapse_key=one.collapse_key,
                    expires_at_ms=one.expires_at_ms,
                    sender=one.sender,
                )
                self._notifications.post(tx, note, now_ms, escalated_from=one.notification_id)

    def _digest(self, tx: Transaction, one: Notification, now_ms: int) -> None:
        """All that is low and waits is told of in one."""
        waiting = store.low(tx, one.user_id, now_ms, MAX_FOLDED)
        waiting = waiting or [one]
        titles = [each.title for each in waiting]
        title, body = digest_text(titles[:LISTED], max(0, len(titles) - LISTED))
        note = Note(
            user_id=one.user_id,
            kind=Kind.DIGEST,
            title=title,
            body=body,
            priority=Priority.NORMAL,
            link="/notifications",
            collapse_key="digest",
        )
        made = self._notifications.post(tx, note, now_ms)
        for each in waiting:
            store.fold(tx, each, made.notification_id)
