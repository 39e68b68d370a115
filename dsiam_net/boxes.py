"""Boxes of targets: conversions, the sides of the crops around them, and overlap.

A box is ``(x, y, w, h)`` as OTB writes it: frame pixels, ``(x, y)`` the 1-based column and row of
its upper left pixel, so that it covers the columns ``x`` to ``x + w - 1``. A centre is ``(y, x)``,
0-based, and whole numbers are centres of pixels: a box of one pixel at (1, 1) has its centre at
(0, 0). A frame's pixels then reach from -0.5 to W - 0.5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

TEMPLATE_SIZE = 127
SEARCH_SIZE = 255


def box_to_center(boxes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Centres and sizes of boxes.

    Parameters
    ----------
    boxes : array (..., 4)
        x, y, w, h; frame pixels, 1-based.

    Returns
    -------
    center : float64 array (..., 2)
        (y, x), frame pixels, 0-based.
    size : float64 array (..., 2)
        (h, w), frame pixels.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    size = boxes[..., 3:1:-1]
    return boxes[..., 1::-1] - 1 + (size - 1) / 2, size.copy()


def center_to_box(center: Any, size: Any) -> np.ndarray:
    """Boxes (..., 4) from centres (..., 2) and sizes (..., 2): the inverse of ``box_to_center``."""
    center, size = np.asarray(center, dtype=np.float64), np.asarray(size, dtype=np.float64)
    corner = center + 1 - (size - 1) / 2
    return np.concatenate([corner[..., ::-1], np.broadcast_to(size, corner.shape)[..., ::-1]], -1)


def get_axis_aligned_bb(region: Any) -> np.ndarray:
    """Upright boxes of regions, ``get_axis_aligned_BB.m``, as centre and size.

    A polygon becomes the box around its mean corner with the proportions of the box around the
    polygon and, but for the pixel that is added to either side, the polygon's area: that of a
    rectangle with the polygon's first two sides.

    Parameters
    ----------
    region : array (..., 8) or (..., 4)
        Polygons ``x1, y1, ..., x4, y4``, or boxes ``x, y, w, h``; frame pixels, 1-based.

    Returns
    -------
    float64 array (..., 4)
        ``cx, cy, w, h`` with ``x = cx - w / 2`` and ``y = cy - h / 2``: centres here are
        SiamFC's, which for a box are half a pixel right of and below its middle pixel.

    Raises
    ------
    ValueError
        If there are neither 4 nor 8 numbers.
    """
    region = np.asarray(region, dtype=np.float64)
    if region.shape[-1] == 4:
        return np.concatenate([region[..., :2] + region[..., 2:] / 2, region[..., 2:]], axis=-1)
    if region.shape[-1] != 8:
        raise ValueError(f"a region has 4 or 8 numbers, received an array of {region.shape}")
    corners = region.reshape(*region.shape[:-1], 4, 2)
    extent = corners.max(axis=-2) - corners.min(axis=-2)
    sides = np.sqrt((np.diff(corners[..., :3, :], axis=-2) ** 2).sum(axis=-1))
    scale = np.sqrt(sides.prod(axis=-1) / extent.prod(axis=-1))
    return np.concatenate([corners.mean(axis=-2), scale[..., None] * extent + 1], axis=-1)


def polygon_to_box(polygons: Any) -> np.ndarray:
    """Boxes (..., 4), ``x, y, w, h``, of polygons (..., 8); see ``get_axis_aligned_bb``."""
    region = get_axis_aligned_bb(polygons)
    return np.concatenate([region[..., :2] - region[..., 2:] / 2, region[..., 2:]], axis=-1)


def template_sides(h: float, w: float) -> tuple[float, float]:
    """Sides of the squares that become the template and the search region.

    ``s_z = sqrt((w + p) (h + p))`` with ``p = (w + h) / 2``: the box with a margin of half its
    mean side all around; ``s_x = s_z 255 / 127``: the same scale, but 255 pixels.

    Parameters
    ----------
    h, w : float
        Height and width of the box in the first frame, frame pixels.

    Returns
    -------
    s_z, s_x : float
        Frame pixels, not rounded.

    Raises
    ------
    ValueError
        If a side is not positive and finite.
    """
    if not (0 < h < math.inf and 0 < w < math.inf):
        raise ValueError(f"height and width of a box must be positive, received {h!r} and {w!r}")
    p = (w + h) / 2
    s_z = math.sqrt((w + p) * (h + p))
    return s_z, s_z * SEARCH_SIZE / TEMPLATE_SIZE


def valid_boxes(boxes: Any) -> np.ndarray:
    """Which boxes (..., 4) are there: four finite numbers, width and height above 0; (...)."""
    boxes = np.asarray(boxes, dtype=np.float64)
    finite = np.isfinite(boxes).all(axis=-1)
    return finite & (np.where(finite[..., None], boxes, 0)[..., 2:] > 0).all(axis=-1)


def iou(a: Any, b: Any) -> np.ndarray:
    """Intersection over union of boxes, as OTB's ``calcRectInt.m``.

    Parameters
    ----------
    a, b : arrays (..., 4) that broadcast
        x, y, w, h. A box that is not there (see ``valid_boxes``) overlaps nothing.

    Returns
    -------
    float64 array (...), 0 to 1
    """
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    valid = valid_boxes(a) & valid_boxes(b)
    a, b = (np.where(valid[..., None], box, [0, 0, 1, 1]) for box in (a, b))
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - shared
    # Rounding of high - low can make a box share more with itself than it has.
    return np.where(valid, np.minimum(shared / union, 1), 0)
