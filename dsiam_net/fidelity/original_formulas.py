"""Formulas of the originals that are not the derivatives they stand for.

The layers have the exact forms. These are kept so that the originals' outputs can be reproduced
all the same, and so that tests can show the difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def bnorm_backward_given_moments(
    x: Any, multipliers: Any, der_y: Any, moments: Any
) -> tuple[Any, Any, Any, Any]:
    """``vl_nnbnorm``'s derivatives with given moments: (dx, dg, db, moments).

    ``nnbnorm.cu``, ``batch_normalize_backward``: the formula of batch statistics, although given
    moments do not depend on ``x``. The derivatives by multipliers and biases are right. In the
    place of the derivative by the moments it returns the moments.
    """
    mean, sigma, g = (v[:, None, None] for v in (*moments.T, multipliers))
    mass = x.size / x.shape[1]
    der_biases = der_y.sum(axis=(0, 2, 3))
    der_multipliers = (der_y * (x - mean) / sigma).sum(axis=(0, 2, 3))
    muz = der_biases[:, None, None] / mass
    through_sigma = der_multipliers[:, None, None] * (x - mean) / (mass * sigma)
    der_x = g / sigma * (der_y - muz - through_sigma)
    return der_x.astype(x.dtype), der_multipliers, der_biases, moments


def sum_w_backward(x1: Any, x2: Any, dzdy: Any) -> tuple[Any, Any, Any]:
    """``Sum_w.m``'s derivatives by its two maps and its weights, for maps of one size.

    The maps enter ``y = w . x1 + (1 - w) . x2`` with weights, and still get ``dzdy`` as it is; the
    derivative by ``w`` is divided by the number of samples. Arrays are (N, 1, H, W), ``w``'s is
    (H, W).
    """
    return dzdy, dzdy, ((x1 - x2) * dzdy).sum(axis=(0, 1)) / len(x1)


def bilinear_sampler_cpu_grid(grid: Any, size: tuple[int, int]) -> Any:
    """A grid (N, 2, H', W') that samples as ``vl_nnbilinearsampler`` does on the CPU.

    Between features of ``size`` (H, W) and the zeros around them values fall off over one cell. In
    ``nnbilinearsampler.cu`` that is so at the lower and right side alone: it asks
    ``sy < inHeight``, where -1, turned into an unsigned number, is never less. So places up to a
    cell above or left of the features are 0, and have no derivative; here they are NaN. The
    original's GPU code (``nnbilinearsampler_gpu.cu``) counts with signs, and does as the layer.
    """
    half = grid.dtype.type(0.5)
    places = [(grid[:, axis] + 1) * half * (length - 1) for axis, length in enumerate(size)]
    lost = np.logical_or(*(np.floor(place) == -1 for place in places))
    return np.where(lost[:, None], grid.dtype.type(np.nan), grid)
