"""What the connections of a node share."""

from dataclasses import fields
from typing import Any

from entobot.core.principal import Principal
from entobot.core.rates import Allowance, Rate
from entobot.gateway.rates import Rates
from entobot.mqtt.parts import COUNTED_BYTES, MqttParts
from tests.support.time import ManualClock

BOARD = Principal("usr_1", frozenset(), "dev_1")
PUBLISH = 0x32


def parts_with(rates: Rates) -> MqttParts:
    given: dict[str, Any] = {field.name: None for field in fields(MqttParts)}
    given["rates"] = rates
    return MqttParts(**given)


def test_a_large_packet_is_paid_for_before_the_next(clock: ManualClock) -> None:
    parts = parts_with(Rates({Rate.FRAMES: Allowance(10, 1)}, monotonic=clock.monotonic))
    assert parts.wait_s(BOARD, (PUBLISH, b"x" * 9 * COUNTED_BYTES)) == 0.0
    assert abs(parts.wait_s(BOARD, (PUBLISH, b"x")) - 1.0) < 1e-6
    clock.advance(1.001)
    assert parts.wait_s(BOARD, (PUBLISH, b"x")) == 0.0
    assert abs(parts.wait_s(BOARD, (PUBLISH, b"x")) - 0.1) < 1e-2
