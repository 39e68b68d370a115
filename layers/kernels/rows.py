"""Convolution by products of its windows, for every size, stride, padding and dilation.

The windows of a block of output rows are laid out as the rows of a matrix (MatConvNet's im2row;
here with channels last, so that a kernel row's cells are one run of memory). With ``X`` these
rows (positions, kh kw C) and ``F`` the filters (kh kw C, out): ``Y = X F``, so ``dF = X' dY`` and
``dX = dY F'``, whose rows add up where windows overlap. Groups are independent products. A block
is as large as stays in a core's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from dagnet import share

from .conv_kernel import ConvKernel
from .geometry import ConvGeometry
from .maps import MapLayout, plain_layout
from .scratch import scratch

# Bytes of a block's windows: fits the cache next to the product, which still is large enough.
BLOCK_BYTES = 1 << 20
# Into how many pieces work is cut for threads that help.
PIECES = 8


def cut(work: Sequence, pieces: int = PIECES) -> list[Sequence]:
    """Cut a list into at most so many pieces of nearly equal length, in order."""
    count = min(pieces, len(work))
    ends = [len(work) * k // count for k in range(count + 1)] if count else [0]
    return [work[start:end] for start, end in pairwise(ends)]


class RowsConv(ConvKernel):
    """Convolution as products of blocks of windows; any geometry, float32 and float64."""

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype):
        g = geometry
        self.geometry = g
        self.dtype = np.dtype(dtype)
        self.input_layout = MapLayout(
            g.channels, g.groups, *g.padded, g.pad[0], g.pad[2], g.height, g.width
        )
        self.output_layout = plain_layout(g.out, g.groups, *g.out_size)
        # The windows of a pointwise convolution are the input as it lies.
        self._pointwise = g.kernel == (1, 1) and g.stride == (1, 1) and not any(g.pad)

    def prepare(self, filters: np.ndarray) -> np.ndarray:
        """Filters as matrices (G, kh kw C / G, out / G)."""
        g = self.geometry
        by_group = filters.reshape(g.groups, g.group_out, g.group_channels, *g.kernel)
        matrix = by_group.transpose(0, 3, 4, 2, 1).reshape(g.groups, -1, g.group_out)
        return np.ascontiguousarray(matrix, self.dtype)

    def finish(self, part: np.ndarray) -> np.ndarray:
        g = self.geometry
        by_group = part.reshape(g.groups, *g.kernel, g.group_channels, g.group_out)
        filters = by_group.transpose(0, 4, 3, 1, 2)
        return np.ascontiguousarray(filters).reshape(g.out, g.group_channels, *g.kernel)

    def forward(self, maps: np.ndarray, weights: np.ndarray, y: np.ndarray) -> None:
        def run(blocks):
            for n, k, rows in blocks:
                target = y[n, k, rows].reshape(-1, self.geometry.group_out)
                with self._rows(maps[n, k], rows) as matrix:
                    np.matmul(matrix, weights[k], out=target)

        share(run, cut(list(self._blocks(len(maps)))))

    def backward(self, maps, weights, der_y, der_maps):
        """See ``ConvKernel.backward``; the formulas stand at the top of this file."""
        g = self.geometry

        def filters(blocks):
            total = np.zeros(weights.shape, self.dtype)
            for n, k, rows in blocks:
                der = der_y[n, k, rows].reshape(-1, g.group_out)
                with self._rows(maps[n, k], rows) as matrix:
                    total[k] += matrix.T @ der
            return total

        def inputs(plane):
            n, k = plane
            der_maps[n, k] = 0
            for rows in self._row_blocks():
                self._add_rows(der_y[n, k], weights[k], der_maps[n, k], rows)

        parts = share(filters, cut(list(self._blocks(len(maps)))))
        if der_maps is not None:
            share(inputs, [(n, k) for n in range(len(maps)) for k in range(g.groups)])
        part = parts[0]
        for other in parts[1:]:
            part += other
        return part

    def _row_blocks(self) -> Iterator[slice]:
        g = self.geometry
        height, width = g.out_size
        row_bytes = g.kernel[0] * g.kernel[1] * g.group_channels * width * self.dtype.itemsize
        step = max(1, BLOCK_BYTES // row_bytes)
        for first in range(0, height, step):
            yield slice(first, min(first + step, height))

    def _blocks(self, samples: int) -> Iterator[tuple[int, int, slice]]:
        """Sample, group and output rows of every block."""
        for n in range(samples):
            for k in range(self.geometry.groups):
                for rows in self._row_blocks():
                    yield n, k, rows

    def _rows(self, plane: np.ndarray, rows: slice):
        """Context: the windows of output rows of a plane (rows, columns, C) as a matrix."""
        g = self.geometry
        if self._pointwise:
            return _Lent(plane[rows].reshape(-1, g.group_channels))
        return _Windows(self._windows(plane, rows), self.dtype)

    def _windows(self, plane: np.ndarray, rows: slice) -> np.ndarray:
        """View (p, q, kh, kw, C) of the windows at output rows ``rows``."""
        g = self.geometry
        sy, sx, sc = plane.strides
        return np.lib.stride_tricks.as_strided(
            plane[rows.start * g.stride[0] :],
            (rows.stop - rows.start, g.out_width, *g.kernel, g.group_channels),
            (sy * g.stride[0], sx * g.stride[1], sy * g.dilate[0], sx * g.dilate[1], sc),
        )

    def _add_rows(
        self, der_y: np.ndarray, weights: np.ndarray, der_plane: np.ndarray, rows: slice
    ) -> None:
        """Add what output rows ``rows`` give to the derivative by a plane (rows, columns, C)."""
        g = self.geometry
        der = der_y[rows].reshape(-1, g.group_out)
        if self._pointwise:
            np.matmul(der, weights.T, out=der_plane[rows].reshape(-1, g.group_channels))
            return
        (kh, kw), (sv, sh), (dv, dh) = g.kernel, g.stride, g.dilate
        count, width = rows.stop - rows.start, g.out_width
        # Windows this far apart do not meet, so those of every such distance are added at once.
        apart = -(-kw // sh) if dh == 1 else width
        with scratch((len(der), len(weights)), self.dtype) as matrix:
            np.matmul(der, weights.T, out=matrix)
            windows = matrix.reshape(count, width, kh, kw, g.group_channels)
            for i in range(kh):
                first = rows.start * sv + i * dv
                lines = der_plane[first : first + (count - 1) * sv + 1 : sv]
                if dh == 1:
                    for j in range(min(apart, width)):
                        _add_runs(lines[:, j * sh :], windows[:, j::apart, i], apart * sh)
                    continue
                for j in range(kw):
                    left = j * dh
                    lines[:, left : left + (width - 1) * sh + 1 : sh] += windows[:, :, i, j]


def _add_runs(lines: np.ndarray, windows: np.ndarray, step: int) -> None:
    """Add windows (p, q, kw, C) to lines (p, columns, C), each ``step`` cells after the last."""
    count, places, kw, channels = windows.shape
    sy, sx, sc = lines.strides
    target = np.lib.stride_tricks.as_strided(
        lines, (count, places, kw * channels), (sy, sx * step, sc)
    )
    target += windows.reshape(count, places, kw * channels)


class _Lent:
    """A matrix that exists, as a context."""

    def __init__(self, matrix: np.ndarray):
        self._matrix = matrix

    def __enter__(self) -> np.ndarray:
        return self._matrix

    def __exit__(self, *error) -> None:
        pass


class _Windows:
    """Windows (p, q, kh, kw, C) copied into borrowed memory, as a matrix (p q, kh kw C)."""

    def __init__(self, windows: np.ndarray, dtype: np.dtype):
        self._windows = windows
        self._memory = scratch(windows.shape, dtype)

    def __enter__(self) -> np.ndarray:
        copy = self._memory.__enter__()
        np.copyto(copy, self._windows)
        p, q = copy.shape[:2]
        return copy.reshape(p * q, -1)

    def __exit__(self, *error) -> None:
        self._memory.__exit__(*error)
