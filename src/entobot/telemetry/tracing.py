"""Where time went, from a message to its answer, as spans. Ids and words of ours only: never what people wrote.

The gateway traces nothing unless a collector is named; then `tracing_otlp` stands behind this port. Loop thread only,
except where it says otherwise.
"""

from contextvars import ContextVar
from typing import NamedTuple, Protocol

OK = "ok"
Value = str | int | float | bool


class Remote(NamedTuple):
    """The caller's span, of a valid W3C `traceparent`. Hexadecimal: 32 and 16 digits."""

    trace_id: str
    span_id: str
    is_sampled: bool


class Span(Protocol):
    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty when nothing is traced."""
        ...

    def set(self, **attributes: Value) -> None: ...

    def note(self, event: str) -> None:
        """Something that happened now, as a word of ours."""
        ...

    def end(self, outcome: str = OK, *, name: str = "", is_failed: bool = False) -> None:
        """Once. `name` replaces the one that it began with."""
        ...


class Tracer(Protocol):
    @property
    def is_on(self) -> bool: ...

    def start(self, name: str, parent: Span | Remote | None = None, **attributes: Value) -> Span:
        """A span that its caller ends; without a parent the first of a trace. Never blocks, never raises."""
        ...

    def remember(self, key: str, span: Span) -> None:
        """Until it is recalled, or many others were remembered since. Any thread."""
        ...

    def recall(self, key: str) -> Span | None:
        """What was remembered under `key` in this process, once."""
        ...

    def stop(self, within_s: float) -> None:
        """Send what is left, and give up after `within_s`. Blocks."""
        ...


class _NoSpan:
    trace_id = ""

    def set(self, **attributes: Value) -> None: ...

    def note(self, event: str) -> None: ...

    def end(self, outcome: str = OK, *, name: str = "", is_failed: bool = False) -> None: ...


NO_SPAN: Span = _NoSpan()
request_span: ContextVar[Span] = ContextVar("request_span", default=NO_SPAN)
"""The span of the request that the current task answers. Tasks that outlive it begin with an explicit parent."""


class NoTracer:
    """Traces nothing."""

    is_on = False

    def start(self, name: str, parent: Span | Remote | None = None, **attributes: Value) -> Span:  # noqa: ARG002  the port's
        return NO_SPAN

    def remember(self, key: str, span: Span) -> None: ...

    def recall(self, key: str) -> Span | None:  # noqa: ARG002  the port's
        return None

    def stop(self, within_s: float) -> None: ...
