"""`python -m benchmarks [P1 P5 …]`: measure and print the table; without names, everything."""

import sys
from collections.abc import Callable

from benchmarks import start, turns
from benchmarks.rig import Figure

MEASUREMENTS: dict[str, Callable[[], list[Figure]]] = {
    "P1": lambda: [start.start_to_health()],
    "P2": start.idle_memory,
    "P5": lambda: turns.measured(turns.round_trips),
    "P8": lambda: [*turns.measured(turns.echo_turns), *turns.with_model(0), *turns.with_model(0.5)],
    "P9": lambda: turns.measured(turns.approvals),
    "P10": lambda: turns.measured(turns.revokes),
    "P11": start.install,
    "P12": lambda: [start.help_text()],
}


def main(names: list[str]) -> int:
    chosen = [name.upper() for name in names] or list(MEASUREMENTS)
    print(f"{'':4} {'what':62} {'target':>10}  measured")
    for name in chosen:
        for figure in MEASUREMENTS[name]():
            mark = {True: "", False: "  falls short", None: ""}[figure.met]
            print(f"{figure.name:4} {figure.what:62} {figure.target:>10}  {figure.measured}{mark}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
