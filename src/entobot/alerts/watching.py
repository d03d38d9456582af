"""What watching the audit log needs."""

from collections.abc import Callable
from dataclasses import dataclass

from entobot.alerts.service import Alerts
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.storage.database import Database, Transaction

Alive = Callable[[Transaction], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Watching:
    """`alive` says which nodes live, this one among them: `node_id`."""

    alerts: Alerts
    audit: Audit
    database: Database
    clock: Clock
    node_id: str
    alive: Alive
