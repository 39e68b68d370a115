"""Patches: squares cut from a frame around a centre, and resized for the network.

What is exact and what is fast differ here alone: a tracker is given one object that cuts, resizes
and rounds, and says how far a peak of the response is from the middle, and asks nothing else of
it than the methods of ``ExactPatches``. The other such object is ``patches_fast.FastPatches``.

Places are ``(y, x)`` in the coordinates of 1-based boxes: pixel ``k`` of a row or column reaches
from ``k`` to ``k + 1``, so the box ``(x, y, w, h)`` has its centre at ``(y + h/2, x + w/2)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layers import imresize

from .peak import Peak, displacement
from .settings import TrackerSettings

# Of greater squares the frame is shrunk before they are cut; the square would need 0.8 GB.
LARGEST_SIDE = 8192


def matlab_round(x: Any) -> Any:
    """Round half away from zero, as MATLAB's ``round`` (NumPy's rounds half to even)."""
    whole = np.trunc(x)
    return whole + np.sign(x) * (np.abs(x - whole) >= 0.5)


def whole(x: float) -> int:
    """One number, rounded half away from zero."""
    return int(matlab_round(float(x)))


def as_frame(image: Any) -> np.ndarray:
    """Return ``image`` as an array (H, W, 3) of uint8, RGB.

    Parameters
    ----------
    image : array (H, W, 3), (H, W, 1) or (H, W) of uint8, or a PIL image
        A grey image is repeated for the three channels.

    Raises
    ------
    ValueError
        For another shape or type of number, or a frame with a side of less than 3 pixels.
    """
    if hasattr(image, "convert"):  # a PIL image: palettes and transparency become RGB
        image = image.convert("RGB")
    frame = np.asarray(image)
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3) or frame.dtype != np.uint8:
        raise ValueError(
            "a frame must be a uint8 array of shape (H, W, 3), RGB, or (H, W), grey; "
            f"received shape {np.shape(image)} of {frame.dtype}"
        )
    if min(frame.shape[:2]) < 3:
        raise ValueError(f"a frame must have 3 rows and 3 columns at least, received {frame.shape}")
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame


def cut(image: np.ndarray, centre: Sequence[float], side: int, colour: np.ndarray) -> np.ndarray:
    """Cut a square, filling with ``colour`` what lies outside the image.

    Parameters
    ----------
    image : array (C, H, W), uint8 or floating point
    centre : (y, x)
        The square's first pixel, 1-based, is ``round(centre - (side + 1) / 2)``, a half rounded
        away from zero: down and right inside the frame, up and left beyond its first pixels. So
        a square box inside the frame, cut around its centre with its side, gives its pixels.
    side : int
        Pixels.
    colour : array (C,)

    Returns
    -------
    array (C, side, side), always a copy: float32, or float64 if ``image`` is
    """
    channels, height, width = image.shape
    top, left = (whole(c - (side + 1) / 2) - 1 for c in centre)
    patch = np.empty((channels, side, side), np.result_type(image.dtype, np.float32))
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    if rows.stop - rows.start < side or columns.stop - columns.start < side:
        patch[:] = np.asarray(colour, patch.dtype)[:, None, None]
    if rows.start < rows.stop and columns.start < columns.stop:
        inside = image[:, rows, columns]
        y, x = rows.start - top, columns.start - left
        patch[:, y : y + inside.shape[1], x : x + inside.shape[2]] = inside
    return patch


def _resize(patch: np.ndarray, size: int) -> np.ndarray:
    """Resize a square (C, S, S) to (C, size, size) as the originals call ``imresize``.

    They pass the ratio of the sides, of which ``ceil`` can make one cell more than wanted
    (127/128 * 128 in floating point, say); only then do they pass the size.
    """
    side = patch.shape[-1]
    if side == size:
        return patch
    scale = size / side
    if math.ceil(scale * side) == size:
        return imresize(patch, scale=scale)
    return imresize(patch, size=(size, size))


def _smaller(
    image: np.ndarray, centre: Sequence[float], side: int
) -> tuple[np.ndarray, list[float], int]:
    """``image``, ``centre`` and ``side`` with ``side`` at most ``LARGEST_SIDE``.

    Blocks of whole pixels are averaged. The original cuts the square whatever its size.
    """
    block = -(-side // LARGEST_SIDE)
    rim = [(0, 0)] + [(0, -n % block) for n in image.shape[1:]]
    channels, height, width = (padded := np.pad(image, rim, mode="edge")).shape
    blocks = padded.reshape(channels, height // block, block, width // block, block)
    smaller = blocks.mean(axis=(2, 4), dtype=np.result_type(image.dtype, np.float32))
    return smaller, [(c - 1) / block + 1 for c in centre], whole(side / block)


class ExactPatches:
    """Patches as the public MATLAB code makes them, with its rounding and its ``imresize``.

    Sources: ``get_subwindow_tracking.m`` and ``make_scale_pyramid.m`` of SiamFC, and those of
    DSiam, which subtract an average image too.
    """

    def image(self, frame: np.ndarray) -> np.ndarray:
        """A frame (H, W, 3) of uint8 as this class works on it: a view of it, (3, H, W)."""
        return frame.transpose(2, 0, 1)

    def average_colour(self, image: np.ndarray) -> np.ndarray:
        """Mean of each channel, (3,) float32, of ``image`` (3, H, W).

        The mean over the rows of each column first, then over the columns, each summed one after
        the other in single precision: as MATLAB's ``mean(mean(image))`` of a single image.
        """
        rows = np.add.accumulate(image, axis=1, dtype=np.float32)
        columns = rows[:, -1] / np.float32(image.shape[1])
        return np.add.accumulate(columns, axis=1)[:, -1] / np.float32(image.shape[2])

    def side(self, side: float) -> int:
        """The whole number of frame pixels that a square of this side is cut with, 1 at least."""
        return max(1, whole(side))

    def crop(
        self,
        image: np.ndarray,
        centre: Sequence[float],
        side: float,
        size: int,
        colour: np.ndarray,
        average_image: np.ndarray | None = None,
    ) -> np.ndarray:
        """One patch.

        Parameters
        ----------
        image : array (3, H, W), uint8 or float32
            From ``image``.
        centre : (y, x)
            Of the square, frame pixels.
        side : float
            Of the square, frame pixels.
        size : int
            Side of the patch, patch pixels.
        colour : array (3,)
            Fills what lies outside the frame, grey levels.
        average_image : array (3, h, w), optional
            Resized to the patch and subtracted from it, padding included.

        Returns
        -------
        float32 array (3, size, size)
        """
        side = self.side(side)
        if side > LARGEST_SIDE:
            image, centre, side = _smaller(image, centre, side)
        patch = _resize(cut(image, centre, side, colour), size)
        if average_image is not None:
            patch = patch - imresize(average_image, size=(size, size))
        return patch

    def pyramid(
        self,
        image: np.ndarray,
        centre: Sequence[float],
        sides: Sequence[float],
        size: int,
        colour: np.ndarray,
        average_image: np.ndarray | None = None,
    ) -> np.ndarray:
        """Patches of several sides around one centre, all resized to ``size``.

        The greatest square is cut and resized so that the smallest would have ``size`` pixels;
        from this picture every patch is cut and resized again. Arguments are those of ``crop``,
        with ``sides`` from the smallest to the greatest.

        Returns
        -------
        float32 array (len(sides), 3, size, size)
        """
        sides = [self.side(side) for side in sides]
        ratio = size / sides[0]
        search_size = whole(ratio * sides[-1])
        region = self.crop(image, centre, sides[-1], search_size, colour)
        middle = ((1 + search_size) / 2,) * 2
        return np.stack(
            [
                self.crop(region, middle, whole(ratio * side), size, colour, average_image)
                for side in sides
            ]
        )

    def move(self, peak: Peak, side: float, settings: TrackerSettings) -> np.ndarray:
        """How far the target moved from the middle of the search region, frame pixels (y, x).

        Parameters
        ----------
        peak : Peak
        side : float
            Of the search region at the middle scale, frame pixels, from ``side``.
        settings : TrackerSettings
        """
        return displacement(peak, side, settings)
