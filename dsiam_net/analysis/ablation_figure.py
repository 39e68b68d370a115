"""The figure of the ablation: scores of the variants, mean and each sequence."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..figures import BLUE, SKY, save_figure
from .ablation import Run, mean_runs

COLORS = {1: SKY, 2: BLUE}
WORDS = {1: "one feature layer", 2: "two feature layers"}
BAR = 0.38  # width, in distances between groups
SCORES = {"auc": "AUC", "precision": "precision at 20 px"}


def draw_ablation(runs: Sequence[Run], path: str | os.PathLike, title: str | None = None) -> None:
    """Draw AUC and precision: a bar for the mean of each variant, a dot for each sequence.

    Parameters
    ----------
    runs : sequence of Run
        From ``run_ablation``.
    path : path ending in .svg, .png or .pdf
    title : str, optional

    Raises
    ------
    ValueError
        If there is no run.
    """
    if not runs:
        raise ValueError("expected at least one run to draw, received none")
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, (score, words) in zip(figure.subplots(1, 2, sharey=True), SCORES.items()):
        _draw_score(axes, runs, score)
        axes.set_ylabel(words, fontsize=10)
        axes.tick_params(labelleft=True)
    layers = sorted({run.variant.layers for run in runs})
    handles: list = [Patch(color=COLORS[n], label=f"{WORDS[n]}: mean") for n in layers]
    handles.append(_dot("one sequence"))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=3,
        fontsize=9,
        frameon=False,
        title=title,
        title_fontsize=11,
    )
    save_figure(figure, path)


def _dot(label: str) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="",
        marker="o",
        markersize=4,
        markerfacecolor="white",
        markeredgecolor="black",
        label=label,
    )


def _draw_score(axes: Axes, runs: Sequence[Run], score: str) -> None:
    groups = list(dict.fromkeys(run.variant.transformations for run in runs))
    layers = sorted({run.variant.layers for run in runs})
    for mean in mean_runs(runs):
        place = groups.index(mean.variant.transformations)
        place += BAR * (layers.index(mean.variant.layers) - (len(layers) - 1) / 2)
        value = getattr(mean, score)
        axes.bar(place, value, BAR * 0.92, color=COLORS[mean.variant.layers])
        own = [getattr(run, score) for run in runs if run.variant == mean.variant]
        shifts = np.linspace(-0.3, 0.3, len(own)) * BAR if len(own) > 1 else [0]
        axes.plot(
            place + np.array(shifts),
            own,
            "o",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor="black",
            markeredgewidth=0.8,
        )
        axes.text(
            place,
            0.02,
            f"{value:.3f}",
            ha="center",
            va="bottom",
            fontsize=8,
            color="white" if mean.variant.layers == 2 else "black",
        )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlabel("transformations in use", fontsize=9)
    axes.set_ylim(0, 1.04)
    axes.tick_params(labelsize=9)
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
