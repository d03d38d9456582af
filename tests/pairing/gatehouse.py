"""A gateway as far as pairing needs it, on a real database; and people who pair."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from entobot.accounts.model import User
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.bus.bus import Bus, BusHealth, Listener
from entobot.core.errors import Code, Problem
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy
from entobot.devices.model import Credentials, Device
from entobot.devices.search import Search
from entobot.notifications.sms import SmsSender
from entobot.notifications.sms_console import ConsoleSms
from entobot.notifications.sms_model import Limits
from entobot.notifications.sms_outbox import Outbox
from entobot.pairing.model import Confirm, Invite, Kind
from entobot.pairing.requests import Claimed, CreatedInvite, InviteRequest
from entobot.pairing.service import Pairing
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Meters
from tests.devices.conftest import File, House
from tests.devices.phone import ORIGIN
from tests.pairing.phones import NewPhone
from tests.support.stores import everything
from tests.support.time import ManualClock, SeededEntropy

ADDRESS = "198.51.100.7"
SERVER_KEY = b"k" * 32
SPKI = "s" * 43
NUMBER = "+14155550123"


class HeardAudit(Audit):
    """The real log, which also remembers everything it is told."""

    def __init__(self, ids: Ids, entropy: Entropy) -> None:
        super().__init__(ids=ids, entropy=entropy, signer=None, head_file=None)
        self.heard: list[tuple[AuditEvent, dict[str, Any]]] = []

    def record(self, tx: Transaction, event: AuditEvent, **details: Any) -> None:
        super().record(tx, event, **details)
        self.heard.append((event, details))

    def events(self) -> list[AuditEvent]:
        return [event for event, _ in self.heard]


class Gatehouse:
    """`owner` acts at the local socket. `reopened` is the same gateway after a restart."""

    owner: Principal

    def __init__(self, folder: Path, clock: ManualClock, entropy: SeededEntropy, files: tuple[File, File]) -> None:
        self.house = House(folder, clock, entropy, files)
        self.clock = clock
        self.database = self.house.database
        self.devices = self.house.devices
        self.audit = HeardAudit(self.house.ids, entropy)
        self.pairing = self.pairing_on(self.house.bus)

    def outbox(self, sender: SmsSender, **changes: Any) -> Outbox:
        limits = Limits(
            per_number_per_hour=3,
            answers_per_hour=10,
            per_person_per_hour=20,
            per_day=100,
            price_micros=50_000,
            max_cost_micros_per_day=100_000_000,
            currency="USD",
        )
        return Outbox(
            sender=sender,
            limits=replace(limits, **changes),
            countries=("US",),
            ids=self.house.ids,
            entropy=self.house.entropy,
            audit=self.audit,
            meters=Meters(),
            server_key=SERVER_KEY,
            resend_after=timedelta(minutes=1),
        )

    def pairing_on(self, bus: Bus, outbox: Outbox | None = None) -> Pairing:
        """Another node on the same database. Without an outbox of its own nothing that is sent leaves."""
        return Pairing(
            outbox=outbox or self.outbox(ConsoleSms()),
            database=self.database,
            clock=self.clock,
            ids=self.house.ids,
            entropy=self.house.entropy,
            audit=self.audit,
            accounts=self.house.accounts,
            devices=self.devices,
            bus=bus,
            server_key=SERVER_KEY,
            origin=ORIGIN,
            gateway_name="Ada's gateway",
            spki=SPKI,
        )

    @staticmethod
    async def open(folder: Path, clock: ManualClock, entropy: SeededEntropy) -> "Gatehouse":
        return await Gatehouse(folder, clock, entropy, (File(), File()))._start()

    async def reopened(self) -> "Gatehouse":
        await self.close()
        again = Gatehouse(self.house.folder, self.clock, self.house.entropy, self.house.files)
        return await again._start()

    async def close(self) -> None:
        await self.database.stop()

    async def _start(self) -> "Gatehouse":
        await self.database.start()
        owner = await self.house.owner()
        self.owner = Principal(owner.user_id, owner.scopes)
        return self

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    async def add_user(self, role: Role = Role.MEMBER) -> User:
        user_id = self.house.ids.new(Prefix.USER)
        user = User(user_id, "Bob", role, self.now_ms, login=user_id.lower())
        await self.database.write(lambda tx: self.house.accounts.insert(tx, user))
        return user

    async def device_principal(self, scopes: frozenset[Scope], user_id: str | None = None) -> Principal:
        """Somebody acting through a paired device with these scopes."""
        _, device_id = await self.house.pair("Operator", scopes, user_id)
        device = await self.house.device(device_id)
        return Principal(device.user_id, device.scopes, device_id, device.epoch, device.thumbprint)

    # -- the steps

    async def invite(
        self,
        *,
        by: Principal | None = None,
        kind: Kind = Kind.QR,
        confirm: Confirm | None = Confirm.TYPE,
        scopes: frozenset[Scope] | None = None,
        **more: Any,
    ) -> CreatedInvite:
        if kind is Kind.SMS:
            more = {"phone_number": NUMBER} | more
        request = InviteRequest(kind=kind, confirm=confirm, scopes=scopes, **more)
        return await self.pairing.create_invite(by or self.owner, request)

    async def claim(self, phone: NewPhone, created: CreatedInvite, address: str = ADDRESS, **changes: Any) -> Claimed:
        return await self.pairing.claim_invite(phone.claim(created, self.now_ms, **changes), address)

    async def confirm(self, created: CreatedInvite, claimed: Claimed, by: Principal | None = None) -> str:
        device_id = await self.pairing.confirm_invite(
            by or self.owner, created.invite.invite_id, claimed.claim_id, code=claimed.confirmation_code
        )
        assert device_id is not None
        return device_id

    async def collect(self, phone: NewPhone, claimed: Claimed, wait_s: float = 0) -> Credentials:
        """Collect what must be there."""
        answer = await self.pairing.collect(claimed.claim_id, phone.collect(claimed.claim_id, self.now_ms), wait_s)
        assert isinstance(answer, Credentials)
        phone.credentials = answer
        return answer

    async def pair(
        self, phone: NewPhone, scopes: frozenset[Scope] = DEFAULT_DEVICE_SCOPES
    ) -> tuple[CreatedInvite, Claimed, Credentials]:
        created = await self.invite(scopes=scopes)
        claimed = await self.claim(phone, created)
        await self.confirm(created, claimed)
        return created, claimed, await self.collect(phone, claimed)

    # -- looking

    async def look(self, created: CreatedInvite) -> Invite:
        return await self.pairing.get_invite(self.owner, created.invite.invite_id)

    async def all_devices(self) -> list[Device]:
        return (await self.devices.directory.find_page(self.owner, Search())).rows

    def bytes_on_disk(self) -> bytes:
        return everything(self.house.folder)


def refused(code: Code) -> pytest.RaisesExc[Problem]:
    """For `with`: the block raises a Problem of this code."""
    return pytest.RaisesExc(Problem, check=lambda problem: problem.code is code)


def minutes(count: float) -> float:
    return timedelta(minutes=count).total_seconds()


def addresses() -> Callable[[], str]:
    """A source of addresses that nobody has used."""
    used = 0

    def fresh() -> str:
        nonlocal used
        used += 1
        return f"10.{used >> 16 & 255}.{used >> 8 & 255}.{used & 255}"

    return fresh


class DeafBus:
    """A bus that loses everything."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def health(self) -> BusHealth:
        return BusHealth("deaf")

    def subscribe_others(self, topic: str, listener: Listener) -> Callable[[], None]:
        return self.subscribe(topic, listener)

    def publish(self, topic: str, payload: bytes = b"", *, replaces: bool = False, may_drop: bool = False) -> None: ...

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        return lambda: None
