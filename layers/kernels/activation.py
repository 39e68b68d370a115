"""What follows a convolution in a stage of a chain: batch norm's affine map, ReLU, max pooling.

Kernels are objects with the four methods of ``RowActivation`` below, called by the executor in
this order; the contract, with layouts as in ``layers.kernels.maps``:

``moments(y, out_height, out_width) -> (mean, variance)``
    Of each sample's features, ``[:out_height, :out_width]`` of ``y``: arrays (N, C) in float64,
    the variance about the mean, biased.
``forward(y, layout_y, scale, shift, activation, maps, layout_maps)``
    ``z = y * scale + shift``, then ReLU, then pooling, into the features of ``maps``, whose
    border is left alone. ``scale`` and ``shift`` are (N, C), of the dtype of ``y``; each may be
    None: no factor, nothing added.
``sums(y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, mean, der_y)``
    ``(s1, s2)``, each (N, C) in float64: ``s1 = sum dz``, ``s2 = sum dz (y - mean)`` with ``dz``
    the derivative by ``z``. ``maps`` is what ``forward`` gave. ``mean`` is (N, C), or None: then
    ``s2`` is None. ``der_y`` is work space: ``backward`` of the same kernel finds in it what
    ``sums`` left there.
``backward(y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, a, b, der_y)``
    Always after ``sums`` with the same arguments. Fills ``der_y = scale dz + a + b y`` (``a`` and
    ``b``, (N, C), are both None or both given), with zeros beyond the features.

ReLU has derivative 0 (the leak) at 0; of a pooling window the first maximum in column-major order
(the leftmost column, in it the topmost row) gets the whole derivative; NaN passes the ReLU, and is
no maximum. All as in ``layers.relu`` and ``layers.pooling``.

**Backward.** ``z``'s derivative is ``dz = relu'(z) sum dp`` over the windows that the cell won;
ReLU is monotone, so its slope at a window's winner is read off the pooled value. With batch
statistics, ``z = g (y - mean) / sigma + b`` with moments of ``m`` values, and ``scale = g/sigma``,
the derivative of batch norm (``layers.batch_norm``) is ``dy = scale (dz - s1/m - (y - mean) s2 /
(sigma^2 m))``, which is ``scale dz + a + b y`` with ``b = -scale s2 / (sigma^2 m)`` and
``a = -scale s1/m - b mean``. With given moments, and without batch norm, ``dy = scale dz``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dagnet import share

from .maps import MapLayout
from .planes import Plane, lines_of
from .rows import cut
from .scratch import scratch

# Rows of ``y`` that take this many bytes are worked on at a time: they stay in a core's cache.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Activation:
    """ReLU and pooling of a stage.

    Attributes
    ----------
    relu : bool
    leak : float
        Slope of the ReLU for negative values.
    pool : None, or ((kh, kw), (sv, sh))
        Size and stride of a max pooling without padding.
    """

    relu: bool = False
    leak: float = 0.0
    pool: tuple[tuple[int, int], tuple[int, int]] | None = None

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after pooling; smaller than 1 if no window fits."""
        if self.pool is None:
            return height, width
        (kh, kw), (sv, sh) = self.pool
        return (height - kh) // sv + 1, (width - kw) // sh + 1


class RowActivation:
    """NumPy's activation: blocks of rows in a core's cache, any dtype."""

    # Each method takes sample and group of ``y`` apart, all of a group's channels at once; where
    # the reader of the maps has other groups, their runs of channels are parted at the last step.

    def moments(self, y, out_height, out_width):
        """Mean and variance of each sample's features; blocks are joined as by Chan et al."""
        n, groups, _, _, channels = y.shape
        mean, variance = np.empty((2, n, groups, channels))

        def run(plane):
            count, total, square = 0, np.zeros(channels), np.zeros(channels)
            for rows in _row_blocks(y, out_height, out_width):
                block = lines_of(y[plane], rows, out_width)
                cells = block.size // channels
                with scratch((cells, channels), y.dtype) as deviation:
                    ones = np.ones(cells, y.dtype)
                    lines = deviation.reshape(block.shape)
                    # A cell's value as a first guess, so that sums of large means do not round.
                    np.subtract(block, np.tile(block[0, :channels], out_width), out=lines)
                    offset = (ones @ deviation) / y.dtype.type(cells)
                    lines -= np.tile(offset, out_width)
                    here = block[0, :channels].astype(np.float64) + offset
                    lines *= lines
                    spread = ones @ deviation
                apart = here - (total if count else here)
                joined = count + cells
                square += spread + apart**2 * (count * cells / joined)
                total = here if not count else total + apart * (cells / joined)
                count = joined
            mean[plane] = total
            variance[plane] = square / count

        share(run, [(i, k) for i in range(n) for k in range(groups)])
        return mean.reshape(n, -1), variance.reshape(n, -1)

    def forward(self, y, layout_y, scale, shift, activation, maps, layout_maps):
        """See the top of this file."""
        target = layout_maps.valid(maps)

        def run(pieces):
            for n, k, rows in pieces:
                plane = Plane(y, layout_y, layout_maps, activation, (n, k), scale, shift)
                plane.write(rows, target[n])

        share(run, cut(list(_pieces(layout_y, activation, len(y), y.dtype))))

    def sums(self, y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, mean, der_y):
        """See the top of this file; leaves ``dz`` in ``der_y``."""
        values, ders = layout_maps.valid(maps), layout_maps.valid(der_maps)
        channels = layout_y.group_channels
        shape = (len(y), layout_y.groups, channels)
        about = None if mean is None else mean.reshape(shape)

        def run(pieces):
            return [(n, k, *sums_of(n, k, rows)) for n, k, rows in pieces]

        def sums_of(n, k, rows):
            s1, s2 = np.zeros((2, channels))
            plane = Plane(y, layout_y, layout_maps, activation, (n, k), scale, shift)
            with plane.der_values(values[n], ders[n], rows) as (reached, phased):
                if reached != rows or sum(p.count for p in plane.phases) < layout_y.width:
                    lines_of(der_y[n, k], rows, layout_y.width)[...] = 0
                for phase, dz in zip(plane.phases, phased):
                    der_y[n, k, reached, phase.columns] = dz
                    flat = dz.reshape(-1, channels)
                    ones = np.ones(len(flat), y.dtype)
                    s1 += ones @ flat
                    if mean is not None:
                        with scratch(dz.shape, y.dtype) as products:
                            np.copyto(products, y[n, k, reached, phase.columns])
                            lines = products.reshape(len(products), -1)
                            lines -= np.tile(about[n, k], phase.count)
                            products *= dz
                            s2 += ones @ products.reshape(-1, channels)
            return s1, s2

        s1, s2 = np.zeros((2, *shape))
        pieces = cut(list(_row_pieces(layout_y, activation, len(y), y.dtype)))
        for results in share(run, pieces):
            for n, k, first, second in results:
                s1[n, k] += first
                s2[n, k] += second
        return s1.reshape(len(y), -1), None if mean is None else s2.reshape(len(y), -1)

    def backward(
        self, y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, a, b, der_y
    ):
        """See the top of this file; finds ``dz`` in ``der_y``."""
        layout_y.clear_border(der_y)
        width = layout_y.width

        def vector(array, n, k):
            if array is None:
                return None
            return np.tile(array.reshape(len(y), layout_y.groups, -1)[n, k], width)

        def run(pieces):
            for n, k, rows in pieces:
                lines = lines_of(der_y[n, k], rows, width)
                if scale is not None:
                    lines *= vector(scale, n, k)
                if a is not None:
                    other = lines_of(y[n, k], rows, width) * vector(b, n, k)
                    other += vector(a, n, k)
                    lines += other

        share(run, cut(list(_row_pieces(layout_y, activation, len(y), y.dtype))))


def _row_blocks(y: np.ndarray, height: int, width: int) -> Iterator[slice]:
    """Rows of ``y`` in blocks."""
    step = max(1, BLOCK_BYTES // (width * y.shape[4] * y.dtype.itemsize))
    for first in range(0, height, step):
        yield slice(first, min(first + step, height))


def _blocks(
    layout_y: MapLayout, height: int, lines: int, samples: int, dtype: np.dtype
) -> Iterator[tuple[int, int, slice]]:
    """Sample, group, and rows of ``height`` that are made of ``lines`` rows of ``y`` each."""
    row_bytes = layout_y.width * layout_y.group_channels * np.dtype(dtype).itemsize
    step = max(1, BLOCK_BYTES // (row_bytes * lines))
    for n in range(samples):
        for k in range(layout_y.groups):
            for first in range(0, height, step):
                yield n, k, slice(first, min(first + step, height))


def _pieces(
    layout_y: MapLayout, activation: Activation, samples: int, dtype: np.dtype
) -> Iterator[tuple[int, int, slice]]:
    """Sample, group and output rows."""
    height = activation.output_size(layout_y.height, layout_y.width)[0]
    lines = activation.pool[1][0] if activation.pool else 1
    return _blocks(layout_y, height, lines, samples, dtype)


def _row_pieces(
    layout_y: MapLayout, activation: Activation, samples: int, dtype: np.dtype
) -> Iterator[tuple[int, int, slice]]:
    """Sample, group and rows of ``y``."""
    return _blocks(layout_y, layout_y.height, 1, samples, dtype)
