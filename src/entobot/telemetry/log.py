"""Log lines for the operator: JSON or console on stderr, bounded, and never with a secret in them."""

import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from entobot.core.clock import Clock, rfc3339
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.telemetry.recent_log import RecentLog

MAX_FIELDS = 32
MAX_VALUE_CHARACTERS = 512
MAX_TRACEBACK_CHARACTERS = 8192
MAX_LOOKED_AT_CHARACTERS = 32_768
MAX_DEPTH = 4

REDACTED = "[redacted]"
_SECRET_SHAPES = re.compile(
    r"""
      ent_(?:rt|key|ses|lnk)_[A-Za-z0-9_-]*                     # tokens, API keys, sessions, links; also cut ones
    | eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,4}             # JWTs, proofs, any compact JWS or JWE
    | \#v=\d+&[^\s"'<>]*                                        # what stands behind the # of a pairing link
    | (?<![A-Za-z0-9_-])[is]=[A-Za-z0-9_%-]{16,}                # the same in pieces
    | (?<![A-Za-z0-9])(?:sk-|gsk_|AIza)[A-Za-z0-9_-]{8,}        # model vendors' keys
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----[^-]*(?:-----END[ ][A-Z ]*-----)?
    """,
    re.VERBOSE,
)
_SECRET_NAMES = frozenset(
    {
        "access_token", "api_key", "authorization", "confirmation_code", "cookie", "dpop", "invite_code", "jwt_token",
        "password", "proof", "refresh_token", "secret", "temp_token", "ticket", "token",
    }
)  # fmt: skip
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_CHATTY = (
    "alembic",
    "anthropic",
    "google_genai",
    "groq",
    "httpcore",
    "httpx",
    "httpx2",
    "openai",
    "uvicorn.access",
)
"""The vendors' clients write whole conversations at debug."""

Level = Literal["debug", "info", "warning", "error"]


def configure(
    clock: Clock,
    level: Level = "info",
    form: Literal["auto", "console", "json"] = "auto",
    stream: TextIO | None = None,
    recent: RecentLog | None = None,
) -> None:
    """Set up structlog and the standard library's logging (uvicorn, SQLAlchemy, …) for this process.

    `recent` keeps the last lines as well.
    """
    target = sys.stderr if stream is None else stream
    is_console = form == "console" or (form == "auto" and target.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
        _Timestamp(clock),
        clean,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty())
        if is_console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if recent is None else [recent]),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel("WARNING")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def set_level(level: Level) -> None:
    """What is left out below it, from now on."""
    logging.getLogger().setLevel(level.upper())


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger for one package. `log.info("invite.claimed", invite_id=…)`: an event name, then fields."""
    return cast("FilteringBoundLogger", structlog.stdlib.get_logger(f"entobot.{name}"))


def bind(**fields: object) -> None:
    """Add fields to every log line of the current task and of those that it starts from now on."""
    structlog.contextvars.bind_contextvars(**fields)


def unbind(*names: str) -> None:
    structlog.contextvars.unbind_contextvars(*names)


def clean(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    """Processor: take secrets out of every field, make control characters visible, and bound what remains."""
    kept: MutableMapping[str, Any] = {}
    for name, value in fields.items():
        if name.startswith("_"):  # structlog's own
            kept[name] = value
        elif len(kept) < MAX_FIELDS:
            limit = MAX_TRACEBACK_CHARACTERS if name in ("exception", "stack") else MAX_VALUE_CHARACTERS
            kept[clean_text(name, 64)] = REDACTED if name.lower() in _SECRET_NAMES else _clean_value(value, limit, 0)
    return kept


def clean_text(text: str, limit: int = MAX_VALUE_CHARACTERS) -> str:
    """`text` without secrets or control characters, at most `limit` characters and a mark for what was cut."""
    # Redact before cutting: a secret cut in two is still half a secret, and may not look like one any more.
    redacted = _SECRET_SHAPES.sub(REDACTED, text[:MAX_LOOKED_AT_CHARACTERS])
    visible = _UNSEEN.sub(lambda found: f"\\x{ord(found[0]):02x}", redacted)
    return visible if len(visible) <= limit else f"{visible[:limit]}… ({len(text)} characters)"


def _clean_value(value: object, limit: int, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return clean_text(value, limit)
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            return _clean_mapping(cast("Mapping[object, object]", value), limit, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            items = list(cast("list[object]", value))[:MAX_FIELDS]
            return [_clean_value(item, limit, depth + 1) for item in items]
    return clean_text(str(value), limit)


def _clean_mapping(value: Mapping[object, object], limit: int, depth: int) -> dict[str, object]:
    kept: dict[str, object] = {}
    for key, item in list(value.items())[:MAX_FIELDS]:
        name = clean_text(str(key), 64)
        kept[name] = REDACTED if name.lower() in _SECRET_NAMES else _clean_value(item, limit, depth + 1)
    return kept


class _Timestamp:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _logger: Any, _method: str, fields: EventDict) -> EventDict:
        fields["at"] = rfc3339(self._clock.now_ms())
        return fields


class RefusalLog:
    """One line for a refused input, however often it is sent: the first of a reason is written, the others are
    counted until `every` has passed, and the next line says how many were left out.

    Bounded: past `max_reasons` reasons at once, further ones share one line. Not thread-safe: loop thread only.
    """

    OTHER = "other"

    def __init__(
        self,
        log: FilteringBoundLogger,
        clock: Clock,
        meters: Meters | None = None,
        *,
        every: timedelta = timedelta(seconds=60),
        max_reasons: int = 64,
    ) -> None:
        self._log = log
        self._clock = clock
        self._meters = meters or Meters()
        self._every_s = every.total_seconds()
        self._max_reasons = max_reasons
        self._reasons: OrderedDict[str, tuple[float, int]] = OrderedDict()  # reason → (written at, left out since)

    def refused(self, reason: str, **fields: object) -> None:
        """Tell that an input was refused. `reason` is a short name of ours, never text from outside."""
        self._meters.counter(Metric.REFUSALS, reason=reason).add()
        now = self._clock.monotonic()
        if reason not in self._reasons and not self._has_room(now):
            fields, reason = {"reason_beyond_limit": reason, **fields}, self.OTHER
        written_at, left_out = self._reasons.get(reason, (float("-inf"), 0))
        if now - written_at < self._every_s:
            self._reasons[reason] = (written_at, left_out + 1)
            return
        self._reasons[reason] = (now, 0)
        self._reasons.move_to_end(reason)
        more = {"suppressed": left_out} if left_out else {}
        self._log.warning("refused", reason=reason, **fields, **more)

    def flush(self) -> None:
        """Write what was counted and not told yet. Call it at stop."""
        for reason, (_, left_out) in self._reasons.items():
            if left_out:
                self._log.warning("refused", reason=reason, suppressed=left_out)
        self._reasons.clear()

    def _has_room(self, now: float) -> bool:
        """Forget the oldest reason if its time is over, telling what it left out."""
        if len(self._reasons) < self._max_reasons:
            return True
        oldest, (written_at, left_out) = next(iter(self._reasons.items()))
        if oldest == self.OTHER or now - written_at < self._every_s:
            return False
        del self._reasons[oldest]
        if left_out:
            self._log.warning("refused", reason=oldest, suppressed=left_out)
        return True
