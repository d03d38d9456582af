"""Policies of the running gateway: their engine, what they know of devices, and who feels a change."""

from datetime import timedelta
from typing import TYPE_CHECKING

from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.mqtt.holding import Rules
from entobot.mqtt.model import Action
from entobot.policies import http
from entobot.policies.engine import Engine
from entobot.policies.service import KnownTopic, Parts, Policies, TypeOf
from entobot.storage.database import Transaction
from entobot.web.routes import Api

if TYPE_CHECKING:
    from entobot.app.answering import Features

LOOK_EVERY = timedelta(milliseconds=500)
"""Where other nodes may change policies: a bell may be lost."""


class PolicyDesk:
    def __init__(self, ground: Ground, features: "Features", type_of: TypeOf) -> None:
        self._is_shared = ground.is_shared
        features.devices.machines.topics_of = _topics_of_device
        self.service = Policies(
            Parts(
                database=ground.database,
                clock=ground.clock,
                bus=ground.bus,
                audit=features.audit,
                accounts=features.accounts,
                devices=features.devices,
                load_engine=_load_engine,
                type_of=type_of,
                known_topics=_known_topics,
            )
        )

    @property
    def rules(self) -> Rules:
        """For whoever speaks MQTT."""
        decider = self.service.decider
        return Rules(decide=decider.decide, may_receive=decider.may_receive)

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self.service)

    def start(self, periodic: Periodic) -> None:
        if self._is_shared:
            periodic.every(LOOK_EVERY, self.service.renew)


def _load_engine() -> Engine:
    from entobot.policies.engine_cedar import CedarEngine

    return CedarEngine()


def _known_topics(tx: Transaction, count: int) -> list[KnownTopic]:
    from entobot.mqtt.store_known import published, subscribed

    found = [KnownTopic(device_id, Action.SUBSCRIBE, text) for device_id, text in subscribed(tx, count)]
    found += [KnownTopic(device_id, Action.PUBLISH, text) for device_id, text in published(tx, count)]
    return found[:count]


def _topics_of_device(tx: Transaction, device_id: str, count: int) -> list[tuple[str, str]]:
    from entobot.mqtt.store_known import published_by, subscribed_by

    found = [(str(Action.SUBSCRIBE), text) for text in subscribed_by(tx, device_id, count)]
    return found + [(str(Action.PUBLISH), text) for text in published_by(tx, device_id, count)]
