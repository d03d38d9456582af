"""What is done with the audit log while the gateway runs: checkpoints are signed, receivers get what is new."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from entobot import __version__
from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.audit.formats import jsonl, syslog
from entobot.audit.ocsf import ocsf
from entobot.audit.segments import Rotation, Segments
from entobot.audit.sending import Outlet, Render, Sender
from entobot.audit.service import Audit
from entobot.audit.sink import Sink
from entobot.audit.sink_file import FileSink
from entobot.config_audit import AuditSink
from entobot.core.errors import StartupRefused
from entobot.home import private_folder

log = logging.getLogger("entobot.audit")

SYSLOG_PORT = 6514
MEDIA_TYPES = {
    "checkpoint": "text/plain; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "ocsf": "application/x-ndjson",
}


def make_audit(ground: Ground) -> Audit:
    return Audit(
        ids=ground.ids,
        entropy=ground.entropy,
        signer=ground.head_signer,
        head_file=ground.home.audit_head,
        notes=ground.head_signer.notes(),
        meters=ground.meters,
    )


class AuditKeeping:
    def __init__(self, ground: Ground, audit: Audit) -> None:
        self._ground = ground
        self._audit = audit
        kept = ground.settings.audit
        rotation = Rotation(kept.segment_entries, kept.segment_age)
        self._segments = Segments(ground.home.audit, rotation, private_folder)
        self._tasks: list[asyncio.Task[None]] = []
        self._senders = [
            Sender(
                outlet_of(settings, ground.name),
                audit=audit,
                database=ground.database,
                clock=ground.clock,
                entropy=ground.entropy,
                meters=ground.meters,
                node_id=ground.node_id,
                alive=who_lives(ground),
            )
            for settings in ground.settings.audit.sinks
        ]

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(sender), name=f"audit {sender.outlet.name}") for sender in self._senders
        ]

    async def stop(self) -> None:
        """Whatever is under way is sent again by the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def sign(self) -> None:
        """A checkpoint of what was written since the last one, and a segment where one is due."""
        database, now_ms = self._ground.database, self._ground.clock.now_ms()
        made = await self._audit.checkpoints.make(database.read, database.write, now_ms)
        if (file := await self._segments.close_if_due(database.read, made, now_ms)) is not None:
            log.info("a segment of the audit log was closed: %s", file.name)

    def complaints(self) -> list[str]:
        return [said for sender in self._senders if (said := sender.complaint)]

    async def _run(self, sender: Sender) -> None:
        while True:
            try:
                await sender.run()
            except Exception:
                log.exception("sending the audit log to '%s' failed; it is tried again", sender.outlet.name)
                await asyncio.sleep(60)


def outlet_of(settings: AuditSink, host: str) -> Outlet:
    """Raises StartupRefused for files that are not there."""
    for path in (settings.authority, settings.certificate, settings.key, settings.token_file):
        if path is not None and not path.is_file():
            raise StartupRefused(f"audit.sinks, {settings.name}: {path} is no file.")
    renders: dict[str, Render | None] = {
        "checkpoint": None,
        "jsonl": jsonl,
        "ocsf": partial(ocsf, version=__version__, host=host),
        "syslog": partial(syslog, host=host),
    }
    return Outlet(settings.name, _sink(settings), renders[settings.format], settings.personal)


def _sink(settings: AuditSink) -> Sink:
    parts = urlsplit(settings.url)
    if parts.scheme == "file":
        return FileSink(Path(unquote(parts.path)))
    context = _context(settings)
    if parts.scheme == "tls":
        from entobot.audit.sink_syslog import SyslogSink

        return SyslogSink(parts.hostname or "", parts.port or SYSLOG_PORT, context)
    from entobot.audit.sink_http import HttpSink

    media_type = MEDIA_TYPES[settings.format]
    return HttpSink(settings.url, media_type, settings.token_file, context if parts.scheme == "https" else None)


def _context(settings: AuditSink) -> Callable[[], ssl.SSLContext]:
    """Made anew for each connection: a certificate that was renewed on disk counts."""

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=settings.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None and settings.key is not None:
            context.load_cert_chain(settings.certificate, settings.key)
        return context

    return make
