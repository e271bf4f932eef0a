"""The plot: how much of each target is reached, on one logarithmic axis."""
# pyright: reportUnknownMemberType=false
# ... since the types that matplotlib brings leave its **kwargs open.

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.bars import Bar, bars
from benchmarks.model import Report

REACHED = "#2a7f8e"
MISSED = "#d1702d"


def draw(report: Report, folder: Path) -> Path:
    """Write `ratios.svg` into `folder`, making it if need be, and return its path."""
    path = folder / "ratios.svg"
    folder.mkdir(parents=True, exist_ok=True)
    # The same figures give the same bytes, so that a commit shows when they change.
    with mpl.rc_context({"svg.hashsalt": "hms-bus", "font.size": 9}):
        figure = _figure(bars(report))
        figure.savefig(path, metadata={"Date": None})
    return path


def _figure(rows: Sequence[Bar]) -> Figure:
    figure = Figure(figsize=(10, 0.9 + 0.55 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    positions = list(range(len(rows)))
    # From the target to both sides: to the right is better, whatever the direction of the ratio.
    axes.barh(
        positions,
        [row.share - 1 for row in rows],
        left=1,
        height=0.6,
        color=[REACHED if row.is_reached else MISSED for row in rows],
    )
    axes.set_xscale("log")
    low = min([0.5, *(row.share * 0.8 for row in rows)])
    # Room for the labels, which stand to the right of the bars.
    high = max([2.0, *(row.share for row in rows)])
    axes.set_xlim(low, high * (high / low) ** 0.45)
    for position, row in zip(positions, rows, strict=True):
        axes.annotate(
            row.label,
            (max(row.share, 1.0), position),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(positions, [row.title for row in rows])
    axes.invert_yaxis()
    axes.set_xticks([2.0**power for power in range(-6, 7) if low <= 2.0**power <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("share of the target that is reached (1 × is the target, more is better)")
    axes.set_title("hms-bus beside its peers")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _tick(value: float, _: int | None) -> str:
    return f"{value:g} ×"
