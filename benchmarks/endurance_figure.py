"""The figure of ``endurance.py``: memory and time over the frames and the steps of long runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsiam_net.figures import BLUE, GREY, VERMILION, running_median, save_figure

if TYPE_CHECKING:
    from endurance import Course

MIB = 2**20
# What memory may not leave, from its median in the second tenth on.
LIMIT = 0.02
TITLES = {"frames": "a video, frame by frame", "steps": "training, step by step"}
# Of the times, those beyond are not shown: now and then a checkpoint or a curve is written.
SHOWN = 99


def draw(courses: Sequence[Course]) -> Figure:
    """A column for each course: memory above, time of each below."""
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots(2, len(courses), squeeze=False)
    for (memory, time), course in zip(axes.T, courses, strict=True):
        memory.set_title(TITLES[course.unit], fontsize=11)
        _memory(memory, course)
        _time(time, course)
        for panel in (memory, time):
            panel.set_xlim(0, len(course.seconds))
            panel.grid(alpha=0.3, linewidth=0.6)
            panel.legend(fontsize=9, frameon=False)
        time.set_xlabel(course.unit, fontsize=10)
    return figure


def _memory(axes: Axes, course: Course) -> None:
    middle = course.memory()[0]
    low, high = (1 - LIMIT) * middle, (1 + LIMIT) * middle
    axes.axhspan(low, high, color=GREY, alpha=0.2, linewidth=0, label="2 % around")
    axes.plot(course.bytes / MIB, color=BLUE, linewidth=1.2, label="resident")
    axes.set_ylim(0, 1.25 * max(course.bytes.max() / MIB, high))
    axes.set_ylabel("memory, MiB", fontsize=10)


def _time(axes: Axes, course: Course) -> None:
    each = 1e3 * np.diff(course.seconds)
    axes.plot(each, ".", color=GREY, markersize=1, alpha=0.4, label="each")
    axes.plot(running_median(each), color=VERMILION, linewidth=1.2, label="median of neighbours")
    axes.set_ylim(0, 1.2 * np.percentile(each, SHOWN))
    axes.set_ylabel("time of one, ms", fontsize=10)


def write_figure(courses: Sequence[Course], path: str | os.PathLike) -> None:
    """Draw courses into a file."""
    save_figure(draw(courses), path, dpi=90)
