"""What PromQL expressions ask for: metrics, labels, and the values that labels are compared with."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

TARGET = frozenset({"instance", "job"})
"""Labels that Prometheus adds to every sample."""
VARIABLES = {"$__rate_interval": "5m", "$job": "entobot", "$instance": ".*"}
"""Of the dashboards, with a value of the kind that Grafana puts in."""


@dataclass(frozen=True)
class Comparison:
    label: str
    value: str
    is_pattern: bool


@dataclass(frozen=True)
class Selector:
    metric: str
    comparisons: tuple[Comparison, ...]


def parsed(text: str) -> promql.Expr:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return promql.parse(text)


def selectors(expr: promql.Expr) -> Iterator[Selector]:
    if isinstance(expr, promql.VectorSelector):
        patterns = (promql.MatchOp.Re, promql.MatchOp.NotRe)
        found = (Comparison(one.name, one.value, one.op in patterns) for one in expr.matchers.matchers)
        yield Selector(str(expr.name), tuple(found))
    for part in parts(expr):
        yield from selectors(part)


def parts(expr: promql.Expr) -> list[promql.Expr]:
    """The expressions that stand directly inside."""
    match expr:
        case promql.MatrixSelector():
            return [expr.vector_selector]
        case promql.Call():
            return list(expr.args)
        case promql.BinaryExpr():
            return [expr.lhs, expr.rhs]
        case promql.AggregateExpr():
            return [expr.expr, *([expr.param] if expr.param is not None else [])]
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return [expr.expr]
        case _:
            return []


def labels(expr: promql.Expr, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The labels of what an expression gives. `known`: of each series name. Raises AssertionError for one it cannot have."""
    match expr:
        case promql.VectorSelector():
            return frozenset(known[str(expr.name)]) | TARGET
        case promql.AggregateExpr():
            return _grouped(expr, labels(expr.expr, known))
        case promql.Call():
            inner = [labels(part, known) for part in parts(expr)]
            gone = {"le"} if expr.func.name == "histogram_quantile" else set[str]()
            return frozenset().union(*inner) - gone
        case promql.BinaryExpr():
            left, right = labels(expr.lhs, known), labels(expr.rhs, known)
            assert not left or not right or left == right, f"the sides never match: {left} and {right} in {expr}"
            return left or right
        case _:
            return frozenset().union(*(labels(part, known) for part in parts(expr)))


def _grouped(expr: Any, inner: frozenset[str]) -> frozenset[str]:
    if expr.modifier is None:
        return frozenset()
    named = frozenset(expr.modifier.labels)
    assert named <= inner, f"{named - inner} is not a label of what is grouped in {expr}"
    return named if expr.modifier.type == promql.AggModifierType.By else inner - named


def shown(text: str) -> set[str]:
    """Labels in a legend (`{{name}}`) or an annotation (`{{ $labels.name }}`)."""
    return set(re.findall(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}", text))
