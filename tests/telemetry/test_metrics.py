"""The vocabulary, its instruments, and what Prometheus gets to read."""

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from entobot.client.metrics import readable
from entobot.telemetry.exposition import OPENMETRICS, expose
from entobot.telemetry.meters import MAX_SERIES, OTHER, Meters
from entobot.telemetry.metrics import LABELS, PROCESS_METRICS, Kind, Metric

UNITS = ("bytes", "seconds", "info", "units")
SUFFIX = {Kind.COUNTER: "_total", Kind.HISTOGRAM: ("_seconds", "_bytes", "_units")}


def filled() -> Meters:
    """Every metric, with a label value that has to be escaped."""
    meters = Meters()
    for metric in Metric:
        labels = dict.fromkeys(metric.value.labels, 'a "b"\\\n')
        match metric.value.kind:
            case Kind.COUNTER:
                meters.counter(metric, **labels).add(3)
            case Kind.GAUGE:
                meters.gauge(metric, **labels).set(1.5)
            case Kind.HISTOGRAM:
                meters.histogram(metric, **labels).observe(metric.value.bounds[1])
    return meters


def test_the_vocabulary_is_sorted_and_has_no_name_twice() -> None:
    names = [metric.value.name for metric in Metric]
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    assert list(LABELS) == sorted(LABELS)


@pytest.mark.parametrize("metric", list(Metric))
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    spec = metric.value
    assert re.fullmatch(r"entobot_[a-z][a-z0-9]*(_[a-z0-9]+)*", spec.name)
    assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|count|sum|bucket|created)$", spec.name)
    assert spec.name.endswith(SUFFIX.get(spec.kind, ""))
    assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)
    assert spec.meaning.endswith(".")
    assert list(spec.bounds) == sorted(set(spec.bounds))
    assert bool(spec.bounds) == (spec.kind is Kind.HISTOGRAM)
    assert "le" not in spec.labels


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5"])
async def test_both_formats_are_read_by_their_parsers_and_hold_everything(accept: str) -> None:
    body, content_type = await expose(filled(), accept)
    is_openmetrics = OPENMETRICS in accept
    assert content_type.startswith(OPENMETRICS if is_openmetrics else "text/plain; version=0.0.4")
    parse = parse_openmetrics if is_openmetrics else parse_text
    found = {family.name: family for family in parse(body.decode())}
    assert set(found) == {name.removesuffix("_total") for name in (*[m.value.name for m in Metric], *PROCESS_METRICS)}
    for metric in Metric:
        family = found[metric.value.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.value.kind, metric.value.meaning)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.value.labels)
            assert all(value == 'a "b"\\\n' for name, value in sample.labels.items() if name != "le")


async def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    meters = Meters()
    seconds = meters.histogram(Metric.DATABASE_COMMIT_SECONDS)
    for value in (0.0001, 0.00011, 0.5, 99.0):
        seconds.observe(value)
    body, _ = await expose(meters, "")
    (family,) = [one for one in parse_text(body.decode()) if one.name == "entobot_database_commit_seconds"]
    counts = {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}
    assert (counts["0.0001"], counts["0.00025"], counts["0.25"], counts["0.5"], counts["10.0"], counts["+Inf"]) == (
        1, 2, 2, 3, 3, 4,
    )  # fmt: skip
    assert {s.name.rpartition("_")[2]: s.value for s in family.samples if "le" not in s.labels} == {
        "count": 4,
        "sum": pytest.approx(99.50021),
    }


async def test_two_gateways_in_one_process_do_not_add_up() -> None:
    one, other = Meters(), Meters()
    one.counter(Metric.DATABASE_READS).add(5)
    other.counter(Metric.DATABASE_READS).add(1)
    assert b"\nentobot_database_reads_total 5.0\n" in (await expose(one, ""))[0]
    assert b"\nentobot_database_reads_total 1.0\n" in (await expose(other, ""))[0]


def test_who_asks_twice_gets_the_same_instrument() -> None:
    meters = Meters()
    assert meters.counter(Metric.DATABASE_READS) is meters.counter(Metric.DATABASE_READS)


def test_labels_from_outside_cannot_grow_a_metric_for_ever() -> None:
    meters = Meters()
    for number in range(MAX_SERIES + 50):
        meters.counter(Metric.CONNECTIONS_OPENED, transport=f"t{number}").add()
    (family,) = meters.families()
    assert len(family.series) == MAX_SERIES + 1
    assert meters.counter(Metric.CONNECTIONS_OPENED, transport=OTHER).value == 50


def test_the_wrong_labels_or_kind_are_refused_where_they_are_bound() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Meters().counter(Metric.COMMANDS, command="message.send")
    with pytest.raises(TypeError, match="is a counter"):
        Meters().gauge(Metric.DATABASE_READS)


async def test_a_gauge_that_follows_is_asked_at_each_scrape() -> None:
    meters, waiting = Meters(), [1, 2, 3]
    meters.gauge(Metric.DATABASE_QUEUE, operation="read").follow(lambda: len(waiting))
    assert b'entobot_database_queue{operation="read"} 3.0' in (await expose(meters, ""))[0]
    waiting.clear()
    assert b'entobot_database_queue{operation="read"} 0.0' in (await expose(meters, ""))[0]


async def test_a_gauge_that_cannot_be_read_costs_only_itself() -> None:
    meters = Meters()
    meters.counter(Metric.DATABASE_READS).add()
    meters.gauge(Metric.DATABASE_QUEUE, operation="read").follow(lambda: 1 // 0)
    body = (await expose(meters, ""))[0].decode()
    assert "entobot_database_reads_total 1.0" in body
    assert "entobot_database_queue{" not in body


async def test_the_terminal_shows_the_same_in_fewer_words() -> None:
    meters = Meters()
    meters.counter(Metric.COMMANDS, command="message.send", outcome="ok").add(7)
    seconds = meters.histogram(Metric.COMMAND_SECONDS, command="message.send")
    for value in [0.0004] * 98 + [0.2] * 2:
        seconds.observe(value)
    meters.histogram(Metric.COMMAND_SECONDS, command="run.cancel")
    lines = dict(readable((await expose(meters, ""))[0].decode(), prefix="entobot_command"))
    assert lines == {
        "entobot_commands_total {command=message.send outcome=ok}": "7",
        "entobot_command_seconds {command=message.send}": "100, mean 0.00439, median ≤ 0.0005, p99 ≤ 0.25",
        "entobot_command_seconds {command=run.cancel}": "none",
    }
