"""Winograd's convolution with small square filters: fewer products, in a transformed space.

**Derivation.** Let ``p`` have ``m`` coefficients and ``g`` have ``r``. Their product has
``a = m + r - 1``, and is determined by its values at ``a`` points (one of them infinity, where a
polynomial's value is its leading coefficient): with ``E_n`` the matrix that evaluates a polynomial
of ``n`` coefficients at the points, ``p g = E_a^-1 [(E_m p) . (E_r g)]`` (Toom and Cook). For a
fixed ``g`` this is linear in ``p``, and its transpose is a correlation: with inputs ``d`` of
``a`` cells

    y = A' [(G g) . (B' d)],    A = E_m,  G = E_r,  B' = E_a^-T,

gives ``y_i = sum over j of g_j d_(i+j)`` for ``i < m`` with ``a`` products in place of ``m r``
(S. Winograd, Arithmetic Complexity of Computations, 1980). In two dimensions, with tiles ``d`` of
``a x a`` cells that overlap by ``r - 1``, ``Y = A' [(G g G') . (B' d B)] A``; the products of all
tiles, channels and filters at one of the ``a^2`` cells are a matrix product (A. Lavin and S. Gray,
Fast Algorithms for Convolutional Neural Networks, CVPR 2016).

Each transformation is linear in the whole tile: with tiles as columns it is one product with a
Kronecker product of matrices, ``kron(B', B')`` and so on.

**Backward.** With ``V = (B' x B') d``, ``U = (G x G) g``, ``M = U V`` at each cell (summed over
channels) and ``Y = (A' x A') M``, the adjoint in reverse order is ``dM = (A x A) dY``,
``dU = dM V'`` and ``dV = U' dM`` at each cell, ``dg = (G' x G') dU``, ``dd = (B x B) dV``, which
adds up where tiles overlap. ``V`` is computed again, not kept; ``dM`` serves both derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

import numpy as np

from dagnet import share

from .conv_kernel import ConvKernel
from .geometry import ConvGeometry
from .maps import MapLayout
from .rows import PIECES, cut
from .scratch import pooled, scratch

# Side of the square of outputs that a tile gives.
TILE = 4
# Kernel side -> finite points. Small numbers and their inverses keep rounding errors small:
# 1e-6 (side 3) and 5e-6 (side 5) relative to the largest output in single precision.
POINTS = {
    3: (0, 1, -1, 2, -2),
    5: (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2)),
}
# Tiles are transformed in blocks of so many bytes, which stay in a core's cache.
BLOCK_BYTES = 1 << 20
# Transformed inputs and products of so many samples at once as take this many bytes, or one: the
# weights are read once for all of them, and they stay in the last cache.
SAMPLES_BYTES = 24 << 20
# Columns of a filter transformation, in double precision, at a time.
FILTER_COLUMNS = 4096


def _evaluation(points: tuple, count: int) -> list[list[Fraction]]:
    """``E_count``: values of polynomials at the points and at infinity, from coefficients."""
    rows = [[Fraction(p) ** j for j in range(count)] for p in points]
    return [*rows, [Fraction(int(j == count - 1)) for j in range(count)]]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Inverse by Gauss and Jordan, exact."""
    n = len(matrix)
    rows = [row + [Fraction(int(i == j)) for j in range(n)] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(k for k in range(i, n) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [u - rows[k][i] * v for u, v in zip(rows[k], rows[i])]
    return [row[n:] for row in rows]


def cook_toom(
    outputs: int, size: int, points: tuple
) -> tuple[list[list[Fraction]], list[list[Fraction]], list[list[Fraction]]]:
    """Matrices ``(A', G, B')`` of ``y = A' [(G g) . (B' d)]``, exact.

    Parameters
    ----------
    outputs, size : int
        Cells of ``y`` and of the filter ``g``; ``d`` has ``a = outputs + size - 1``.
    points : tuple of numbers
        ``a - 1`` different ones; infinity is the last.

    Returns
    -------
    lists of lists of Fraction, ``outputs x a``, ``a x size`` and ``a x a``. Each row of ``B'``
    is scaled to integers, and the row of ``G`` by the inverse: the input's transformation, which
    runs in single precision, then has exact coefficients.
    """
    cells = outputs + size - 1
    a_t = [list(column) for column in zip(*_evaluation(points, outputs))]
    g = _evaluation(points, size)
    b_t = [list(column) for column in zip(*_inverse(_evaluation(points, cells)))]
    for i, row in enumerate(b_t):
        scale = math.lcm(*(v.denominator for v in row))
        b_t[i] = [v * scale for v in row]
        g[i] = [v / scale for v in g[i]]
    return a_t, g, b_t


@cache
def _kronecker(side: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``A' x A'`` and ``B' x B'`` in ``dtype``, ``G x G`` in double precision."""
    matrices = cook_toom(TILE, side, POINTS[side])
    a_t, g, b_t = (np.array([[float(v) for v in row] for row in m]) for m in matrices)
    return np.kron(a_t, a_t).astype(dtype), np.kron(g, g), np.kron(b_t, b_t).astype(dtype)


def fits(geometry: ConvGeometry) -> bool:
    """Whether a convolution has filters and strides of the kind that this file computes."""
    kh, kw = geometry.kernel
    ones = (1, 1)
    return kh == kw and kh in POINTS and geometry.stride == ones and geometry.dilate == ones


class WinogradConv(ConvKernel):
    """Convolution by transformed tiles of 4x4 outputs: stride 1, filters 3x3 or 5x5.

    Transformed arrays are ``(a^2, G, tiles, channels)``, with the tiles of all samples in order
    of sample, row and column.
    """

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype):
        g = geometry
        self.geometry = g
        self.dtype = np.dtype(dtype)
        self.side = g.kernel[0]
        self.cells = TILE + self.side - 1
        self.tile_rows = -(-g.out_height // TILE)
        self.tile_columns = -(-g.out_width // TILE)
        self.tiles = self.tile_rows * self.tile_columns
        rows, columns = TILE * self.tile_rows, TILE * self.tile_columns
        beyond = self.side - 1
        self.input_layout = MapLayout(
            *(g.channels, g.groups, rows + beyond, columns + beyond),
            *(g.pad[0], g.pad[2], g.height, g.width),
        )
        self.output_layout = MapLayout(g.out, g.groups, rows, columns, 0, 0, *g.out_size)
        self.to_outputs, self.to_filters, self.to_inputs = _kronecker(self.side, self.dtype.name)

    # Filters, once for an evaluation

    def prepare(self, filters: np.ndarray) -> np.ndarray:
        """Transformed filters (a^2, G, C / G, out / G)."""
        g = self.geometry
        cells = self.side**2
        by_group = filters.reshape(g.groups, g.group_out, g.group_channels, cells)
        columns = np.ascontiguousarray(by_group.transpose(3, 0, 2, 1)).reshape(cells, -1)
        weights = pooled((len(self.to_filters), columns.shape[1]), self.dtype)

        def run(part):
            weights[:, part] = self.to_filters @ columns[:, part].astype(np.float64)

        share(run, _column_blocks(columns.shape[1]))
        return weights.reshape(-1, g.groups, g.group_channels, g.group_out)

    def finish(self, part: np.ndarray) -> np.ndarray:
        g = self.geometry
        transformed = part.reshape(len(part), -1)
        columns = np.empty((self.side**2, transformed.shape[1]), self.dtype)
        transposed = np.ascontiguousarray(self.to_filters.T)

        def run(block):
            columns[:, block] = transposed @ transformed[:, block].astype(np.float64)

        share(run, _column_blocks(columns.shape[1]))
        by_group = columns.reshape(*g.kernel, g.groups, g.group_channels, g.group_out)
        filters = np.ascontiguousarray(by_group.transpose(2, 4, 3, 0, 1))
        return filters.reshape(g.out, g.group_channels, *g.kernel)

    # Samples

    def forward(self, maps: np.ndarray, weights: np.ndarray, y: np.ndarray) -> None:
        for part in self._sample_blocks(len(maps)):
            shape_v, shape_m = self._shapes(part.stop - part.start)
            with scratch(shape_v, self.dtype) as v, scratch(shape_m, self.dtype) as m:
                self._transform_inputs(maps[part], v)
                self._share_cells(lambda at, v=v, m=m: np.matmul(v[at], weights[at], out=m[at]))
                self._transform_products(m, y[part])

    def backward(self, maps, weights, der_y, der_maps):
        """See ``ConvKernel.backward``; the formulas stand at the top of this file."""
        part = pooled(weights.shape, self.dtype)
        for block in self._sample_blocks(len(maps)):
            shape_v, shape_m = self._shapes(block.stop - block.start)
            with scratch(shape_v, self.dtype) as v, scratch(shape_m, self.dtype) as der_m:
                self._transform_inputs(maps[block], v)
                self._transform_der_outputs(der_y[block], der_m)

                def run(at, v=v, der_m=der_m, first=block.start == 0):
                    transposed = v[at].transpose(0, 1, 3, 2)
                    if first:
                        np.matmul(transposed, der_m[at], out=part[at])
                    else:
                        part[at] += np.matmul(transposed, der_m[at])
                    if der_maps is not None:
                        # The transformed inputs are spent; their derivative takes their place.
                        np.matmul(der_m[at], weights[at].transpose(0, 1, 3, 2), out=v[at])

                self._share_cells(run)
                if der_maps is not None:
                    self._transform_der_inputs(v, der_maps[block])
        return part

    def _shapes(self, samples: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        g = self.geometry
        shape = (self.cells**2, g.groups, samples * self.tiles)
        return (*shape, g.group_channels), (*shape, g.group_out)

    def _sample_blocks(self, samples: int) -> list[slice]:
        each = sum(math.prod(shape) for shape in self._shapes(1)) * self.dtype.itemsize
        count = max(1, -(-samples * each // SAMPLES_BYTES))
        return [slice(b[0], b[-1] + 1) for b in cut(range(samples), min(count, samples))]

    def _share_cells(self, run) -> None:
        share(run, [slice(c[0], c[-1] + 1) for c in cut(range(self.cells**2), PIECES)])

    def _tile_blocks(self, samples: int, channels: int) -> Iterator[tuple[int, int, int, int]]:
        """Sample, group, and first and last row of tiles, of blocks that fit a core's cache."""
        row_bytes = self.cells**2 * self.tile_columns * channels * self.dtype.itemsize
        step = max(1, BLOCK_BYTES // row_bytes)
        for n in range(samples):
            for k in range(self.geometry.groups):
                for first in range(0, self.tile_rows, step):
                    yield n, k, first, min(first + step, self.tile_rows)

    def _columns(self, transformed: np.ndarray, n: int, k: int, first: int, last: int):
        """Tile rows of a sample and group as columns (a^2, tiles * channels): a view."""
        start = n * self.tiles
        rows = slice(start + first * self.tile_columns, start + last * self.tile_columns)
        return transformed[:, k, rows].reshape(len(transformed), -1)

    def _transform_inputs(self, maps: np.ndarray, v: np.ndarray) -> None:
        a, channels = self.cells, maps.shape[4]

        def run(blocks):
            for n, k, first, last in blocks:
                shape = (a, a, last - first, self.tile_columns, channels)
                plane = maps[n, k, first * TILE :]
                sy, sx, sc = plane.strides
                tiles = np.lib.stride_tricks.as_strided(
                    plane, shape, (sy, sx, TILE * sy, TILE * sx, sc)
                )
                with scratch(shape, self.dtype) as copy:
                    np.copyto(copy, tiles)
                    out = self._columns(v, n, k, first, last)
                    np.matmul(self.to_inputs, copy.reshape(a * a, -1), out=out)

        share(run, cut(list(self._tile_blocks(len(maps), channels))))

    def _squares(self, y: np.ndarray, n: int, k: int, first: int, last: int) -> np.ndarray:
        """Tile rows of outputs as a view (4, 4, tile rows, tile columns, channels)."""
        rows = y[n, k, first * TILE : last * TILE]
        tiled = rows.reshape(last - first, TILE, self.tile_columns, TILE, y.shape[4])
        return tiled.transpose(1, 3, 0, 2, 4)

    def _transform_products(self, m: np.ndarray, y: np.ndarray) -> None:
        def run(blocks):
            for place in blocks:
                squares = self._squares(y, *place)
                with scratch(squares.shape, self.dtype) as copy:
                    columns = self._columns(m, *place)
                    np.matmul(self.to_outputs, columns, out=copy.reshape(TILE * TILE, -1))
                    squares[...] = copy

        share(run, cut(list(self._tile_blocks(len(y), y.shape[4]))))

    def _transform_der_outputs(self, der_y: np.ndarray, der_m: np.ndarray) -> None:
        def run(blocks):
            for place in blocks:
                squares = self._squares(der_y, *place)
                with scratch(squares.shape, self.dtype) as copy:
                    np.copyto(copy, squares)
                    columns = self._columns(der_m, *place)
                    np.matmul(self.to_outputs.T, copy.reshape(TILE * TILE, -1), out=columns)

        share(run, cut(list(self._tile_blocks(len(der_y), der_y.shape[4]))))

    def _transform_der_inputs(self, der_v: np.ndarray, der_maps: np.ndarray) -> None:
        """Back-transform and add up overlapping tiles.

        A tile is ``TILE`` cells and ``beyond`` more, which lie in its neighbours; so do the last
        rows of a block of tile rows. Those are handed back, and added when all blocks are done.
        """
        a, width, channels = self.cells, self.tile_columns, der_maps.shape[4]
        beyond = a - TILE

        def run(blocks):
            return [tile_rows(*place) for place in blocks]

        def tile_rows(n, k, first, last):
            plane = der_maps[n, k]
            left_over = np.zeros((beyond, *plane.shape[1:]), self.dtype)
            columns = self._columns(der_v, n, k, first, last)
            with (
                scratch((a * a, columns.shape[1]), self.dtype) as flat,
                scratch((a, width + 1, TILE, channels), self.dtype) as joined,
            ):
                np.matmul(self.to_inputs.T, columns, out=flat)
                tiles = flat.reshape(a, a, last - first, width, channels)
                for row in range(last - first):
                    # Neighbours in a row first, then rows below one another.
                    source = tiles[:, :, row].transpose(0, 2, 1, 3)
                    joined[:, :width] = source[:, :, :TILE]
                    joined[:, width] = 0
                    joined[:, 1:, :beyond] += source[:, :, TILE:]
                    lines = joined.reshape(a, -1, channels)[:, : plane.shape[1]]
                    top = (first + row) * TILE
                    own = plane[top : top + TILE]
                    own[...] = lines[:TILE]
                    own[:beyond] += left_over
                    left_over[...] = lines[TILE:]
            return n, k, last * TILE, left_over

        blocks = list(self._tile_blocks(len(der_maps), channels))
        # The rows below the last block belong to no tile's own.
        der_maps[:, :, self.tile_rows * TILE :] = 0
        for results in share(run, cut(blocks)):
            for n, k, top, left_over in results:
                der_maps[n, k, top : top + beyond] += left_over


def _column_blocks(count: int) -> list[slice]:
    starts = range(0, count, FILTER_COLUMNS)
    return [slice(start, min(start + FILTER_COLUMNS, count)) for start in starts]
