"""Curves of a training run's statistics, an epoch a point, as ``cnn_train_dag`` draws them."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dagnet import Callback

# What cnn_train_dag leaves out, and the name of its figure.
COUNTS = ("num", "time")
NAME = "net-train.pdf"


class PlotStatistics(Callback):
    """``cnn_train_dag``'s ``plotStatistics``: draws ``net-train.pdf`` after each epoch.

    Parameters
    ----------
    directory : path
        Where the figure goes, ``exp_dir`` say.
    name : str
        Of the figure; its suffix decides between PDF, PNG and SVG.
    """

    def __init__(self, directory: str | os.PathLike, name: str = NAME):
        self.path = Path(directory) / name

    def after_epoch(self, net, state):
        if plotted(state.stats):
            plot_statistics(state.stats, self.path)


def plotted(stats: Mapping[str, Sequence[Mapping]]) -> list[str]:
    """Names of the figures that are numbers, but for counts and times, in order of the alphabet."""
    return sorted(
        {
            name
            for epochs in stats.values()
            for figures in epochs
            for name, value in figures.items()
            if isinstance(value, numbers.Real) and name not in COUNTS
        }
    )


def plot_statistics(stats: Mapping[str, Sequence[Mapping]], path: str | os.PathLike) -> None:
    """Draw each figure over the epochs, in training and in validation, side by side.

    Parameters
    ----------
    stats : dict
        ``TrainState.stats``: ``{'train': [...], 'val': [...]}``, one dict of figures an epoch.
    path : path ending in .svg, .png or .pdf

    Raises
    ------
    ValueError
        If there is no figure to draw.
    """
    # Imported here since Matplotlib takes longer than all else together.
    from matplotlib.figure import Figure

    from .figures import BLUE, VERMILION, save_figure

    names = plotted(stats)
    if not names:
        raise ValueError("there is no figure to draw: stats hold no epoch with a number")
    figure = Figure(figsize=(3.6 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        for (part, epochs), color in zip(stats.items(), (BLUE, VERMILION)):
            points = [(e, f[name]) for e, f in enumerate(epochs, start=1) if name in f]
            if points:
                axes.plot(*zip(*points), color=color, marker="o", markersize=4, label=part)
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8, frameon=False)
    save_figure(figure, path)
