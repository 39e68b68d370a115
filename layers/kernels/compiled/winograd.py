"""Winograd's convolution with compiled transformations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dagnet import share

from ..geometry import ConvGeometry
from ..rows import PIECES, cut
from ..winograd import TILE, WinogradConv, fits
from .arrays import address, check, fits_lanes
from .library import kernels
from .variants import LANES


class _Piece(NamedTuple):
    """Tile rows and channels of one sample and group."""

    sample: int
    group: int
    rows: range
    channels: range


class CompiledWinograd(WinogradConv):
    """``WinogradConv`` in single precision, each transformation one pass over its arrays.

    A tile is transformed 16 channels at a time, in registers. The products remain NumPy's.
    """

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype):
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

    def forward(self, maps, weights, y):
        check(maps, self.input_layout, len(maps), "maps")
        check(y, self.output_layout, len(maps), "y")
        super().forward(maps, weights, y)

    def backward(self, maps, weights, der_y, der_maps):
        check(maps, self.input_layout, len(maps), "maps")
        check(der_y, self.output_layout, len(maps), "der_y")
        if der_maps is not None:
            check(der_maps, self.input_layout, len(maps), "der_maps")
        return super().backward(maps, weights, der_y, der_maps)

    def _transform_inputs(self, maps, v):
        self._to_cells("inputs", maps, v)

    def _transform_products(self, m, y):
        self._to_maps("products", m, y, self._row_pieces(y))

    def _transform_der_outputs(self, der_y, der_m):
        self._to_cells("der_outputs", der_y, der_m)

    def _transform_der_inputs(self, der_v, der_maps):
        # Tiles overlap, so a piece has all tiles of its channels.
        self._to_maps("der_inputs", der_v, der_maps, self._channel_pieces(der_maps), clear=True)

    def _to_cells(self, name: str, maps: np.ndarray, cells: np.ndarray) -> None:
        """Transform the tiles of maps (N, G, rows, columns, C) to (a^2, G, tiles, C)."""

        def run(piece):
            source, target = self._in_maps(maps, piece), self._in_cells(cells, piece)
            self._kernels[name](*source, *target, *self._counts(piece))

        share(run, self._row_pieces(maps))

    def _to_maps(
        self,
        name: str,
        cells: np.ndarray,
        maps: np.ndarray,
        pieces: Iterable[_Piece],
        clear: bool = False,
    ) -> None:
        """Transform (a^2, G, tiles, C) to the tiles of maps, set to zero before on demand."""

        def run(piece):
            if clear:
                channels = slice(piece.channels.start, piece.channels.stop)
                maps[piece.sample, piece.group, :, :, channels] = 0
            source, target = self._in_cells(cells, piece), self._in_maps(maps, piece)
            self._kernels[name](*source, *target, *self._counts(piece))

        share(run, pieces)

    def _row_pieces(self, maps: np.ndarray) -> list[_Piece]:
        samples, groups, channels = len(maps), maps.shape[1], range(maps.shape[4])
        parts = cut(range(self.tile_rows), -(-PIECES // (samples * groups)))
        return [
            _Piece(n, k, rows, channels)
            for n in range(samples)
            for k in range(groups)
            for rows in parts
        ]

    def _channel_pieces(self, maps: np.ndarray) -> list[_Piece]:
        samples, groups, rows = len(maps), maps.shape[1], range(self.tile_rows)
        vectors = range(0, maps.shape[4], LANES)
        parts = cut(vectors, -(-PIECES // (samples * groups)))
        return [
            _Piece(n, k, rows, range(part[0], part[-1] + LANES))
            for n in range(samples)
            for k in range(groups)
            for part in parts
        ]

    def _counts(self, piece: _Piece) -> tuple[int, int, int]:
        return len(piece.rows), self.tile_columns, len(piece.channels)

    def _in_maps(self, maps: np.ndarray, piece: _Piece) -> tuple[int, ...]:
        """Address of the piece's first number, and the steps that the kernel asks for."""
        columns, channels = maps.shape[3:]
        row = columns * channels
        first = maps[piece.sample, piece.group, piece.rows[0] * TILE, 0, piece.channels[0] :]
        return address(first), row, channels, TILE * row, TILE * channels

    def _in_cells(self, cells: np.ndarray, piece: _Piece) -> tuple[int, ...]:
        """The same in transformed arrays."""
        plane, channels = cells[0].size, cells.shape[3]
        tile = piece.sample * self.tiles + piece.rows[0] * self.tile_columns
        first = cells[0, piece.group, tile, piece.channels[0] :]
        return (
            *(address(first), self.cells * plane, plane),
            *(self.tile_columns * channels, channels),
        )
