"""Draw `benchmarks/results/*.json` as SVG beside them."""

from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.results import FOLDER, load

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "entobot", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
OURS, OTHERS, MISSED = "#2563eb", "#9ca3af", "#d97706"
OWN_NAMES = ("entobot", "entobot, TLS")


def _figure(height_in: float = 3.0) -> tuple[Any, Axes]:
    figure, axes = plt.subplots(figsize=(7, height_in), layout="constrained")
    return figure, axes


def _save(figure: Any, name: str) -> None:
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    print(FOLDER / f"{name}.svg")


def targets() -> None:
    """Every figure as its share of the target: left of 1 is met."""
    rows = [row for part in load("targets").values() for row in part["figures"] if row.get("share") is not None]
    if not rows:
        return
    rows.sort(key=lambda row: (int(row["name"][1:] or 99), row["what"]), reverse=True)
    figure, axes = _figure(0.32 * len(rows) + 0.8)
    labels = [f"{row['what']}  {row['name']}" for row in rows]
    axes.barh(labels, [row["share"] for row in rows], color=[OURS if row["met"] else MISSED for row in rows])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(y=0.01)
    axes.set_xlabel("share of the target (1: just met)")
    _save(figure, "targets")


def lines(name: str, title: str, x: str, y: str) -> None:
    """`compare.json: NAME` as one line a server: `{server: [[x, y], …]}`."""
    part = load("compare").get(name)
    if part is None:
        return
    figure, axes = _figure()
    for server, points in part["figures"].items():
        is_ours = server in OWN_NAMES
        axes.plot(
            [point[0] for point in points],
            [point[1] for point in points],
            marker="o",
            label=server,
            color=OURS if is_ours else None,
            linewidth=2 if is_ours else 1,
            linestyle="--" if server.endswith("TLS") else "-",
        )
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save(figure, name)


def bars(name: str, title: str, x: str) -> None:
    """`compare.json: NAME` as one bar a server: `{server: value}`."""
    part = load("compare").get(name)
    if part is None:
        return
    rows = sorted(part["figures"].items(), key=lambda item: item[1], reverse=True)
    figure, axes = _figure(0.35 * len(rows) + 0.9)
    shown = axes.barh(
        [row[0] for row in rows],
        [row[1] for row in rows],
        color=[OURS if row[0].startswith("entobot") else OTHERS for row in rows],
    )
    axes.bar_label(shown, fmt="%.3g", padding=3)
    axes.set(title=title, xlabel=x)
    _save(figure, name)


def main() -> None:
    targets()
    bars("start", "Start to first answer", "seconds")
    bars("memory", "Idle memory, all processes", "MB resident")
    bars("turn", "Turn with an instant model, what the gateway adds", "milliseconds")
    lines("fanout", "One event to everybody: last delivery", "connections", "milliseconds")
    lines("idle", "Idle connection, plain", "connections", "KiB resident each")
    lines("storm", "A device comes back: TLS, token, key proof", "paired devices", "µs of gateway CPU each")
    lines("messages", "Durable messages, fsynced before the result", "busy connections", "messages a second")


if __name__ == "__main__":
    main()
