"""SiamFC's training crops as the public MATLAB code cuts them, rounding and resizing included.

Sources: ``get_crops`` and ``get_subwindow_avg`` of ``save_crops.m``, ``get_objects_extent`` of
``vid_get_random_batch.m``. Squares around the target with its context, ``s_z`` frame pixels for
the exemplar, are resized to 127 pixels, and the greater ones of the same scale to 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from layers import imresize

from .patches import cut, matlab_round, whole

CONTEXT_AMOUNT = 0.5


class Square(NamedTuple):
    """A square cut around a target.

    Attributes
    ----------
    image : uint8 array (size, size, 3), RGB
    box : float array (4,)
        x, y, w, h of the target within the square; crop pixels, from its outer corner (0, 0).
    pad : float32 array (4,)
        What the original writes beside a crop: left and top padding, and the width and height that
        are not padding, crop pixels rounded up.
    """

    image: np.ndarray
    box: np.ndarray
    pad: np.ndarray


class Crops(NamedTuple):
    """Exemplar and instance of one target in one frame."""

    exemplar: Square
    instance: Square


def _average_colour(image: np.ndarray) -> np.ndarray:
    """Mean of each channel of (H, W, 3) uint8, rounded to grey levels as ``padarray`` does."""
    return matlab_round(np.array(cv2.mean(image)[:3]))


def _first(centre: float, side: int) -> int:
    """The 1-based index of a square's first pixel; the original works in single precision."""
    return whole(np.float32(centre) - np.float32((side + 1) / 2))


def _subwindow(
    image: np.ndarray, centre: Sequence[float], size: int, side: int
) -> tuple[np.ndarray, list[int]]:
    """The square of ``side`` pixels resized to ``size``; padding left, top, right, bottom."""
    height, width = image.shape[:2]
    top, left = (_first(c, side) for c in centre)
    pads = [
        max(0, 1 - left),
        max(0, 1 - top),
        max(0, left + side - 1 - width),
        max(0, top + side - 1 - height),
    ]
    middle = (top + (side + 1) / 2, left + (side + 1) / 2)
    patch = cut(image.transpose(2, 0, 1), middle, side, _average_colour(image)).astype(np.uint8)
    if side != size:
        patch = imresize(patch, size=(size, size))
    return np.ascontiguousarray(patch.transpose(1, 2, 0)), pads


def get_square(
    image: np.ndarray,
    box: Sequence[float],
    size: int = 255,
    exemplar_size: int = 127,
    context_amount: float = CONTEXT_AMOUNT,
) -> Square:
    """The square of ``size`` pixels around a target, at the exemplar's scale.

    Parameters
    ----------
    image : uint8 array (H, W, 3), RGB
        3 rows and columns at least.
    box : (x, y, w, h)
        Of the target, frame pixels, 1-based.
    size : int
        Side of the square, crop pixels.
    exemplar_size : int
        Crop pixels that ``s_z = sqrt((w + a (w + h)) (h + a (w + h)))`` frame pixels become.
    context_amount : float
        The ``a`` of that.

    Returns
    -------
    Square
        What lies outside the frame has the frame's mean colour.

    Raises
    ------
    ValueError
        If the image is not a uint8 array (H, W, 3), or the box has no area.
    """
    image, box = np.asarray(image), np.asarray(box, dtype=np.float64)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape) < 3:
        raise ValueError(
            "expected an image of uint8, (H, W, 3) with 3 rows and columns at least, received "
            f"{image.shape} of {image.dtype}"
        )
    if box.shape != (4,) or not np.isfinite(box).all() or min(box[2:]) <= 0:
        raise ValueError(f"expected a box x, y, w, h with an area, received {box.tolist()}")
    context = box[2:] + context_amount * box[2:].sum()
    side = np.sqrt(np.float32(context[0] * context[1]))
    margin = np.float32((size - exemplar_size) / 2) / (np.float32(exemplar_size) / side)
    side = side + np.float32(2) * margin
    centre = (box[1] + box[3] / 2, box[0] + box[2] / 2)
    patch, (left, top, right, bottom) = _subwindow(image, centre, size, whole(side))
    scale = np.float32(size) / side
    extent = np.float32(box[2:]) * scale
    within = np.concatenate([(size - extent) / 2, extent])
    # The 1 stands where the original has it: of the third number's terms none has it.
    pad = [
        scale * np.float32(left + 1),
        scale * np.float32(top + 1),
        np.float32(size) - scale * np.float32(right + left),
        np.float32(size) - scale * np.float32(top + bottom + 1),
    ]
    return Square(patch, within.astype(np.float32), np.ceil(np.float32(pad)))


def get_crops(
    image: np.ndarray,
    box: Sequence[float],
    exemplar_size: int = 127,
    instance_size: int = 255,
    context_amount: float = CONTEXT_AMOUNT,
) -> Crops:
    """Exemplar and instance around a target, ``get_crops`` of ``save_crops.m``.

    Arguments and errors are those of ``get_square``.
    """
    return Crops(
        get_square(image, box, exemplar_size, exemplar_size, context_amount),
        get_square(image, box, instance_size, exemplar_size, context_amount),
    )


def get_objects_extent(
    exemplar_box: Sequence[float],
    instance_box: Sequence[float],
    exemplar_size: int = 127,
    instance_size: int = 239,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the targets lie within exemplar and instance, ``get_objects_extent``.

    Parameters
    ----------
    exemplar_box, instance_box : (x, y, w, h)
        The target in the two frames, frame pixels.
    exemplar_size, instance_size : int
        Sides of the crops, crop pixels.

    Returns
    -------
    two float64 arrays (4,)
        x, y, w, h; crop pixels, from the crop's outer corner (0, 0).
    """
    boxes = []
    for box, size in ((exemplar_box, exemplar_size), (instance_box, instance_size)):
        extent = np.asarray(box, dtype=np.float64)[2:]
        # The instance's scale is the exemplar's: its square is greater as its pixels are more.
        extent = extent * crop_scale(*extent, exemplar_size)
        boxes.append(np.concatenate([(size - extent) / 2, extent]))
    return boxes[0], boxes[1]


def crop_scale(width: float, height: float, exemplar_size: int = 127) -> float:
    """Crop pixels a frame pixel, for a target of this width and height (frame pixels)."""
    margin = CONTEXT_AMOUNT * (width + height)
    return float(exemplar_size / np.sqrt((width + margin) * (height + margin)))
