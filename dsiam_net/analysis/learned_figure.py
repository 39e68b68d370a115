"""Figures of what joint training did: lambdas and learning rates, fusion maps, the rest."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from ..figures import BLUE, GREEN, GREY, SKY, VERMILION, save_figure
from ..training import POSITIVE_RADIUS
from .learned import Learned
from .statistics import estimate, rounded

# Inches.
PANEL_WIDTH, PANEL_HEIGHT, MAP = 2.5, 2.3, 1.9
# Narrowest figure of maps, for its legend.
NARROWEST = 3.6
MAPS_IN_A_ROW = 5
# Values that lie further apart than so many times are drawn on a logarithmic axis.
FAR_APART = 5
# Half the width of the bar of a mean, and of the seeds' dots around it, in distances of an axis
# from -1 to 1.
BAR, SPREAD = 0.55, 0.35
# Colours and words by the last letter of a parameter's name.
FAMILIES = {"f": (BLUE, "filters"), "b": (SKY, "biases"), "m": (GREEN, "batch norm's factors")}
MOMENTS = (VERMILION, "batch norm's moments")


def draw_scalars(learned: Learned, path: str | os.PathLike, title: str | None = None) -> None:
    """Draw each lambda and learning rate: start, the value of each file, mean and spread.

    A panel each, as change from the start in percent; values that lie far apart as they are, on a
    logarithmic axis.

    Parameters
    ----------
    learned : Learned
    path : path ending in .svg, .png or .pdf
    title : str, optional
    """
    count = 2 * learned.levels
    figure = Figure(
        figsize=(PANEL_WIDTH * count + 0.4, PANEL_HEIGHT * 2 + 0.8), layout="constrained"
    )
    panels = figure.subplots(2, count, squeeze=False)
    for row, names, kind in ((0, learned.lambdas, "lambda"), (1, learned.rates, "share")):
        for i, (axes, name) in enumerate(zip(panels[row], names)):
            _draw_scalar(axes, learned, name)
            role, level = "VW"[i % 2], i // 2 + 1
            axes.set_title(f"{name}\n{kind} of {role}, feature layer {level}", fontsize=9)
    many = len(learned.ends) > 1
    handles = [
        Line2D([], [], color=GREY, linestyle="--", linewidth=1.4, label="start"),
        Line2D(
            [], [], linestyle="", marker="o", markersize=5, color=VERMILION,
            label="after training, a dot each run" if many else "after training",
        ),
    ]  # fmt: skip
    if many:
        handles.append(Line2D([], [], color=BLUE, linewidth=2, label="mean ± standard deviation"))
    _legend_above(figure, handles, title)
    save_figure(figure, path)


def _legend_above(figure: Figure, handles: list, title: str | None) -> None:
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9, frameon=False,
        title=title, title_fontsize=11,
    )  # fmt: skip


def _draw_scalar(axes: Axes, learned: Learned, name: str) -> None:
    start, ends = learned.start[name].item(), learned.values(name).reshape(-1)
    found = learned.scalar(name)
    known = np.array([start, *ends])
    far = known.min() > 0 and known.max() > FAR_APART * known.min()
    percent = start != 0 and not far

    def place(value):
        return 100 * (value / start - 1) if percent else value

    axes.axhline(place(start), color=GREY, linestyle="--", linewidth=1.4)
    places = np.linspace(-SPREAD, SPREAD, len(ends)) if len(ends) > 1 else [0]
    if len(ends) > 1:
        low, high = found.mean - found.spread, found.mean + found.spread
        axes.fill_between(
            (-BAR, BAR), place(max(low, known.min() if far else low)), place(high),
            color=BLUE, alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.plot((-BAR, BAR), [place(found.mean)] * 2, color=BLUE, linewidth=2)
    axes.plot(places, place(ends), "o", markersize=5, color=VERMILION)
    if far:
        axes.set_yscale("log")
    axes.set(xlim=(-1, 1), xticks=[])
    axes.margins(y=0.15)
    axes.set_ylabel("change in %" if percent else "value", fontsize=8)
    axes.set_xlabel(f"{start:.6g} → {rounded(found)}", fontsize=8)
    axes.tick_params(labelsize=8, which="both")
    axes.yaxis.get_offset_text().set_fontsize(7)
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)


def draw_maps(
    learned: Learned,
    path: str | os.PathLike,
    reference: np.ndarray | None = None,
    title: str | None = None,
) -> None:
    """Draw how the fusion maps changed, each run and the mean in one scale, beside a reference.

    Parameters
    ----------
    learned : Learned
        With a fusion map, so two feature layers or more.
    path : path ending in .svg, .png or .pdf
    reference : array (h, w), optional
        Another map, drawn as its change from 1, in a scale of its own.
    title : str, optional

    Raises
    ------
    ValueError
        If there is no fusion map.
    """
    if not learned.maps:
        raise ValueError("one feature layer has no fusion map: there is nothing to draw")
    shown = []
    for name in learned.maps:
        changes = learned.map_changes(name)
        words = "" if len(learned.maps) == 1 else f"{name}, "
        shown += [(words + run, change) for run, change in zip(learned.names, changes)]
        if len(changes) > 1:
            shown.append((f"{words}mean", changes.mean(axis=0)))
    extra = 0 if reference is None else 1
    cols = min(len(shown), MAPS_IN_A_ROW)
    rows = -(-len(shown) // cols)
    width = max(NARROWEST, MAP * (cols + extra) + 1.4 * (1 + extra))
    figure = Figure(figsize=(width, (MAP + 0.55) * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, cols + extra, squeeze=False)
    limit = max(np.abs(change).max() for _, change in shown)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, (words, change) in zip(panels[:, :cols].flat, shown):
        image = _draw_map(axes, change, limit, words, learned.stride)
    _bar(figure, image, panels[:, :cols], f"change from {_start_words(learned)}")
    if reference is not None:
        change, axes = reference - 1, panels[0, -1]
        image = _draw_map(axes, change, np.abs(change).max(), "reference", learned.stride)
        _bar(figure, image, panels[:, -1], "change from 1 (own scale)")
    circle = Line2D(
        [], [], linestyle="", marker="o", markersize=9, markerfacecolor="none",
        markeredgecolor="black", label="positive cells of a target in the middle",
    )  # fmt: skip
    _legend_above(figure, [circle], title)
    save_figure(figure, path)


def _start_words(learned: Learned) -> str:
    values = np.unique(np.concatenate([learned.start[name].ravel() for name in learned.maps]))
    return f"{values[0]:.4g}" if len(values) == 1 else "the start"


def _draw_map(axes: Axes, change: np.ndarray, limit: float, words: str, stride: int):
    # A map that did not change has no scale; any will do.
    limit = limit or 1.0
    axes.set_axis_on()
    image = axes.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    middle = [(n - 1) / 2 for n in change.shape]
    axes.add_patch(Circle(middle[::-1], POSITIVE_RADIUS / stride + 0.5, fill=False, linewidth=0.9))
    axes.set(xticks=[], yticks=[])
    axes.set_title(words, fontsize=9)
    axes.set_xlabel(f"{change.min():+.2g} to {change.max():+.2g}".replace("-", "−"), fontsize=8)
    return image


def _bar(figure, image, panels, words: str) -> None:
    bar = figure.colorbar(image, ax=panels, shrink=0.75, aspect=16)
    bar.set_label(words, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.get_offset_text().set_fontsize(7)


def draw_moved(learned: Learned, path: str | os.PathLike, title: str | None = None) -> None:
    """Draw how far each of the other parameters moved: ``|end - start| / |start|``.

    Parameters that stayed, or that started from 0, have no dot but a word.

    Parameters
    ----------
    learned : Learned
        With a start that has more than the public values.
    path : path ending in .svg, .png or .pdf
    title : str, optional

    Raises
    ------
    ValueError
        If no other parameter's start is known.
    """
    names = learned.others
    if not names:
        raise ValueError("the start of no other parameter is known: there is nothing to draw")
    figure = Figure(figsize=(max(6.0, 0.34 * len(names) + 1.2), 3.6), layout="constrained")
    axes = figure.subplots()
    used = {}
    for place, name in enumerate(names):
        moved = learned.moved(name)
        moved = moved[np.isfinite(moved) & (moved > 0)]
        if not len(moved):
            words = "from 0" if not learned.start[name].any() else "stayed"
            axes.text(
                place, 0.03, words, rotation=90, ha="center", va="bottom", fontsize=7,
                color="#666666", transform=axes.get_xaxis_transform(),
            )  # fmt: skip
            continue
        color, words = MOMENTS if name.endswith("x") else FAMILIES.get(name[-1], (GREY, "others"))
        used[words] = color
        axes.plot([place] * len(moved), moved, "o", markersize=4, color=color, alpha=0.8)
        mean = estimate(moved).mean
        axes.plot((place - 0.3, place + 0.3), (mean, mean), color=color, linewidth=1.6)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_xlim(-0.8, len(names) - 0.2)
    if used:
        axes.set_yscale("log")
    axes.set_ylabel("norm of the change / norm of the start", fontsize=9)
    axes.tick_params(labelsize=8, which="both")
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=color, label=words)
        for words, color in used.items()
    ]
    _legend_above(figure, handles, title)
    save_figure(figure, path)
