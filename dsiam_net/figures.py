"""Figures: loss curves of training, and the responses of the unrolled network over a clip.

Figures are made through matplotlib's objects, never through ``pyplot``, so that nothing is shared
between them and no display is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from dagnet import DagNN, asnumpy, atomic_write
from layers import find_peak

from .boxes import box_to_center, center_to_box, valid_boxes
from .clips import Clip
from .training import FIGURES, clip_batch

SUFFIXES = (".svg", ".png", ".pdf")
DPI = 150
# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, SKY, GREEN, VERMILION, GREY = "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#999999"
TRUE_COLOR, TRACKED_COLOR, SEARCH_COLOR = SKY, VERMILION, "#FFFFFF"
# Steps of the running median: a tenth of the run, at most so many.
MEDIAN_STEPS = 201
# Height of a picture of a frame and what is around it, inches.
PANEL, PANEL_MARGIN = 1.7, 0.42
FIGURE_LABELS = {
    "objective": "objective\n(logistic loss, sum of frames)",
    "errdisp": "errdisp\n(0 best, 99 worst)",
    "errmax": "errmax\n(wrong signs a frame)",
}


def save_figure(figure: Figure, path: str | os.PathLike, dpi: float = DPI) -> None:
    """Write a figure as SVG, PNG or PDF by the path's suffix, under a temporary name first.

    Text stays text in SVG and PDF; the same figure gives the same bytes.

    Raises
    ------
    ValueError
        For another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a figure's suffix must be one of {', '.join(SUFFIXES)}")
    plain = {"svg.fonttype": "none", "svg.hashsalt": "dsiam", "pdf.fonttype": 42}
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    with matplotlib.rc_context(plain), atomic_write(path) as stream:
        figure.savefig(stream, format=suffix[1:], dpi=dpi, metadata=undated)


# Training


def running_median(values: np.ndarray) -> np.ndarray:
    """Median of each value's neighbours, over a tenth of the values; mirrored at the ends."""
    width = min(MEDIAN_STEPS, len(values) // 10) | 1
    padded = np.pad(values, width // 2, mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)


def loss_curve(curve: Any, path: str | os.PathLike, title: str | None = None) -> None:
    """Draw the objective over the steps of training, and the errors beneath it.

    Parameters
    ----------
    curve : array (steps, 3)
        Columns objective, errdisp and errmax (``dsiam_net.training.FIGURES``), a row a step.
    path : path ending in .svg, .png or .pdf
    title : str, optional

    Raises
    ------
    ValueError
        If the array has another shape or no row.
    """
    curve = np.asarray(curve, dtype=np.float64)
    if curve.ndim != 2 or curve.shape[1] != len(FIGURES) or not len(curve):
        raise ValueError(
            f"a curve must be (steps, {len(FIGURES)}) with columns {', '.join(FIGURES)} and a "
            f"step at least, received shape {curve.shape}"
        )
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    panels = figure.subplots(len(FIGURES), 1, sharex=True, height_ratios=(2, 1, 1))
    steps = np.arange(1, len(curve) + 1)
    for axes, name, values, color in zip(panels, FIGURES, curve.T, (BLUE, VERMILION, GREEN)):
        few = len(curve) < 20
        axes.plot(
            steps,
            values,
            color=color if few else GREY,
            linewidth=1.2 if few else 0.7,
            alpha=1 if few else 0.6,
            marker="o" if few else None,
            markersize=3.5,
            label="each step",
        )
        if not few:
            axes.plot(steps, running_median(values), color=color, linewidth=1.8, label="median")
        axes.set_ylabel(FIGURE_LABELS[name], fontsize=9)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.tick_params(labelsize=9)
        axes.margins(x=0.01)
    if len(curve) >= 20:
        panels[0].legend(loc="upper right", fontsize=9, frameon=False)
    panels[-1].set_xlabel("step", fontsize=10)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    if title:
        panels[0].set_title(title, fontsize=11)
    save_figure(figure, path)


# Responses over a clip


@dataclass(frozen=True, eq=False)
class FrameResponse:
    """What the unrolled network saw and answered in one frame.

    Attributes
    ----------
    number : int
        Of the frame, from 1.
    image : uint8 array (H, W, 3)
        The frame.
    patch : uint8 array (S, S, 3)
        Its search region.
    score : float array (h, w)
        The response map: above 0 where the network sees the target.
    center : (row, column)
        Of the search region, frame pixels, 0-based.
    side : float
        Of the search region, frame pixels.
    target : (row, column)
        Where the target is in the map, cells, 0-based, not rounded.
    true_box, tracked_box : (x, y, w, h)
        Frame pixels, 1-based. The tracked box has the size of the clip's first.
    objective, errdisp, errmax : float
        Loss and errors of the frame.
    """

    number: int
    image: np.ndarray
    patch: np.ndarray
    score: np.ndarray
    center: np.ndarray
    side: float
    target: np.ndarray
    true_box: np.ndarray
    tracked_box: np.ndarray
    objective: float
    errdisp: float
    errmax: float

    @property
    def peak(self) -> tuple[int, int]:
        """(row, column) of the map's maximum, cells, 0-based."""
        row, column = find_peak(self.score[None, None])[0]
        return int(row), int(column)

    def in_patch(self, box: Any) -> np.ndarray:
        """A box of the frame as ``(x, y, w, h)`` in pixels of the patch, 1-based."""
        size = self.patch.shape[0]
        scale = size / self.side
        center, extent = box_to_center(box)
        return center_to_box((center - self.center) * scale + (size - 1) / 2, extent * scale)


def collect_responses(net: DagNN, clip: Clip, mode: str = "test") -> list[FrameResponse]:
    """Evaluate an unrolled network on a clip, without derivatives, and keep what is to be drawn.

    The network is left as it was: mode, precious variables and running statistics; the values of
    its variables are those of this evaluation.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``, with values in all parameters.
    clip : Clip
        At least as many frames as the network has.
    mode : 'test' or 'normal'
        Whether batch norms use stored moments or those of the clip.

    Returns
    -------
    list of FrameResponse, one for each frame of the network
    """
    unrolled = net.meta["unrolled"]
    numbers = range(1, unrolled["frames"] + 1)
    batch = clip_batch(net, [clip], asnumpy(net.get_param("adjust_b").value).dtype)
    wanted = ("f{t}_z", "score{t}", "center{t}", "target{t}", *(f"{name}{{t}}" for name in FIGURES))
    names = {pattern: [pattern.format(t=t) for t in numbers] for pattern in wanted}
    variables = [net.get_var(name) for group in names.values() for name in group]
    before = [v.precious for v in variables], net.mode
    statistics = [record.block.statistics_state() for record in net.layers]
    try:
        for variable in variables:
            variable.precious = True
        net.mode = mode
        net.eval(batch.inputs, late_inputs=batch.late_inputs)
        values = {p: [asnumpy(net.get_var(n).value) for n in group] for p, group in names.items()}
    finally:
        for variable, precious in zip(variables, before[0]):
            variable.precious = precious
        net.mode = before[1]
        for record, state in zip(net.layers, statistics):
            if state is not None:
                record.block.load_statistics_state(state)
    sides = asnumpy(batch.inputs["sides"])
    return [
        _frame_response(clip, t, {p: group[t - 1] for p, group in values.items()}, sides, unrolled)
        for t in numbers
    ]


def _frame_response(
    clip: Clip, t: int, values: dict[str, np.ndarray], sides: np.ndarray, unrolled: dict
) -> FrameResponse:
    score = values["score{t}"][0, 0]
    center, side = values["center{t}"][0].astype(np.float64), float(sides[0, 1])
    cell = unrolled["stride"] * side / unrolled["search_size"]
    moved = (find_peak(score[None, None])[0] - (np.array(score.shape) - 1) / 2) * cell
    first_size = box_to_center(clip.boxes[0])[1]
    return FrameResponse(
        number=t,
        image=_as_image(clip.frames[t - 1]),
        patch=_as_image(values["f{t}_z"][0]),
        score=score,
        center=center,
        side=side,
        target=values["target{t}"][0],
        true_box=clip.boxes[t - 1],
        tracked_box=center_to_box(center + moved, first_size),
        **{name: float(values[f"{name}{{t}}"]) for name in FIGURES},
    )


def _as_image(array: Any) -> np.ndarray:
    """(3, H, W), 0 to 255, as uint8 (H, W, 3)."""
    return np.clip(np.rint(asnumpy(array)), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def responses_over_frames(
    responses: Sequence[FrameResponse],
    path: str | os.PathLike,
    title: str | None = None,
    dpi: float = DPI,
) -> None:
    """Draw a row a frame: the frame, its search region with true and tracked box, its response.

    Parameters
    ----------
    responses : sequence of FrameResponse
        From ``collect_responses``.
    path : path ending in .svg, .png or .pdf
    title : str, optional
    dpi : float
        Of a PNG.

    Raises
    ------
    ValueError
        If there is no frame.
    """
    if not responses:
        raise ValueError("expected at least one frame to draw, received none")
    height, width = responses[0].image.shape[:2]
    shape = np.clip(width / height, 0.6, 2)
    size = PANEL * (shape + 2) + PANEL_MARGIN * 4, (PANEL + PANEL_MARGIN) * len(responses) + 1
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(responses), 3, squeeze=False, width_ratios=(shape, 1, 1))
    scores = np.stack([r.score for r in responses])
    for axes, response in zip(panels, responses):
        _draw_frame(axes[0], response)
        _draw_patch(axes[1], response)
        image = _draw_score(axes[2], response, scores.min(), scores.max())
    for axes, label in zip(
        panels[-1], ("frame, pixels", "search region, its pixels", "response, cells")
    ):
        axes.set_xlabel(label, fontsize=9)
    bar = figure.colorbar(image, ax=panels[:, 2], shrink=min(1, 2 / len(responses)), aspect=18)
    bar.set_label("score (above 0: target)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.legend(
        handles=_legend(),
        loc="outside upper center",
        ncols=5,
        fontsize=9,
        frameon=False,
        title=title,
        title_fontsize=11,
    )
    save_figure(figure, path, dpi)


def _legend() -> list[Line2D]:
    def mark(marker, color, label, **options):
        return Line2D(
            [], [], linestyle="", marker=marker, markeredgecolor=color, label=label, **options
        )

    return [
        Line2D([], [], color=TRUE_COLOR, linewidth=2, label="true box"),
        Line2D([], [], color=TRACKED_COLOR, linewidth=2, linestyle="--", label="tracked box"),
        Line2D([], [], color=GREY, linewidth=1.2, linestyle=":", label="search region"),
        mark("o", TRUE_COLOR, "target's cell", markerfacecolor="none", markersize=9, mew=2),
        mark("x", TRACKED_COLOR, "peak", markersize=8, mew=2.2),
    ]


# Width of the dark rim of a line, both sides together.
RIM = 1.4


def outlined(width: float, rim: float = RIM) -> list:
    """Path effects that give a line of this width a dark rim, so that it is seen on any ground."""
    return [Stroke(linewidth=width + rim, foreground="black", alpha=0.7), Normal()]


def outline_box(
    axes: Axes,
    box: Sequence[float],
    color: str,
    style: str = "-",
    width: float = 1.6,
    rim: float = RIM,
) -> None:
    """Draw the outline of a box ``x, y, w, h``, 1-based pixels; nothing where there is none."""
    if not valid_boxes(box):
        return
    x, y, w, h = box
    # The outline runs around the box's outermost pixels.
    axes.add_patch(
        Rectangle(
            (x - 1.5, y - 1.5),
            w,
            h,
            fill=False,
            edgecolor=color,
            linestyle=style,
            linewidth=width,
            path_effects=outlined(width, rim),
        )
    )


def _show(axes: Axes, image: np.ndarray, **options: Any) -> Any:
    shown = axes.imshow(image, **options)
    axes.tick_params(labelsize=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    # Boxes that reach beyond the picture must not change its limits.
    axes.set_autoscale_on(False)
    return shown


def _draw_frame(axes: Axes, response: FrameResponse) -> None:
    _show(axes, response.image)
    square = center_to_box(response.center, np.full(2, response.side))
    outline_box(axes, square, SEARCH_COLOR, ":", 1.2)
    outline_box(axes, response.true_box, TRUE_COLOR, "-")
    outline_box(axes, response.tracked_box, TRACKED_COLOR, "--")
    axes.set_ylabel(f"frame {response.number}", fontsize=10)


def _draw_patch(axes: Axes, response: FrameResponse) -> None:
    _show(axes, response.patch)
    outline_box(axes, response.in_patch(response.true_box), TRUE_COLOR, "-")
    outline_box(axes, response.in_patch(response.tracked_box), TRACKED_COLOR, "--")
    axes.set_title(f"loss {response.objective:.3g}, errdisp {response.errdisp:.3g}", fontsize=8)


def _draw_score(axes: Axes, response: FrameResponse, low: float, high: float) -> Any:
    image = _show(axes, response.score, cmap="cividis", vmin=low, vmax=high)
    row, column = response.target
    axes.plot(
        column,
        row,
        "o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor=TRUE_COLOR,
        markeredgewidth=1.8,
        path_effects=outlined(1.8),
    )
    row, column = response.peak
    axes.plot(
        column,
        row,
        "x",
        markersize=7,
        color=TRACKED_COLOR,
        markeredgewidth=2,
        path_effects=outlined(2),
    )
    distance = np.hypot(*(np.array(response.peak) - response.target))
    axes.set_title(f"peak {distance:.1f} cells from the target", fontsize=8)
    return image
