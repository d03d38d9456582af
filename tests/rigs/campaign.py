"""A campaign: faults against a running part, chosen by a seed, with a verdict that the summary prints."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.rigs.ledger import Verdict

KEY = "campaign"
COLUMNS = ("operations", "faults", "lost", "duplicated", "out_of_order", "worst_stall_s")


@dataclass
class Campaign:
    """`random` is seeded by `--chaos-seed` and the test's name: the same seed chooses the same faults."""

    name: str
    seed: int
    request: pytest.FixtureRequest = field(repr=False)
    operations: int = 0
    faults: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    worst_stall_s: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed}/{self.name}")

    def note(self, verdict: Verdict) -> None:
        """The state of a store or a history, everything from the campaign's beginning included."""
        self.operations = verdict.acknowledged
        self.lost, self.duplicated = verdict.lost, verdict.duplicated
        self.out_of_order = verdict.out_of_order + verdict.gaps

    def progress(self, text: str) -> None:
        """Say how far it is, in the long form, where a person waits for it."""
        is_long = self.request.node.get_closest_marker("chaos") is not None
        capture: Any = self.request.config.pluginmanager.getplugin("capturemanager")
        if is_long and not hasattr(self.request.config, "workerinput"):
            with capture.global_and_fixture_disabled():
                writer = self.request.config.get_terminal_writer()
                writer.line(f"  {self.name}: {text}")
                writer.flush()

    def settle(self) -> None:
        """Put the figures into the summary, and fail unless nothing was lost, repeated or out of order."""
        self.request.node.user_properties.append((KEY, self._figures()))
        told = f"{self.name}: {self._figures()} (repeat with --chaos-seed {self.seed})"
        assert self.lost + self.duplicated + self.out_of_order == 0, told
        assert self.operations, told

    def _figures(self) -> dict[str, Any]:
        return {"name": self.name} | {column: getattr(self, column) for column in COLUMNS}


def seed_of(config: pytest.Config) -> int:
    return int(config.option.chaos_seed)


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    return Campaign(request.node.name.removeprefix("test_"), seed_of(request.config), request)


def summary(reports: list[pytest.TestReport], seed: int) -> list[str]:
    """The table of all campaigns that ran, empty when none did."""
    figures: list[Any] = [value for report in reports for key, value in report.user_properties if key == KEY]
    if not figures:
        return []
    width = max(len(str(one["name"])) for one in figures)
    head = f"{'campaign':{width}} " + " ".join(f"{column:>13}" for column in COLUMNS)
    rows = [f"{one['name']:{width}} " + " ".join(f"{_shown(one[column]):>13}" for column in COLUMNS) for one in figures]
    return [head, *rows, f"seed {seed} (repeat with --chaos-seed {seed})"]


def _shown(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"
