"""The figure of the transformations: distances over the frames, patches and responses below."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ..figures import BLUE, DPI, GREY, SKY, VERMILION, save_figure
from .distances import ROLES, TRACKERS, Variant
from .transformations import Transformations

# Inches.
WIDTH, PANEL_HEIGHT, THUMB = 11.0, 2.1, 1.28
SOURCES = {"V": ("O_1", "O_t"), "W": ("G_t", r"\bar G_t")}
# Variant, colour, line, width, words with the role to be filled in.
LINES = (
    (TRACKERS.base, GREY, "-", 2.2, "without transformation"),
    (Variant("t", "mixed", "none"), SKY, "-", 3.6, "V, W of frame t itself, mixed"),
    (TRACKERS, BLUE, "-", 1.3, "V, W of frame t − 1, mixed as in the tracker"),
    (Variant("t-1", "alone", "none"), VERMILION, (0, (5, 1.5)), 1.1, "V, W of frame t − 1 alone"),
)
TARGET_MARK = {
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgecolor": SKY,
    "markeredgewidth": 1.6,
}
PEAK_MARK = {"marker": "x", "color": VERMILION, "markeredgewidth": 1.8}
THUMB_ROWS = ("$O_t$", "$G_t$", r"$\bar{G}_t$", "response\nwithout", "response\nwith V, W")


def draw_transformations(
    result: Transformations,
    path: str | os.PathLike,
    title: str | None = None,
    dpi: float = DPI,
) -> None:
    """Draw distances without and with V (left) and W (right) and, below, some frames.

    Distances are those of the features themselves, without window; a panel a feature layer. The
    rows below show the patches, and the response on ``G_t`` without and with the transformations
    of the frame before.

    Parameters
    ----------
    result : Transformations
    path : path ending in .svg, .png or .pdf
    title : str, optional
    dpi : float
        Of a PNG.
    """
    levels, columns = result.distances.levels, len(result.shown)
    above = PANEL_HEIGHT * levels + 0.9
    below = THUMB * len(THUMB_ROWS) + 1.1
    figure = Figure(
        figsize=(max(WIDTH, THUMB * (columns + 2)), above + below), layout="constrained"
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=(above, below))
    _draw_distances(top, result)
    _draw_frames(bottom, result)
    if title:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, path, dpi)


def _draw_distances(figure: SubFigure, result: Transformations) -> None:
    levels = result.distances.levels
    panels = figure.subplots(levels, len(ROLES), squeeze=False, sharex=True)
    for level, row in enumerate(panels, start=1):
        for axes, role in zip(row, ROLES):
            _draw_panel(axes, result, role, level)
    for axes in panels[-1]:
        axes.set_xlabel("frame t", fontsize=9)
    handles = [
        Line2D([], [], color=color, linestyle=style, linewidth=width, label=words)
        for _, color, style, width, words in LINES
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(LINES), fontsize=8.5, frameon=False
    )


def _draw_panel(axes: Axes, result: Transformations, role: str, level: int) -> None:
    distances, frames = result.distances, np.arange(1, len(result.distances.values) + 1)
    for variant, color, style, width, _ in LINES:
        values = distances.series(role, level, variant)
        axes.plot(frames, values, color=color, linestyle=style, linewidth=width)
    for shown in result.shown:
        axes.axvline(shown.number, color="#CCCCCC", linewidth=0.7, zorder=0)
    ratios = distances.ratios(role, level, TRACKERS)
    source, target = SOURCES[role]
    layer = result.layers[level - 1]
    axes.set_title(
        f"{role}, {layer}: ${source}$ to ${target}$, smaller with ${role}_{{t-1}}$ in "
        f"{(ratios < 1).sum()} of {len(ratios)} frames",
        fontsize=9,
    )
    axes.set_ylabel("Euclidean distance", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.tick_params(labelsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _draw_frames(figure: SubFigure, result: Transformations) -> None:
    panels = figure.subplots(len(THUMB_ROWS), len(result.shown), squeeze=False)
    for column, shown in zip(panels.T, result.shown):
        for axes, patch in zip(column, shown.patches):
            axes.imshow(_as_picture(patch))
        for axes, response in zip(column[3:], (shown.plain, shown.adapted)):
            _draw_response(axes, response)
        words = "frame 1: $O_1$" if shown.number == 1 else f"frame {shown.number}"
        column[0].set_title(words, fontsize=9)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for axes, words in zip(panels[:, 0], THUMB_ROWS):
        axes.set_ylabel(words, fontsize=9)
    marks = [
        Line2D([], [], linestyle="", markersize=8, label="target", **TARGET_MARK),
        Line2D([], [], linestyle="", markersize=7, label="peak of the response", **PEAK_MARK),
    ]
    figure.legend(
        handles=marks,
        loc="outside lower center",
        ncols=2,
        fontsize=8.5,
        frameon=False,
        title="responses: dark the least, bright the greatest score, both written below",
        title_fontsize=8.5,
    )


def _draw_response(axes: Axes, response: np.ndarray | None) -> None:
    """Show a response map with its peak, or say that there is none."""
    if response is None:
        axes.text(0.5, 0.5, "nothing\nlearned\nyet", ha="center", va="center", fontsize=8)
        axes.set_box_aspect(1)
        return
    axes.imshow(response, cmap="cividis")
    row, column = np.unravel_index(response.argmax(), response.shape)
    middle = [(n - 1) / 2 for n in response.shape]
    axes.plot(middle[1], middle[0], markersize=9, **TARGET_MARK)
    axes.plot(column, row, markersize=6, **PEAK_MARK)
    axes.set_autoscale_on(False)
    axes.set_xlabel(f"{response.min():.2f} to {response.max():.2f}".replace("-", "−"), fontsize=8)


def _as_picture(patch: np.ndarray) -> np.ndarray:
    """(3, H, W) as uint8 (H, W, 3); what had an average image subtracted is moved into range."""
    low = min(float(patch.min()), 0.0)
    return np.clip(np.rint(patch - low), 0, 255).astype(np.uint8).transpose(1, 2, 0)
