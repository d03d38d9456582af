"""The channels as people look at them: what each sent lately, and whether it works."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from entobot.core.clock import Clock, to_ms
from entobot.notifications import attempt_store, place_store
from entobot.notifications.model import Attempt, AttemptState, Channel
from entobot.notifications.sending import Sender
from entobot.storage.database import Database, Transaction

WINDOW = timedelta(days=1)


class Health(StrEnum):
    FAILING = "failing"
    """What was tried last was not taken."""
    OFF = "off"
    """The settings name no server for it."""
    OK = "ok"
    UNUSED = "unused"
    """Nothing was sent by it yet."""


@dataclass(frozen=True, slots=True)
class ChannelNow:
    """Counts are of the last day, `waiting` of now."""

    channel: Channel
    health: Health
    service: str
    places: int
    accepted: int
    failed: int
    unknown: int
    waiting: int
    last: Attempt | None


class Overview:
    def __init__(self, sender: Sender, database: Database, clock: Clock) -> None:
        self._sender = sender
        self._database = database
        self._clock = clock

    async def channels(self) -> list[ChannelNow]:
        since_ms = self._clock.now_ms() - to_ms(WINDOW)
        shown = [one for one in Channel if one is not Channel.LIVE]
        return await self._database.read(lambda tx: [self._now(tx, one, since_ms) for one in shown])

    def _now(self, tx: Transaction, channel: Channel, since_ms: int) -> ChannelNow:
        outlet = self._sender.outlets.get(channel)
        counts = attempt_store.counts_of_channel(tx, channel, since_ms)
        last = attempt_store.last_of_channel(tx, channel)
        taken = (AttemptState.ACCEPTED, AttemptState.DELIVERED, AttemptState.READ)
        return ChannelNow(
            channel=channel,
            health=Health.OFF if outlet is None else _health(last),
            service="" if outlet is None else outlet.service,
            places=place_store.count_places(tx, channel),
            accepted=sum(counts.get(one, 0) for one in taken),
            failed=counts.get(AttemptState.FAILED, 0),
            unknown=counts.get(AttemptState.UNKNOWN, 0),
            waiting=attempt_store.count_waiting(tx, channel),
            last=last,
        )


def _health(last: Attempt | None) -> Health:
    if last is None:
        return Health.UNUSED
    return Health.FAILING if last.has_failed else Health.OK
