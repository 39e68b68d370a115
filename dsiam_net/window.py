"""A window on the screen: a box drawn with the mouse, and the frames while they are tracked.

Matplotlib makes the window, as the OpenCV that runs on servers cannot. It is imported only here,
and only when a window is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

NO_DISPLAY = (
    "there is no display to open a window on (Matplotlib's backend is {backend}, and it shows "
    "none): {advice}. With a display, install a toolkit that Matplotlib can use, such as "
    "PyQt6 or Python's tkinter"
)
WITHOUT_SELECTION = "give the box of the first frame with --init x,y,w,h"
WITHOUT_SHOW = "leave --show away and look at the video that --save-video writes"


class DisplayError(ValueError):
    """A window was asked for where none can be opened."""


def _figure(picture: np.ndarray, title: str, advice: str) -> tuple[Any, Any, Any]:
    """A window with a picture (H, W, 3) in it: pyplot, axes and the picture's artist.

    DisplayError, with ``advice`` in it, where there is no display.
    """
    from matplotlib import pyplot

    figure = pyplot.figure(title)
    # A backend that draws to files alone needs no toolkit; an interactive one names its own.
    if figure.canvas.required_interactive_framework is None:
        pyplot.close(figure)
        raise DisplayError(NO_DISPLAY.format(backend=pyplot.get_backend(), advice=advice))
    axes = figure.add_axes((0, 0, 1, 0.94))
    axes.set_axis_off()
    return pyplot, axes, axes.imshow(picture)


def dragged_box(first: Sequence[float], last: Sequence[float], size: Sequence[int]) -> np.ndarray:
    """The box between two corners that the mouse was dragged over.

    Parameters
    ----------
    first, last : (x, y)
        Corners in the coordinates of ``imshow``: whole numbers are middles of pixels, from 0.
    size : (height, width) of the frame, pixels

    Returns
    -------
    float64 array (4,)
        ``x, y, w, h``, 1-based: the pixels whose middles lie within, cut at the frame.

    Raises
    ------
    ValueError
        If there are none.
    """
    low = [max(math.ceil(min(a, b)), 0) for a, b in zip(first, last)]
    high = [min(math.floor(max(a, b)), n - 1) for a, b, n in zip(first, last, size[::-1])]
    box = np.array([low[0] + 1, low[1] + 1, high[0] - low[0] + 1, high[1] - low[1] + 1], float)
    if min(box[2:]) < 1:
        raise ValueError("the box covers no pixel of the frame; draw it larger")
    return box


def select_box(image: np.ndarray) -> np.ndarray:
    """Let the user draw a box with the mouse; Enter, or closing the window, takes it.

    It can be drawn again, moved, and resized at its corners; Escape, or a click beside it, takes it
    away.

    Parameters
    ----------
    image : uint8 array (H, W, 3), RGB

    Returns
    -------
    float64 array (4,) : x, y, w, h, 1-based

    Raises
    ------
    DisplayError
        Where there is no display.
    ValueError
        If nothing was drawn.
    """
    pyplot, axes, _ = _figure(image, "Draw a box around the target", WITHOUT_SELECTION)
    from matplotlib.widgets import RectangleSelector

    axes.set_title("Draw a box around the target, then press Enter (Escape: draw it anew)")
    drawn: list[np.ndarray] = []

    def remember(press: Any, release: Any) -> None:
        left, right, low, high = selector.extents
        drawn.clear()
        try:
            drawn.append(dragged_box((left, low), (right, high), image.shape[:2]))
        except ValueError:  # a click, or beside the frame
            selector.clear()

    def finish(event: Any) -> None:
        if event.key == "escape":
            drawn.clear()
        elif event.key in ("enter", "return") and drawn:
            pyplot.close(axes.figure)

    selector = RectangleSelector(axes, remember, useblit=False, interactive=True, button=[1])
    axes.figure.canvas.mpl_connect("key_press_event", finish)
    pyplot.show(block=True)
    if not drawn:
        raise ValueError(f"no box was drawn; draw one, or {WITHOUT_SELECTION}")
    return drawn[0]


class Window:
    """Shows frames one after the other; a context manager.

    Raises
    ------
    DisplayError
        From ``add`` of the first frame, where there is no display.

    Attributes
    ----------
    closed : bool
        Whether the user closed the window.
    """

    def __init__(self, title: str):
        self.title = title
        self.closed = False
        self._pyplot = self._picture = None

    def __enter__(self) -> Window:
        return self

    def add(self, frame: np.ndarray) -> None:
        """Show a frame, uint8 (H, W, 3), RGB, in place of the one before."""
        if self._picture is None:
            self._pyplot, axes, self._picture = _figure(frame, self.title, WITHOUT_SHOW)
            axes.figure.canvas.mpl_connect("close_event", self._on_close)
            self._pyplot.show(block=False)
        height, width = frame.shape[:2]
        self._picture.set_data(frame)
        self._picture.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
        canvas = self._picture.figure.canvas
        canvas.draw_idle()
        canvas.flush_events()

    def _on_close(self, event: Any) -> None:
        self.closed = True

    def __exit__(self, kind, value, trace) -> None:
        if self._picture is not None and not self.closed:
            self._pyplot.close(self._picture.figure)
