"""Alerts by e-mail: one SMTP conversation for each message, in a thread."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

from entobot.alerts.channel import ChannelFailed, Notice

STEP_TIMEOUT_S = 10.0
"""Of one word of the server."""
TIMEOUT_S = 30.0
"""Of the whole conversation, however slowly the server speaks."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where the SMTP server is, who signs in there, and the addresses."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str
    password_file: Path | None
    sender: str
    to: tuple[str, ...]


@dataclass(slots=True)
class _Conversation:
    """What the loop must be able to cut off."""

    smtp: smtplib.SMTP | None = field(default=None)
    is_cut: bool = field(default=False)

    def cut(self) -> None:
        self.is_cut = True
        sock = None if self.smtp is None else self.smtp.sock
        if isinstance(sock, socket.socket):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class EmailChannel:
    """See `Channel`. What the server took at the end of DATA is sent; anybody it refused among the addresses is a failure."""

    def __init__(self, mailbox: Mailbox, context: Callable[[], ssl.SSLContext], host_name: str) -> None:
        self.place = mailbox.host
        self._mailbox = mailbox
        self._context = context
        self._host_name = host_name

    async def send(self, notice: Notice) -> None:
        conversation = _Conversation()
        talk = asyncio.get_running_loop().run_in_executor(None, self._talk, notice, conversation)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.shield(talk)
        except TimeoutError:
            raise ChannelFailed(f"the server did not take it within {TIMEOUT_S:.0f} s") from None
        except smtplib.SMTPResponseException as error:
            raise ChannelFailed(f"the server answered {error.smtp_code}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = ", ".join(sorted({str(code) for code, _ in error.recipients.values()}))
            raise ChannelFailed(f"the server refused {len(error.recipients)} of the addresses ({codes})") from None
        except ssl.SSLError as error:
            raise ChannelFailed(f"the server's certificate or TLS is not good ({error.reason})") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise ChannelFailed(f"the server cannot be used ({type(error).__name__})") from None
        finally:
            if not talk.done():
                conversation.cut()
                talk.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _talk(self, notice: Notice, conversation: _Conversation) -> None:
        """Blocks."""
        box, context = self._mailbox, self._context()
        message = compose(notice, box.sender, box.to)
        smtp = self._begin(context, conversation)
        with smtp:
            if box.security == "starttls":
                smtp.starttls(context=context)  # raises where the server has none: nothing is sent in the clear
            if box.password_file is not None:
                smtp.login(box.user, box.password_file.read_text("utf-8").strip())
            if conversation.is_cut:
                raise TimeoutError
            refused = smtp.send_message(message, box.sender, list(box.to))
            if refused:
                raise smtplib.SMTPRecipientsRefused(refused)

    def _begin(self, context: ssl.SSLContext, conversation: _Conversation) -> smtplib.SMTP:
        """Connected. It can be cut off from the server's first byte on, which comes while it is being made."""
        box, name = self._mailbox, self._host_name

        class Plain(smtplib.SMTP):
            def connect(self, host: str = "", port: int = 0, source_address: object = None) -> tuple[int, bytes]:
                del source_address
                conversation.smtp = self
                return super().connect(host, port)

        class Sealed(smtplib.SMTP_SSL):
            def connect(self, host: str = "", port: int = 0, source_address: object = None) -> tuple[int, bytes]:
                del source_address
                conversation.smtp = self
                return super().connect(host, port)

        if box.security == "tls":
            return Sealed(box.host, box.port, local_hostname=name, timeout=STEP_TIMEOUT_S, context=context)
        return Plain(box.host, box.port, local_hostname=name, timeout=STEP_TIMEOUT_S)


def compose(notice: Notice, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Plain text. Raises ValueError for a header that would end its line."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = notice.headline
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(datetime.fromtimestamp(notice.at_ms / 1000, UTC))
    message["Message-ID"] = f"<{notice.message_id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content("\n".join(notice.lines) + "\n")
    return message
