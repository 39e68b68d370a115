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
from .maps import FEW_CHANNELS, MapLayout, plain_layout
from .scratch import scratch

# Bytes of a block's windows: fits the cache next to the product, which still is large enough.
BLOCK_BYTES = 2 << 20
# The same for what is added to the derivative by the input, in calls that are many and short.
DER_BLOCK_BYTES = 4 << 20
# Into how many pieces work is cut for threads that help.
PIECES = 12


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
            self._fill_der(der_y[plane], weights[plane[1]], der_maps[plane])

        parts = share(filters, cut(list(self._blocks(len(maps)))))
        if der_maps is not None:
            share(inputs, [(n, k) for n in range(len(maps)) for k in range(g.groups)])
        part = parts[0]
        for other in parts[1:]:
            part += other
        return part

    def _row_blocks(self, limit: int) -> Iterator[slice]:
        g = self.geometry
        height, width = g.out_size
        row_bytes = g.kernel[0] * g.kernel[1] * g.group_channels * width * self.dtype.itemsize
        step = max(1, limit // row_bytes)
        for first in range(0, height, step):
            yield slice(first, min(first + step, height))

    def _blocks(self, samples: int) -> Iterator[tuple[int, int, slice]]:
        """Sample, group and output rows of every block."""
        for n in range(samples):
            for k in range(self.geometry.groups):
                for rows in self._row_blocks(BLOCK_BYTES):
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

    def _fill_der(self, der_y: np.ndarray, weights: np.ndarray, der_plane: np.ndarray) -> None:
        """Derivative by a plane (rows, columns, C) from that by its outputs (H', W', out).

        What each output gives to the cells of its window is added up with channels first, and
        rows and columns parted by their remainders when divided by the stride: there what all
        windows give by one cell lies side by side, and a line of it is one run of memory however
        few the channels.
        """
        g = self.geometry
        if self._pointwise:
            out = der_plane.reshape(-1, g.group_channels)
            np.matmul(der_y.reshape(-1, g.group_out), weights.T, out=out)
            return
        (kh, kw), (sv, sh), (dv, dh) = g.kernel, g.stride, g.dilate
        channels, width = g.group_channels, g.out_width
        rows, columns = -(-len(der_plane) // sv), -(-der_plane.shape[1] // sh)
        with scratch((channels, sv, sh, rows, columns), self.dtype) as parted:
            parted[...] = 0
            for block in self._row_blocks(DER_BLOCK_BYTES):
                count = block.stop - block.start
                with scratch((kh, kw, channels, count, width), self.dtype) as given:
                    der = der_y[block].reshape(-1, g.group_out)
                    np.matmul(weights, der.T, out=given.reshape(len(weights), -1))
                    for i, j in np.ndindex(kh, kw):
                        (top, a), (left, b) = divmod(i * dv, sv), divmod(j * dh, sh)
                        top += block.start
                        target = parted[:, a, b, top : top + count, left : left + width]
                        target += given[i, j]
            for a, b in np.ndindex(sv, sh):
                target = der_plane[a::sv, b::sh]
                source = parted[:, a, b, : len(target), : target.shape[1]]
                if channels < FEW_CHANNELS:
                    for channel in range(channels):
                        target[..., channel] = source[channel]
                else:
                    target[...] = source.transpose(1, 2, 0)


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
