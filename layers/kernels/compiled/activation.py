"""Batch norm's affine map, ReLU and max-pooling with compiled kernels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dagnet import share

from ..activation import Activation, RowActivation
from ..maps import MapLayout
from ..rows import PIECES, cut
from .arrays import address, check, fits_lanes
from .machine_code import kernels
from .variants import LANES, SIDES

# Layouts whose offsets are remembered.
REMEMBERED = 256


class CompiledActivation(RowActivation):
    """``RowActivation`` in single precision: each method reads its arrays once.

    ``sums`` leaves nothing for ``backward``: to find the winners of windows again is cheaper than
    to store and load what they were given. Sums are in double precision.
    """

    def __init__(self):
        self._kernels = vars(kernels())

    @staticmethod
    def takes(dtype: np.dtype, layout_y: MapLayout, layout_maps: MapLayout) -> bool:
        """Whether the kernels compute this."""
        channels = layout_y.group_channels, layout_maps.group_channels
        return np.dtype(dtype) == np.float32 and fits_lanes(*channels)

    def moments(self, y, out_height, out_width):
        samples, groups, rows, columns, channels = y.shape
        layout = MapLayout(channels * groups, groups, rows, columns, 0, 0, out_height, out_width)
        check(y, layout, samples, "y")
        at, *steps = _place(layout)

        def run(piece):
            n, rows = piece
            total, squares = sums = np.zeros((2, layout.channels))
            self._kernels["moments"](
                *(address(y[n, 0, rows[0] :]), address(at), *steps),
                *(address(total), address(squares), len(rows), out_width, len(at)),
            )
            return n, sums

        total, squares = _add_up(share(run, _pieces(samples, out_height)), samples)
        mean = total / (out_height * out_width)
        # Squares of single numbers lose nothing that matters in double precision.
        return mean, np.maximum(squares / (out_height * out_width) - mean**2, 0)

    def forward(self, y, layout_y, scale, shift, activation, maps, layout_maps):
        call = _Call(y, layout_y, scale, shift, activation, layout_maps, maps)
        kernel = self._kernels[f"{call.kind}_forward{call.suffix}"]

        def run(piece):
            n, rows = piece
            kernel(
                *(*call.of_y(n, rows), *call.channels(n, call.scale, call.shift), call.slope),
                *(*call.of_maps(n, maps, first=rows[0]), *call.sizes(rows)),
            )

        share(run, call.pieces())

    def sums(self, y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, mean, der_y):
        call = _Call(y, layout_y, scale, shift, activation, layout_maps, maps, der_maps)
        kernel = self._kernels[f"{call.kind}_sums{call.suffix}"]
        center = call.vectors(mean, 0)

        def run(piece):
            n, rows = piece
            s1, s2 = sums = np.zeros((2, layout_y.channels))
            affine = call.channels(n, call.scale, call.shift) if activation.pool else ()
            kernel(
                *(*call.of_y(n, rows), *affine, call.slope),
                *(*call.of_maps(n, maps, der_maps, first=rows[0]), address(center[n])),
                *(address(s1), address(s2), *call.sizes(rows)),
            )
            return n, sums

        s1, s2 = _add_up(share(run, call.pieces()), len(y))
        if mean is None:
            return s1, None
        # The kernel's mean is rounded to single precision.
        s2 += s1 * (center - mean)
        return s1, s2

    def backward(
        self, y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, a, b, der_y
    ):
        call = _Call(y, layout_y, scale, shift, activation, layout_maps, maps, der_maps, der_y)
        kernel = self._kernels[f"{call.kind}_backward{call.suffix}"]
        a, b = call.vectors(a, 0), call.vectors(b, 0)

        def run(piece):
            n, rows = piece
            kernel(
                *(*call.of_y(n, rows), *call.channels(n, call.scale, a, b), call.slope),
                *(*call.of_maps(n, maps, der_maps, first=rows[0]), address(der_y[n, 0, rows[0] :])),
                *call.sizes(rows),
            )

        def run_pooled(piece):
            n, rows = piece
            windows = call.windows(rows)
            kernel(
                *(*call.of_y(n), *call.channels(n, call.scale, call.shift, a, b), call.slope),
                *(*call.of_maps(n, maps, der_maps), address(der_y[n])),
                *(rows[0], rows[-1] + 1, layout_y.width),
                *(windows.start, windows.stop, *call.sizes(windows)[1:]),
            )

        layout_y.clear_border(der_y)
        share(run_pooled if activation.pool else run, _pieces(len(y), layout_y.height))


class _Call:
    """What the kernels are told in one call of a method.

    Attributes
    ----------
    kind, suffix : str
        Of the kernels' names.
    slope : float
        Of the ReLU for negative numbers.
    scale, shift : array (N, C)
    """

    def __init__(
        self,
        y: np.ndarray,
        layout_y: MapLayout,
        scale: np.ndarray | None,
        shift: np.ndarray | None,
        activation: Activation,
        layout_maps: MapLayout,
        maps: np.ndarray,
        *ders: np.ndarray,
    ):
        samples = len(y)
        check(y, layout_y, samples, "y")
        check(maps, layout_maps, samples, "maps")
        for der, layout in zip(ders, (layout_maps, layout_y)):
            check(der, layout, samples, "derivatives")
        self._y, self._layout_y, self._layout_maps = y, layout_y, layout_maps
        self._pool = activation.pool
        self.slope = activation.leak if activation.relu else 1.0
        self.scale, self.shift = self.vectors(scale, 1), self.vectors(shift, 0)
        self.kind, self.suffix = "relu", ""
        if activation.pool is not None:
            down, right = activation.pool[0]
            self.kind = "pool"
            self.suffix = f"_{down}" if down == right and down in SIDES else "_any"

    def vectors(self, array: np.ndarray | None, default: float) -> np.ndarray:
        """An array (N, C) in single precision, filled with ``default`` where there is none."""
        shape = (len(self._y), self._layout_y.channels)
        if array is None:
            return np.full(shape, default, np.float32)
        return np.ascontiguousarray(np.broadcast_to(array, shape), np.float32)

    def channels(self, n: int, *arrays: np.ndarray) -> tuple[int, ...]:
        """Addresses of a sample's channels in arrays (N, C)."""
        return tuple(address(array[n]) for array in arrays)

    def of_y(self, n: int, rows: range | None = None) -> tuple[int, ...]:
        """Address of a sample, or of what some rows of output are made of; offsets and steps."""
        at, *steps = _place(self._layout_y)
        first = 0 if rows is None else rows[0] * (self._pool[1][0] if self._pool else 1)
        return address(self._y[n, 0, first:]), address(at), *steps

    def of_maps(self, n: int, *arrays: np.ndarray, first: int = 0) -> tuple[int, ...]:
        """Addresses of a sample's features in maps; offsets and steps."""
        layout = self._layout_maps
        at, *steps = _place(layout)
        firsts = (address(array[n, 0, layout.top + first :, layout.left]) for array in arrays)
        return *firsts, address(at), *steps

    def sizes(self, rows: range) -> tuple[int, ...]:
        """Height and width of the output, with pooling the windows' size and stride; vectors."""
        windows = (*self._pool[0], *self._pool[1]) if self._pool else ()
        return len(rows), self._layout_maps.width, *windows, self._layout_y.channels // LANES

    def windows(self, rows: range) -> range:
        """Rows of windows that reach into rows of ``y``."""
        (down, _), (stride, _) = self._pool
        first = max(0, -((down - 1 - rows[0]) // stride))
        return range(first, min(self._layout_maps.height, (rows[-1]) // stride + 1))

    def pieces(self) -> list[tuple[int, range]]:
        """Samples and rows of output."""
        return _pieces(len(self._y), self._layout_maps.height)


@lru_cache(REMEMBERED)
def _place(layout: MapLayout) -> tuple[np.ndarray, int, int]:
    """Offset in a sample's map of each vector of channels, and steps from row to row and pixel.

    Raises
    ------
    ValueError
        If a group's channels do not fall into vectors.
    """
    if not fits_lanes(layout.group_channels):
        raise ValueError(f"expected groups of a multiple of {LANES} channels, received {layout}")
    channels = np.arange(0, layout.channels, LANES)
    group, channel = np.divmod(channels, layout.group_channels)
    row = layout.columns * layout.group_channels
    at = group * (layout.rows * row) + channel
    return at.astype(np.int64), row, layout.group_channels


def _pieces(samples: int, height: int) -> list[tuple[int, range]]:
    """Samples and rows."""
    parts = cut(range(height), -(-PIECES // samples))
    return [(n, rows) for n in range(samples) for rows in parts]


def _add_up(parts: list[tuple[int, np.ndarray]], samples: int) -> np.ndarray:
    """Sums (2, N, C) from those of pieces (2, C), in the order of pieces."""
    total = np.zeros((2, samples, parts[0][1].shape[1]))
    for n, sums in parts:
        total[:, n] += sums
    return total
