"""What to do next with a notification: the pure decision behind the router.

Nothing here waits or writes. The router asks when something may be due, carries out what the answer says, and looks
again at the time that it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo

from entobot.core.clock import to_ms
from entobot.notifications.model import RANK, Attempt, Channel, Notification, Place, Priority, State
from entobot.notifications.rules import Rules, Step, next_time_ms, quiet_until_ms

LIVE_WAIT = timedelta(seconds=10)
"""A connected device has so long to acknowledge."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a decision looks at. `places` are those that can be used now; `attempts` are this notification's.

    `is_seen`: a device of the person acknowledged the event that shows it. `is_connected`: one is connected now.
    """

    notification: Notification
    rules: Rules
    zone: tzinfo
    places: Sequence[Place]
    attempts: Sequence[Attempt]
    is_seen: bool
    is_connected: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """`ends` is the state in which the notification ends now. `to` are places to try now; `step` is then how many steps
    of the rules are behind. `look_at_ms`: when to decide again, None for never. `is_digest`: tell of it together with
    all else that is low. `escalates`: tell the next person now. `since_ms`: its way begins only then. `live_failed`: no
    device acknowledged it in time, or none was there.
    """

    look_at_ms: int | None = None
    ends: State | None = None
    to: tuple[Place, ...] = ()
    step: int = 0
    is_digest: bool = False
    escalates: bool = False
    since_ms: int | None = None
    live_failed: bool = False


def decide(case: Case, now_ms: int) -> Decision:
    one = case.notification
    if one.state is not State.OPEN:
        return Decision(None, step=one.step)
    if one.expires_at_ms is not None and now_ms >= one.expires_at_ms:
        return Decision(ends=State.EXPIRED, step=one.step)
    if one.escalation is not None and one.escalation.at_ms is not None and now_ms >= one.escalation.at_ms:
        return Decision(look_at_ms=now_ms, step=one.step, escalates=True)
    return _seen(one) if case.is_seen else _unseen(case, now_ms)


def _seen(one: Notification) -> Decision:
    """What is told by an event of its own is no news any more, unless somebody has to act on it. Other things stay
    until they are read.
    """
    if one.is_told_by_event and one.escalation is None:
        return Decision(ends=State.SEEN, step=one.step)
    return Decision(look_at_ms=_ahead(one, None), step=one.step)


def _unseen(case: Case, now_ms: int) -> Decision:
    one = case.notification
    live_until_ms = one.since_ms + to_ms(LIVE_WAIT)
    if case.is_connected and now_ms < live_until_ms and one.step == 0:
        return Decision(look_at_ms=_ahead(one, live_until_ms), step=one.step)
    return _by_rules(case, now_ms)


def _by_rules(case: Case, now_ms: int) -> Decision:
    one, rules = case.notification, case.rules
    if one.kind in rules.muted:
        return Decision(look_at_ms=_ahead(one, None), step=one.step, live_failed=True)
    breaks = one.priority is Priority.CRITICAL and rules.critical_breaks_quiet
    quiet_ms = None if breaks else quiet_until_ms(rules, case.zone, now_ms)
    if quiet_ms is not None:
        since_ms = _since_after(case, quiet_ms)
        return Decision(look_at_ms=_ahead(one, quiet_ms), step=one.step, since_ms=since_ms, live_failed=True)
    if one.priority is Priority.LOW:
        due_ms = next_time_ms(rules.digest_minute, case.zone, one.since_ms)
        if now_ms < due_ms:
            return Decision(look_at_ms=_ahead(one, due_ms), step=one.step, live_failed=True)
        return Decision(look_at_ms=None, step=one.step, is_digest=True, live_failed=True)
    return _steps(case, now_ms)


def _since_after(case: Case, quiet_ms: int) -> int | None:
    """When its way begins so that a step which the quiet hours held up comes as they end, and later ones as long after
    it as the rules say: not all at once, and not each night later. None where no step was held up.
    """
    one, tried = case.notification, {attempt.place_id for attempt in case.attempts}
    left = (step for step in case.rules.steps[one.step :] if _places(case, step, tried))
    following = next(left, None)
    if one.priority is Priority.LOW or following is None:
        return None
    since_ms = quiet_ms - following.after_ms - to_ms(LIVE_WAIT)
    return since_ms if since_ms > one.since_ms else None


def _steps(case: Case, now_ms: int) -> Decision:
    """Every step that is due now at once; then when the next one will be."""
    one = case.notification
    begun_ms = min(one.since_ms + to_ms(LIVE_WAIT), now_ms)
    hopeful = any(not attempt.has_failed for attempt in case.attempts if attempt.channel is not Channel.LIVE)
    to: list[Place] = []
    step = one.step
    tried = {attempt.place_id for attempt in case.attempts}
    for index, wanted in enumerate(case.rules.steps[one.step :], start=one.step):
        places = _places(case, wanted, tried)
        if places:
            due_ms = begun_ms + wanted.after_ms
            # What could reach them so far has failed, or there is nothing of the kind: the next step need not wait.
            if now_ms < due_ms and (hopeful or to):
                return Decision(look_at_ms=_ahead(one, due_ms), to=tuple(to), step=step, live_failed=True)
            to += places
            tried |= {place.place_id for place in places}
        step = index + 1
    return Decision(look_at_ms=_ahead(one, None), to=tuple(to), step=step, live_failed=True)


def _places(case: Case, step: Step, tried: set[str]) -> list[Place]:
    if RANK[case.notification.priority] < RANK[step.least]:
        return []
    return [one for one in case.places if one.channel is step.channel and one.place_id not in tried]


def _ahead(one: Notification, at_ms: int | None) -> int | None:
    """The first of what comes: that, the next person's turn, the end."""
    times = [at_ms, None if one.escalation is None else one.escalation.at_ms, one.expires_at_ms]
    return min((time for time in times if time is not None), default=None)
