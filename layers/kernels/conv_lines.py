"""Convolution with few filters: products of kernel rows, shifted and added up.

``layers.kernels.conv_im2row`` copies every cell of the input once for each cell of the kernel.
Here it is copied once for each *column* of the kernel. With the lines
``L[c, j, r, q] = x[c, r, q sh + j dh]``, the product ``P_i = F_i L`` is what kernel row ``i`` gives
to every row ``r`` of the input, and

    ``Y[p, q] = sum over i of P_i[p sv + i dv, q]``.

That moves ``kh`` times less into the matrix product and ``kh`` times as much out of it, so it is
faster where the filters of a group are few beside the numbers in a kernel row (``suits``).

**Backward.** ``D_i[r, q]`` is ``dY[p, q]`` where ``r = p sv + i dv``, and 0 elsewhere: the adjoint
of picking rows. Then ``dF_i = D_i L'``, ``dL = sum over i of F_i' D_i``, and ``dx`` collects ``dL``
where the lines came from.

Input rows that leave the same remainder when divided by ``sv`` are read by the same kernel rows:
they are worked on apart, so no product is computed that nobody reads.

Long sums (``PRECISE_TERMS``) are made in double precision, forward. In single they carry five
times the error of rounding the result. A batch norm takes the mean away and leaves the error: of
images of 0 to 255, whose mean is most of what the first convolution gives, seven times as much.
That decides ReLUs and poolings which single precision can well tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dagnet import get_array_module

# Lines of samples that take this many bytes are worked on at a time: with what is made of them they
# stay in a core's own cache. Measured, four samples at once: with 2 MiB backward takes 1.5 to 2
# times as long.
LINE_BYTES = 512 << 10
# Outputs that are sums of so many products, or more, are summed in double precision. That takes
# 1.4 times the time with 2 filters of 3x11x11, twice with 12, which is then the columns' time.
PRECISE_TERMS = 256
# Geometries whose parts are remembered.
REMEMBERED = 256


def suits(x: Any, filters: Any) -> bool:
    """Whether the lines are faster than whole columns.

    Measured on one core, 3x3 to 11x11, 8 to 96 filters: forward from about as many numbers in a
    kernel row as filters on, backward, which takes twice as long, before that.
    """
    group_out = filters.shape[0] * filters.shape[1] // x.shape[1]
    taps = filters.shape[1] * filters.shape[3]
    return filters.shape[2] > 1 and group_out <= taps


@dataclass(frozen=True)
class _Part:
    """Rows of the input with one remainder, and the kernel rows that read them.

    Attributes
    ----------
    first : int
        The remainder.
    rows : int
        How many.
    kernel : slice
        The kernel rows.
    starts : tuple of int
        For each of those which of the rows the first output row reads.
    """

    first: int
    rows: int
    kernel: slice
    starts: tuple[int, ...]


@lru_cache(REMEMBERED)
def _parts(height: int, kernel: int, stride: int, dilate: int) -> tuple[_Part, ...]:
    """The parts for ``height`` rows of output; rows of the input that nothing reads are in none."""
    # Kernel rows as far apart as this read rows with the same remainder.
    step = stride // math.gcd(stride, dilate)
    parts = []
    for i in range(min(step, kernel)):
        own = slice(i, kernel, step)
        starts = tuple(row * dilate // stride for row in range(i, kernel, step))
        parts.append(_Part(i * dilate % stride, starts[-1] + height, own, starts))
    return tuple(parts)


def _lines(
    x: Any, part: _Part, groups: int, filters: Any, width: int, stride: tuple, dilate: tuple
) -> Any:
    """A copy ``L`` (G, C / G * kw, N * rows * W') of a part's lines."""
    xp = get_array_module(x)
    n, c = x.shape[:2]
    kw = filters.shape[3]
    sn, sc, sy, sx = x.strides
    view = xp.lib.stride_tricks.as_strided(
        x[:, :, part.first :],
        (c, kw, n, part.rows, width),
        (sc, sx * dilate[1], sn, sy * stride[0], sx * stride[1]),
    )
    return view.reshape(groups, c // groups * kw, -1)


def _by_rows(filters: Any, groups: int, part: _Part) -> Any:
    """The filters' rows of a part: (G, rows * out / G, C / G * kw)."""
    out, channels, _, kw = filters.shape
    own = filters[:, :, part.kernel].reshape(groups, out // groups, channels, -1, kw)
    return own.transpose(0, 3, 1, 2, 4).reshape(groups, -1, channels * kw)


def _samples(x: Any, filters: Any, width: int) -> Iterator[slice]:
    """Blocks of samples whose lines take at most ``LINE_BYTES``, or one."""
    each = x[0, :, :, 0].size * filters.shape[3] * width * filters.dtype.itemsize
    step = max(1, LINE_BYTES // each)
    for first in range(0, len(x), step):
        yield slice(first, first + step)


def forward(
    x: Any, filters: Any, size: tuple[int, int], stride: tuple[int, int], dilate: tuple[int, int]
) -> Any:
    """Outputs (N, out, H', W') of ``size`` for a padded input (N, C, H, W)."""
    xp = get_array_module(x)
    y = xp.empty((len(x), len(filters), *size), x.dtype)
    if filters[0].size >= PRECISE_TERMS:
        filters = filters.astype(np.float64, copy=False)
    for block in _samples(x, filters, size[1]):
        own = x[block].astype(filters.dtype, copy=False)
        _forward(own, filters, stride, dilate, y[block])
    return y


def _forward(x: Any, filters: Any, stride: tuple, dilate: tuple, y: Any) -> None:
    """Write outputs to ``y``, of whatever precision, in the precision of input and filters."""
    xp = get_array_module(x)
    groups = x.shape[1] // filters.shape[1]
    n, _, height, width = y.shape
    # By group, filter and sample.
    target = y.reshape(n, groups, -1, height, width).transpose(1, 2, 0, 3, 4)
    total = target if x.dtype == y.dtype else xp.empty(target.shape, x.dtype)
    begun = False
    for part in _parts(height, filters.shape[2], stride[0], dilate[0]):
        lines = _lines(x, part, groups, filters, width, stride, dilate)
        given = xp.matmul(_by_rows(filters, groups, part), lines)
        given = given.reshape(groups, len(part.starts), -1, n, part.rows, width)
        for k, start in enumerate(part.starts):
            rows = given[:, k, :, :, start : start + height]
            if begun:
                total += rows
            else:
                total[...] = rows
            begun = True
    if total is not target:
        target[...] = total


def backward(
    x: Any,
    filters: Any,
    der_y: Any,
    stride: tuple[int, int],
    dilate: tuple[int, int],
    needs_x: bool,
) -> tuple[Any, Any]:
    """Derivatives by the padded input (None unless ``needs_x``) and by the filters."""
    xp = get_array_module(x)
    der_x = xp.zeros(x.shape, x.dtype) if needs_x else None
    der_filters = xp.zeros(filters.shape, x.dtype)
    for block in _samples(x, filters, der_y.shape[3]):
        own = der_x[block] if needs_x else None
        _backward(x[block], filters, der_y[block], stride, dilate, own, der_filters)
    return der_x, der_filters


def _backward(
    x: Any, filters: Any, der_y: Any, stride: tuple, dilate: tuple, der_x: Any, der_filters: Any
) -> None:
    """Add to both derivatives; the one by the input may be None."""
    xp = get_array_module(x)
    _, channels, kh, kw = filters.shape
    groups = x.shape[1] // channels
    n, _, height, width = der_y.shape
    der = der_y.reshape(n, groups, -1, height, width).transpose(1, 2, 0, 3, 4)
    total = der_filters.reshape(groups, -1, channels, kh, kw)
    for part in _parts(height, kh, stride[0], dilate[0]):
        lines = _lines(x, part, groups, filters, width, stride, dilate)
        placed = xp.zeros((groups, len(part.starts), *der.shape[1:3], part.rows, width), x.dtype)
        for k, start in enumerate(part.starts):
            placed[:, k, :, :, start : start + height] = der
        placed = placed.reshape(groups, -1, lines.shape[2])
        product = xp.matmul(placed, lines.transpose(0, 2, 1))
        product = product.reshape(groups, len(part.starts), -1, channels, kw)
        total[:, :, :, part.kernel] += product.transpose(0, 2, 3, 1, 4)
        if der_x is None:
            continue
        given = xp.matmul(_by_rows(filters, groups, part).transpose(0, 2, 1), placed)
        given = given.reshape(-1, kw, n, part.rows, width)
        end = part.first + (part.rows - 1) * stride[0] + 1
        target = der_x[:, :, part.first : end : stride[0]].transpose(1, 0, 2, 3)
        for j in range(kw):
            left = j * dilate[1]
            target[..., left : left + (width - 1) * stride[1] + 1 : stride[1]] += given[:, j]
