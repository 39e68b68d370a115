"""Boxes of several trackers on a video and on a strip of its frames, in one colour a tracker."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..boxes import valid_boxes
from ..figures import DPI, outline_box, outlined, save_figure
from ..overlay import VideoWriter, draw_box, draw_text
from ..patches import as_frame
from .challenge import Result
from .recordings import frame_or_none

# Okabe and Ito's colours, told apart by colour-blind readers too; ground truth is white.
COLORS = ("#D55E00", "#0072B2", "#F0E442", "#CC79A7", "#009E73", "#E69F00", "#56B4E9")
TRUTH_NAME, TRUTH_COLOR = "ground truth", "#FFFFFF"
BACKGROUND = (32, 32, 32)  # of the video's legend
# Frames of the video are enlarged until their shorter side has so many pixels.
SHORTER_SIDE = 480
LINE_HEIGHT = 0.055  # of the legend, as a fraction of the frame's shorter side
WIDTH, COLUMNS = 11.0, 3  # of the strip: inches, pictures a row
# Lines in the strip, points: thin on top of thick, so that boxes at one place are all seen; each is
# wider than the one above it by at most a step. No line takes more than a share of a small box.
THIN, THICK, STEP = 1.7, 6.0, 1.4
LINE_SHARE = 0.25
RIM = 0.5  # of a line, points


def _rgb(color: str) -> tuple[int, int, int]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


class _Drawn(NamedTuple):
    """What is drawn in one colour: boxes (T, 4), and how a legend names them."""

    name: str
    color: str
    boxes: np.ndarray
    score: str = ""


def _all_drawn(sequence, results: Sequence[Result]) -> list[_Drawn]:
    """The trackers' boxes; the ground truth, where there is any, is the last, below all others."""
    drawn = [
        _Drawn(r.name, color, r.boxes, "" if r.auc is None else f" (AUC {r.auc:.3f})")
        for r, color in zip(results, COLORS)
    ]
    if sequence.present[: len(results[0].boxes)].any():
        drawn.append(_Drawn(TRUTH_NAME, TRUTH_COLOR, sequence.boxes))
    return drawn


def draw_legend(labels: Sequence[tuple[str, str]], width: int, line: int) -> np.ndarray:
    """Names in their colours on a dark ground, uint8 (rows * line, width, 3), RGB."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, line / 38
    thick = max(1, round(line / 16))
    places, x, row = [], line // 2, 0
    for name, color in labels:
        length = 2 * line + cv2.getTextSize(name, font, scale, thick)[0][0]
        if x + length > width and x > line // 2:
            x, row = line // 2, row + 1
        places.append((name, color, x, row))
        x += length
    legend = np.full(((row + 1) * line, width, 3), BACKGROUND, np.uint8)
    for name, color, x, row in places:
        middle = row * line + line // 2
        cv2.line(legend, (x, middle), (x + line, middle), _rgb(color), max(2, line // 6))
        base = (x + round(1.3 * line), middle + line // 5)
        cv2.putText(legend, name, base, font, scale, (255, 255, 255), thick, cv2.LINE_AA)
    return legend


def draw_boxes(
    image: np.ndarray,
    boxes: Sequence[np.ndarray],
    colors: Sequence[str],
    factor: int = 1,
    number: int | None = None,
) -> np.ndarray:
    """A copy of a frame, ``factor`` times as large, with boxes.

    Parameters
    ----------
    image : uint8 array (H, W, 3), RGB, or (H, W)
    boxes : sequence of (x, y, w, h), 1-based pixels of ``image``
        The first is drawn on top; nothing is drawn for one that is not there.
    colors : sequence of '#RRGGBB'
    factor : int
    number : int, optional
        Of the frame, written into its corner.
    """
    frame = np.ascontiguousarray(as_frame(image))
    frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    frame = np.array(frame)  # resize hands out its input where nothing changes
    for box, color in reversed([*zip(boxes, colors)]):
        if valid_boxes(box):
            draw_box(
                frame, np.array([*((box[:2] - 1) * factor + 1), *box[2:] * factor]), _rgb(color)
            )
    if number is not None:
        margin = min(frame.shape[:2]) // 20
        draw_text(frame, f"#{number}", (margin // 2, margin + 2))
    return frame


def write_video(sequence, results: Sequence[Result], path: str | os.PathLike) -> None:
    """Write a video, of the sequence's speed, with all trackers' boxes and a legend below.

    Parameters
    ----------
    sequence : Sequence, DecodedVideo or GeneratedSequence
    results : sequence of Result
        The frames that they have are written, but for those that cannot be read.
    path : path with the suffix of a video
    """
    drawn = _all_drawn(sequence, results)
    labels = [(d.name, d.color) for d in drawn]
    with VideoWriter(path, sequence.fps) as video:
        for t in range(len(results[0].boxes)):
            image = frame_or_none(sequence, t)
            if image is None:
                continue
            factor = max(1, round(SHORTER_SIDE / min(image.shape[:2])))
            colors = [color for _, color in labels]
            frame = draw_boxes(image, [d.boxes[t] for d in drawn], colors, factor, t + 1)
            line = round(LINE_HEIGHT * min(frame.shape[:2]))
            video.add(np.vstack([frame, draw_legend(labels, frame.shape[1], line)]))


def line_widths(count: int) -> np.ndarray:
    """Widths of the outlines of ``count`` boxes in the strip, points, the topmost first."""
    return np.linspace(THIN, min(THICK, THIN + STEP * (count - 1)), count)


def _narrowing(boxes: Sequence[np.ndarray], scale: float, widest: float) -> float:
    """Factor on the widths of lines around boxes (x, y, w, h), drawn with ``scale`` points a pixel.

    At most 1, and so that the thinnest line stays at least half as wide.
    """
    sides = [box[2:].min() * scale for box in boxes if valid_boxes(box)]
    return float(np.clip(LINE_SHARE * min(sides, default=np.inf) / widest, 0.5, 1))


def draw_strip(
    sequence,
    results: Sequence[Result],
    show: Sequence[int],
    path: str | os.PathLike,
    title: str | None = None,
    dpi: float = DPI,
) -> None:
    """Draw some frames with all trackers' boxes, and a legend with their AUC.

    Parameters
    ----------
    sequence : Sequence, DecodedVideo or GeneratedSequence
    results : sequence of Result
    show : sequence of int
        Frames, from 1.
    path : path ending in .svg, .png or .pdf
    title : str, optional
    dpi : float
        Of a PNG.

    Raises
    ------
    ValueError
        For a frame that was not tracked.
    """
    count = len(results[0].boxes)
    for number in show:
        if not 1 <= number <= count:
            raise ValueError(f"frames to be shown must lie in 1 to {count}, received {number}")
    columns = min(COLUMNS, len(show))
    rows = math.ceil(len(show) / columns)
    images = [frame_or_none(sequence, number - 1) for number in show]
    height, width = next((i.shape[:2] for i in images if i is not None), (3, 4))
    size = (WIDTH, WIDTH / columns * height / width * rows + 0.3 * rows + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    drawn = _all_drawn(sequence, results)
    widths = line_widths(len(drawn))
    for axes, number, image in zip(panels, show, images):
        if image is None:
            axes.set_title(f"frame {number} cannot be read", fontsize=9)
            continue
        axes.imshow(as_frame(image))
        axes.set_autoscale_on(False)
        axes.set_title(f"frame {number}", fontsize=9)
        boxes = [part.boxes[number - 1] for part in drawn]
        factor = _narrowing(boxes, 72 * WIDTH / columns / image.shape[1], widths[-1])
        for box, part, wide in reversed([*zip(boxes, drawn, widths * factor)]):
            outline_box(axes, box, part.color, width=wide, rim=RIM)
    for axes in panels:
        axes.set_axis_off()
    handles = [
        Line2D(
            [],
            [],
            color=part.color,
            linewidth=3,
            path_effects=outlined(3, RIM),
            label=part.name + part.score,
        )
        for part in drawn
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=4,
        fontsize=9,
        frameon=False,
        title=title,
        title_fontsize=11,
    )
    save_figure(figure, path, dpi)
