"""The figure of the crops' derivatives: figures of training over steps, differences from none."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures import BLUE, FIGURE_LABELS, GREEN, GREY, VERMILION, save_figure
from ..training import FIGURES
from .crop_modes import BASELINE, CropModes
from .statistics import counted, running_mean

STYLES = {
    BASELINE: (GREY, "-"),
    "pool": (BLUE, "-"),
    "scatter": (GREEN, "--"),
    "soft": (VERMILION, "-."),
}
# A running mean is over a tenth of the steps.
WINDOW_SHARE = 10
SHOWN = FIGURES[:2]


def window(steps: int) -> int:
    """Steps that a running mean is over, an odd number."""
    return max(1, steps // WINDOW_SHARE) | 1


def draw_crop_modes(modes: CropModes, path: str | os.PathLike, title: str | None = None) -> None:
    """Draw objective and errdisp over the steps (left), and differences from 'none' (right).

    Curves are running means over a tenth of the steps, averaged over seeds. Bands are the standard
    deviation over seeds on the left, the standard error of the paired difference on the right.

    Parameters
    ----------
    modes : CropModes
    path : path ending in .svg, .png or .pdf
    title : str, optional
    """
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(len(SHOWN), 2, sharex=True)
    width = window(modes.steps)
    for row, name in zip(panels, SHOWN):
        for mode in modes.modes:
            _draw_band(row[0], modes.values(mode, name), mode, width, error=False)
            if mode != BASELINE:
                _draw_band(row[1], modes.differences(mode, name), mode, width, error=True)
        row[0].set_ylabel(FIGURE_LABELS[name], fontsize=9)
        row[1].set_ylabel(f"{name}: difference from {BASELINE}", fontsize=9)
        row[1].axhline(0, color=STYLES[BASELINE][0], linewidth=1.4)
        place = modes.steps - modes.last + 0.5
        row[1].axvline(place, color="black", linewidth=0.6, linestyle=":")
        row[1].text(
            place, 0.02, f" last {modes.last}", fontsize=7, transform=row[1].get_xaxis_transform()
        )
    for axes in panels.flat:
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.01)
    for axes in panels[-1]:
        axes.set_xlabel("step", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
    many = len(modes.seeds(BASELINE)) > 1
    left, right = ("mean over seeds", "mean over seeds of the paired differences")
    panels[0, 0].set_title(left + ", band: standard deviation" * many, fontsize=9)
    panels[0, 1].set_title(right + ", band: standard error" * many, fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    words = f"{modes.steps} steps" + f", running means over {width}" * (width > 1)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, frameon=False,
        title=title or words, title_fontsize=11,
    )  # fmt: skip
    save_figure(figure, path)


def _draw_band(axes: Axes, values: np.ndarray, mode: str, width: int, error: bool) -> None:
    """The mean over seeds of the running means of (seeds, steps), with a band around it."""
    color, dash = STYLES[mode]
    smooth = running_mean(values, width)
    mean, steps = smooth.mean(axis=0), np.arange(1, values.shape[1] + 1)
    count = len(values)
    words = f"{mode}, {counted(count, 'seed')}"
    thick = 3.5 if mode == BASELINE else 1.7
    axes.plot(steps, mean, color=color, linestyle=dash, linewidth=thick, label=words)
    if count > 1:
        # Those of the figures themselves lie one upon the other: the same clips make them.
        alpha = 0.18 if error else 0.07
        band = smooth.std(axis=0, ddof=1) / (np.sqrt(count) if error else 1)
        axes.fill_between(steps, mean - band, mean + band, color=color, alpha=alpha, linewidth=0)
