"""What runs count, bound once per outcome."""

from collections.abc import Callable

from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric

OK = "ok"


class RunMeters:
    """`outcome` is `ok`, `cancelled`, a `RunErrorCode`, or the state in which a tool call ended."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def follow(self, *, active: Callable[[], int], queued: Callable[[], int], held_back: Callable[[], int]) -> None:
        """Runs that are driven; what waits for a place here; what waits for the same person's other runs."""
        self._meters.gauge(Metric.RUNS_ACTIVE).follow(active)
        self._meters.gauge(Metric.RUNS_QUEUED, waits_for="node").follow(queued)
        self._meters.gauge(Metric.RUNS_QUEUED, waits_for="person").follow(held_back)

    def run_ended(self, outcome: str, seconds: float) -> None:
        self._meters.histogram(Metric.RUN_SECONDS, outcome=outcome).observe(seconds)

    def model_spoke(self, outcome: str, seconds: float) -> None:
        self._meters.histogram(Metric.MODEL_TURN_SECONDS, outcome=outcome).observe(seconds)

    def tool_ended(self, outcome: str, seconds: float) -> None:
        self._meters.histogram(Metric.TOOL_CALL_SECONDS, outcome=outcome).observe(seconds)
