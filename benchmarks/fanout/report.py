"""The report: figures as Markdown tables and as a plot."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.fanout.cases import Figures
from benchmarks.fanout.peers import VENV

Results = Mapping[str, Sequence[Figures]]
"""The figures of each server, one dict per round."""


def medians(results: Results) -> dict[str, Figures]:
    return {
        peer: {name: median(figures[name] for figures in rounds if name in figures) for name in rounds[0]}
        for peer, rounds in results.items()
        if rounds
    }


def table(title: str, found: Mapping[str, Figures], columns: Mapping[str, str], order_by: str) -> str:
    """Return a table. `columns` maps names of figures to headers. Servers without `order_by` are left out."""
    shown = {peer: figures for peer, figures in found.items() if order_by in figures}
    if not shown:
        return ""
    lines = [f"\n| {title} | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for peer, figures in sorted(shown.items(), key=lambda item: item[1][order_by]):
        lines.append(f"| {peer} | " + " | ".join(_cell(figures, name) for name in columns) + " |")
    return "\n".join(lines)


def _cell(figures: Figures, name: str) -> str:
    """Format a figure, with the shares of Redis and nginx in parentheses."""
    if name not in figures:
        return "-"
    more = [
        f"{what} {_number(figures[f'{name}, {what}'])}" for what in ("Redis", "nginx") if f"{name}, {what}" in figures
    ]
    return _number(figures[name]) + (f" ({', '.join(more)})" if more else "")


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


PLOT = """
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

found, path, note = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
panels = [
    ("128 B, W=1", "one message in flight", "CPU of server and nginx per delivery, us"),
    ("128 B, W=16", "bursts of 16", "CPU of server and nginx per delivery, us"),
    ("KB idle", "an idle connection", "memory of the server (PSS), KB"),
]
figure, axes = plt.subplots(1, 3, figsize=(17, 6.2))
for axis, (name, title, label) in zip(axes, panels):
    rows = [(f[name] + f.get(name + ", nginx", 0), peer) for peer, f in found.items() if f.get(name, 0) > 0.1]
    rows.sort(reverse=True)
    bars = axis.barh(
        [peer for _, peer in rows],
        [value for value, _ in rows],
        color=["#1f6feb" if peer.startswith("wsd") else "#b7bec8" for _, peer in rows],
    )
    axis.bar_label(bars, [f"{value:.2g}" if value < 1 else f"{value:.1f}" for value, _ in rows], padding=3, fontsize=9)
    axis.set_xscale("log")
    axis.margins(x=0.2)
    axis.set_title(title, fontsize=12, loc="left")
    axis.set_xlabel(label)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
figure.suptitle("1000 clients of one channel, 128 bytes", x=0.01, ha="left", fontsize=14)
figure.text(0.01, 0.005, note, fontsize=8, color="#555")
figure.tight_layout(rect=(0, 0.02, 1, 1))
figure.savefig(path, dpi=110)
"""


def plot(found: Mapping[str, Figures], path: Path, note: str) -> None:
    """Draw the plot with the matplotlib that is installed beside the other servers."""
    subprocess.run([str(VENV / "bin/python"), "-c", PLOT, json.dumps(found), str(path), note], check=True)
