"""Alerts as notifications, to everybody who may see alerts; each is reached by their own rules."""

from dataclasses import replace

from entobot.accounts.service import Accounts
from entobot.alerts.channel import ChannelFailed, Notice
from entobot.alerts.model import MessageKind
from entobot.core.alert_rules import Severity
from entobot.core.clock import Clock
from entobot.core.permissions import Scope
from entobot.notifications.model import Kind, Note, Priority
from entobot.notifications.service import Notifications
from entobot.storage.database import Database, Transaction

PLACE = "everybody who may see alerts"
LINK = "/admin/alerts"
_PRIORITIES = {Severity.CRITICAL: Priority.CRITICAL, Severity.INFO: Priority.NORMAL, Severity.WARNING: Priority.HIGH}
"""Critical ones also in quiet hours."""


class NotificationChannel:
    """See `Channel`. Taken when it is stored; how it reaches each person is said of the notification."""

    def __init__(self, notifications: Notifications, accounts: Accounts, database: Database, clock: Clock) -> None:
        self.place = PLACE
        self._notifications = notifications
        self._accounts = accounts
        self._database = database
        self._clock = clock

    async def send(self, notice: Notice) -> None:
        note, now_ms = note_of(notice), self._clock.now_ms()

        def unit(tx: Transaction) -> int:
            people = self._accounts.holders(tx, Scope.AUDIT)
            for user_id in people:
                self._notifications.post(tx, replace(note, user_id=user_id), now_ms)
            return len(people)

        if not await self._database.write(unit):
            raise ChannelFailed("nobody's role may see alerts")


def note_of(notice: Notice) -> Note:
    """For nobody yet. Messages about one alert collapse, so one that comes twice is one; that it is over is told last."""
    alert = notice.data.get("alert")
    if alert is None:
        return Note(
            "", Kind.ALERT, notice.headline, "\n".join(notice.lines), link=LINK, collapse_key=f"alerts:{notice.kind}"
        )
    is_over = notice.kind is MessageKind.CLEARED
    severity = Severity(alert["severity"])
    return Note(
        user_id="",
        kind=Kind.ALERT,
        title=f"{'over' if is_over else severity}: {alert['title']}",
        body="\n".join(notice.lines),
        priority=_over(severity) if is_over else _PRIORITIES[severity],
        link=LINK,
        collapse_key=f"alert:{alert['alert_id']}",
    )


def _over(severity: Severity) -> Priority:
    return Priority.NORMAL if severity is Severity.CRITICAL else Priority.LOW
