"""From response maps to a position: choice of the scale, window, peak and displacement.

Source: ``tracker_eval.m`` of SiamFC and of DSiam.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from layers import imresize
from layers.window import hann

from .settings import TrackerSettings

# A map whose range is less than this part of its greatest magnitude has rounding errors alone.
FLAT_RANGE = 1e-4


class Peak(NamedTuple):
    """What a search found.

    Attributes
    ----------
    scale : int
        Place of the best scale among the maps, 0-based.
    score : float
        Its greatest value, after the penalty on a change of scale; -inf if there is none.
    row, column : int
        Place of the peak in the enlarged map, 1-based.
    fine : float32 array (up * h, up * w)
        The best scale's map, enlarged.
    windowed : float32 array (up * h, up * w)
        The same, shifted to minimum 0, divided by its sum and mixed with the cosine window.
    """

    scale: int
    score: float
    row: int
    column: int
    fine: np.ndarray
    windowed: np.ndarray

    @property
    def flat(self) -> bool:
        """Whether the map has no peak but rounding errors: it is constant, or not finite."""
        low, high = float(self.fine.min()), float(self.fine.max())
        return not high - low > FLAT_RANGE * max(abs(low), abs(high))


def _sum(plane: np.ndarray) -> np.float32:
    """Sum of a float32 plane, cell after cell in column-major order and in single precision.

    The goldens were summed so: 7e4 cells make 3e-5 of a difference to the true sum.
    """
    return np.add.accumulate(plane.ravel(order="F"))[-1]


@lru_cache(maxsize=8)
def cosine_window(height: int, width: int) -> np.ndarray:
    """``hann(height) hann(width)'`` divided by its sum: float32 (height, width), read-only."""
    window = np.outer(hann(height), hann(width)).astype(np.float32)
    window /= _sum(window)
    window.flags.writeable = False
    return window


def find_peak(responses: np.ndarray, settings: TrackerSettings) -> Peak:
    """Choose the best of several scales' response maps and find its peak.

    The maps are enlarged by ``response_up`` (bicubic). The best scale has the greatest maximum,
    those of all but the middle one multiplied by ``scale_penalty``, whatever their sign; of equal
    ones the first. Of equal cells the first in column-major order is the peak. A map without a
    peak (all cells equal, so that its normalisation divides by zero) has it at cell
    ``ceil(h / 2), ceil(w / 2)`` of the enlarged map, where the original forgets to enlarge.

    The original's DSiam forgets the map itself where there is one scale only; here it is searched
    like the others.

    Parameters
    ----------
    responses : float32 array (S, h, w)
        One map a scale, from the smallest scale to the greatest.
    settings : TrackerSettings
    """
    fine = imresize(responses, scale=settings.response_up)
    middle = len(fine) // 2
    best, score = middle, -np.inf
    for scale, fine_map in enumerate(fine):
        peak = float(fine_map.max()) * (1 if scale == middle else settings.scale_penalty)
        if peak > score:
            best, score = scale, peak

    shifted = fine[best] - fine[best].min()
    with np.errstate(invalid="ignore"):
        normalised = shifted / _sum(shifted)
    share = np.float32(settings.window_influence)
    windowed = (1 - share) * normalised + share * cosine_window(*normalised.shape)
    if np.isnan(windowed).any():
        row, column = (math.ceil(n / 2) for n in responses.shape[1:])
    else:
        column, row = divmod(int(np.argmax(windowed.T)), windowed.shape[0])
        row, column = row + 1, column + 1
    return Peak(best, score, row, column, fine[best], windowed)


def displacement(peak: Peak, side: int, settings: TrackerSettings) -> np.ndarray:
    """How far the target moved from the centre of the search region, frame pixels (y, x).

    The centre of an enlarged map of ``n`` cells counts as cell ``ceil(n / 2)``, half a cell less
    than it is for even ``n``, as in the original.

    Parameters
    ----------
    peak : Peak
    side : int
        Of the search region at the middle scale, frame pixels.
    settings : TrackerSettings
    """
    centre = [math.ceil(n / 2) for n in peak.windowed.shape]
    cells = np.array([peak.row - centre[0], peak.column - centre[1]], dtype=np.float64)
    return cells_to_pixels(cells, side, settings)


def cells_to_pixels(cells: np.ndarray, side: float, settings: TrackerSettings) -> np.ndarray:
    """Lengths in cells of the enlarged map as frame pixels, in a search region of ``side``."""
    return cells * settings.total_stride / settings.response_up * side / settings.instance_size
