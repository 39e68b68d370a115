"""Bilinear resampling at given places, ``dagnn.BilinearSampler`` and ``vl_nnbilinearsampler``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dagnet import Layer, ShapeError, Size, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features


def bilinear_sampler(x: Any, grid: Any) -> Any:
    """Sample features at the places of a grid; outside of the features they are zero.

    A place ``(v, u)`` of the grid is the cell ``row = (v + 1)(H - 1) / 2``,
    ``column = (u + 1)(W - 1) / 2``: (-1, -1) is the centre of the upper left cell and (1, 1)
    that of the lower right one. With ``h`` and ``k`` the fractions of row and column,
    ``y = (1-h)(1-k) x_00 + (1-h) k x_01 + h (1-k) x_10 + h k x_11``.

    Parameters
    ----------
    x : array (N, C, H, W)
    grid : array (M, 2, H', W')
        Vertical and horizontal places, in this order, for each sample of the output. ``M`` is a
        multiple of N: sample ``m`` of the output is cut from sample ``m // (M / N)`` of ``x``.
        (MatConvNet's order is (2, H', W', M).)

    Returns
    -------
    array (M, C, H', W') of the dtype of ``x``; zero where the grid is NaN

    Raises
    ------
    ShapeError
        If the grid has not this shape.
    """
    xp = get_array_module(x)
    _check(x, grid)
    y = xp.zeros((grid.shape[0], x.shape[1], *grid.shape[2:]), x.dtype)
    for corner in _corners(x, grid):
        y += corner.values(x) * corner.weight
    return y


def bilinear_sampler_backward(
    x: Any, grid: Any, der_y: Any, *, needs_x: bool = True, needs_grid: bool = True
) -> tuple[Any, Any]:
    """Derivatives of ``bilinear_sampler`` by features and grid; None for one that is not needed.

    ``y`` is linear in ``x``: each of the four cells collects its weight times ``dy``. By the
    fractions, ``dy/dh = (1-k)(x_10 - x_00) + k (x_11 - x_01)`` and ``dy/dk`` likewise; by the
    grid ``dv = (H - 1) / 2 sum over channels of dy dy/dh`` and ``du = (W - 1) / 2 ...``. At a
    whole row or column, where the two sides' slopes differ, it is that of the greater side.
    """
    xp = get_array_module(x)
    _check(x, grid)
    check_der_y(der_y, (grid.shape[0], x.shape[1], *grid.shape[2:]))
    # Sums of many small parts: bincount adds in double precision.
    der_x = xp.zeros(x.size) if needs_x else None
    der_grid = xp.zeros(grid.shape, x.dtype) if needs_grid else None
    for corner in _corners(x, grid):
        if needs_x:
            parts = (der_y * corner.weight).ravel()
            der_x += xp.bincount(corner.places(x).ravel(), weights=parts, minlength=x.size)
        if needs_grid:
            product = (der_y * corner.values(x)).sum(axis=1)
            der_grid[:, 0] += product * corner.row_slope
            der_grid[:, 1] += product * corner.column_slope
    if needs_x:
        der_x = der_x.reshape(x.shape).astype(x.dtype)
    if needs_grid:
        der_grid *= xp.asarray([x.shape[2] - 1, x.shape[3] - 1], x.dtype)[:, None, None] / 2
        der_grid = der_grid.astype(grid.dtype, copy=False)
    return der_x, der_grid


@dataclass(frozen=True)
class _Corner:
    """One of the four cells around each place: (M, H', W') each, ``weight`` (M, 1, H', W').

    ``row_slope`` and ``column_slope`` are the derivatives of the weight by the two fractions.
    What lies outside has no weight, no slope and the cell 0.
    """

    cell: Any
    inside: Any
    weight: Any
    row_slope: Any
    column_slope: Any

    def places(self, x: Any) -> Any:
        """Places in ``x.ravel()`` of this cell, for each sample, channel and place."""
        xp = get_array_module(x)
        n, c, h, w = x.shape
        count = self.cell.shape[0]
        first = xp.arange(count) // (count // n) * (c * h * w)
        channel = xp.arange(c) * (h * w)
        return (first[:, None] + channel)[:, :, None, None] + self.cell[:, None]

    def values(self, x: Any) -> Any:
        """What ``x`` holds there, 0 outside: (M, C, H', W')."""
        xp = get_array_module(x)
        found = xp.take(x.ravel(), self.places(x))
        return xp.where(self.inside[:, None], found, x.dtype.type(0))


def _corners(x: Any, grid: Any) -> Iterator[_Corner]:
    xp = get_array_module(x)
    height, width = x.shape[2:]
    half = x.dtype.type(0.5)
    places = grid.astype(x.dtype, copy=False)
    # Clipped where nothing is any more, so that infinite places are like all that lie outside.
    rows = xp.clip((places[:, 0] + 1) * half * (height - 1), -2, height)
    columns = xp.clip((places[:, 1] + 1) * half * (width - 1), -2, width)
    top, left = xp.floor(rows), xp.floor(columns)
    h, k = rows - top, columns - left
    for row, row_weight, row_sign in ((top, 1 - h, -1), (top + 1, h, 1)):
        for column, column_weight, column_sign in ((left, 1 - k, -1), (left + 1, k, 1)):
            # NaN is in no range.
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            row_part, column_part = (
                xp.where(inside, part, half * 0) for part in (row_weight, column_weight)
            )
            cell = xp.where(inside, row, 0).astype(xp.int64) * width
            cell += xp.where(inside, column, 0).astype(xp.int64)
            yield _Corner(
                cell=cell,
                inside=inside,
                weight=(row_part * column_part)[:, None],
                row_slope=column_part * row_sign,
                column_slope=row_part * column_sign,
            )


def _check(x: Any, grid: Any) -> None:
    check_features(x)
    if grid.ndim != 4 or grid.shape[1] != 2 or grid.size == 0 or grid.shape[0] % x.shape[0]:
        raise ShapeError(
            f"expected a grid (M, 2, H', W') with M a multiple of the {x.shape[0]} samples, "
            f"received shape {tuple(grid.shape)}",
            input=1,
        )


@register_layer("dagnn.BilinearSampler")
@dataclass(eq=False, kw_only=True)
class BilinearSampler(Layer):
    """Resampling of features (N, C, H, W) at a grid (M, 2, H', W'): output (M, C, H', W').

    The grid is as in ``bilinear_sampler``; ``AffineGridGenerator`` makes such grids.
    """

    num_inputs = (2, 2)

    def forward(self, inputs, params, context):
        return [bilinear_sampler(*inputs)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        ders = bilinear_sampler_backward(
            *inputs,
            der_outputs[0],
            needs_x=context.needs_input(0),
            needs_grid=context.needs_input(1),
        )
        return list(ders), []

    def get_output_sizes(self, input_sizes):
        x, grid = input_sizes
        return [Size(grid.n, x.c, grid.h, grid.w)]
