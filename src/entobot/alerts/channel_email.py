"""Alerts by e-mail."""

from collections.abc import Sequence
from email.message import EmailMessage

from entobot.alerts.channel import ChannelFailed, Notice
from entobot.outgoing import mail
from entobot.outgoing.mail import Mailer, MailNotTaken


class EmailChannel:
    """See `Channel`."""

    def __init__(self, mailer: Mailer, to: Sequence[str]) -> None:
        self.place = mailer.server.host
        self._mailer = mailer
        self._to = tuple(to)

    async def send(self, notice: Notice) -> None:
        try:
            await self._mailer.send(compose(notice, self._mailer.server.sender, self._to), self._to)
        except MailNotTaken as failure:
            raise ChannelFailed(str(failure)) from None
        except ValueError as error:
            raise ChannelFailed(f"it cannot be written ({type(error).__name__})") from None


def compose(notice: Notice, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Plain text. Raises ValueError for a header that would end its line."""
    return mail.compose(
        message_id=notice.message_id,
        at_ms=notice.at_ms,
        subject=notice.headline,
        lines=notice.lines,
        sender=sender,
        to=to,
    )
