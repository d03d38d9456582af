"""`python -m benchmarks [P1 P5 …]`: measure, print the table, keep it in `benchmarks/results`; without names, everything.

`python -m benchmarks compare` runs other servers beside ours, `python -m benchmarks.plots` draws what was kept.
"""

import os
import sys
from collections.abc import Callable

from benchmarks import audit_log, boards, compare, crowd, dashboard, results, start, trouble, turns
from benchmarks.rig import Figure

IDLE_SIZES = (3_000, 9_000, 18_000)
FANOUT = 5_000
COMING_BACK, FILLERS = 500, (0, 10_000, 99_500)

MEASUREMENTS: dict[str, Callable[[], list[Figure]]] = {
    "A": audit_log.figures,
    "M": boards.figures,
    "P1": lambda: [start.start_to_health()],
    "P2": start.idle_memory,
    "P3": lambda: compare.idle(IDLE_SIZES),
    "P4": lambda: compare.storms(COMING_BACK, FILLERS),
    "P5": lambda: turns.measured(turns.round_trips),
    "P6": compare.messages,
    "P7": lambda: crowd.fanouts(FANOUT),
    "P8": lambda: [*turns.measured(turns.echo_turns), *turns.with_model(0), *turns.with_model(0.5)],
    "P9": lambda: turns.measured(turns.approvals),
    "P10": lambda: [*turns.measured(turns.revokes), *trouble.revoked_elsewhere()],
    "P11": start.install,
    "P12": lambda: [start.help_text()],
    "P13": dashboard.figures,
    "R": trouble.stuck_readers,
}


def main(names: list[str]) -> int:
    if names == ["compare"]:
        compare.main()
        return 0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # who installs Entobot keeps bytecode; without, each start compiles
    chosen = [name.upper() for name in names] or list(MEASUREMENTS)
    print(f"{'':4} {'what':62} {'target':>15}  measured")
    for name in chosen:
        found = MEASUREMENTS[name]()
        for figure in found:
            mark = {True: "", False: "  falls short", None: ""}[figure.met]
            print(f"{figure.name:4} {figure.what:62} {figure.target:>15}  {figure.measured}{mark}", flush=True)
        results.keep("targets", {name: [results.row(figure) for figure in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
