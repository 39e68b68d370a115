"""Arrays as the compiled kernels take them: by address, which nothing checks afterwards."""

from __future__ import annotations

import numpy as np

from ..maps import MapLayout
from .variants import LANES


def address(array: np.ndarray) -> int:
    """Where an array begins."""
    return array.__array_interface__["data"][0]


def check(array: np.ndarray, layout: MapLayout, samples: int, what: str) -> None:
    """Raise unless ``array`` is a map of single precision as its layout says.

    Raises
    ------
    ValueError
    """
    shape = layout.shape(samples)
    if array.dtype != np.float32 or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"expected {what} as a contiguous float32 array of shape {shape}, received "
            f"{array.dtype} of shape {array.shape}"
        )


def fits_lanes(*channels: int) -> bool:
    """Whether numbers of channels in a group fall into whole vectors."""
    return all(count % LANES == 0 for count in channels)
