"""A mail server as somebody else would run it: SMTP with STARTTLS or TLS, and a login."""

import asyncio
import base64
import ssl
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from pathlib import Path
from typing import cast

from tests.support.receivers import make_certificate
from tests.support.served import Served


class MailServer:
    """Takes mail; `mails` and `logins` keep what came. `answers` are codes that the next DATAs get instead of 250."""

    def __init__(self, folder: Path, *, is_sealed: bool = False, has_starttls: bool = True) -> None:
        self.certificate, self._key = make_certificate(folder)
        self._is_sealed = is_sealed
        self._has_starttls = has_starttls
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[tuple[str, str]] = []
        self.was_encrypted: list[bool] = []
        self.answers: list[int] = []
        self.refuses: set[str] = set()
        self.is_mute = False
        self.arrived = asyncio.Condition()
        self.port = 0

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self._key)
        return context

    async def start(self) -> "MailServer":
        sealed = self._context() if self._is_sealed else None
        self._server = Served(self._serve, self.port, tls=sealed)
        self.port = self._server.port
        return self

    async def stop(self) -> None:
        await self._server.stop()

    async def until(self, count: int) -> list[EmailMessage]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.mails) >= count)
        return self.mails

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.is_mute:
                await reader.read()
                return
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, OSError, ValueError):
            return

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_encrypted, to = self._is_sealed, list[str]()

        async def say(*lines: str) -> None:
            writer.write("".join(f"{line}\r\n" for line in lines).encode())
            await writer.drain()

        await say("220 mail.example ESMTP")
        while line := (await reader.readuntil(b"\r\n")).decode().strip():
            verb = line.upper()
            if verb.startswith("EHLO"):
                offer = self._has_starttls and not is_encrypted
                await say("250-mail.example", *(["250-STARTTLS"] if offer else []), "250 AUTH PLAIN")
            elif verb == "STARTTLS":
                await say("220 go on")
                await writer.start_tls(self._context())
                is_encrypted = True
            elif verb.startswith("AUTH PLAIN"):
                _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                self.logins.append((user, password))
                await say("235 welcome" if password == "right" else "535 who are you")
            elif verb.startswith("RCPT"):
                to.append(line.partition("<")[2].rstrip(">"))
                await say("550 nobody" if to[-1] in self.refuses else "250 yes")
            elif verb == "DATA":
                await say("354 go on")
                await self._take(await reader.readuntil(b"\r\n.\r\n"), to, say_=say, is_encrypted=is_encrypted)
                to = []
            elif verb == "QUIT":
                await say("221 bye")
                return
            else:
                await say("250 yes")

    async def _take(self, data: bytes, to: list[str], *, say_: object, is_encrypted: bool) -> None:
        from collections.abc import Awaitable, Callable

        say = cast("Callable[[str], Awaitable[None]]", say_)
        code = self.answers.pop(0) if self.answers else 250
        if code == 250:
            mail = BytesParser(policy=SMTP).parsebytes(data.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n."))
            async with self.arrived:
                self.mails.append(mail)
                self.recipients.append(to)
                self.was_encrypted.append(is_encrypted)
                self.arrived.notify_all()
        await say(f"{code} said")
