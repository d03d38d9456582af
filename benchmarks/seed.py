"""Put people and devices into a stopped gateway's data folder, as pairing and key making would, without their ceremony."""

import asyncio
from dataclasses import dataclass

from entobot.accounts.model import User
from entobot.app.gateway import Gateway
from entobot.app.ground import leave_ground
from entobot.client.keys import DeviceKey
from entobot.core.clock import SystemClock
from entobot.core.ids import Prefix
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, Role, Scope
from entobot.core.secrets import SystemEntropy
from entobot.devices import credential_store
from entobot.devices import store as devices_store
from entobot.devices.api_keys import ApiKeys
from entobot.devices.keys import parse_public_jwk
from entobot.devices.model import ApiKey, Device, Platform, Status
from entobot.home import Home, Purpose
from entobot.sources import load_layers
from entobot.storage.database import Transaction
from tests.support.process import GatewayProcess

CHUNK = 250


@dataclass(frozen=True, slots=True)
class Seeded:
    """One device and what it authenticates with: an API key, or a token and its key pair."""

    device_id: str
    user_id: str
    api_key: str = ""
    token: str = ""
    key: DeviceKey | None = None


def with_keys(gateway: GatewayProcess, users: int, devices_each: int) -> list[Seeded]:
    """Devices that hold an API key."""
    return asyncio.run(_Seed(gateway, is_paired=False).sow(users, devices_each))


def paired(gateway: GatewayProcess, users: int, devices_each: int, *, has_tokens: bool) -> list[Seeded]:
    """Devices with a key pair; without tokens they only fill the tables."""
    return asyncio.run(_Seed(gateway, is_paired=True, has_tokens=has_tokens).sow(users, devices_each))


class _Seed:
    def __init__(self, gateway: GatewayProcess, *, is_paired: bool, has_tokens: bool = False) -> None:
        self._process = gateway
        self._is_paired = is_paired
        self._has_tokens = has_tokens
        self._entropy = SystemEntropy()
        self._clock = SystemClock()

    async def sow(self, users: int, devices_each: int) -> list[Seeded]:
        environment = self._process.environment
        layers = load_layers(self._process.home, environment)
        self._gateway = await Gateway.open(
            Home(self._process.home), layers, environment, clock=self._clock, entropy=self._entropy
        )
        ground = self._gateway.ground
        self._ids = ground.ids
        self._api_keys = ApiKeys(ground.keys.key(Purpose.API_KEYS), self._entropy)
        try:
            people = [self._ids.new(Prefix.USER) for _ in range(users)]
            await ground.database.write(lambda tx: self._add_users(tx, people))
            wanted = [user_id for user_id in people for _ in range(devices_each)]
            sown: list[Seeded] = []
            for start in range(0, len(wanted), CHUNK):
                chunk = [(user_id, self._new_key()) for user_id in wanted[start : start + CHUNK]]
                sown += await ground.database.write(lambda tx, chunk=chunk: self._add_devices(tx, chunk))
            return sown
        finally:
            await leave_ground(ground)

    def _new_key(self) -> DeviceKey | None:
        return DeviceKey.generate() if self._is_paired else None

    def _add_users(self, tx: Transaction, people: list[str]) -> None:
        now_ms = self._clock.now_ms()
        for number, user_id in enumerate(people):
            person = User(user_id, f"person {number}", Role.MEMBER, now_ms, login=user_id.lower())
            self._gateway.accounts.insert(tx, person)

    def _add_devices(self, tx: Transaction, chunk: list[tuple[str, DeviceKey | None]]) -> list[Seeded]:
        return [
            self._add_key_holder(tx, user_id) if key is None else self._add_paired(tx, user_id, key)
            for user_id, key in chunk
        ]

    def _add_key_holder(self, tx: Transaction, user_id: str) -> Seeded:
        now_ms = self._clock.now_ms()
        device_id, key_id = self._ids.new(Prefix.DEVICE), self._ids.new(Prefix.API_KEY)
        secret = self._api_keys.mint(key_id)
        device = Device(
            device_id=device_id,
            user_id=user_id,
            name="bench",
            platform=Platform.IOT,
            app_version="",
            os_version="",
            jwk=None,
            thumbprint=None,
            scopes=frozenset({Scope.CHAT}),
            status=Status.ACTIVE,
            epoch=1,
            created_at_ms=now_ms,
            last_seen_at_ms=None,
            first_used_at_ms=None,
            paired_by=user_id,
            confirmed_by_mode="api_key",
        )
        devices_store.insert_device(tx, device)
        credential_store.insert_key(tx, ApiKey(key_id, device_id, self._api_keys.digest(secret), now_ms, None))
        return Seeded(device_id, user_id, api_key=secret)

    def _add_paired(self, tx: Transaction, user_id: str, key: DeviceKey) -> Seeded:
        now_ms = self._clock.now_ms()
        device = self._gateway.devices.register(
            tx,
            device_id=self._ids.new(Prefix.DEVICE),
            user_id=user_id,
            name="bench",
            platform="web",
            app_version="1",
            os_version=None,
            key=parse_public_jwk(key.jwk),
            scopes=DEFAULT_DEVICE_SCOPES,
            paired_by=user_id,
            confirm_mode="type",
            now_ms=now_ms,
        )
        token = ""
        if self._has_tokens:
            token = self._gateway.devices.issue(tx, device.device_id, now_ms).access_token
        return Seeded(device.device_id, user_id, token=token, key=key)
