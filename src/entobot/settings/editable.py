"""Which settings may be changed while the gateway runs: the one list. What is not here stays in file and environment.

Left out on purpose: where the store, the bus and the data folder are, addresses, ports and certificates (a mistake
there keeps the gateway from starting or moves it away from everybody), whom to believe about addresses, paths, keys,
where traces go, and backups (who may change settings must not be able to read or delete the way back).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from entobot.config import LimitSettings
from entobot.core.rates import RATES, CountedBy, Rate


class Applies(StrEnum):
    NOW = "now"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Rule:
    """Bounds within those of the file, for numbers, durations (seconds), texts (characters) and lists (entries).

    What is stored can be stored by mistake from afar: the bounds keep the door open for whoever would undo it.
    `elsewhere` names the route that changes it instead of the general one. `is_told` False: what it says is people's
    words and stays out of the audit log and the log.
    """

    applies: Applies
    least: float | None = None
    most: float | None = None
    max_length: int = 256
    has_lines: bool = False
    is_told: bool = True
    elsewhere: str = ""


POLICIES_ROUTE = "PUT /api/v1/approval-policies"
COMPATIBLE_ROUTE = "PUT /api/v1/settings/providers/compatible"
MAX_INSTRUCTIONS_CHARACTERS = 16_000
MOST_OF_A_LIMIT = 1_000_000
_NOW, _RESTART = Applies.NOW, Applies.RESTART
_DAY_S = timedelta(days=1).total_seconds()

_FIXED: dict[str, Rule] = {
    "agent.approval_timeout": Rule(_RESTART, least=60, most=30 * _DAY_S),
    "agent.base_url": Rule(_NOW, max_length=500, elsewhere=COMPATIBLE_ROUTE),
    "agent.instructions": Rule(_NOW, max_length=MAX_INSTRUCTIONS_CHARACTERS, has_lines=True, is_told=False),
    "agent.max_iterations": Rule(_RESTART),
    "agent.max_tokens": Rule(_NOW, most=10_000_000),
    "agent.model": Rule(_NOW, max_length=200),
    "agent.run_timeout": Rule(_RESTART, least=5, most=3600),
    "agent.runner": Rule(_NOW),
    "agent.temperature": Rule(_NOW),
    "approvals.policies": Rule(_NOW, max_length=50, elsewhere=POLICIES_ROUTE),
    "gateway.allowed_networks": Rule(_NOW, max_length=100),
    "gateway.allowed_origins": Rule(_RESTART, max_length=20),
    "gateway.drain_pause": Rule(_RESTART),
    "gateway.heartbeat": Rule(_RESTART, least=5, most=300),
    "gateway.max_connections": Rule(_RESTART, least=100, most=MOST_OF_A_LIMIT),
    "gateway.name": Rule(_NOW, max_length=100),
    "log.level": Rule(_NOW),
    "stream.keep_events": Rule(_NOW, most=10_000_000),
    "stream.keep_for": Rule(_NOW, most=3650 * _DAY_S),
}


def _limits() -> dict[str, Rule]:
    """No limit goes below a tenth of its default: whoever sets it must still get in to set it back."""
    at_restart = {
        f"{rate}_{part}"
        for rate, rule in RATES.items()
        if rule.counted_by is CountedBy.CONNECTION  # handed to each connection, not asked again
        for part in ("per_second", "burst")
    }
    return {
        f"limits.{key}": Rule(
            _RESTART if key in at_restart else _NOW,
            least=round(field.default / 10, 3) if isinstance(field.default, float) else max(1, field.default // 10),
            most=MOST_OF_A_LIMIT,
        )
        for key, field in LimitSettings.model_fields.items()
    }


EDITABLE: dict[str, Rule] = dict(sorted((_FIXED | _limits()).items()))
assert {f"limits.{rate}_burst" for rate in Rate} <= set(EDITABLE), "a rate without its setting"
