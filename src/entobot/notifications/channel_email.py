"""Notifications by e-mail."""

from entobot.core.clock import Clock
from entobot.notifications.channel import Answer, Outcome, Parcel
from entobot.notifications.model import Channel
from entobot.outgoing.mail import Mailer, MailNotTaken, compose


class EmailOutlet:
    """See `Outlet`. Mail servers do not recognise a repeat."""

    channel = Channel.EMAIL
    is_repeatable = False

    def __init__(self, mailer: Mailer, clock: Clock) -> None:
        self.service = mailer.server.host
        self._mailer = mailer
        self._clock = clock

    async def send(self, parcel: Parcel) -> Answer:
        lines = [*([parcel.body, ""] if parcel.body else []), parcel.url]
        return await self._send(parcel.parcel_id, f"[{parcel.gateway}] {parcel.title}", lines, parcel.place.address)

    async def send_code(self, message_id: str, user_id: str, gateway: str, code: str, address: str) -> Answer:
        """Ask whoever reads there whether it is theirs."""
        del user_id  # mails are not counted by person here: `Places.new_code` has counted
        lines = [
            f"Somebody wants notifications of {gateway} to be sent to this address.",
            f"If it was you, type this code there: {code}",
            "",
            "If it was not, ignore this mail: nothing else will be sent.",
        ]
        return await self._send(message_id, f"[{gateway}] Your code", lines, address)

    async def _send(self, message_id: str, subject: str, lines: list[str], address: str) -> Answer:
        try:
            message = compose(
                message_id=message_id,
                at_ms=self._clock.now_ms(),
                subject=subject,
                lines=lines,
                sender=self._mailer.server.sender,
                to=[address],
            )
            await self._mailer.send(message, [address])
        except MailNotTaken as failure:
            return Answer(Outcome.REFUSED if failure.is_final else Outcome.LATER, f"mail: {failure}")
        except ValueError as error:
            return Answer(Outcome.REFUSED, f"mail: it cannot be written ({type(error).__name__})")
        return Answer(Outcome.ACCEPTED)
