"""Of a chain's derivative by its input only a weighted sum: without computing the derivative.

Who cut an image may take no more of the derivative by it than a weighted sum over its cells
(``dagnet.Layer.weigh``). The first convolution is linear, so with ``w`` the weighting and ``dy``
the derivative by the convolution's output, ``<w, dx> = <conv(w), dy>``: one convolution of ``w``,
the same for all images of an evaluation, takes the place of the derivative by each of them.

What is handed on is the projection of ``dx`` on ``w``, ``w <w, dx> / <w, w>``, whose weighted sum
is that of ``dx``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagnet import share
from layers.kernels.maps import fill_maps

from .stages import Step


def spread(weighting: Any, step: Step) -> np.ndarray:
    """A weighting, a number or an array that broadcasts to (C, H, W), as (1, C, H, W)."""
    layout = step.layout_in
    shape = (1, layout.channels, layout.height, layout.width)
    return np.broadcast_to(np.asarray(weighting, step.conv.dtype), shape)


def convolve(weighting: Any, step: Step, filters: Any) -> np.ndarray:
    """``conv(w)`` as the convolution's output is laid out, (1, G, rows, columns, O / G)."""
    layout_x, layout_y = step.layout_in, step.layout_y
    maps = np.empty(layout_x.shape(1), step.conv.dtype)
    fill_maps(spread(weighting, step), layout_x, maps)
    y = np.empty(layout_y.shape(1), step.conv.dtype)
    step.conv.forward(maps, filters, y)
    layout_y.clear_border(y)
    return y


def project(weighting: Any, step: Step, convolved: np.ndarray, der_y: np.ndarray) -> np.ndarray:
    """The projections of the derivatives by images on a weighting.

    Parameters
    ----------
    weighting : number, or array that broadcasts to (C, H, W)
    convolved : array
        What ``convolve`` made of it.
    der_y : array (N, G, rows, columns, O / G)

    Returns
    -------
    array (N, C, H, W), read-only where the weighting is a number
    """
    lines = convolved.reshape(*convolved.shape[1:3], -1, 1)

    def run(n):
        # Rows in single precision, where that is the dtype; their sum in double.
        return np.matmul(der_y[n].reshape(*lines.shape[:2], 1, -1), lines).sum(dtype=np.float64)

    sums = np.array(share(run, range(len(der_y))))
    w = spread(weighting, step)
    if not np.any(weighting):
        return np.broadcast_to(w[:1, :1, :1, :1], (len(sums), *w.shape[1:]))
    if np.ndim(weighting) == 0:
        shares = sums / (float(weighting) * w[0].size)
        return np.broadcast_to(
            shares.astype(w.dtype)[:, None, None, None], (len(sums), *w.shape[1:])
        )
    square = np.square(w, dtype=np.float64).sum()
    return w * (sums / square).astype(w.dtype)[:, None, None, None]
