"""A gateway's devices on a real database, and phones that belong to its owner."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.bus.bus_local import LocalBus
from entobot.core import topics
from entobot.core.ids import Ids, Prefix, RandomIds
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Scope
from entobot.devices.api_keys import ApiKeys
from entobot.devices.keys import parse_public_jwk
from entobot.devices.model import Device
from entobot.devices.service import Devices
from entobot.devices.signing import SigningKeys
from entobot.devices.tokens import Tokens
from entobot.storage.database import Database, Transaction, metadata
from entobot.stream.service import Stream
from tests.devices.phone import ORIGIN, Phone
from tests.support.stores import new_database
from tests.support.time import ManualClock, SeededEntropy


class HeardAudit(Audit):
    """The real log, which also remembers what it was told."""

    def __init__(self, ids: Ids, entropy: SeededEntropy) -> None:
        super().__init__(ids=ids, entropy=entropy, signer=None, head_file=None)
        self.heard: list[tuple[AuditEvent, Outcome, str, Mapping[str, Any]]] = []

    def record(self, tx: Transaction, event: AuditEvent, **details: Any) -> None:
        super().record(tx, event, **details)
        facts = details.get("facts") or {}
        self.heard.append((event, details.get("outcome", Outcome.SUCCESS), details.get("subject", ""), facts))

    def events(self) -> list[AuditEvent]:
        return [event for event, *_ in self.heard]


class File:
    """Where a keyring is kept."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def load(self) -> bytes | None:
        return self.content

    def save(self, content: bytes) -> None:
        self.content = content


class House:
    """One gateway's devices with everything under them. `reopened` is the same house after a restart."""

    def __init__(self, folder: Path, clock: ManualClock, entropy: SeededEntropy, files: tuple[File, File]) -> None:
        self.folder, self.clock, self.entropy, self.files = folder, clock, entropy, files
        self.database: Database = new_database(folder)
        self.ids = RandomIds(clock, entropy)
        self.bus = LocalBus()
        self.stream = Stream(self.bus, self.ids)
        self.accounts = Accounts(self.ids, self.stream)
        self.keys = SigningKeys.open(files[0].load, files[0].save, clock.now_ms())
        self.audit = HeardAudit(self.ids, entropy)
        self.tokens = Tokens(self.keys, ORIGIN, b"k" * 32, entropy)
        self.devices = Devices(
            database=self.database,
            clock=clock,
            ids=self.ids,
            audit=self.audit,
            stream=self.stream,
            accounts=self.accounts,
            bus=self.bus,
            keys=self.keys,
            tokens=self.tokens,
            api_keys=ApiKeys(b"p" * 32, entropy),
            entropy=entropy,
            origin=ORIGIN,
            further_origins=("https://other.test",),
        )
        self.rung: list[str] = []
        self.bus.subscribe(topics.CONTROL_DEVICES, lambda _, payload: self.rung.append(payload.decode()))

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    async def owner(self) -> User:
        return await self.database.write(lambda tx: self.accounts.ensure_owner(tx, self.now_ms))

    async def pair(
        self, name: str = "Phone", scopes: frozenset[Scope] = DEFAULT_DEVICE_SCOPES, user_id: str | None = None
    ) -> tuple[Phone, str]:
        """A paired phone with credentials, and its device id."""
        phone, device_id = Phone(), self.ids.new(Prefix.DEVICE)
        owner_id = user_id or (await self.owner()).user_id

        def unit(tx: Transaction) -> None:
            self.devices.register(
                tx,
                device_id=device_id,
                user_id=owner_id,
                name=name,
                platform="ios",
                app_version="1.0",
                os_version="26.1",
                key=parse_public_jwk(phone.jwk),
                scopes=scopes,
                paired_by="operator",
                confirm_mode="type",
                now_ms=self.now_ms,
            )
            phone.credentials = self.devices.issue(tx, device_id, self.now_ms)

        await self.database.write(unit)
        return phone, device_id

    async def device(self, device_id: str) -> Device:
        return await self.database.read(lambda tx: self.devices.get_device(tx, device_id))

    async def devices_used(self, device_id: str) -> bool:
        return await self.database.read(lambda tx: self.devices.was_used(tx, device_id))

    async def count(self, table: str) -> int:
        statement = select(func.count().label("n")).select_from(metadata.tables[table])
        row = await self.database.read(lambda tx: tx.first(statement))
        return int(row["n"]) if row is not None else 0

    async def refresh(self, phone: Phone, token: str | None = None) -> None:
        """Refresh and keep what comes."""
        shown = phone.ask_refresh(self.now_ms)
        phone.credentials = await self.devices.refresh(token or phone.refresh_token, shown)

    async def reopened(self) -> "House":
        await self.database.stop()
        again = House(self.folder, self.clock, self.entropy, self.files)
        await again.database.start()
        return again


@pytest.fixture
async def house(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[House]:
    house = House(tmp_path, clock, entropy, (File(), File()))
    await house.database.start()
    await house.owner()
    yield house
    await house.database.stop()
