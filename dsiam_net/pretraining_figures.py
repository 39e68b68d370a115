"""Learning curves of pretraining: every step, its running median, and validation."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .figures import BLUE, GREEN, GREY, SKY, VERMILION, running_median, save_figure
from .pretraining import FIGURES

LABELS = {
    "objective": "objective\n(logistic loss)",
    "errdisp": "errdisp\n(0 best, 99 worst)",
    "errmax": "errmax\n(share of wrong signs)",
    "errneg": "errneg\n(share of false alarms)",
}
COLORS = dict(zip(FIGURES, (BLUE, VERMILION, GREEN, SKY)))
# Points that a curve is thinned to: more cannot be told apart.
POINTS = 2000
# How much higher than the values an axis reaches.
TOP_MARGIN = 1.05


def draw_curves(
    steps: np.ndarray, epochs: Sequence[dict[str, float]], path: str | os.PathLike
) -> None:
    """Draw figures over the steps of training, and those of validation at the ends of epochs.

    Parameters
    ----------
    steps : structured array
        ``read_steps`` of ``dsiam_net.pretraining_log``; at least a row.
    epochs : sequence of dict
        Rows of ``epoch_rows``.
    path : path ending in .svg, .png or .pdf
    """
    shown = [name for name in FIGURES if np.isfinite(steps[name]).any()]
    figure = Figure(figsize=(8, 2 + 1.7 * len(shown)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True, squeeze=True))
    ends = _epoch_ends(steps)
    for axes, name in zip(panels, shown):
        known = np.isfinite(steps[name])
        places, values = np.flatnonzero(known) + 1, steps[name][known]
        thin = slice(None, None, max(1, len(values) // POINTS))
        axes.plot(places[thin], values[thin], color=GREY, linewidth=0.6, alpha=0.5, label="a step")
        if len(values) >= 20:
            smooth = running_median(values)
            axes.plot(
                places[thin],
                smooth[thin],
                color=COLORS[name],
                linewidth=1.6,
                label="running median",
            )
        points = [
            (ends[row["epoch"]], row[f"val_{name}"])
            for row in epochs
            if row["epoch"] in ends and np.isfinite(row[f"val_{name}"])
        ]
        if points:
            axes.plot(
                *zip(*points),
                color="black",
                linewidth=1,
                marker="o",
                markersize=3,
                label="validation",
            )
        if name == "objective":
            # Validation before the moments have settled would flatten all the rest.
            axes.set_ylim(0, TOP_MARGIN * max([*values, *(value for _, value in points[-1:])]))
        axes.set_ylabel(LABELS[name], fontsize=9)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.tick_params(labelsize=9)
        axes.margins(x=0.01)
    panels[0].legend(loc="upper right", fontsize=9, frameon=False)
    panels[-1].set_xlabel("step", fontsize=10)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    finished = f", {len(epochs)} epochs finished" if epochs else ""
    figure.suptitle(f"{len(steps)} steps{finished}", fontsize=10)
    save_figure(figure, path)


def _epoch_ends(steps: np.ndarray) -> dict[int, int]:
    """The number of steps up to the end of each epoch."""
    epochs, counts = np.unique(steps["epoch"], return_counts=True)
    return {int(epoch): int(end) for epoch, end in zip(epochs, np.cumsum(counts))}
