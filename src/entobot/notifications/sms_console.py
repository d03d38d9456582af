"""The adapter for development: sends nothing, and says so wherever one looks."""

from entobot.notifications.sms import Sms, Taken


class ConsoleSms:
    """See `SmsSender`. The text holds a secret, so that it is not written anywhere: who makes an invite gets the link
    in the answer instead.
    """

    name = "console"
    knows_repeats = True
    is_real = False

    async def send(self, sms: Sms) -> Taken:  # noqa: ARG002  the port's argument
        return Taken()
