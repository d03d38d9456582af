"""REST for whoever looks after a gateway: what is not ideal, what goes on, how it went, and the last log lines."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from fastapi import Query
from pydantic import BaseModel, Field

from entobot.core.clock import rfc3339
from entobot.telemetry.history import WINDOWS, History
from entobot.telemetry.meters import Histogram, Meters
from entobot.telemetry.recent_log import MAX_LINES, RecentLog
from entobot.web.routes import Api


class WeakPointBody(BaseModel):
    topic: str
    grade: Literal["note", "warn", "bad"]
    what: str
    fix: str


class PostureBody(BaseModel):
    score: int = Field(ge=0, le=100, description="100 when every topic is in order.")
    topics: list[str] = Field(description="What was looked at.")
    points: list[WeakPointBody]


class AgentBody(BaseModel):
    runner_kind: str
    model: str


class OverviewBody(BaseModel):
    """What goes on. Counts of the store are the same on every node; `connections` are this node's."""

    version: str
    started_at: str
    node: str
    nodes: int = Field(description="How many there are, this one included.")
    store: str = Field(description="`sqlite` or `postgresql`.")
    connections: int
    devices: dict[str, int] = Field(description="By status.")
    people: int
    approvals_pending: int
    conversations_awaiting: int
    agent: AgentBody
    is_ready: bool
    shortcomings: str = Field(description="What does not work well, for people; empty when all does.")


class Series(BaseModel):
    labels: dict[str, str]
    value: float | None = Field(description="Of a histogram the sum.")
    count: int | None = Field(default=None, description="Of a histogram how many.")


class MetricBody(BaseModel):
    name: str
    kind: str
    meaning: str
    series: list[Series]


class MetricsBody(BaseModel):
    at: str
    rows: list[MetricBody]


class LineBody(BaseModel):
    name: str
    metric: str
    show: Literal["level", "rate", "p95", "p99"]
    unit: Literal["1", "1/s", "s"]
    points: list[tuple[int, float | None]] = Field(description="Milliseconds since 1970, and the value there.")


class HistoryBody(BaseModel):
    window: str
    step_s: float
    since: str | None = Field(description="The first sample. Nothing is known of before this process started.")
    lines: list[LineBody]


class LogLine(BaseModel):
    number: int
    at: str
    level: str
    logger: str
    event: str
    fields: dict[str, Any]


class LogBody(BaseModel):
    rows: list[LogLine] = Field(description="In order; the newest last.")


class LogQuery(BaseModel):
    level: Literal["debug", "info", "warning", "error"] = "debug"
    q: str = Field(default="", max_length=64)
    after: int = Field(default=0, ge=0, le=2**53 - 1)
    limit: int = Field(default=200, ge=1, le=MAX_LINES)


class Operations(Protocol):
    """`app.operations.Desk`."""

    def posture(self) -> PostureBody: ...
    async def overview(self) -> OverviewBody: ...
    async def look(self) -> None:
        """Count anew what is counted in the store."""
        ...


class Now(Protocol):
    def __call__(self) -> int: ...


def add_routes(api: Api, desk: Operations, meters: Meters, history: History, recent: RecentLog, now: Now) -> None:
    routes = _Routes(desk, meters, history, recent, now)
    api.add("GET", "/api/v1/logs", routes.list_log_lines)
    api.add("GET", "/api/v1/metrics", routes.get_metrics_snapshot)
    api.add("GET", "/api/v1/metrics/history", routes.get_metrics_history)
    api.add("GET", "/api/v1/overview", routes.get_overview)
    api.add("GET", "/api/v1/posture", routes.get_posture)


@dataclass(frozen=True, slots=True)
class _Routes:
    desk: Operations
    meters: Meters
    history: History
    recent: RecentLog
    now: Now

    async def get_posture(self) -> PostureBody:
        """What is not ideal about this set-up, and how to put it right."""
        return self.desk.posture()

    async def get_overview(self) -> OverviewBody:
        return await self.desk.overview()

    async def get_metrics_snapshot(self) -> MetricsBody:
        """Every metric of this process as it is now."""
        await self.desk.look()
        return MetricsBody(at=rfc3339(self.now()), rows=_metrics(self.meters))

    async def get_metrics_history(self, window: Literal["1h", "24h", "7d"] = "1h") -> HistoryBody:
        lines = [
            LineBody(
                name=line.name,
                metric=line.metric.value.name,
                show=line.show.value,
                unit=line.unit,  # pyright: ignore[reportArgumentType]  one of the table's, and checked by pydantic
                points=self.history.points(line, window),
            )
            for line in self.history.lines
        ]
        first = next((line.points[0][0] for line in lines if line.points), None)
        step = next(one.step for one in WINDOWS if one.name == window)
        since = None if first is None else rfc3339(first)
        return HistoryBody(window=window, step_s=step.total_seconds(), since=since, lines=lines)

    async def list_log_lines(self, query: Annotated[LogQuery, Query()]) -> LogBody:
        """The last lines of this node's log, cleaned of secrets. They are kept in memory only."""
        found = self.recent.find(after=query.after, level=query.level, text=query.q, limit=query.limit)
        return LogBody(
            rows=[
                LogLine(
                    number=one.number, at=one.at, level=one.level, logger=one.logger, event=one.event, fields=one.fields
                )
                for one in found
            ]
        )


def _metrics(meters: Meters) -> list[MetricBody]:
    rows: list[MetricBody] = []
    for family in meters.families():
        spec = family.metric.value
        series: list[Series] = []
        for values, one in list(family.series.copy().items()):
            labels = dict(zip(spec.labels, values, strict=True))
            if isinstance(one, Histogram):
                series.append(Series(labels=labels, value=one.total, count=sum(one.counts)))
            else:
                series.append(Series(labels=labels, value=one.now()))
        rows.append(MetricBody(name=spec.name, kind=spec.kind.value, meaning=spec.meaning, series=series))
    return rows
