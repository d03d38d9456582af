"""The list of devices as people look at it: found, named, and whether each is connected."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from entobot.accounts.service import Accounts
from entobot.core.ids import Prefix, is_id
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.devices import search, store
from entobot.devices.model import Device, not_found
from entobot.devices.search import Search
from entobot.storage.database import Database, Transaction

MAX_PAGE = 100
MAX_LOOKED_THROUGH = 20_000
"""Devices that one request for those who are connected goes through; its answer may be short of what was asked for."""


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is the cursor of the following page, None at the end; `total` of all pages, said with the first."""

    rows: list[Device]
    next: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One live connection. Of another node's only `place` is known, which is None for one of this node."""

    transport: str = ""
    address: str = ""
    since_ms: int | None = None
    place: str | None = None


FindOnline = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
FindConnections = Callable[[str], Awaitable[list[ConnectionView]]]
Guard = Callable[[Transaction, Principal], object]


async def nobody_is_online(_: Sequence[str]) -> frozenset[str]:
    return frozenset()


async def no_connections(_: str) -> list[ConnectionView]:
    return []


class Directory:
    """`find_online` tells which of some devices are connected to any node, `find_connections` how one is."""

    def __init__(self, database: Database, accounts: Accounts, guard: Guard) -> None:
        self._database = database
        self._accounts = accounts
        self._guard = guard
        self.find_online: FindOnline = nobody_is_online
        self.find_connections: FindConnections = no_connections

    async def find(self, principal: Principal, device_id: str) -> Device:
        """Raises `not_found`."""
        return await self._database.read(lambda tx: self.view(tx, principal, device_id))

    def view(self, tx: Transaction, principal: Principal, device_id: str) -> Device:
        """Raises `not_found`, also for a device that the principal may not know of."""
        self._guard(tx, principal)
        device = store.find_device(tx, device_id) if is_id(device_id, Prefix.DEVICE) else None
        if device is None or not (sees_all(principal) or device.user_id == principal.user_id):
            raise not_found()
        return device

    async def find_page(
        self, principal: Principal, wanted: Search, cursor: str | None = None, limit: int = MAX_PAGE
    ) -> Page:
        """The principal's own user's devices, or everybody's with `devices.read` or `devices.manage`. Raises `invalid`."""
        sees = sees_all(principal) or wanted.user_id in ("", principal.user_id)
        narrowed = wanted if sees_all(principal) else replace(wanted, user_id=principal.user_id)
        count = max(1, min(limit, MAX_PAGE))

        def unit(tx: Transaction) -> Page:
            self._guard(tx, principal)
            if not sees:
                return Page([], None, 0)
            found = search.find(tx, narrowed, cursor, count + 1)
            following = found.cursors[count - 1] if len(found.devices) > count else None
            return Page(found.devices[:count], following, None if cursor else search.count(tx, narrowed))

        return await self._database.read(unit)

    async def find_online_page(
        self, principal: Principal, wanted: Search, cursor: str | None = None, limit: int = MAX_PAGE
    ) -> Page:
        """The same of those that are connected now. Who is changes all the time, so nobody counts them."""
        found: list[Device] = []
        for _ in range(MAX_LOOKED_THROUGH // MAX_PAGE):
            page = await self.find_page(principal, wanted, cursor, limit)
            here = await self.find_online([device.device_id for device in page.rows])
            found += [device for device in page.rows if device.device_id in here]
            cursor = page.next
            if cursor is None or len(found) >= limit:
                break
        return Page(found, cursor, None)

    async def names(self, devices: Sequence[Device]) -> dict[str, str]:
        """Of the people whose devices these are, by user id."""
        user_ids = {device.user_id for device in devices}
        return await self._database.read(
            lambda tx: {user_id: self._accounts.get_user(tx, user_id).name for user_id in user_ids}
        )


def sees_all(principal: Principal) -> bool:
    return bool({Scope.DEVICES_MANAGE, Scope.DEVICES_READ} & principal.scopes)
