"""The limits of `core.rates` at work: who may go on, and how long everybody else has to wait. Pure."""

from collections.abc import Callable, Mapping

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.core.rates import RATES, Allowance, CountedBy, Rate
from entobot.gateway.limits import Gcra
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.addresses import address_key, network_key

MAX_ADDRESSES = 16_384
MAX_DEVICES = 65_536
"""Keys that are told apart at once; each takes about 250 bytes."""


class Rates:
    """`user_multiple`: a user's devices together have so many times one device's limit; `network_multiple`: an IPv6
    /48 has so many times one address's. Fulfils `web.routes.Throttle`.
    """

    def __init__(
        self,
        allowances: Mapping[Rate, Allowance],
        *,
        monotonic: Callable[[], float],
        on_limited: Callable[[Rate], None] = lambda _: None,
        user_multiple: int = 4,
        network_multiple: int = 32,
    ) -> None:
        self._monotonic = monotonic
        self._on_limited = on_limited
        self._addresses: dict[Rate, Gcra] = {}
        self._networks: dict[Rate, Gcra] = {}
        self._devices: dict[Rate, Gcra] = {}
        self._users: dict[Rate, Gcra] = {}
        for rate, rule in RATES.items():
            allowance = allowances.get(rate, rule.default)
            if rule.counted_by is CountedBy.ADDRESS:
                self._addresses[rate] = _gcra(allowance, 1, MAX_ADDRESSES)
                self._networks[rate] = _gcra(allowance, network_multiple, MAX_ADDRESSES)
            elif rule.counted_by is CountedBy.DEVICE:
                self._devices[rate] = _gcra(allowance, 1, MAX_DEVICES)
                self._users[rate] = _gcra(allowance, user_multiple, MAX_DEVICES)

    def scale(self, nodes: int) -> None:
        """Give this node its part of every limit, now that so many are alive; 1 for a single one."""
        for group in (self._addresses, self._networks, self._devices, self._users):
            for gcra in group.values():
                gcra.scale(nodes)

    def change(self, allowances: Mapping[Rate, Allowance], *, user_multiple: int, network_multiple: int) -> None:
        """Other limits from now on. What anybody has used stays used."""
        for group, multiple in (
            (self._addresses, 1),
            (self._networks, network_multiple),
            (self._devices, 1),
            (self._users, user_multiple),
        ):
            for rate, gcra in group.items():
                allowance = allowances[rate]
                gcra.change(rate_per_s=allowance.per_second * multiple, burst=allowance.burst * multiple)

    def wait_of_address(self, rate: Rate, address: str) -> float:
        """0.0 and counted, else the seconds to wait. The network is asked first and counted last: an address that is
        refused costs its neighbours nothing, and a network that is refused fills no map.
        """
        now_s = self._monotonic()
        network = network_key(address)
        if network is None:
            wait_s = self._addresses[rate].try_take(address_key(address), now_s)
        else:
            wait_s = self._networks[rate].wait_s(network, now_s)
            wait_s = wait_s or self._addresses[rate].try_take(address_key(address), now_s)
            wait_s = wait_s or self._networks[rate].try_take(network, now_s)
        if wait_s:
            self._on_limited(rate)
        return wait_s

    def wait_of_principal(self, rate: Rate, principal: Principal, cost: int = 1) -> float:
        """0.0 and counted, else the seconds to wait. The local owner never waits."""
        if principal.is_local:
            return 0.0
        now_s = self._monotonic()
        wait_s = self._devices[rate].try_take(principal.device_id or principal.session_id or "", now_s, cost)
        wait_s = wait_s or self._users[rate].try_take(principal.user_id, now_s, cost)
        if wait_s:
            self._on_limited(rate)
        return wait_s

    def note(self, rate: Rate) -> None:
        """Count that a limit was hit which is kept elsewhere: of a single connection."""
        self._on_limited(rate)

    def check_address(self, rate: Rate, address: str) -> None:
        """For classes that are counted by address. Raises `rate_limited`."""
        if rate in self._addresses:
            _refuse_for(self.wait_of_address(rate, address), rate, "this address")

    def check_principal(self, rate: Rate, principal: Principal) -> None:
        """For classes that are counted by device. Raises `rate_limited`."""
        if rate in self._devices:
            _refuse_for(self.wait_of_principal(rate, principal), rate, "this device or its user")


def _gcra(allowance: Allowance, multiple: int, max_keys: int) -> Gcra:
    return Gcra(rate_per_s=allowance.per_second * multiple, burst=allowance.burst * multiple, max_keys=max_keys)


def _refuse_for(wait_s: float, rate: Rate, who: str) -> None:
    if wait_s > 0:
        raise rate_limited(f"Too many requests from {who} (limit '{rate}'). Wait a moment.", wait_s)


def rate_limited(detail: str, wait_s: float) -> Problem:
    """`retry_after_s` is rounded up: waiting as told is always enough."""
    return Problem(Code.RATE_LIMITED, detail, retry_after_s=-(-wait_s * 1000 // 1) / 1000)


def limit_meter(meters: Meters) -> Callable[[Rate], None]:
    counters = {rate: meters.counter(Metric.LIMITED, limit=rate) for rate in Rate}
    return lambda rate: counters[rate].add()
