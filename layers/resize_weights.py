"""The weights of MATLAB's ``imresize``: along one axis the output is a matrix times the input.

See ``layers.resize`` for what they are.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with ``a = -1/2``."""
    # Powers and sums in the original's order: of integers the last digit decides at a half.
    x = np.abs(x)
    square = x * x
    cube = square * x
    near = 1.5 * cube - 2.5 * square + 1
    far = -0.5 * cube + 2.5 * square - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0.0)


# name -> (function, width of its support in cells)
KERNELS = {"bicubic": (_cubic, 4.0), "bilinear": (_triangle, 2.0)}


@lru_cache(maxsize=64)
def resize_matrix(
    size_in: int,
    size_out: int,
    scale: float | None = None,
    *,
    kernel: str = "bicubic",
    antialias: bool = True,
) -> np.ndarray:
    """Matrix that resizes one axis.

    Parameters
    ----------
    size_in, size_out : int
        Number of cells before and after.
    scale : float, optional
        Distance of input cells in output cells, which sets the sampling grid; by default
        ``size_out / size_in``. MATLAB's ``imresize(image, scale)`` samples by the scale it is
        given, whatever size the rounding up gives.
    kernel : 'bicubic' or 'bilinear'
    antialias : bool
        Stretch the kernel when the axis shrinks.

    Returns
    -------
    float64 array of shape (size_out, size_in), read-only (it is cached); each row sums to 1.

    Raises
    ------
    ValueError
        For an unknown kernel, or a size or scale that is not positive.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {sorted(KERNELS)}, received {kernel!r}")
    if size_in < 1 or size_out < 1:
        raise ValueError(f"sizes must be at least 1, received {size_in} -> {size_out}")
    scale = size_out / size_in if scale is None else scale
    if not scale > 0:
        raise ValueError(f"scale must be positive, received {scale}")
    function, width = KERNELS[kernel]
    stretch = min(scale, 1.0) if antialias else 1.0
    width /= stretch

    place = np.arange(1, size_out + 1) / scale + 0.5 * (1 - 1 / scale)
    first = np.floor(place - width / 2)
    # Two more taps than the support is wide, since it starts at any fraction of a cell.
    cells = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = stretch * function(stretch * (place[:, None] - cells))
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]

    mirrored = np.mod(cells.astype(np.int64) - 1, 2 * size_in)
    mirrored = np.where(mirrored < size_in, mirrored, 2 * size_in - 1 - mirrored)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out)[:, None], mirrored), weights)
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def taps(
    size_in: int, size_out: int, scale: float, kernel: str, adjoint: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The input cells of each output cell, ascending, and their weights: (size_out, taps) both.

    Where there are fewer, some of weight 0 stand at the end. With ``adjoint`` the matrix is
    transposed: the output cells of each input cell.
    """
    matrix = resize_matrix(size_in, size_out, scale, kernel=kernel)
    matrix = matrix.T if adjoint else matrix
    count = np.count_nonzero(matrix, axis=1).max()
    cells = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count]
    return cells, np.take_along_axis(matrix, cells, axis=1)
