"""Winograd's convolution with compiled transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dagnet import share

from ..geometry import ConvGeometry
from ..rows import PIECES, cut
from ..scratch import pooled, scratch
from ..winograd import TILE, WinogradConv, fits
from .arrays import address, check, fits_lanes, require
from .filters import Filters, transform, transform_back
from .machine_code import kernels
from .variants import LANES

# Transformed inputs and outputs of so many bytes are worked on at a time, or as many as the
# weights have: they stay in a cache, and the weights are not read more often than they are worth.
# In backward each chunk adds to the weights' derivative, so there larger ones are faster.
FORWARD_BYTES = 4 << 20
BACKWARD_BYTES = 12 << 20


class _Tiles(NamedTuple):
    """Rows of tiles of one sample, and the place of their first tile in transformed arrays."""

    sample: int
    rows: range
    place: int


class _Piece(NamedTuple):
    """A group's channels, or some of them, in rows of tiles."""

    tiles: _Tiles
    group: int
    channels: range


class CompiledWinograd(WinogradConv):
    """``WinogradConv`` in single precision, each transformation one pass over its arrays.

    A tile is transformed 16 channels at a time, in registers. The products remain NumPy's.
    """

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype):
        require(self, geometry, dtype)
        super().__init__(geometry, dtype)
        library = kernels()
        self._kernels = {
            name: getattr(library, f"winograd_{name}_{self.side}")
            for name in ("inputs", "products", "der_outputs", "der_inputs")
        }

    @staticmethod
    def takes(geometry: ConvGeometry, dtype: np.dtype) -> bool:
        """Whether the kernel computes this convolution."""
        single = np.dtype(dtype) == np.float32
        return single and fits(geometry) and fits_lanes(geometry.group_channels, geometry.group_out)

    def prepare(self, filters: np.ndarray) -> Filters:
        return transform(filters, self.geometry, self.cells)

    def finish(self, part: np.ndarray) -> np.ndarray:
        return transform_back(part, self.geometry, self.cells)

    def forward(self, maps, weights, y):
        check(maps, self.input_layout, len(maps), "maps")
        check(y, self.output_layout, len(maps), "y")
        chunks = self._chunks(len(maps), FORWARD_BYTES)
        if len(chunks) == 1:
            self._forward(chunks[0], maps, weights.array, y, PIECES)
        else:
            array = weights.array
            share(lambda chunk: self._forward(chunk, maps, array, y, 1), chunks)

    def _forward(self, chunk, maps, weights, y, pieces: int) -> None:
        """The outputs of some tiles, each step shared in so many pieces, or not at all."""
        shape_v, shape_m = self._cells_shapes(chunk)
        each = share if pieces > 1 else _one_by_one
        with scratch(shape_v, self.dtype) as v, scratch(shape_m, self.dtype) as m:
            rows = self._row_pieces(chunk, maps, pieces)
            each(lambda p: self._to_cells("inputs", maps, v, p), rows)
            each(lambda at: np.matmul(v[at], weights[at], out=m[at]), self._slices(pieces))
            rows = self._row_pieces(chunk, y, pieces)
            each(lambda p: self._to_maps("products", m, y, p), rows)

    def backward(self, maps, weights, der_y, der_maps):
        """See ``WinogradConv``. Chunks follow one another: their sums are added in order."""
        check(maps, self.input_layout, len(maps), "maps")
        check(der_y, self.output_layout, len(maps), "der_y")
        if der_maps is not None:
            check(der_maps, self.input_layout, len(maps), "der_maps")
            # Tiles overlap, so they are added.
            der_maps[...] = 0
        part = pooled(weights.shape, self.dtype)
        transposed = None if der_maps is None else weights.transposed
        for place, chunk in enumerate(self._chunks(len(maps), BACKWARD_BYTES)):
            self._backward(chunk, maps, transposed, der_y, der_maps, part, place == 0)
        return part

    def _backward(self, chunk, maps, transposed, der_y, der_maps, part, first: bool) -> None:
        """What some tiles add; the ``first`` ones begin the sum."""
        shape_v, shape_m = self._cells_shapes(chunk)

        def multiply(at):
            if first:
                np.matmul(v[at].transpose(0, 1, 3, 2), der_m[at], out=part[at])
            else:
                with scratch(part[at].shape, self.dtype) as term:
                    part[at] += np.matmul(v[at].transpose(0, 1, 3, 2), der_m[at], out=term)
            if der_maps is not None:
                # The transformed inputs are spent; their derivative takes their place.
                np.matmul(der_m[at], transposed[at], out=v[at])

        with scratch(shape_v, self.dtype) as v, scratch(shape_m, self.dtype) as der_m:
            share(
                lambda p: self._to_cells("inputs", maps, v, p),
                self._row_pieces(chunk, maps, PIECES),
            )
            pieces = self._row_pieces(chunk, der_y, PIECES)
            share(lambda p: self._to_cells("der_outputs", der_y, der_m, p), pieces)
            share(multiply, self._slices(PIECES))
            if der_maps is not None:
                pieces = self._channel_pieces(chunk, der_maps)
                share(lambda p: self._to_maps("der_inputs", v, der_maps, p), pieces)

    # How the work is cut

    def _chunks(self, samples: int, size: int) -> list[list[_Tiles]]:
        """All tiles, in lists of such rows as are computed together, of ``size`` bytes or more."""
        g = self.geometry
        line = self.cells**2 * self.tile_columns * (g.channels + g.out) * self.dtype.itemsize
        weights = self.cells**2 * g.channels * g.group_out * self.dtype.itemsize
        lines = range(samples * self.tile_rows)
        count = max(1, len(lines) // max(1, max(size, weights) // line))
        # Chunks of one length find the same memory again.
        step = -(-len(lines) // count)
        return [self._tiles(lines[start : start + step]) for start in range(0, len(lines), step)]

    def _tiles(self, lines: range) -> list[_Tiles]:
        """Lines of tiles, counted through all samples, sample by sample."""
        tiles, line = [], lines.start
        while line < lines.stop:
            sample, row = divmod(line, self.tile_rows)
            rows = range(row, min(self.tile_rows, row + lines.stop - line))
            tiles.append(_Tiles(sample, rows, (line - lines.start) * self.tile_columns))
            line += len(rows)
        return tiles

    def _cells_shapes(self, chunk: list[_Tiles]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes (a^2, G, tiles, channels) of transformed inputs and outputs."""
        g = self.geometry
        tiles = sum(len(t.rows) for t in chunk) * self.tile_columns
        shape = (self.cells**2, g.groups, tiles)
        return (*shape, g.group_channels), (*shape, g.group_out)

    def _slices(self, pieces: int) -> list[slice]:
        """The cells of a tile in pieces."""
        return [slice(c[0], c[-1] + 1) for c in cut(range(self.cells**2), pieces)]

    def _row_pieces(self, chunk: list[_Tiles], maps: np.ndarray, pieces: int) -> list[_Piece]:
        """Pieces by rows of tiles, which do not overlap in transformed arrays or outputs."""
        groups, channels = maps.shape[1], range(maps.shape[4])
        parts = -(-pieces // (len(chunk) * groups))
        return [
            _Piece(t._replace(rows=rows, place=place), k, channels)
            for t in chunk
            for rows in cut(t.rows, parts)
            for place in [t.place + (rows[0] - t.rows[0]) * self.tile_columns]
            for k in range(groups)
        ]

    def _channel_pieces(self, chunk: list[_Tiles], maps: np.ndarray) -> list[_Piece]:
        """Pieces by samples, groups and channels: a sample's rows of tiles overlap in maps."""
        groups = maps.shape[1]
        parts = cut(range(0, maps.shape[4], LANES), -(-PIECES // (len(chunk) * groups)))
        return [
            _Piece(t, k, range(part[0], part[-1] + LANES))
            for t in chunk
            for k in range(groups)
            for part in parts
        ]

    # Transformations

    def _to_cells(self, name: str, maps: np.ndarray, cells: np.ndarray, piece: _Piece) -> None:
        """Transform tiles of maps (N, G, rows, columns, C) to (a^2, G, tiles, C)."""
        source, target = self._in_maps(maps, piece), self._in_cells(cells, piece)
        self._kernels[name](*source, *target, *self._counts(piece))

    def _to_maps(self, name: str, cells: np.ndarray, maps: np.ndarray, piece: _Piece) -> None:
        """Transform (a^2, G, tiles, C) to tiles of maps."""
        source, target = self._in_cells(cells, piece), self._in_maps(maps, piece)
        self._kernels[name](*source, *target, *self._counts(piece))

    def _counts(self, piece: _Piece) -> tuple[int, int, int]:
        return len(piece.tiles.rows), self.tile_columns, len(piece.channels)

    def _in_maps(self, maps: np.ndarray, piece: _Piece) -> tuple[int, ...]:
        """Address of the piece's first number, and the steps that the kernel asks for."""
        columns, channels = maps.shape[3:]
        row, tiles = columns * channels, piece.tiles
        first = maps[tiles.sample, piece.group, tiles.rows[0] * TILE, 0, piece.channels[0] :]
        return address(first), row, channels, TILE * row, TILE * channels

    def _in_cells(self, cells: np.ndarray, piece: _Piece) -> tuple[int, ...]:
        """The same in transformed arrays."""
        plane, channels = cells[0].size, cells.shape[3]
        first = cells[0, piece.group, piece.tiles.place, piece.channels[0] :]
        steps = self.cells * plane, plane, self.tile_columns * channels, channels
        return address(first), *steps


def _one_by_one(run: Callable[[Any], None], pieces: list) -> None:
    for piece in pieces:
        run(piece)
