"""The figure of ``growth.py``: time and memory of a training step over what was varied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from growth import Row

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#777777"
GIGABYTE = 1024


def draw(rows: Sequence[Row]) -> Figure:
    """Four panels: seconds and memory over frames, seconds over feature layers and cores.

    A panel whose rows are missing says so.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    (time, memory), (layers, cores) = figure.subplots(2, 2)
    of = {name: [r for r in rows if r.series == name] for name in {r.series for r in rows}}
    free, limited = of.get("frames", []), of.get("frames, budget", [])
    _seconds(time, free, "frames", BLUE, "measured")
    _line_through(time, free)
    _seconds(time, limited, "frames", VERMILION, "with a memory budget")
    _memory(memory, free, limited)
    _seconds(layers, of.get("feature layers", []), "feature layers", BLUE, "measured")
    _seconds(cores, of.get("cores", []), "cores", BLUE, "measured")
    _ideal(cores, of.get("cores", []))
    titles = (
        (time, "time over frames"),
        (memory, "memory over frames"),
        (layers, "time over feature layers"),
        (cores, "time over cores"),
    )
    for axes, title in titles:
        axes.set_title(title, fontsize=11)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.has_data():
            axes.legend(fontsize=9, frameon=False)
        else:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    return figure


def _seconds(axes: Axes, rows: Sequence[Row], what: str, color: str, label: str) -> None:
    axes.set_xlabel(what, fontsize=10)
    axes.set_ylabel("seconds a step", fontsize=10)
    if not rows:
        return
    middle = np.array([r.seconds for r in rows])
    low = middle - [r.first_quartile for r in rows]
    high = np.array([r.third_quartile for r in rows]) - middle
    axes.errorbar(
        [r.value for r in rows],
        middle,
        yerr=[low, high],
        color=color,
        marker="o",
        markersize=4,
        capsize=3,
        linewidth=1.2,
        label=f"{label} (quartiles)",
    )


def _line_through(axes: Axes, rows: Sequence[Row]) -> None:
    """The straight line that fits best, weighted for equal relative distances."""
    if len(rows) < 3:
        return
    frames, seconds = (np.array([getattr(r, n) for r in rows]) for n in ("value", "seconds"))
    slope, start = np.polyfit(frames, seconds, 1, w=1 / seconds)
    ends = np.array([0, frames.max()])
    label = f"{start:.2f} s + {slope:.3f} s a frame"
    axes.plot(ends, start + slope * ends, color=GREY, linestyle="--", linewidth=1, label=label)


def _memory(axes: Axes, free: Sequence[Row], limited: Sequence[Row]) -> None:
    axes.set_xlabel("frames", fontsize=10)
    axes.set_ylabel("peak resident memory, GiB", fontsize=10)
    for rows, color, label in (
        (free, BLUE, "without a budget"),
        (limited, VERMILION, "with a budget"),
    ):
        if rows:
            frames = [r.value for r in rows]
            peaks = [r.megabytes_peak / GIGABYTE for r in rows]
            axes.plot(frames, peaks, color=color, marker="o", markersize=4, label=label)
    if free:
        before = [r.megabytes_before / GIGABYTE for r in free]
        frames = [r.value for r in free]
        axes.plot(frames, before, color=GREY, linestyle="--", linewidth=1, label="before the step")


def _ideal(axes: Axes, rows: Sequence[Row]) -> None:
    """The time of one core shared by all."""
    if len(rows) < 2:
        return
    cores = np.array([r.value for r in rows])
    one = rows[0].seconds * rows[0].value
    axes.plot(
        cores, one / cores, color=GREY, linestyle="--", linewidth=1, label="one core's, shared"
    )
