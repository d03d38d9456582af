"""One gateway process: every object built in one place, started and stopped in order."""

import asyncio
import gc
import logging
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

from entobot import __version__
from entobot.accounts import http as accounts_http
from entobot.accounts.service import Accounts
from entobot.agents import http as agents_http
from entobot.agents.providers import Rows, read_providers
from entobot.app.alerting import Alerting
from entobot.app.answering import Features, build_answering
from entobot.app.applying import make_live
from entobot.app.audit_keeping import AuditKeeping, make_audit
from entobot.app.automations import Automating
from entobot.app.backups import Backups
from entobot.app.bridging import CHECK as AGENTS
from entobot.app.by_sms import BySms
from entobot.app.certificate import Certificate
from entobot.app.certificates import Certificates
from entobot.app.cluster import Cluster, Parts
from entobot.app.connections import ConnectionDoor, connections_of
from entobot.app.device_commands import device_commands
from entobot.app.feed import Snapshots, make_feed
from entobot.app.filing import Filing
from entobot.app.front import endpoints_of, per_address_of, plain_listener, rates_of, retention_of, strangers_of
from entobot.app.ground import Ground, lay_ground, leave_ground
from entobot.app.inviting import Enrolling, make_pairing
from entobot.app.links import make_boards, make_websockets, pace_of
from entobot.app.measuring import Counts, Measuring
from entobot.app.notifying import Notifying
from entobot.app.observing import observe_bus, observe_database, observe_process
from entobot.app.operations import SAMPLE_EVERY, Desk
from entobot.app.outside import Outside
from entobot.app.periodic import Periodic
from entobot.app.readiness import Readiness, parts_of
from entobot.app.signing_in import build_sign_in, gather_people
from entobot.app.simple import BearerPairing, DeviceConversations
from entobot.app.texting import Texts
from entobot.approvals import http as approvals_http
from entobot.approvals import http_policies
from entobot.audit import http as audit_http
from entobot.audit.events import AuditEvent
from entobot.conversations import http as conversations_http
from entobot.conversations.service import Conversations
from entobot.core.clock import Clock
from entobot.core.rates import Rate
from entobot.core.secrets import Entropy, random_secret
from entobot.devices import http as devices_http
from entobot.devices.api_keys import ApiKeys
from entobot.devices.service import Devices
from entobot.devices.tokens import Tokens
from entobot.gateway import http as gateway_http
from entobot.gateway.authentication import Refused
from entobot.gateway.commands import command_table
from entobot.gateway.executor import Executor
from entobot.gateway.http import EventParts
from entobot.gateway.hub import Hub
from entobot.gateway.meters import ConnectionMeters
from entobot.gateway.session import SessionParts, spawner
from entobot.gateway.websocket import WebSockets
from entobot.gateway.wheel import TimerWheel
from entobot.gateway.wire import Close
from entobot.home import Home, Purpose
from entobot.pairing import http as pairing_http
from entobot.settings import http as settings_http
from entobot.settings.service import Stored, StoredSettings
from entobot.sources import Layers
from entobot.storage.database import Transaction
from entobot.stream.retention import backlog, trim
from entobot.stream.service import Stream
from entobot.telemetry.credential_log import CredentialLog
from entobot.telemetry.exposition import expose
from entobot.telemetry.log import RefusalLog, get_logger
from entobot.telemetry.loop_watch import LoopWatch
from entobot.telemetry.metrics import Metric
from entobot.telemetry.recent_log import RecentLog
from entobot.web import certificate_routes
from entobot.web import metrics as web_metrics
from entobot.web.application import WebSettings, build_application
from entobot.web.idempotency import Idempotency
from entobot.web.listener import Listener
from entobot.web.pages import load_pages
from entobot.web.routes import Api

log = logging.getLogger("entobot.app")

SWITCH_INTERVAL_S = 0.0005
"""With CPython's 5 ms the writer thread starves behind a busy event loop: see docs/adr/0004."""
COLLECT_EVERY = (10_000, 20, 100)
"""Python's 700 allocations look for garbage in the middle of every few commands, and find none."""
STOP_WITHIN_S = 9.0
TRACES_WITHIN_S = 1.5


class Gateway:
    """Build with `await Gateway.open(…)`, then `start`, later `stop`. One per data folder."""

    def __init__(
        self, ground: Ground, environment: Mapping[str, str], layers: Layers, stored: Stored, rows: Rows
    ) -> None:
        """`ground.settings` are those of `layers` with what of `stored` can be used; `rows` are stored providers."""
        self.ground = ground
        self._is_draining = self._stopped = False
        clock, database, bus, ids = ground.clock, ground.database, ground.bus, ground.ids
        limits = ground.settings.limits
        self.stream = Stream(bus, ids)
        self.accounts = Accounts(ids, self.stream)
        self.audit = make_audit(ground)
        self.audit_keeping = AuditKeeping(ground, self.audit)
        self.sign_in = build_sign_in(ground, self.audit, self.accounts)
        tokens = Tokens(ground.signing, ground.origin, ground.keys.key(Purpose.REFRESH_TOKENS), ground.entropy)
        self.devices = Devices(
            database=database,
            clock=clock,
            ids=ids,
            audit=self.audit,
            stream=self.stream,
            accounts=self.accounts,
            bus=bus,
            keys=ground.signing,
            tokens=tokens,
            api_keys=ApiKeys(ground.keys.key(Purpose.API_KEYS), ground.entropy),
            entropy=ground.entropy,
            origin=ground.origin,
            further_origins=ground.settings.gateway.allowed_origins,
            sessions=self.sign_in.sessions,
        )
        self.settings = StoredSettings(database, clock, self.audit, self.devices.guard, layers=layers, found=stored)
        self.filing = Filing(ground, self.audit, self.devices, environment)
        self.conversations = Conversations(ids, self.stream, bus, self.filing.service)
        self.texts = Texts(ground, self.audit)
        self.pairing = make_pairing(ground, self.audit, self.accounts, self.devices, self.texts.outbox)
        self.sign_in.factors.on_reset.append(self.pairing.transitions.end_of_sessions)
        self.certificates = Certificates(ground, self.audit, self._certificate_changed)
        self.notifying = Notifying(ground, self.audit, self.accounts, self.stream, self.devices, self.texts)
        self._answer(environment, rows)
        self._timers = TimerWheel(clock, lambda delay, call: asyncio.get_running_loop().call_later(delay, call))
        feed = make_feed(self.stream, self.devices, Snapshots(self.conversations, self.approvals))
        self.hub = Hub(database, bus, clock, feed)
        self.devices.directory.find_online = self.hub.online
        self.devices.directory.find_connections = connections_of(self.hub, clock)
        self.stream.appended = self.hub.appended
        self.rates, self._strangers = rates_of(limits, clock, ground.meters), strangers_of(limits, clock, ground.meters)
        named = (self.pairing, self.sign_in.passkeys, self.sign_in.factors)
        self._live = make_live(ground, self.settings, self._strangers, self.rates, *named)
        self._spawn, self._tasks = spawner()
        self._refusals = RefusalLog(get_logger("gateway"), clock, ground.meters)
        self.notifying.follow(self.people, self.hub, self.agents)
        self._executor = self._make_executor()
        self._idempotency = Idempotency(database, clock, ground.entropy)
        self.cluster = self._find_cluster()
        self._loop_watch = LoopWatch(clock, ground.meters)
        self._listener: Listener | None = None
        self._plain = plain_listener(ground.settings, ground.origin, self.certificates.answers, clock, self._timers)
        self._build_watch()

    def _answer(self, environment: Mapping[str, str], rows: Rows) -> None:
        own = (self.stream, self.audit, self.accounts, self.devices, self.conversations, self.settings)
        features = Features(*own, self.notifying.service, self.sign_in.passkeys, self.filing.service)
        answering = build_answering(self.ground, features, environment, rows)
        self.approvals, self.bot, self.providers = answering.approvals, answering.bot, answering.providers
        self.agents, self._worker, self.doors = answering.agents, answering.worker, answering.doors
        self.things = answering.things
        self.people = gather_people(self.ground, features, answering, self.sign_in)
        self._automating = Automating(self.ground, features, answering, self.people, self.notifying.zones)
        self._by_sms = BySms(self.ground, features, answering, self.people, self.notifying, self.texts)
        self.outside = Outside(self.ground, self.approvals, self.devices, self.people, self.audit, self.notifying)

    def _make_executor(self) -> Executor:
        at = self.ground
        features = (self.agents, self.approvals, self.conversations, self.devices, self.notifying, self.stream)
        self._commands = device_commands(*features, self.hub)
        commands = command_table(self._commands)
        return Executor(at.database, at.clock, commands, self.devices.guard, at.meters, at.tracer)

    def _build_watch(self) -> None:
        self._credentials = CredentialLog(get_logger("gateway"), self.ground.clock)
        ground = self.ground
        self._periodic = Periodic(ground.clock, ground.meters)
        parts = parts_of(lambda: self._is_draining, lambda: self._listener, lambda: self._worker.is_running, ground.bus)
        parts["renewal"] = self.certificates.check
        parts[AGENTS] = self.doors.check
        row = random_secret(ground.entropy, 9)
        self.readiness = Readiness(ground.database, ground.clock, ground.meters, row, parts)
        self.measuring = Measuring(ground.database, ground.clock, ground.meters, self.count, self.readiness.report)
        self._desk = Desk(self)
        self.backups = Backups(ground.home, ground.settings.backup, ground.clock, ground.meters)
        told = self.notifying.service
        self.alerting = Alerting(ground, self.audit, self.accounts, self.stream, self.devices, self.backups, told)
        enrolling = Enrolling(ground, self.audit, self.accounts, self.devices, self.people, self.things.service)
        more = (enrolling, self._automating)
        self._edges = (self.alerting, self.notifying, self.outside, self._by_sms, self.texts, self.things, *more)
        self._trimmed = ground.meters.counter(Metric.STREAM_TRIMMED)

    @classmethod
    async def open(
        cls,
        home: Home,
        layers: Layers,
        environment: Mapping[str, str],
        *,
        clock: Clock,
        entropy: Entropy,
        recent_log: RecentLog | None = None,
    ) -> "Gateway":
        """With its database started, since settings are stored there. Raises StartupRefused, with nothing left open."""
        ground, stored = await lay_ground(home, layers, clock, entropy)
        try:
            ground = ground if recent_log is None else replace(ground, recent_log=recent_log)
            return cls(ground, environment, layers, stored, await read_providers(ground.database))
        except BaseException:
            await leave_ground(ground)
            raise

    def _find_cluster(self) -> Cluster | None:
        """The other nodes, where there may be some."""
        parts = Parts(
            self.hub, self.stream, self.devices, self.settings, self._worker, self.rates, self.sign_in.attempts
        )
        return Cluster(self.ground, parts) if self.ground.is_shared else None

    # -- start

    async def start(self) -> None:
        """Returns when the port is open and everything answers. Raises StartupRefused."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            await self._start()
        except BaseException:
            await self._give_up()
            raise
        self._loop_watch.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_EVERY)
        gc.enable()

    async def _start(self) -> None:
        ground = self.ground
        await ground.bus.start()
        if self.cluster is not None:
            await self.cluster.join()
        now_ms = ground.clock.now_ms()
        await ground.database.write(lambda tx: self.accounts.ensure_owner(tx, now_ms))
        await self.audit.start(ground.database.write, now_ms)
        self._listener = await self._open_listener()
        if self._plain is not None:
            await self._plain.start()
        await self._record(AuditEvent.GATEWAY_STARTED)
        if self.cluster is not None:  # the first entry may be another node's: each keeps a signed head of its own
            await self.audit.seal(ground.database.write, ground.clock.now_ms())
        await self.backups.look()
        self.bot.start()
        self.doors.start()
        await self._worker.start()
        if self.cluster is not None:
            self.cluster.start()
        self._start_sweeps()
        self.audit_keeping.start()

    async def _give_up(self) -> None:
        """A start that failed leaves nothing open: no port, no lock, no task."""
        await self._periodic.stop()
        await self.notifying.stop()
        await self.audit_keeping.stop()
        if self._listener is not None:
            await self._guarded("listener", self._listener.stop(0))
        if self._plain is not None:
            await self._guarded("plain listener", self._plain.stop(0))
        await self._guarded("agents", self._worker.stop(timedelta(0)))
        if self.cluster is not None:
            await self._guarded("nodes", self.cluster.stop())
        await self._guarded("bus", self.ground.bus.stop())
        await self._guarded("storage", self.ground.database.stop())
        await self._stop_tracing()
        self._timers.close()
        self.ground.lock.release()

    async def _open_listener(self) -> Listener:
        ground = self.ground
        gateway, files = ground.settings.gateway, None if ground.certificate is None else ground.certificate.files
        parts, refused = self._session_parts(), partial(self._refused, "mqtt")
        self._boards = await make_boards(ground, parts, self.devices, self.audit, self.things, refused)
        told = partial(self._credentials.refused, "http")
        api = Api(self.devices, self._idempotency, self.rates, ground.meters, on_guess=told, clock=ground.clock)
        self._add_routes(api)
        app = build_application(
            api,
            settings=WebSettings(
                origin=ground.origin,
                version=__version__,
                gateway_name=ground.name,
                allowed_origins=gateway.allowed_origins,
                has_tls=files is not None,
                certificate=lambda: self.certificates.public,
            ),
            pages=await asyncio.to_thread(load_pages),
            ready=self.readiness.report,
            clock=ground.clock,
            entropy=ground.entropy,
            admit=self._admit,
            meters=ground.meters,
            tracer=ground.tracer,
            name_now=lambda: self._live.name,
        )
        listener = Listener(
            app=app,
            websocket=self._websockets(parts),
            endpoints=[*endpoints_of(gateway, files, ground.home.socket), *self._boards.endpoints()],
            clock=ground.clock,
            timers=self._timers,
            waiting=self._live.opening,
            per_address=per_address_of(gateway),
            callers=self._live.callers,
            on_refused=lambda reason, fields: self._refusals.refused(reason, **fields),
            max_connections=gateway.max_connections,
        )
        observe_process(ground.meters, listener)
        observe_bus(ground.meters, ground.bus)
        observe_database(ground.meters, ground.database)
        await listener.start()
        self.certificates.serve(listener)
        return listener

    def _add_routes(self, api: Api) -> None:
        database = self.ground.database
        accounts_http.add_routes(api, self.people)
        self.sign_in.add_routes(api, self.people, self.ground.origin)
        agents_http.add_routes(api, self.bot, self.providers)
        self.doors.add_routes(api)
        approvals_http.add_routes(api, self.approvals, database, self.ground.clock)
        http_policies.add_routes(api, self.settings, self.accounts, database)
        audit_http.add_routes(api, self.audit, database, self.ground.clock)
        conversations_http.add_routes(api, self.conversations, database)
        devices_http.add_routes(api, self.devices)
        self.filing.add_routes(api, self.conversations, self.notifying.service)
        pairing_http.add_routes(api, self.pairing)
        settings_http.add_routes(api, self.settings, self.ground.origin)
        meters = ConnectionMeters(self.ground.meters, "sse")
        parts = EventParts(
            database, self.ground.clock, self.hub, self.hub.feed, self._timers, meters, self._strangers.come_back_s
        )
        gateway_http.add_routes(api, self._executor, parts)
        web_metrics.add_routes(api, self._expose)
        certificate_routes.add_routes(api, self.certificates)
        self._desk.add_routes(api)
        for edge in self._edges:
            edge.add_routes(api)

    def _session_parts(self) -> SessionParts:
        ground = self.ground
        return SessionParts(
            database=ground.database,
            clock=ground.clock,
            entropy=ground.entropy,
            hub=self.hub,
            executor=self._executor,
            feed=self.hub.feed,
            authenticator=ConnectionDoor(self.devices),
            timers=self._timers,
            pace=pace_of(ground.settings.gateway),
            waiting=self._strangers,
            rates=self.rates,
            server=f"entobot/{__version__}",
            spawn=self._spawn,
            on_refused=partial(self._refused, "websocket"),
            meters=ConnectionMeters(ground.meters, "websocket"),
        )

    def _websockets(self, parts: SessionParts) -> WebSockets:
        pairing, further = BearerPairing(self.pairing.bearers, self.ground.clock), self._boards.websockets()
        desk = DeviceConversations(self.devices, self.stream, self.conversations)
        return make_websockets(self.ground, parts, partial(self._refused, "simple"), desk, pairing, further)

    def _start_sweeps(self) -> None:
        every = self._periodic.every
        every(timedelta(minutes=1), self.backups.make_if_due, at_once=True)
        every(SAMPLE_EVERY, self._desk.sample, at_once=True)
        for edge in (*self._edges, self.filing, self._boards):
            edge.start(self._periodic)
        every(self.ground.settings.audit.checkpoint_every, self.audit_keeping.sign, at_once=True)
        every(timedelta(seconds=15), self.pairing.expire)
        every(timedelta(seconds=30), self.hub.sweep)
        every(timedelta(minutes=5), self._trim_stream)
        every(timedelta(minutes=10), self._executor.sweep)
        every(timedelta(hours=1), self._idempotency.sweep)
        every(timedelta(hours=1), self.sign_in.sessions.expire)
        every(timedelta(minutes=1), self.sign_in.passwords.settle)
        every(timedelta(hours=6), self.devices.rotate_keys_if_due)
        if self.certificates.source is not None:
            is_ordered = self.ground.settings.tls.mode == "acme"
            every(self.certificates.source.every, self.certificates.look, at_once=is_ordered)

    async def _trim_stream(self) -> None:
        self._trimmed.add(
            await trim(self.ground.database, retention_of(self.settings.in_force.stream), self.ground.clock.now_ms())
        )

    def count(self, tx: Transaction) -> Counts:
        awaiting = len(self.conversations.awaiting(tx))
        unconsumed = self.approvals.count_unconsumed(tx, self.ground.clock.now_ms())
        kept = backlog(tx, retention_of(self.settings.in_force.stream))
        return Counts(awaiting, self.approvals.count_pending(tx), unconsumed, kept)

    async def _expose(self, accept: str) -> tuple[bytes, str]:
        await self.measuring.look()
        return await expose(self.ground.meters, accept)

    # -- while it runs

    def _refused(self, transport: str, refusal: Refused, address: str) -> None:
        """A connection's credentials were not good; those that ran out or were taken back are no guess."""
        self._refusals.refused("connection", why=refusal.reason, address=address)
        if refusal.code is Close.BAD_CREDENTIALS and refusal.is_guess:
            self._credentials.refused(transport, Close.BAD_CREDENTIALS.name.lower(), address)

    @property
    def port(self) -> int:
        assert self._listener is not None
        return self._listener.port

    def _admit(self, address: str) -> float | None:
        return self.rates.wait_of_address(Rate.REQUESTS, address) or None

    def _certificate_changed(self, certificate: Certificate) -> None:
        self.pairing.spki = certificate.spki

    async def _record(self, event: AuditEvent) -> None:
        now_ms, facts = self.ground.clock.now_ms(), {"version": __version__}
        await self.ground.database.write(lambda tx: self.audit.record(tx, event, now_ms=now_ms, facts=facts))

    # -- stop

    async def stop(self) -> None:
        """Drain and end within 10 s, whatever a model endpoint or a client does. Idempotent.

        Not ready first; after `gateway.drain_pause` no more connections, those that there are in slices.
        """
        if self._stopped:
            return
        self._stopped = True
        self._loop_watch.stop()
        self._is_draining = True
        ground = self.ground
        await asyncio.sleep(ground.settings.gateway.drain_pause.total_seconds())
        end_s = ground.clock.monotonic() + STOP_WITHIN_S
        if self._listener is not None:
            self._listener.shut()
        await self._periodic.stop()
        await self._guarded("notifications", self.notifying.stop())
        await self._guarded("agents elsewhere", self.outside.stop())
        await self.certificates.stop()
        if self._plain is not None:
            await self._guarded("plain listener", self._plain.stop(0))
        self.pairing.stop()
        self.doors.stop()
        await asyncio.gather(
            self._guarded("connections", self.hub.drain()),
            self._guarded("agents", self._worker.stop(timedelta(seconds=2))),
        )
        if self._listener is not None:
            await self._guarded("listener", self._listener.stop(max(0.5, end_s - ground.clock.monotonic() - 2)))
        self._boards.stop()
        await self._guarded("hub", self.hub.stop())
        for task in tuple(self._tasks):
            task.cancel()
        if self.cluster is not None:
            await self._guarded("nodes", self.cluster.stop())
        await self._guarded("sign-ins", self.sign_in.passwords.close())
        await self._guarded("audit", self.audit_keeping.stop())
        await self._guarded("audit", self._record(AuditEvent.GATEWAY_STOPPED))
        await self._guarded("audit", self.audit.seal(ground.database.write, ground.clock.now_ms()))
        await self._guarded("audit", self.audit_keeping.sign())
        await self._guarded("storage", ground.database.stop())
        await ground.bus.stop()
        await self._stop_tracing()
        self._timers.close()
        self.sign_in.hashing.close()
        self._refusals.flush()
        ground.lock.release()

    async def _stop_tracing(self) -> None:
        if self.ground.tracer.is_on:
            await self._guarded("tracing", asyncio.to_thread(self.ground.tracer.stop, TRACES_WITHIN_S))

    async def _guarded(self, name: str, step: Coroutine[object, object, object]) -> None:
        """One step that fails or hangs must not keep the others from happening."""
        try:
            async with asyncio.timeout(STOP_WITHIN_S / 2):
                await step
        except Exception:
            log.exception("stopping %s failed", name)
