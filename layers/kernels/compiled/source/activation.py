"""Batch norm's multiplication and addition, ReLU and max-pooling, forward and backward.

A kernel treats some rows of one sample, and all of its channels, which are so many ``vectors``.
``y_at`` and ``map_at`` hold the offset of each vector in a pixel of ``y`` and of the maps, whose
channels may be grouped differently; ``y_row``, ``y_pixel``, ``map_row`` and ``map_pixel`` are
steps from row to row and from pixel to pixel. ``scale``, ``shift`` and other arrays hold the
sample's channels in order. ``height`` and ``width`` count pixels of the maps' features; windows
of ``down x right`` cells are ``stride_down`` and ``stride_right`` apart.

``slope`` is ReLU's for negative numbers, and 1 where there is no ReLU. Everywhere
``z = scale y + shift`` is computed alike, to the last bit: backward finds the winner of a window
by comparing with what forward stored.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..variants import LANES, SIDES
from .declare import kernel
from .simd import (
    accumulate,
    accumulate_product,
    add,
    at_least,
    broadcast,
    fma,
    greater,
    less,
    load,
    multiply,
    smaller,
    store,
    subtract,
    where,
)

ZERO, ONE, LEAST = np.float32(0), np.float32(1), np.float32(-np.inf)


@njit(inline="always")
def rectify(z, slope):
    """ReLU. NaN stays NaN, and -inf becomes 0 where the slope is 0."""
    zero = broadcast(ZERO)
    below = where(greater(slope, zero), multiply(z, slope), zero)
    return where(less(z, zero), below, z)


@njit(inline="always")
def through_relu(output, slope, der):
    """Derivative by ReLU's input; a product, as the layer's, so that NaN stays NaN."""
    return multiply(der, where(greater(output, broadcast(ZERO)), broadcast(ONE), slope))


@njit(inline="always")
def through_window(output, slope, der):
    """The same for the winner of a window; a window of NaN alone has none."""
    zero = broadcast(ZERO)
    return where(greater(output, broadcast(LEAST)), through_relu(output, slope, der), zero)


@kernel("moments", "pqiiddiii")
def moments(y, y_at, y_row, y_pixel, total, squares, height, width, vectors):
    """Add up values and their squares."""
    for h in range(height):
        for w in range(width):
            cell = h * y_row + w * y_pixel
            for v in range(vectors):
                value = load(y, cell + y_at[v])
                accumulate(total, v * LANES, value)
                accumulate_product(squares, v * LANES, value, value)


@kernel("relu_forward", "pqiippfpqiiiii")
def relu_forward(
    y, y_at, y_row, y_pixel, scale, shift, slope,
    maps, map_at, map_row, map_pixel, height, width, vectors,
):  # fmt: skip
    """``maps = relu(z)``."""
    slopes = broadcast(slope)
    for h in range(height):
        for w in range(width):
            cell, target = h * y_row + w * y_pixel, h * map_row + w * map_pixel
            for v in range(vectors):
                c = v * LANES
                z = fma(load(y, cell + y_at[v]), load(scale, c), load(shift, c))
                store(maps, target + map_at[v], rectify(z, slopes))


@kernel("relu_sums", "pqiifppqiipddiii")
def relu_sums(
    y, y_at, y_row, y_pixel, slope, maps, der_maps, map_at, map_row, map_pixel,
    mean, s1, s2, height, width, vectors,
):  # fmt: skip
    """Add up ``dz`` and ``dz (y - mean)``."""
    slopes = broadcast(slope)
    for h in range(height):
        for w in range(width):
            cell, target = h * y_row + w * y_pixel, h * map_row + w * map_pixel
            for v in range(vectors):
                c, place = v * LANES, target + map_at[v]
                dz = through_relu(load(maps, place), slopes, load(der_maps, place))
                accumulate(s1, c, dz)
                accumulate_product(s2, c, dz, subtract(load(y, cell + y_at[v]), load(mean, c)))


@kernel("relu_backward", "pqiipppfppqiipiii")
def relu_backward(
    y, y_at, y_row, y_pixel, scale, a, b, slope,
    maps, der_maps, map_at, map_row, map_pixel, der_y, height, width, vectors,
):  # fmt: skip
    """``der_y = scale dz + a + b y``."""
    slopes = broadcast(slope)
    for h in range(height):
        for w in range(width):
            cell, target = h * y_row + w * y_pixel, h * map_row + w * map_pixel
            for v in range(vectors):
                c, place, at = v * LANES, target + map_at[v], cell + y_at[v]
                dz = through_relu(load(maps, place), slopes, load(der_maps, place))
                rest = fma(load(b, c), load(y, at), load(a, c))
                store(der_y, at, fma(load(scale, c), dz, rest))


def declare_pooling(side: int) -> None:
    """Declare the kernels with pooling in windows of ``side x side`` cells, or of any size.

    A window's cells are visited in column-major order; the first of equal values wins.
    """
    suffix = str(side) if side else "any"

    @kernel(f"pool_forward_{suffix}", "pqiippfpqiiiiiiiii")
    def pool_forward(
        y, y_at, y_row, y_pixel, scale, shift, slope, maps, map_at, map_row, map_pixel,
        height, width, down, right, stride_down, stride_right, vectors,
    ):  # fmt: skip
        """``maps = max over the window of relu(z)``; NaN never is the greatest."""
        slopes = broadcast(slope)
        rows, columns = (side, side) if side else (down, right)
        for h in range(height):
            for w in range(width):
                corner = h * stride_down * y_row + w * stride_right * y_pixel
                target = h * map_row + w * map_pixel
                for v in range(vectors):
                    c, cell = v * LANES, corner + y_at[v]
                    factor, term = load(scale, c), load(shift, c)
                    best = broadcast(LEAST)
                    for j in range(columns):
                        for i in range(rows):
                            at = cell + i * y_row + j * y_pixel
                            z = rectify(fma(load(y, at), factor, term), slopes)
                            best = where(greater(z, best), z, best)
                    store(maps, target + map_at[v], best)

    @kernel(f"pool_sums_{suffix}", "pqiippfppqiipddiiiiiii")
    def pool_sums(
        y, y_at, y_row, y_pixel, scale, shift, slope, maps, der_maps, map_at, map_row, map_pixel,
        mean, s1, s2, height, width, down, right, stride_down, stride_right, vectors,
    ):  # fmt: skip
        """Add up ``dz`` and ``dz (y - mean)``, both of which are zero but for winners."""
        zero, slopes = broadcast(ZERO), broadcast(slope)
        rows, columns = (side, side) if side else (down, right)
        for h in range(height):
            for w in range(width):
                corner = h * stride_down * y_row + w * stride_right * y_pixel
                target = h * map_row + w * map_pixel
                for v in range(vectors):
                    c, cell, place = v * LANES, corner + y_at[v], target + map_at[v]
                    factor, term, center = load(scale, c), load(shift, c), load(mean, c)
                    output = load(maps, place)
                    left = through_window(output, slopes, load(der_maps, place))
                    accumulate(s1, c, left)
                    product = zero
                    for j in range(columns):
                        for i in range(rows):
                            value = load(y, cell + i * y_row + j * y_pixel)
                            won = at_least(rectify(fma(value, factor, term), slopes), output)
                            apart = subtract(value, center)
                            product = fma(where(won, left, zero), apart, product)
                            left = where(won, zero, left)
                    accumulate(s2, c, product)

    @kernel(f"pool_backward_{suffix}", "pqiippppfppqiipiiiiiiiiiii")
    def pool_backward(
        y, y_at, y_row, y_pixel, scale, shift, a, b, slope,
        maps, der_maps, map_at, map_row, map_pixel, der_y, first, last, y_width,
        first_window, last_window, width, down, right, stride_down, stride_right, vectors,
    ):  # fmt: skip
        """``der_y = scale dz + a + b y`` in rows ``first`` to ``last - 1`` of ``y``.

        Rows of windows ``first_window`` to ``last_window - 1`` are those that reach into them.
        Rows that no later window reaches are finished while they are in the cache.
        """
        zero, slopes = broadcast(ZERO), broadcast(slope)
        rows, columns = (side, side) if side else (down, right)
        cleared = finished = first
        for h in range(first_window, last_window + 1):
            reached = smaller(h * stride_down + rows, last) if h < last_window else last
            for row in range(cleared, reached):
                for w in range(y_width):
                    for v in range(vectors):
                        store(der_y, row * y_row + w * y_pixel + y_at[v], zero)
            cleared = reached
            for w in range(width if h < last_window else 0):
                corner = h * stride_down * y_row + w * stride_right * y_pixel
                target = h * map_row + w * map_pixel
                for v in range(vectors):
                    c, cell, place = v * LANES, corner + y_at[v], target + map_at[v]
                    factor, term = load(scale, c), load(shift, c)
                    output = load(maps, place)
                    left = through_window(output, slopes, load(der_maps, place))
                    for j in range(columns):
                        for i in range(rows):
                            at = cell + i * y_row + j * y_pixel
                            z = rectify(fma(load(y, at), factor, term), slopes)
                            won = at_least(z, output)
                            if first <= h * stride_down + i < last:
                                store(der_y, at, add(load(der_y, at), where(won, left, zero)))
                            left = where(won, zero, left)
            complete = smaller((h + 1) * stride_down, cleared) if h < last_window else last
            for row in range(finished, complete):
                for w in range(y_width):
                    cell = row * y_row + w * y_pixel
                    for v in range(vectors):
                        c, at = v * LANES, cell + y_at[v]
                        rest = fma(load(b, c), load(y, at), load(a, c))
                        store(der_y, at, fma(load(scale, c), load(der_y, at), rest))
            if complete > finished:
                finished = complete


for _side in SIDES:
    declare_pooling(_side)
