"""Mail: one SMTP conversation for each message, in a thread that can be cut off."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import BinaryIO, Literal

STEP_TIMEOUT_S = 10.0
"""Of one word of the server."""
MAX_REPLY_BYTES = 64 * 1024
"""Of one reply. smtplib keeps all of it."""
TIMEOUT_S = 30.0
"""Of the whole conversation, however slowly the server speaks."""


class MailNotTaken(Exception):  # noqa: N818  reads as what happened
    """The server did not take it; the text says why, without a secret. `is_final`: it will not, however often it is
    asked.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where it is, who signs in there, and the address that mails come from."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str
    password_file: Path | None
    sender: str


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


class _Reply:
    """One reply of the server, which may go on for as many lines as it likes (RFC 5321 §4.2.1)."""

    def __init__(self, lines: BinaryIO) -> None:
        self.lines = lines
        self._left = MAX_REPLY_BYTES

    def readline(self, limit: int) -> bytes:
        line = self.lines.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("the server's reply has no end")
        return line

    def close(self) -> None:
        self.lines.close()


class Mailer:
    """What the server took at the end of DATA is sent; anybody it refused among the addresses is a failure.

    `host_name` is how the gateway names itself to the server.
    """

    def __init__(self, server: MailServer, context: Callable[[], ssl.SSLContext], host_name: str) -> None:
        self.server = server
        self._context = context
        self._host_name = host_name

    async def send(self, message: EmailMessage, to: Sequence[str]) -> None:
        """Raises MailNotTaken. It may have arrived then."""
        conversation = _Conversation()
        talk = asyncio.get_running_loop().run_in_executor(None, self._talk, message, list(to), conversation)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.shield(talk)
        except TimeoutError:
            raise MailNotTaken(f"the server did not take it within {TIMEOUT_S:.0f} s") from None
        except smtplib.SMTPAuthenticationError as error:
            raise MailNotTaken(f"the server answered {error.smtp_code}") from None
        except smtplib.SMTPResponseException as error:
            raise MailNotTaken(f"the server answered {error.smtp_code}", is_final=error.smtp_code >= 500) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = {code for code, _ in error.recipients.values()}
            named = ", ".join(sorted(str(code) for code in codes))
            reason = f"the server refused {len(error.recipients)} of the addresses ({named})"
            raise MailNotTaken(reason, is_final=min(codes) >= 500) from None
        except ssl.SSLError as error:
            raise MailNotTaken(f"the server's certificate or TLS is not good ({error.reason})") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise MailNotTaken(f"the server cannot be used ({type(error).__name__})") from None
        finally:
            if not talk.done():
                conversation.cut()
                talk.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _talk(self, message: EmailMessage, to: list[str], conversation: _Conversation) -> None:
        """Blocks."""
        at, context = self.server, self._context()
        smtp = self._begin(context, conversation)
        with smtp:
            if at.security == "starttls":
                smtp.starttls(context=context)  # raises where the server has none: nothing is sent in the clear
            if at.password_file is not None:
                smtp.login(at.user, at.password_file.read_text("utf-8").strip())
            if conversation.is_cut:
                raise TimeoutError
            refused = smtp.send_message(message, at.sender, to)
            if refused:
                raise smtplib.SMTPRecipientsRefused(refused)

    def _begin(self, context: ssl.SSLContext, conversation: _Conversation) -> smtplib.SMTP:
        """Connected. It can be cut off from the server's first byte on, which comes while it is being made."""
        at, name = self.server, self._host_name

        class Plain(smtplib.SMTP):
            def connect(self, host: str = "", port: int = 0, source_address: object = None) -> tuple[int, bytes]:
                del source_address
                conversation.smtp = self
                return super().connect(host, port)

            def getreply(self) -> tuple[int, bytes]:
                assert isinstance(self.sock, socket.socket)
                self.file = _Reply(self.file.lines if isinstance(self.file, _Reply) else self.sock.makefile("rb"))
                return super().getreply()

        class Sealed(Plain, smtplib.SMTP_SSL):
            pass

        if at.security == "tls":
            return Sealed(at.host, at.port, local_hostname=name, timeout=STEP_TIMEOUT_S, context=context)
        return Plain(at.host, at.port, local_hostname=name, timeout=STEP_TIMEOUT_S)


def compose(
    *, message_id: str, at_ms: int, subject: str, lines: Sequence[str], sender: str, to: Sequence[str]
) -> EmailMessage:
    """Plain text. Raises ValueError for a header that would end its line."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(datetime.fromtimestamp(at_ms / 1000, UTC))
    message["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content("\n".join(lines) + "\n")
    return message
