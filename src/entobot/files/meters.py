from entobot.core.errors import Code
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric


class FileMeters:
    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._arrived = meters.counter(Metric.FILE_BYTES, direction="in")
        self._left = meters.counter(Metric.FILE_BYTES, direction="out")

    def arrived(self, size: int) -> None:
        self._arrived.add(size)

    def left(self, size: int) -> None:
        self._left.add(size)

    def refused(self, code: Code) -> None:
        self._meters.counter(Metric.FILE_REFUSALS, reason=code).add()
