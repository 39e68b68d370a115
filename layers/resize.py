"""Resizing of images and maps as MATLAB's ``imresize``, and its adjoint.

MATLAB resizes one axis after the other, the axis of the smaller scale first (rows on a tie). Along
an axis the output is a matrix times the input: row ``i`` of the matrix holds the kernel, sampled
at the input cells around the place that output cell ``i`` has in the input. With 1-based cells
and their centres at the integers that place is ``u = i/scale + (1 - 1/scale)/2``: the outer edges
of the first cells coincide. When the axis shrinks and ``antialias`` is on, the kernel is
stretched by ``1/scale``. Weights of a row are divided by their sum, and cells beyond an edge are
mirrored at it (the edge cell is repeated).

Octave's ``imresize`` does not normalise the weights and differs when it shrinks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from dagnet import get_array_module
from dagnet.backend import constant_like

from .kernels import Kernel, choose, register
from .resize_weights import resize_matrix, taps

# On the CPU so many output cells at once are a product with the few input cells that they need:
# half as many where an axis shrinks to less than a half, up to four times as many where it grows.
# That is faster than a sparse matrix, and such products are too small for BLAS to share among
# threads, which on a machine that has other work may wait for one another for 40 ms.
CELLS_AT_ONCE = 16

# So near to half way between two integers the order of a sum may decide how it is rounded.
HALF_WAY = 1e-7


class Band(NamedTuple):
    """Some output cells, the input cells that they need, and their weights (cells, needed)."""

    cells: slice
    needed: slice
    weights: np.ndarray


@lru_cache(maxsize=64)
def _bands(
    size_in: int, size_out: int, scale: float, kernel: str, adjoint: bool
) -> tuple[Band, ...]:
    """The matrix, transposed if ``adjoint``, as bands that cover all its rows."""
    matrix = resize_matrix(size_in, size_out, scale, kernel=kernel)
    matrix = matrix.T if adjoint else matrix
    growth = len(matrix) / matrix.shape[1]
    count = CELLS_AT_ONCE * min(max(int(growth), 1), 4) if growth > 0.5 else CELLS_AT_ONCE // 2
    bands = []
    for first in range(0, len(matrix), count):
        rows = matrix[first : first + count]
        # An input cell that no output cell reads has a row of zeros in the transposed matrix.
        used = np.flatnonzero(rows.any(axis=0))
        needed = slice(used[0], used[-1] + 1) if used.size else slice(0, 1)
        cells = slice(first, first + len(rows))
        bands.append(Band(cells, needed, np.ascontiguousarray(rows[:, needed])))
    return tuple(bands)


def _apply_bands(bands: tuple[Band, ...], planes: np.ndarray, axis: int, dtype: Any) -> np.ndarray:
    """The matrix on the rows (axis 0) or columns (axis 1) of each of ``planes`` (P, H, W).

    Only a band at a time is in double precision; the result is of ``dtype``.
    """
    count, height, width = planes.shape
    size = bands[-1].cells.stop
    result = np.empty((count, size, width) if axis == 0 else (count, height, size), dtype)
    for cells, needed, weights in bands:
        if axis == 0:
            result[:, cells] = weights @ planes[:, needed].astype(np.float64, copy=False)
        else:
            part = planes[:, :, needed].astype(np.float64, copy=False)
            result[:, :, cells] = part @ weights.T
    return result


def _sum_in_order(
    result: np.ndarray, planes: np.ndarray, axis: int, along: tuple[np.ndarray, np.ndarray]
) -> None:
    """Compute those cells of a pass's ``result`` again that lie half way between integers.

    There the last digit decides how they are rounded, and so the order of a sum, which
    ``_apply_bands`` leaves to BLAS. The original adds input cells one after the other.
    """
    off = result - np.floor(result)
    off -= 0.5
    which = np.nonzero(np.abs(off, out=off) < HALF_WAY)
    cells, weights = (part[which[axis + 1]] for part in along)
    place = list(which)
    total = np.zeros(len(which[0]))
    for k in range(cells.shape[1]):
        place[axis + 1] = cells[:, k]
        total += weights[:, k] * planes[tuple(place)]
    result[which] = total


def _by_bands(planes: np.ndarray, axis: int, along: tuple, rounded: bool) -> np.ndarray:
    """One pass; ``along`` are the arguments of ``resize_matrix``, see ``_run`` for ``rounded``."""
    result = _apply_bands(_bands(*along, False), planes, axis, planes.dtype)
    if rounded:
        _sum_in_order(result, planes, axis, taps(*along))
    return result


def _by_bands_adjoint(planes: np.ndarray, axis: int, along: tuple, rounded: bool) -> np.ndarray:
    return _apply_bands(_bands(*along, True), planes, axis, planes.dtype)


def _product(operator: Any, planes: Any, axis: int) -> Any:
    return operator @ planes if axis == 0 else planes @ operator.T


def _by_matrix(planes: Any, axis: int, along: tuple, rounded: bool) -> Any:
    return _product(constant_like(planes, _matrix, *along), planes, axis)


def _by_matrix_adjoint(planes: Any, axis: int, along: tuple, rounded: bool) -> Any:
    return _product(constant_like(planes, _matrix, *along).T, planes, axis)


def _matrix(size_in: int, size_out: int, scale: float, kernel: str) -> np.ndarray:
    return resize_matrix(size_in, size_out, scale, kernel=kernel)


register("resize", Kernel("matrix", _by_matrix, _by_matrix_adjoint))
register("resize", Kernel("bands", _by_bands, _by_bands_adjoint, backend="numpy", rank=1))


def _plan(
    shape: tuple[int, ...], scale: float | None, size: tuple[int, int] | None
) -> list[tuple[int, int, int, float]]:
    """Passes ``(axis, size_in, size_out, scale)`` in the order in which MATLAB makes them."""
    if len(shape) < 2:
        raise ValueError(f"an image has two axes or more (..., H, W), received shape {shape}")
    if (scale is None) == (size is None):
        raise ValueError("give either scale or size")
    sizes_in = shape[-2:]
    if scale is not None:
        if not scale > 0:
            raise ValueError(f"scale must be positive, received {scale}")
        scales = (float(scale),) * 2
        sizes_out = tuple(math.ceil(scale * n) for n in sizes_in)
    else:
        sizes_out = tuple(int(n) for n in size)
        scales = tuple(o / i for o, i in zip(sizes_out, sizes_in, strict=True))
    order = sorted((0, 1), key=lambda axis: scales[axis])
    return [(axis, sizes_in[axis], sizes_out[axis], scales[axis]) for axis in order]


def _run(
    planes: Any, plan: list, kernel: str, adjoint: bool, store: Any, rounded: bool = False
) -> Any:
    """Make the passes, each in double precision, its result as ``store`` makes it of that.

    ``rounded`` says that ``store`` rounds to integers.
    """
    for axis, size_in, size_out, scale in reversed(plan) if adjoint else plan:
        if size_in == size_out and scale == 1:
            continue  # the matrix is the identity
        kernel_of = choose("resize", planes)
        make = kernel_of.backward if adjoint else kernel_of.forward
        planes = make(planes, axis, (size_in, size_out, scale, kernel), rounded)
        planes = store(planes)
    return planes


def imresize(
    image: Any,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    *,
    kernel: str = "bicubic",
) -> Any:
    """MATLAB's ``imresize(image, scale)`` or ``imresize(image, [rows cols])``.

    Parameters
    ----------
    image : array of shape (..., H, W)
        float32, float64 or an integer type.
    scale : float
        The output has ``ceil(scale * H)`` rows and ``ceil(scale * W)`` columns.
    size : (int, int)
        Rows and columns of the output, in place of ``scale``.
    kernel : 'bicubic' or 'bilinear'

    Returns
    -------
    array of shape (..., H', W'), dtype of ``image``
        As MATLAB, each of the two passes is computed in double precision and stored in the type
        of the image: integers are rounded half away from zero and saturate between the passes too.

    Raises
    ------
    ValueError
        Unless exactly one of ``scale`` and ``size`` is given, or for a bad size or kernel.
    TypeError
        For an image that is neither real floating point nor integer.
    """
    xp = get_array_module(image)
    plan = _plan(image.shape, scale, size)
    dtype = image.dtype
    planes = image.reshape(-1, *image.shape[-2:])
    if dtype in (np.float32, np.float64):
        planes = _run(planes, plan, kernel, False, lambda y: y.astype(dtype, copy=False))
    elif dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max

        def store(y):
            return xp.clip(xp.trunc(y + xp.copysign(0.5, y)), low, high)

        planes = planes.astype(np.float64)
        planes = _run(planes, plan, kernel, False, store, rounded=True).astype(dtype)
    else:
        raise TypeError(f"image must be float32, float64 or of integers, received {dtype}")
    return planes.reshape(*image.shape[:-2], *planes.shape[-2:])


def imresize_adjoint(
    der: Any,
    shape: tuple[int, ...],
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    *,
    kernel: str = "bicubic",
) -> Any:
    """Derivative by the image of ``imresize``, from the derivative by its result.

    ``Y = A X B'`` per plane, so ``dX = A' dY B``: the transposed matrices, in reverse order.

    Parameters
    ----------
    der : float array of shape (..., H', W')
    shape : the shape (..., H, W) of the image that was resized
    scale, size, kernel : as they were given to ``imresize``

    Returns
    -------
    array of shape ``shape``, dtype of ``der``
    """
    plan = _plan(shape, scale, size)
    planes = der.reshape(-1, *der.shape[-2:])
    planes = _run(planes, plan, kernel, True, lambda y: y.astype(der.dtype, copy=False))
    return planes.reshape(shape)
