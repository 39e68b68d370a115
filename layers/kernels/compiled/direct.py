"""Convolution of few channels with compiled kernels."""

from __future__ import annotations

import numpy as np

from dagnet import share

from ..geometry import ConvGeometry
from ..rows import RowsConv, cut
from ..scratch import scratch
from .arrays import address, check, fits_lanes, require
from .machine_code import kernels
from .variants import LANES

# A kernel row with more numbers than this is better multiplied as a matrix.
MOST_TAPS = 128


class DirectConv(RowsConv):
    """Convolution of few channels, with filters in multiples of 16, in single precision.

    The outputs and the derivative by filters are sums in registers, without a matrix of windows.
    The derivative by the input is ``RowsConv``'s product, its rows added up by a kernel.
    """

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype):
        require(self, geometry, dtype)
        super().__init__(geometry, dtype)
        self._kernels = vars(kernels())
        # Kernels take as many vectors of filters at a time as suit the processor.
        prefix = "direct_forward_"
        counts = [name.removeprefix(prefix) for name in self._kernels if name.startswith(prefix)]
        self._vectors = sorted(map(int, counts), reverse=True)
        self._taps = geometry.kernel[1] * geometry.group_channels
        width = self.input_layout.columns * geometry.group_channels
        # Steps in the input from row to row, and from one output's cells to those of the outputs
        # below and beside it.
        self._steps = (
            *(width, geometry.stride[0] * width),
            geometry.stride[1] * geometry.group_channels,
        )

    @staticmethod
    def takes(geometry: ConvGeometry, dtype: np.dtype) -> bool:
        """Whether the kernel computes this convolution, and well."""
        single = np.dtype(dtype) == np.float32 and fits_lanes(geometry.group_out)
        few = geometry.kernel[1] * geometry.group_channels <= MOST_TAPS
        return single and few and geometry.dilate == (1, 1) and geometry.kernel != (1, 1)

    def forward(self, maps, weights, y):
        check(maps, self.input_layout, len(maps), "maps")
        check(y, self.output_layout, len(maps), "y")

        def run(blocks):
            for n, k, rows in blocks:
                for first, vectors in self._filter_blocks():
                    self._kernels[f"direct_forward_{vectors}"](
                        *(self._input(maps, n, k, rows), *self._steps),
                        *(address(weights[k, 0, first:]), *self._filters()),
                        *self._output(y, n, k, rows, first),
                    )

        share(run, cut(list(self._blocks(len(maps)))))

    def backward(self, maps, weights, der_y, der_maps):
        """See ``RowsConv``."""
        check(maps, self.input_layout, len(maps), "maps")
        check(der_y, self.output_layout, len(maps), "der_y")
        if der_maps is not None:
            check(der_maps, self.input_layout, len(maps), "der_maps")

        def run(blocks):
            total, lines = np.zeros(weights.shape, self.dtype), []
            for block in blocks:
                self._add_filters(total, maps, der_y, *block)
                if der_maps is not None:
                    lines.append((*block, self._der_lines(weights, der_y, *block)))
            return total, lines

        results = share(run, cut(list(self._blocks(len(maps)))))
        part = results[0][0]
        for total, _ in results[1:]:
            part += total
        if der_maps is not None:
            der_maps[...] = 0
            for _, lines in results:
                for n, k, rows, der in lines:
                    top = rows.start * self.geometry.stride[0]
                    der_maps[n, k, top : top + len(der)] += der
        return part

    def _add_filters(
        self, total: np.ndarray, maps: np.ndarray, der_y: np.ndarray, n: int, k: int, rows: slice
    ) -> None:
        """Add what some rows of outputs give to the derivative by filters."""
        for first, vectors in self._filter_blocks():
            self._kernels[f"direct_filters_{vectors}"](
                *(self._input(maps, n, k, rows), *self._steps),
                *(address(total[k, 0, first:]), *self._filters()),
                *self._output(der_y, n, k, rows, first),
            )

    def _der_lines(
        self, weights: np.ndarray, der_y: np.ndarray, n: int, k: int, rows: slice
    ) -> np.ndarray:
        """Derivative by the lines of the input that some rows of outputs see: a new array."""
        g = self.geometry
        count = rows.stop - rows.start
        shape = ((count - 1) * g.stride[0] + g.kernel[0], *self.input_layout.shape(1)[3:])
        lines = np.zeros(shape, self.dtype)
        with scratch((count * g.out_width, len(weights[k])), self.dtype) as windows:
            np.matmul(der_y[n, k, rows].reshape(-1, g.group_out), weights[k].T, out=windows)
            self._kernels["direct_inputs"](
                *(address(lines), *self._steps, address(windows)),
                *(g.kernel[0], self._taps, count, g.out_width),
            )
        return lines

    def _filter_blocks(self) -> list[tuple[int, int]]:
        """First filter, and number of vectors, of blocks of a group's filters."""
        blocks, first = [], 0
        while first < self.geometry.group_out:
            left = (self.geometry.group_out - first) // LANES
            vectors = next(count for count in self._vectors if count <= left)
            blocks.append((first, vectors))
            first += vectors * LANES
        return blocks

    def _filters(self) -> tuple[int, int, int]:
        """Rows of a filter, taps in each, and the step from one tap's filters to the next's."""
        return self.geometry.kernel[0], self._taps, self.geometry.group_out

    def _input(self, maps: np.ndarray, n: int, k: int, rows: slice) -> int:
        return address(maps[n, k, rows.start * self.geometry.stride[0] :])

    def _output(self, y: np.ndarray, n: int, k: int, rows: slice, first: int) -> tuple[int, ...]:
        """Address of some rows' first number, step from row to row, height and width."""
        width = self.geometry.out_width
        start = address(y[n, k, rows, 0, first:])
        return start, width * self.geometry.group_out, rows.stop - rows.start, width
