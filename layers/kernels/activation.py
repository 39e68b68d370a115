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

from .maps import MapLayout, runs
from .rows import cut
from .scratch import scratch

# Rows of ``y`` that take this many bytes are worked on at a time: they stay in a core's cache.
BLOCK_BYTES = 256 << 10


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


def _tiled(vector: np.ndarray | None, width: int) -> np.ndarray | None:
    """A vector (C,) once for each cell of a line, so that whole lines are one inner loop."""
    return None if vector is None else np.tile(vector, width)


def _lines(a: np.ndarray, rows: slice, width: int) -> np.ndarray:
    """The first cells of rows of a plane (rows, columns, C) as a view (rows, width C)."""
    part = a[rows]
    return part.reshape(len(part), -1)[:, : width * a.shape[2]]


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
                block = _lines(y[plane], rows, out_width)
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
                step = _Step(y, layout_y, layout_maps, activation, n, k, scale, shift)
                with scratch(step.shape(rows), y.dtype) as z:
                    step.values(rows, z)
                    step.pooled(z, rows, target[n])

        share(run, cut(list(_pieces(layout_y, activation, len(y), y.dtype))))

    def sums(self, y, layout_y, scale, shift, activation, maps, layout_maps, der_maps, mean, der_y):
        """See the top of this file; leaves ``dz`` in ``der_y``."""
        n_samples, channels = len(y), layout_y.channels
        values, ders = layout_maps.valid(maps), layout_maps.valid(der_maps)

        def run(pieces):
            return [(n, k, *sums_of(n, k, rows)) for n, k, rows in pieces]

        def sums_of(n, k, rows):
            step = _Step(y, layout_y, layout_maps, activation, n, k, scale, shift)
            dz = step.der_values(values[n], ders[n], rows)
            _lines(der_y[n, k], rows, layout_y.width)[...] = dz.reshape(len(dz), -1)
            flat = dz.reshape(-1, layout_y.group_channels)
            ones = np.ones(len(flat), y.dtype)
            s1 = ones @ flat
            if mean is None:
                return s1, 0.0
            tile = np.tile(mean.reshape(n_samples, layout_y.groups, -1)[n, k], layout_y.width)
            block = dz.reshape(len(dz), -1)
            block *= _lines(y[n, k], rows, layout_y.width) - tile
            return s1, ones @ flat

        s1, s2 = np.zeros((2, n_samples, layout_y.groups, layout_y.group_channels))
        pieces = cut(list(_row_pieces(layout_y, activation, n_samples, y.dtype)))
        for results in share(run, pieces):
            for n, k, first, second in results:
                s1[n, k] += first
                s2[n, k] += second
        s1, s2 = s1.reshape(n_samples, channels), s2.reshape(n_samples, channels)
        return s1, None if mean is None else s2

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
                lines = _lines(der_y[n, k], rows, width)
                if scale is not None:
                    lines *= vector(scale, n, k)
                if a is not None:
                    other = _lines(y[n, k], rows, width) * vector(b, n, k)
                    other += vector(a, n, k)
                    lines += other

        share(run, cut(list(_row_pieces(layout_y, activation, len(y), y.dtype))))


class _Step:
    """One sample and group of ``y`` on its way to the maps, in blocks of rows."""

    def __init__(
        self,
        y: np.ndarray,
        layout_y: MapLayout,
        layout_maps: MapLayout,
        activation: Activation,
        n: int,
        k: int,
        scale: np.ndarray | None,
        shift: np.ndarray | None,
    ):
        self.y = y[n, k]
        self.width = layout_y.width
        self.height = layout_y.height
        self.channels = layout_y.group_channels
        self.activation = activation
        self.out = (layout_maps.height, layout_maps.width)
        self.runs = [
            (own, other, place)
            for group, own, other, place, _ in runs(layout_y, layout_maps)
            if group == k
        ]
        channels = slice(k * self.channels, (k + 1) * self.channels)
        self.scale = _tiled(None if scale is None else scale[n, channels], self.width)
        self.shift = _tiled(None if shift is None else shift[n, channels], self.width)

    def source(self, rows: slice) -> slice:
        """Rows of ``y`` that output rows are made of."""
        if self.activation.pool is None:
            return rows
        (kh, _), (sv, _) = self.activation.pool
        return slice(rows.start * sv, (rows.stop - 1) * sv + kh)

    def shape(self, rows: slice) -> tuple[int, int, int]:
        """Shape of the values that output rows are made of."""
        source = self.source(rows)
        return source.stop - source.start, self.width, self.channels

    def values(self, rows: slice, z: np.ndarray) -> None:
        """The values before pooling that output rows are made of."""
        source = _lines(self.y, self.source(rows), self.width)
        lines = z.reshape(len(z), -1)
        if self.scale is None:
            np.copyto(lines, source)
        else:
            np.multiply(source, self.scale, out=lines)
        if self.shift is not None:
            lines += self.shift
        if self.activation.relu:
            _relu(lines, self.activation.leak)

    def windows(self, z: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """Views of each cell of the windows, in column-major order."""
        (kh, kw), (sv, sh) = self.activation.pool
        width = self.out[1]
        for j in range(kw):
            for i in range(kh):
                yield z[i : i + (count - 1) * sv + 1 : sv, j : j + (width - 1) * sh + 1 : sh]

    def pooled(self, z: np.ndarray, rows: slice, target: np.ndarray) -> None:
        """Pool values and write them to output rows of the maps (G, H, W, C / G)."""
        if self.activation.pool is None:
            best = z
        else:
            count = rows.stop - rows.start
            (kh, kw), (sv, sh) = self.activation.pool
            high = [z[i : i + (count - 1) * sv + 1 : sv] for i in range(kh)]
            # NaN is no maximum: a window without a number gives -inf.
            column = np.fmax(high[0], z.dtype.type(-np.inf))
            for line in high[1:]:
                np.fmax(column, line, out=column)
            width = self.out[1]
            wide = [column[:, j : j + (width - 1) * sh + 1 : sh] for j in range(kw)]
            best = wide[0] if kw == 1 else np.fmax(wide[0], wide[1])
            for line in wide[2:]:
                np.fmax(best, line, out=best)
        for own, other, place in self.runs:
            target[other, rows, :, place] = best[..., own]

    def gathered(self, maps: np.ndarray, rows: slice) -> np.ndarray:
        """Output rows of the maps (G, H, W, C / G) as an array (rows, W', C)."""
        if len(self.runs) == 1:
            ((_, other, place),) = self.runs
            return maps[other, rows, :, place]
        return np.concatenate([maps[other, rows, :, place] for _, other, place in self.runs], 2)

    def der_values(self, maps: np.ndarray, ders: np.ndarray, rows: slice) -> np.ndarray:
        """Derivative by ``z`` at rows of ``y``: a new array (rows, width, C)."""
        if self.activation.pool is None:
            return self.sloped(self.gathered(maps, rows), self.gathered(ders, rows))
        (kh, _), (sv, _) = self.activation.pool
        dz = np.zeros((rows.stop - rows.start, self.width, self.channels), self.y.dtype)
        # Windows that reach into these rows; those that reach beyond them are parted.
        first = max(0, -((kh - 1 - rows.start) // sv))
        last = min(self.out[0] - 1, (rows.stop - 1) // sv)
        if last < first:
            return dz
        windows = slice(first, last + 1)
        best = self.gathered(maps, windows)
        left = self.sloped(best, self.gathered(ders, windows))
        # A window of nothing but NaN and -inf has no winner.
        left[best == -np.inf] = 0
        source = self.source(windows)
        with (
            scratch(self.shape(windows), dz.dtype) as z,
            scratch(self.shape(windows), dz.dtype) as whole,
            scratch(left.shape, dz.dtype) as taken,
        ):
            self.values(windows, z)
            whole[...] = 0
            count = last - first + 1
            for cell, der in zip(self.windows(z, count), self.windows(whole, count)):
                np.equal(cell, best, out=taken)
                taken *= left
                # What a window gave to an earlier cell it gives to no other.
                left -= taken
                der += taken
            start, stop = max(rows.start, source.start), min(rows.stop, source.stop)
            dz[start - rows.start : stop - rows.start] = whole[
                start - source.start : stop - source.start
            ]
        return dz

    def sloped(self, values: np.ndarray, ders: np.ndarray) -> np.ndarray:
        """Derivatives times the slope of the ReLU at its outputs: a new array."""
        if not self.activation.relu:
            return np.array(ders)
        if self.activation.leak == 0:
            return ders * (values > 0)
        return np.where(values > 0, ders, ders * ders.dtype.type(self.activation.leak))


def _relu(z: np.ndarray, leak: float) -> None:
    """ReLU in place."""
    if leak == 0:
        np.maximum(z, 0, out=z)
    else:
        np.multiply(z, z.dtype.type(leak), out=z, where=z <= 0)


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
