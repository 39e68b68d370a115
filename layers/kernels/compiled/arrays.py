"""Arrays as the compiled kernels take them: by address, which nothing checks afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import ConvGeometry
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


def require(kernel: Any, geometry: ConvGeometry, dtype: np.dtype) -> None:
    """Raise unless a convolution kernel takes a geometry: it would read and write elsewhere.

    Raises
    ------
    ValueError
    """
    if not kernel.takes(geometry, dtype):
        raise ValueError(
            f"{type(kernel).__name__} does not compute {geometry} in {dtype}; ask choose_conv"
        )


def fits_lanes(*channels: int) -> bool:
    """Whether numbers of channels in a group fall into whole vectors."""
    return all(count % LANES == 0 for count in channels)
