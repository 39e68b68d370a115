"""Pooling over regions of interest, MatConvNet's ``dagnn.ROIPooling`` and ``vl_nnroipool``.

A region is divided into tiles, and each tile that lies within the features is pooled. Where the
tiles fall is worked out on the host, in the precision of the features, as the original does it:
a tile ends a row later where ``3 (14 / 3)`` is a little more than 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dagnet import Layer, ShapeError, Size, asnumpy, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features

METHODS = ("max", "avg")
# What an index of a cell is in a tile that has none.
NOWHERE = -1
# Rounded coordinates beyond this are beyond any plane, and do not overflow.
FAR = 2**40


class Tiles(NamedTuple):
    """The tiles of all regions, in cells of the features.

    ``image`` : (K,), the 0-based sample of each region; ``rows`` : (K, SH, 2), first row and the
    one behind the last; ``columns`` : (K, SW, 2). An empty tile ends where it begins, or before.
    """

    image: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def affine_transform(transform: Any) -> np.ndarray:
    """The 2 x 3 matrix of a ``transform``: a number, two numbers, or the matrix itself.

    Numbers are scales around (1, 1), the centre of the first cell: ``u' = t (u - 1) + 1``. Six
    numbers in a row are the matrix column by column.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    matrix = np.asarray(transform, dtype=np.float64)
    if matrix.shape == (6,):
        return matrix.reshape(2, 3, order="F")
    if matrix.size in (1, 2):
        scale = np.broadcast_to(matrix.ravel(), 2)
        return np.column_stack([np.diag(scale), 1 - scale])
    if matrix.shape != (2, 3):
        raise ValueError(
            "transform must be a number, two numbers (horizontal, vertical) or a 2 x 3 matrix, "
            f"received {transform!r}"
        )
    return matrix


def find_tiles(
    shape: tuple[int, ...], dtype: Any, rois: Any, subdivisions: tuple[int, int], transform: Any = 1
) -> Tiles:
    """Where the tiles of regions fall on features of this shape (N, C, H, W) and dtype.

    The corners ``(u0, v0)`` and ``(u1, v1)`` of a region are transformed and rounded, half away
    from zero; a region has at least one row and one column. With ``b = height / SH`` in the
    features' precision, tile ``i`` goes from row ``floor(i b)`` to before ``ceil((i + 1) b)`` of
    the region: tiles overlap unless ``b`` is whole. What lies outside the features is cut off.

    Raises
    ------
    ShapeError
        If the regions are not (K, 5), or not of finite numbers, or of samples that are not there.
        (The original takes the first or last sample in their place.)
    """
    rois = asnumpy(rois).astype(dtype)
    if rois.ndim not in (2, 4) or rois.shape[1:] not in ((5,), (5, 1, 1)) or not len(rois):
        raise ShapeError(
            "expected regions (K, 5) or (K, 5, 1, 1) with K of 1 or more, each (image, u0, v0, "
            f"u1, v1), received shape {rois.shape}",
            input=1,
        )
    rois = rois.reshape(-1, 5).astype(np.float64)
    image = np.trunc(rois[:, 0])
    if not np.isfinite(rois).all() or image.min() < 1 or image.max() > shape[0]:
        raise ShapeError(
            f"regions must be of finite numbers and of the images 1 to {shape[0]}, received images "
            f"{rois[:, 0].min():g} to {rois[:, 0].max():g}",
            input=1,
        )
    matrix = affine_transform(transform)
    corners = rois[:, 1:].reshape(-1, 2, 2) @ matrix[:, :2].T + matrix[:, 2]
    cells = np.clip(_round(corners.astype(dtype)), -FAR, FAR).astype(np.int64) - 1
    spans = [
        _spans(cells[:, 0, axis], cells[:, 1, axis], count, length, dtype)
        for axis, count, length in ((1, subdivisions[0], shape[2]), (0, subdivisions[1], shape[3]))
    ]
    return Tiles(image.astype(np.int64) - 1, *spans)


def _round(values: np.ndarray) -> np.ndarray:
    """C's ``round``: half away from zero."""
    whole = np.trunc(values)
    return whole + np.sign(values) * (np.abs(values - whole) >= 0.5)


def _spans(first: np.ndarray, last: np.ndarray, count: int, length: int, dtype: Any) -> np.ndarray:
    """First cells of ``count`` tiles along one axis and those behind their last: (K, count, 2)."""
    size = np.maximum(last - first + 1, 1)
    tile = (size / count).astype(dtype)[:, None]
    index = np.arange(count + 1, dtype=dtype)
    starts = np.floor(index[:-1] * tile).astype(np.int64)
    ends = np.ceil(index[1:] * tile).astype(np.int64)
    return np.clip(np.stack([starts, ends], axis=2) + first[:, None, None], 0, length)


def max_roi_pool(x: Any, tiles: Tiles) -> tuple[Any, Any]:
    """Largest value of each tile.

    Of equal values the first in column-major order counts (the leftmost column, in it the topmost
    row). NaN is ignored; a tile that holds nothing but NaN and -inf gives -inf, an empty tile 0.

    Parameters
    ----------
    x : array (N, C, H, W)
    tiles : Tiles

    Returns
    -------
    y : array (K, C, SH, SW) of the dtype of ``x``
    winners : integer array like ``y``
        The place ``row W + column`` of the value, ``NOWHERE`` where nothing was larger than -inf.
    """
    xp = get_array_module(x)
    width = x.shape[3]
    y, winners = xp.zeros(_shape(x, tiles), x.dtype), xp.full(_shape(x, tiles), NOWHERE, np.int32)
    candidates = xp.where(xp.isnan(x), x.dtype.type(-np.inf), x)
    for region in _regions(tiles):
        plane, left = candidates[region.image, :, :, region.all_columns], region.all_columns.start
        # The topmost winner of each column of a tile, then the leftmost of those.
        lines = []
        for rows in region.rows:
            cells = range(rows.start, rows.stop)
            lines.append(_first_largest((plane[:, r], r * width) for r in cells))
        values, places = (xp.stack(part, axis=1) for part in zip(*lines))
        for j, columns in zip(region.column_tiles, region.columns):
            cells = range(columns.start, columns.stop)
            value, place = _first_largest(
                (values[:, :, c], places[:, :, c] + (left + c)) for c in cells
            )
            tile = (region.index, slice(None), region.row_tiles, j)
            y[tile] = value
            winners[tile] = xp.where(value > -np.inf, place, NOWHERE)
    return y, winners


def _first_largest(candidates: Iterator[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Of pairs (values, places) the largest values and their places; of equal ones the first."""
    values, places = next(candidates)
    xp = get_array_module(values)
    places = xp.zeros(values.shape, np.int32) + places
    for value, place in candidates:
        larger = value > values
        values, places = xp.where(larger, value, values), xp.where(larger, place, places)
    return values, places


def max_roi_pool_backward(
    der_y: Any, winners: Any, tiles: Tiles, shape: tuple[int, int, int, int]
) -> Any:
    """Derivative of ``max_roi_pool`` by its input of ``shape`` (N, C, H, W).

    ``y = x[winner]``, so ``dx`` at a cell is the sum of ``dy`` over the tiles that it won.
    """
    xp = get_array_module(der_y)
    n, c, h, w = shape
    image = xp.asarray(tiles.image)[:, None]
    planes = ((image * c + xp.arange(c)) * (h * w))[:, :, None, None]
    won = winners != NOWHERE
    places = xp.where(won, planes + winners, 0)
    # Many tiles may share a winner: bincount adds in double precision.
    der_x = xp.bincount(places.ravel(), weights=(der_y * won).ravel(), minlength=n * c * h * w)
    return der_x.reshape(shape).astype(der_y.dtype)


def avg_roi_pool(x: Any, tiles: Tiles) -> Any:
    """Mean of each tile, 0 for an empty one; arguments and shapes as ``max_roi_pool``'s."""
    xp = get_array_module(x)
    y = xp.zeros(_shape(x, tiles), x.dtype)
    for region in _regions(tiles):
        plane = x[region.image, :, :, region.all_columns]
        sums = xp.stack([plane[:, rows].sum(axis=1) for rows in region.rows], axis=1)
        for j, columns in zip(region.column_tiles, region.columns):
            y[region.index, :, region.row_tiles, j] = sums[:, :, columns].sum(axis=2)
    y /= xp.asarray(_cells(tiles), x.dtype)
    return y


def avg_roi_pool_backward(der_y: Any, tiles: Tiles, shape: tuple[int, int, int, int]) -> Any:
    """Derivative of ``avg_roi_pool`` by its input of ``shape`` (N, C, H, W).

    Each of a tile's ``m`` cells has weight ``1/m``, so ``dx`` at a cell is the sum of ``dy / m``
    over the tiles that it lies in.
    """
    xp = get_array_module(der_y)
    der_x = xp.zeros(shape, der_y.dtype)
    der_y = der_y / xp.asarray(_cells(tiles), der_y.dtype)
    for region in _regions(tiles):
        plane = der_x[region.image, :, :, region.all_columns]
        parts = xp.zeros((shape[1], len(region.rows), plane.shape[2]), der_y.dtype)
        for j, columns in zip(region.column_tiles, region.columns):
            parts[:, :, columns] += der_y[region.index, :, region.row_tiles, j, None]
        for i, rows in enumerate(region.rows):
            plane[:, rows] += parts[:, i, None]
    return der_x


def _shape(x: Any, tiles: Tiles) -> tuple[int, int, int, int]:
    """Shape of the pooled features."""
    return len(tiles.image), x.shape[1], tiles.rows.shape[1], tiles.columns.shape[1]


def _cells(tiles: Tiles) -> np.ndarray:
    """Number of cells in each tile, 1 in place of 0: (K, 1, SH, SW)."""
    height, width = (
        np.maximum(span[:, :, 1] - span[:, :, 0], 0) for span in (tiles.rows, tiles.columns)
    )
    return np.maximum(height[:, None, :, None] * width[:, None, None, :], 1)


class _Region(NamedTuple):
    """The tiles of one region that are not empty. Empty ones lie outside, the others side by side.

    ``row_tiles`` and ``column_tiles`` say which tiles these are; ``rows`` their rows in the
    plane, ``columns`` their columns among ``all_columns``.
    """

    index: int
    image: int
    row_tiles: slice
    rows: list[slice]
    column_tiles: range
    columns: list[slice]
    all_columns: slice


def _regions(tiles: Tiles) -> Iterator[_Region]:
    for index, image in enumerate(tiles.image.tolist()):
        (top, rows), (left, columns) = (
            _filled(spans[index].tolist()) for spans in (tiles.rows, tiles.columns)
        )
        if rows and columns:
            first = columns[0][0]
            yield _Region(
                index=index,
                image=image,
                row_tiles=slice(top, top + len(rows)),
                rows=[slice(*span) for span in rows],
                column_tiles=range(left, left + len(columns)),
                columns=[slice(start - first, end - first) for start, end in columns],
                all_columns=slice(first, columns[-1][1]),
            )


def _filled(spans: list[list[int]]) -> tuple[int, list[list[int]]]:
    """The first of the spans that are not empty, and all of them; they lie side by side."""
    filled = [i for i, (start, end) in enumerate(spans) if end > start]
    return (filled[0], spans[filled[0] : filled[-1] + 1]) if filled else (0, [])


@register_layer("dagnn.ROIPooling")
@dataclass(eq=False, kw_only=True)
class ROIPooling(Layer):
    """Maximum or mean over the tiles of regions, channel by channel.

    Inputs: features (N, C, H, W), and regions (K, 5) or (K, 5, 1, 1), each ``(image, u0, v0, u1,
    v1)`` with columns ``u0`` to ``u1`` and rows ``v0`` to ``v1``. Image and coordinates are
    1-based, as in MatConvNet, whose order is (5, K). Regions are constants. Output: (K, C, SH,
    SW), or flat.

    Settings
    --------
    method : 'max' or 'avg'
    subdivisions : int or (SH, SW)
        Tiles of a region, vertical and horizontal.
    transform : number, two numbers (horizontal, vertical) or 2 x 3 matrix
        Transformation of the regions' corners; see ``affine_transform``.
    flatten : bool
        Output (K, C SH SW, 1, 1), for a fully connected layer: of the three counts the tile's row
        runs fastest, then its column, then the channel, as in MATLAB's order.
    """

    backward_uses_inputs: ClassVar[bool] = False
    num_inputs = (2, 2)

    method: str = "max"
    subdivisions: Any = (6, 6)
    transform: Any = 1
    flatten: bool = False

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, received {self.method!r}")
        size = tuple(int(v) for v in np.ravel(self.subdivisions))
        if len(size) == 1:
            size *= 2
        if len(size) != 2 or min(size) < 1:
            raise ValueError(
                f"subdivisions must be one or two positive integers, received {self.subdivisions!r}"
            )
        self.subdivisions = size
        matrix = affine_transform(self.transform)
        if matrix.size == np.size(self.transform):
            self.transform = matrix

    def forward(self, inputs, params, context):
        x, rois = inputs
        check_features(x)
        tiles = find_tiles(x.shape, x.dtype, rois, self.subdivisions, self.transform)
        if self.method == "max":
            y, winners = max_roi_pool(x, tiles)
        else:
            y, winners = avg_roi_pool(x, tiles), None
        saved = (tiles, winners, x.shape)
        if self.flatten:
            y = y.transpose(0, 1, 3, 2).reshape(len(y), -1, 1, 1)
        return [y], saved

    def backward(self, inputs, params, der_outputs, saved, context):
        (der_y,) = der_outputs
        tiles, winners, shape = saved
        height, width = self.subdivisions
        if self.flatten:
            check_der_y(der_y, (len(tiles.image), shape[1] * height * width, 1, 1))
            der_y = der_y.reshape(-1, shape[1], width, height).transpose(0, 1, 3, 2)
        check_der_y(der_y, (len(tiles.image), shape[1], height, width))
        if self.method == "max":
            return [max_roi_pool_backward(der_y, winners, tiles, shape), None], []
        return [avg_roi_pool_backward(der_y, tiles, shape), None], []

    def differentiable_inputs(self, num_inputs):
        return (True, False)

    def get_output_sizes(self, input_sizes):
        x, rois = input_sizes
        count = rois.count / 5
        height, width = self.subdivisions
        if self.flatten:
            return [Size(count, x.c * height * width, 1, 1)]
        return [Size(count, x.c, height, width)]
