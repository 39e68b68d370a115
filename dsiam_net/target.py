"""The target's place and size, and how they follow from the region given in the first frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .boxes import get_axis_aligned_bb
from .patches import matlab_round
from .settings import TrackerSettings

# Sides of a target that are greater than the frame's by more than this are a mistake.
LARGEST_TARGET = 10
LONGEST = 1e9  # pixels


class Target(NamedTuple):
    """Centre and size of the target, float64 arrays (y, x) and (height, width), frame pixels."""

    centre: np.ndarray
    size: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """The box ``(x, y, w, h)``, 1-based, frame pixels."""
        return np.concatenate([(self.centre - self.size / 2)[::-1], self.size[::-1]])


def as_region(region: Sequence[float]) -> np.ndarray:
    """Return a region as float64: a box ``(x, y, w, h)`` or a polygon ``(x1, y1, .. x4, y4)``.

    Raises
    ------
    ValueError
        For another number of values, a value that is not finite, or a region without area.
    """
    values = np.asarray(region, dtype=np.float64).reshape(-1)
    # Beyond the greatest length no number is a place in a frame, and areas overflow.
    if values.size not in (4, 8) or not (np.abs(values) <= LONGEST).all():
        raise ValueError(
            "a region must be 4 finite numbers (x, y, w, h), or 8 (x1, y1, ..., x4, y4); "
            f"received {values.tolist()}"
        )
    if values.size == 4 and min(values[2:]) <= 0:
        raise ValueError(f"width and height of a box must be positive, received {values.tolist()}")
    if values.size == 8 and np.ptp(values.reshape(4, 2), axis=0).min() <= 0:
        raise ValueError(f"a polygon must have an area, received {values.tolist()}")
    return values


def dsiam_target(region: Sequence[float], image_size: Sequence[int]) -> Target:
    """The target of DSiam: the region in whole pixels, and within the frame.

    Source: ``obj_initialize`` in ``run_DSiam.m``, which takes 0 as the least coordinate although
    its regions are 1-based.

    Parameters
    ----------
    region : as in ``as_region``
        Of a polygon, the upright box around it.
    image_size : (height, width), pixels

    Raises
    ------
    ValueError
        If nothing of the region lies within the frame, or its width or height rounds to 0.
    """
    region = as_region(region)
    if region.size == 8:
        low = matlab_round(region.reshape(4, 2).min(axis=0))
        high = matlab_round(region.reshape(4, 2).max(axis=0))
    else:
        low, high = matlab_round(region[:2]), matlab_round(region[:2] + region[2:])
    limit = np.array(image_size[1::-1], dtype=np.float64)
    first = np.maximum(0, low)
    last = np.minimum(limit - 1, high - 1)
    if (last < first).any():
        raise ValueError(
            f"region {region.tolist()} covers no whole pixel of a frame of {image_size[1]} x "
            f"{image_size[0]} pixels"
        )
    return Target(((first + last + 1) / 2)[::-1], (last - first + 1)[::-1])


def siamfc_target(region: Sequence[float]) -> Target:
    """The target of SiamFC: the box as it is, or an upright box with the area of a polygon.

    Source: ``get_axis_aligned_BB.m``.
    """
    x, y, width, height = get_axis_aligned_bb(as_region(region))
    return Target(np.array([y, x]), np.array([height, width]))


def check_target(target: Target, image_size: Sequence[int]) -> None:
    """Refuse a target that is no target in a frame of (height, width) pixels.

    Raises
    ------
    ValueError
        If nothing of its box lies within the frame, or a side is more than ``LARGEST_TARGET``
        times the frame's.
    """
    frame = f"a frame of {image_size[1]} x {image_size[0]} pixels"
    box = target.box.tolist()
    if not overlaps_frame(target, image_size):
        raise ValueError(f"box {box} lies outside {frame}")
    if (target.size > LARGEST_TARGET * np.array(image_size)).any():
        raise ValueError(f"box {box} is more than {LARGEST_TARGET} times as large as {frame}")


def overlaps_frame(target: Target, image_size: Sequence[int]) -> bool:
    """Whether any part of the target's box lies within a frame of (height, width) pixels."""
    first, last = target.centre - target.size / 2, target.centre + target.size / 2
    return bool((last > 1).all() and (first < np.array(image_size) + 1).all())


def exemplar_side(size: np.ndarray, settings: TrackerSettings) -> float:
    """Side ``s_z`` of the template's square, frame pixels: the box with its context.

    ``sqrt((w + p)(h + p))`` with ``p = context_amount * (w + h)``.
    """
    return float(np.sqrt(np.prod(size + settings.context_amount * size.sum())))


def search_side(side_z: float, settings: TrackerSettings) -> float:
    """Side ``s_x`` of the search region, frame pixels, at the template's magnification."""
    margin = (settings.instance_size - settings.exemplar_size) / 2
    return side_z + 2 * margin / (settings.exemplar_size / side_z)


def tall_rate(size: np.ndarray, settings: TrackerSettings) -> float:
    """Factor on the size of a target that is tall (``optpars.m``), 1 for all others."""
    return settings.tall_rate if size[0] / size[1] > settings.tall_ratio else 1.0
