"""Winograd's transformation of filters, once for an evaluation, and its adjoint."""

from __future__ import annotations

import threading

import numpy as np

from dagnet import share

from ..geometry import ConvGeometry
from ..rows import PIECES, cut
from ..scratch import pooled, scratch
from .arrays import address
from .machine_code import kernels


class Filters:
    """Transformed filters, in the order of forward or in that of backward.

    They are large, and a network is run forward, then backward: whoever asks for one order lets
    go of the other, which a copy brings back. Forward that runs again within backward changes
    to and fro: once that is seen, both are kept. (BLAS could take either order for both, but a
    copy takes less time than it does, and the numbers would not be those of before.)

    Parameters
    ----------
    array : array (a^2, G, C / G, out / G)
    """

    def __init__(self, array: np.ndarray):
        self.shape = array.shape
        self._array: np.ndarray | None = array
        self._transposed: np.ndarray | None = None
        self._both = False
        self._lock = threading.Lock()

    @property
    def array(self) -> np.ndarray:
        """(a^2, G, C / G, out / G), for forward."""
        with self._lock:
            if self._array is None:
                self._array, self._both = _transpose(self._transposed), True
            return self._array

    @property
    def transposed(self) -> np.ndarray:
        """(a^2, G, out / G, C / G), for backward: BLAS is slow in transposing for itself."""
        with self._lock:
            if self._transposed is None:
                self._transposed = _transpose(self._array)
            if not self._both:
                self._array = None
            return self._transposed


def _transpose(array: np.ndarray) -> np.ndarray:
    """A copy with the last two axes exchanged."""
    cells, groups, rows, columns = array.shape
    source = array.reshape(-1, rows, columns)
    target = pooled((len(source), columns, rows), np.float32)

    def run(part):
        first, size = part[0], rows * columns
        kernels().transpose(
            *(address(source[first:]), size, columns, address(target[first:]), size, rows),
            *(len(part), rows, columns),
        )

    share(run, cut(range(len(source))))
    return target.reshape(cells, groups, columns, rows)


def transform(filters: np.ndarray, geometry: ConvGeometry, cells: int) -> Filters:
    """Filters (out, C / G, k, k) to tiles of ``cells x cells``."""
    g, side = geometry, geometry.kernel[0]
    filters = np.ascontiguousarray(filters, np.float32)
    target = pooled((cells**2, g.groups, g.group_channels, g.group_out), np.float32)
    kernel = getattr(kernels(), f"winograd_filters_{side}")

    def run(piece):
        group, channels = piece
        own = filters[group * g.group_out :]
        with scratch((len(channels), side**2, g.group_out), np.float32) as tiles:
            lines = len(channels) * side**2
            kernels().transpose(
                *(address(own[0, channels[0] :]), 0, g.group_channels * side**2),
                *(address(tiles), 0, g.group_out, 1, g.group_out, lines),
            )
            kernel(
                *(address(tiles), *_in_filters(g)),
                *(address(target[0, group, channels[0] :]), *_in_cells(g, cells)),
                *(1, len(channels), g.group_out),
            )

    share(run, _pieces(g))
    return Filters(target)


def transform_back(part: np.ndarray, geometry: ConvGeometry, cells: int) -> np.ndarray:
    """The adjoint of ``transform``: (a^2, G, C / G, out / G) to (out, C / G, k, k)."""
    g, side = geometry, geometry.kernel[0]
    filters = np.empty((g.out, g.group_channels, side, side), np.float32)
    kernel = getattr(kernels(), f"winograd_der_filters_{side}")

    def run(piece):
        group, channels = piece
        own = filters[group * g.group_out :]
        with scratch((len(channels), side**2, g.group_out), np.float32) as tiles:
            lines = len(channels) * side**2
            kernel(
                *(address(part[0, group, channels[0] :]), *_in_cells(g, cells)),
                *(address(tiles), *_in_filters(g), 1, len(channels), g.group_out),
            )
            kernels().transpose(
                *(address(tiles), 0, g.group_out),
                *(address(own[0, channels[0] :]), 0, g.group_channels * side**2),
                *(1, lines, g.group_out),
            )

    share(run, _pieces(g))
    return filters


def _pieces(geometry: ConvGeometry) -> list[tuple[int, range]]:
    """Groups and channels."""
    g = geometry
    parts = cut(range(g.group_channels), -(-PIECES // g.groups))
    return [(group, channels) for group in range(g.groups) for channels in parts]


def _in_filters(geometry: ConvGeometry) -> tuple[int, ...]:
    """Steps in (C / G, k, k, out / G): to the cell below and beside, the tile below and beside."""
    side, out = geometry.kernel[0], geometry.group_out
    return side * out, out, 0, side**2 * out


def _in_cells(geometry: ConvGeometry, cells: int) -> tuple[int, ...]:
    """The same in (a^2, G, C / G, out / G)."""
    plane, out = geometry.channels * geometry.group_out, geometry.group_out
    return cells * plane, plane, 0, out
