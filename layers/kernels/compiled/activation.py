"""Batch norm's affine map, ReLU and max-pooling with compiled kernels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dagnet import share

from ..activation import Activation, RowActivation
from ..maps import MapLayout
from ..rows import PIECES, cut
from .arrays import address, check, fits_lanes
from .library import kernels
from .variants import LANES, SIDES

# Layouts whose offsets are remembered.
REMEMBERED = 256


class CompiledActivation(RowActivation):
    """``RowActivation`` in single precision: each method reads its arrays once.

    The work is cut by samples and by vectors of 16 channels, which never meet. ``sums`` leaves
    nothing for ``backward``: to find the winners of windows again is cheaper than to store and
    load what they were given. Sums are in double precision.
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
        total, squares = np.zeros((2, samples, layout.channels))
        at, *steps = _place(layout)

        def run(piece):
            n, vectors = piece
            self._kernels["moments"](
                *(address(y[n]), address(at), *steps, address(total[n]), address(squares[n])),
                *(out_height, out_width, *vectors),
            )

        share(run, _pieces(samples, layout))
        count = out_height * out_width
        total /= count
        squares /= count
        # In double precision the squares of single numbers lose nothing that matters.
        return total, np.maximum(squares - total**2, 0)

    def forward(self, y, layout_y, scale, shift, activation, maps, layout_maps):
        call = _Call(y, layout_y, scale, shift, activation, layout_maps, maps)
        kernel = self._kernels[f"{call.kind}_forward{call.suffix}"]

        def run(piece):
            n, vectors = piece
            kernel(
                *(*call.of_y(n), *call.channels(n, call.scale, call.shift), call.slope),
                *(*call.of_maps(n, maps), *call.sizes, *vectors),
            )

        share(run, call.pieces())

    def sums(self, y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, mean, der_y):
        call = _Call(y, layout_y, scale, shift, activation, layout_maps, maps, der_maps)
        kernel = self._kernels[f"{call.kind}_sums{call.suffix}"]
        pooled = call.kind == "pool"
        center = call.vectors(mean, 0)
        s1, s2 = np.zeros((2, len(y), layout_y.channels))

        def run(piece):
            n, vectors = piece
            affine = call.channels(n, call.scale, call.shift) if pooled else ()
            kernel(
                *(*call.of_y(n), *affine, call.slope, *call.of_maps(n, maps, der_maps)),
                *(*call.channels(n, center, s1, s2), *call.sizes, *vectors),
            )

        share(run, call.pieces())
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
        pooled = call.kind == "pool"
        a, b = call.vectors(a, 0), call.vectors(b, 0)
        factors = (call.scale, call.shift, a, b) if pooled else (call.scale, a, b)
        plane = (layout_y.height, layout_y.width) if pooled else ()

        def run(piece):
            n, vectors = piece
            kernel(
                *(*call.of_y(n), *call.channels(n, *factors), call.slope),
                *(*call.of_maps(n, maps, der_maps), address(der_y[n]), *plane),
                *(*call.sizes, *vectors),
            )

        layout_y.clear_border(der_y)
        share(run, call.pieces())


class _Call:
    """What the kernels are told in one call of a method.

    Attributes
    ----------
    kind, suffix : str
        Of the kernels' names.
    slope : float
        Of the ReLU for negative numbers.
    scale, shift : array (N, C)
    sizes : tuple of int
        Height and width of the output, and with pooling the windows' size and stride.
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
        self.slope = activation.leak if activation.relu else 1.0
        self.scale, self.shift = self.vectors(scale, 1), self.vectors(shift, 0)
        self.sizes: tuple[int, ...] = (layout_maps.height, layout_maps.width)
        self.kind, self.suffix = "relu", ""
        if activation.pool is not None:
            (down, right), stride = activation.pool
            self.sizes += (down, right, *stride)
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

    def of_y(self, n: int) -> tuple[int, ...]:
        at, *steps = _place(self._layout_y)
        return address(self._y[n]), address(at), *steps

    def of_maps(self, n: int, *arrays: np.ndarray) -> tuple[int, ...]:
        """Addresses of a sample's features in maps, and where their channels and pixels are."""
        layout = self._layout_maps
        at, *steps = _place(layout)
        firsts = (address(array[n, 0, layout.top :, layout.left]) for array in arrays)
        return *firsts, address(at), *steps

    def pieces(self) -> list[tuple[int, tuple[int, int]]]:
        return _pieces(len(self._y), self._layout_y)


@lru_cache(REMEMBERED)
def _place(layout: MapLayout) -> tuple[np.ndarray, int, int]:
    """Offset in a sample's map of each vector of channels, and steps from row to row and pixel."""
    channels = np.arange(0, layout.channels, LANES)
    group, channel = np.divmod(channels, layout.group_channels)
    row = layout.columns * layout.group_channels
    at = group * (layout.rows * row) + channel
    return at.astype(np.int64), row, layout.group_channels


def _pieces(samples: int, layout: MapLayout) -> list[tuple[int, tuple[int, int]]]:
    """Sample, and first and last vector of channels."""
    parts = cut(range(layout.channels // LANES), -(-PIECES // samples))
    return [(n, (part[0], part[-1] + 1)) for n in range(samples) for part in parts]
