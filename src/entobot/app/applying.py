"""Settings that apply at once, brought to the parts that carry them out."""

from dataclasses import dataclass
from typing import Protocol

from entobot.app.front import callers_of, opening_of
from entobot.app.ground import Ground
from entobot.config import Settings
from entobot.core.networks import Networks
from entobot.gateway.limits import WaitingRoom
from entobot.gateway.rates import Rates
from entobot.nodes.identity import rename
from entobot.settings.service import StoredSettings
from entobot.telemetry.log import set_level
from entobot.web.callers import Callers


class Named(Protocol):
    gateway_name: str


@dataclass(slots=True)
class Live:
    """`name` is what the gateway is called now; `machine_name` is used where the settings give none."""

    name: str
    machine_name: str
    callers: Callers
    opening: WaitingRoom
    strangers: WaitingRoom
    rates: Rates
    named: tuple[Named, ...]

    def use(self, settings: Settings) -> None:
        """Connections that are open stay; what anybody has used of a limit stays used."""
        limits = settings.limits
        set_level(settings.log.level)
        self.name = self.name_of(settings)
        for one in self.named:
            one.gateway_name = self.name
        self.callers.allowed = Networks(settings.gateway.allowed_networks)
        self.rates.change(
            limits.allowances(), user_multiple=limits.user_multiple, network_multiple=limits.network_multiple
        )
        self.opening.per_key, self.opening.total = limits.opening_per_address, limits.opening
        self.strangers.per_key, self.strangers.total = limits.unauthenticated_per_address, limits.unauthenticated

    def name_of(self, settings: Settings) -> str:
        return settings.gateway.name or self.machine_name


def make_live(ground: Ground, settings: StoredSettings, strangers: WaitingRoom, rates: Rates, *named: Named) -> Live:
    """What follows `settings` from now on; `named` are told what the gateway is called."""
    live = Live(
        name=ground.name,
        machine_name=ground.machine_name,
        callers=callers_of(ground.settings.gateway),
        opening=opening_of(ground.settings.limits, ground.clock),
        strangers=strangers,
        rates=rates,
        named=named,
    )
    settings.follow(live.use)
    settings.write_with(lambda tx, wanted: rename(tx, live.name_of(wanted)))
    return live
