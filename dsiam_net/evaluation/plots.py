"""Figures of an evaluation: the benchmark's curves, boxes on frames, frames where trackers fail.

As in ``dsiam_net.figures`` figures are matplotlib objects, never ``pyplot``'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from ..figures import outline_box, save_figure
from ..metrics import NORMALIZED_THRESHOLDS, PRECISION_THRESHOLDS
from .report import Evaluation, TrackerEvaluation

# Okabe and Ito's colours, with dashes for those who tell no colours apart; after the last
# combination they begin again.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
# True boxes: a light line with a dark rim, unlike every tracker's.
TRUTH_COLOR = "#FFFFFF"
# Points; targets may be small.
BOX_WIDTH = 1.3
# Frames in a strip, and failures shown of a tracker on a sequence.
STRIP_FRAMES, MOST_FAILURES = 6, 8
# Inches: height of a frame in a strip, and greatest width of a strip.
PANEL, WIDEST = 1.9, 13.0


class Style(NamedTuple):
    """How a tracker is drawn."""

    color: str
    dash: str


def styles(names: Sequence[str]) -> dict[str, Style]:
    """A colour and a dash for each name; 7 colours and 4 dashes go 28 names without a repeat."""
    return {
        name: Style(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    }


# Curves


def _curve_figure(
    evaluation: Evaluation,
    curve: str,
    score: str,
    abscissae: np.ndarray,
    words: tuple[str, str, str],
    legend: str,
) -> Figure:
    """One curve a tracker, ranked in the legend by ``score``."""
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    drawn = styles(list(evaluation.trackers))
    overall = {name: evaluation.trackers[name].overall for name in evaluation.ranked}
    for place, name in enumerate(sorted(overall, key=lambda n: -getattr(overall[n], score))):
        style = drawn[name]
        axes.plot(
            abscissae,
            getattr(overall[name], curve),
            color=style.color,
            linestyle=style.dash,
            linewidth=2,
            zorder=10 - place,
            label=f"{name} [{getattr(overall[name], score):.3f}]",
        )
    title, x, y = words
    axes.set(xlabel=x, ylabel=y, xlim=(abscissae[0], abscissae[-1]), ylim=(0, 1))
    axes.set_title(title, fontsize=11)
    axes.set_yticks(np.linspace(0, 1, 11))
    axes.grid(alpha=0.3, linewidth=0.6)
    if overall:
        axes.legend(loc=legend, fontsize=8, framealpha=0.9, handlelength=3)
    return figure


def curves(evaluation: Evaluation) -> dict[str, Figure]:
    """Success, precision and normalised precision plots, by name."""
    count = len(evaluation.compared)
    over = f"{evaluation.kind}, {count} sequence{'' if count == 1 else 's'}"
    # GOT-10k ranks by AO, to which the area under its success curve comes near.
    success = evaluation.protocol.rank_by
    return {
        "success": _curve_figure(
            evaluation, "success", success, evaluation.protocol.thresholds,
            (f"Success plot ({over})", "Overlap threshold", "Success rate"), "best",
        ),
        "precision": _curve_figure(
            evaluation, "centre", "precision", PRECISION_THRESHOLDS,
            (f"Precision plot ({over})", "Centre error threshold (pixels)", "Precision"),
            "best",
        ),
        "normalized_precision": _curve_figure(
            evaluation, "normalized", "normalized_precision", NORMALIZED_THRESHOLDS,
            (f"Normalised precision plot ({over})",
             "Centre error threshold (share of the target's size)", "Precision"),
            "best",
        ),
    }  # fmt: skip


# Frames


def spread_frames(length: int, count: int = STRIP_FRAMES) -> list[int]:
    """``count`` frames at equal distances, from 1: the second to the last; fewer if not so many."""
    return sorted({int(n) for n in np.linspace(min(2, length), length, count).round()})


def _draw_frame(
    axes: Axes,
    image: np.ndarray,
    number: int,
    truth: np.ndarray,
    boxes: Sequence[tuple[np.ndarray, Style]],
) -> None:
    axes.imshow(image)
    axes.set_autoscale_on(False)  # boxes beyond the frame must not change its limits
    axes.set_axis_off()
    axes.text(
        0.03,
        0.95,
        f"#{number}",
        color="white",
        fontsize=9,
        va="top",
        transform=axes.transAxes,
        path_effects=[Stroke(linewidth=2, foreground="black"), Normal()],
    )
    outline_box(axes, truth, TRUTH_COLOR, width=BOX_WIDTH)
    for box, style in boxes:
        outline_box(axes, box, style.color, style.dash, BOX_WIDTH)


def _panels(count: int, shape: tuple[int, ...]) -> tuple[int, int, float, float]:
    """Rows and columns for so many frames of a shape (H, W, 3), and a panel's width and height."""
    width = PANEL * shape[1] / shape[0]
    columns = max(1, min(count, int(WIDEST // width)))
    rows = -(-count // columns)
    columns = -(-count // rows)
    return rows, columns, width, PANEL


def _legend(drawn: dict[str, Style]) -> list[Line2D]:
    truth = Line2D(
        [], [], color=TRUTH_COLOR, linewidth=1.6, label="true box",
        path_effects=[Stroke(linewidth=3, foreground="black"), Normal()],
    )  # fmt: skip
    return [
        truth,
        *(
            Line2D([], [], color=style.color, linestyle=style.dash, linewidth=1.8, label=name)
            for name, style in drawn.items()
        ),
    ]


def sequence_figure(
    evaluation: Evaluation, sequence: str, frames: Sequence[int] | None = None
) -> Figure:
    """A strip of frames with the boxes of all trackers, and their overlaps over time below.

    Parameters
    ----------
    evaluation : Evaluation
    sequence : str
    frames : sequence of int, optional
        Numbers, from 1, of the frames shown; those beyond the sequence are left out. By default
        ``spread_frames``.

    Raises
    ------
    ValueError
        If no number is one of a frame.
    """
    video = evaluation.sequences[sequence]
    numbers = spread_frames(len(video)) if frames is None else frames
    numbers = [n for n in numbers if 1 <= n <= len(video)]
    if not numbers:
        raise ValueError(
            f"sequence {sequence} has frames 1 to {len(video)}; received {list(frames)}"
        )
    trackers = {n: t for n, t in evaluation.trackers.items() if sequence in t.boxes}
    drawn = {n: s for n, s in styles(list(evaluation.trackers)).items() if n in trackers}
    images = [video.frame(n - 1) for n in numbers]
    rows, columns, width, height = _panels(len(numbers), images[0].shape)
    figure = Figure(figsize=(max(6.0, columns * width), rows * height + 2.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(rows * height, 2.4))
    panels = top.subplots(rows, columns, squeeze=False).ravel()
    for axes, number, image in zip(panels, numbers, images):
        boxes = [(t.boxes[sequence][number - 1], drawn[n]) for n, t in trackers.items()]
        _draw_frame(axes, image, number, video.boxes[number - 1], boxes)
    for axes in panels[len(numbers) :]:
        axes.set_axis_off()
    axes = bottom.subplots()
    time = np.arange(1, len(video) + 1)
    for name, tracker in trackers.items():
        style = drawn[name]
        overlap = tracker.overlaps[sequence]
        axes.plot(time, overlap, color=style.color, linestyle=style.dash, linewidth=1.4)
    for number in numbers:
        axes.axvline(number, color="#999999", linewidth=0.6, zorder=0)
    axes.set(xlabel="frame", ylabel="overlap", xlim=(1, max(2, len(video))), ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3, linewidth=0.6)
    bottom.legend(
        handles=_legend(drawn), loc="outside lower center", ncols=len(drawn) + 1, fontsize=8,
        frameon=False,
    )  # fmt: skip
    top.suptitle(sequence, fontsize=11)
    return figure


def failure_frames(tracker: TrackerEvaluation, sequence: str) -> list[int]:
    """Frames to show of a tracker's failures: the first of each stretch, from 1, the longest."""
    stretches = tracker.failures(sequence)
    longest = sorted(stretches, key=lambda s: (s[0] - s[1], s[0]))[:MOST_FAILURES]
    return sorted(first for first, _ in longest)


def failure_figure(evaluation: Evaluation, name: str, sequence: str) -> Figure | None:
    """The frames where a tracker's box leaves the target; None if it never does."""
    tracker, video = evaluation.trackers[name], evaluation.sequences[sequence]
    numbers = failure_frames(tracker, sequence)
    if not numbers:
        return None
    style = {name: styles(list(evaluation.trackers))[name]}
    images = [video.frame(n - 1) for n in numbers]
    rows, columns, width, height = _panels(len(numbers), images[0].shape)
    figure = Figure(figsize=(max(5.0, columns * width), rows * height + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, number, image in zip(panels, numbers, images):
        box = tracker.boxes[sequence][number - 1]
        _draw_frame(axes, image, number, video.boxes[number - 1], [(box, style[name])])
    for axes in panels[len(numbers) :]:
        axes.set_axis_off()
    stretches = tracker.failures(sequence)
    frames = sum(last - first + 1 for first, last in stretches)
    count = len(stretches)
    figure.suptitle(
        f"{name} on {sequence}: {frames} frames without overlap, in {count} "
        f"stretch{'' if count == 1 else 'es'}",
        fontsize=10,
    )
    figure.legend(
        handles=_legend(style), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )
    return figure


def write_curves(evaluation: Evaluation, folder: str | os.PathLike) -> None:
    """Write the figures of ``curves`` into a folder, as SVG and PNG."""
    for name, figure in curves(evaluation).items():
        for suffix in (".svg", ".png"):
            save_figure(figure, Path(folder) / f"{name}{suffix}")


def write_plots(
    evaluation: Evaluation, folder: str | os.PathLike, frames: Sequence[int] | None = None
) -> dict[str, str]:
    """Write all figures into a folder.

    ``success``, ``precision`` and ``normalized_precision`` as SVG and PNG; ``sequences/NAME.png``;
    ``failures/TRACKER/NAME.png`` where there are failures. ``frames`` as in ``sequence_figure``.

    Returns
    -------
    dict : why a figure is missing, by its path below the folder, where frames cannot be shown.
    """
    folder, problems = Path(folder), {}

    def write(name: str, draw: Callable[[], Figure | None]) -> None:
        try:
            figure = draw()
        except ValueError as exc:
            problems[name] = str(exc)
            return
        if figure is not None:
            save_figure(figure, folder / name)

    write_curves(evaluation, folder)
    for sequence in evaluation.sequences:
        if any(sequence in t.boxes for t in evaluation.trackers.values()):
            draw = partial(sequence_figure, evaluation, sequence, frames)
            write(f"sequences/{sequence}.png", draw)
    for name, tracker in evaluation.trackers.items():
        for sequence in tracker.boxes:
            draw = partial(failure_figure, evaluation, name, sequence)
            write(f"failures/{name}/{sequence}.png", draw)
    return problems
