"""One sample and group of a convolution's output on its way through a stage's activation.

Work is done on blocks of rows that stay in a core's cache. A pooling window's cells of one column
offset ``j`` are every ``stride``-th cell of a row; with the columns parted by their remainder (a
*phase* each), those cells of all windows of a row are one run of memory, and every pass over them
is as fast as over a plain array.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .maps import MapLayout, runs
from .scratch import scratch

if TYPE_CHECKING:
    from .activation import Activation


@dataclass(frozen=True)
class Phase:
    """Columns ``first, first + step, ...``, so many of them, of a plane."""

    first: int
    step: int
    count: int

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + (self.count - 1) * self.step + 1, self.step)


def lines_of(plane: np.ndarray, rows: slice, width: int) -> np.ndarray:
    """The first cells of rows of a plane (rows, columns, C) as a view (rows, width C)."""
    part = plane[rows]
    return part.reshape(len(part), -1)[:, : width * plane.shape[2]]


def phases_of(activation: Activation, width: int, out_width: int) -> list[Phase]:
    """The phases of columns that pooling looks at; one if there is no pooling."""
    if activation.pool is None:
        return [Phase(0, 1, width)]
    (_, kw), (_, sh) = activation.pool
    return [Phase(f, sh, out_width + (kw - 1 - f) // sh) for f in range(min(sh, kw))]


class Plane:
    """The channels of one group of ``y``, and where they go in the maps.

    Arrays of *phased* values are lists of arrays (rows, columns of the phase, C).
    """

    def __init__(
        self,
        y: np.ndarray,
        layout_y: MapLayout,
        layout_maps: MapLayout,
        activation: Activation,
        place: tuple[int, int],
        scale: np.ndarray | None = None,
        shift: np.ndarray | None = None,
    ):
        n, k = place
        self.y = y[n, k]
        self.width = layout_y.width
        self.channels = layout_y.group_channels
        self.activation = activation
        self.out_height, self.out_width = layout_maps.height, layout_maps.width
        self.phases = phases_of(activation, self.width, self.out_width)
        self.runs = [
            (own, other, channels)
            for group, own, other, channels, _ in runs(layout_y, layout_maps)
            if group == k
        ]
        own = slice(k * self.channels, (k + 1) * self.channels)
        # Once for each cell of a line, so that whole lines are one inner loop.
        widest = max(phase.count for phase in self.phases)
        self.scales = None if scale is None else np.tile(scale[n, own], widest)
        self.shifts = None if shift is None else np.tile(shift[n, own], widest)
        self.zeros = np.zeros(widest * self.channels, y.dtype)

    def source(self, rows: slice) -> slice:
        """Rows of ``y`` that output rows are made of."""
        if self.activation.pool is None:
            return rows
        (kh, _), (sv, _) = self.activation.pool
        return slice(rows.start * sv, (rows.stop - 1) * sv + kh)

    @contextmanager
    def phased(self, count: int) -> Iterator[list[np.ndarray]]:
        """Borrow memory for ``count`` rows of phased values."""
        sizes = [count * phase.count * self.channels for phase in self.phases]
        ends = np.cumsum([0, *sizes])
        with scratch((int(ends[-1]),), self.y.dtype) as flat:
            yield [
                flat[start:end].reshape(count, phase.count, self.channels)
                for phase, start, end in zip(self.phases, ends, ends[1:])
            ]

    @contextmanager
    def borrow(self, rows: slice, dtype: Any = None) -> Iterator[np.ndarray]:
        """Borrow memory for output rows, of the dtype of ``y`` unless another is asked for."""
        shape = (rows.stop - rows.start, self.out_width, self.channels)
        with scratch(shape, dtype or self.y.dtype) as array:
            yield array

    def values(self, rows: slice, z: list[np.ndarray]) -> None:
        """The values before pooling that output rows are made of."""
        source = self.source(rows)
        for phase, part in zip(self.phases, z):
            # Passes over long lines are fast; only the first has runs as short as a cell.
            lines = part.reshape(len(part), -1)
            length = lines.shape[1]
            np.copyto(part, self.y[source, phase.columns])
            if self.scales is not None:
                lines *= self.scales[:length]
            if self.shifts is not None:
                lines += self.shifts[:length]
            if self.activation.relu:
                self._relu(lines)

    def _relu(self, lines: np.ndarray) -> None:
        """ReLU in place; NaN stays NaN."""
        if self.activation.leak == 0:
            # With a vector of zeros NumPy is three times as fast as with the number.
            np.maximum(lines, self.zeros[: lines.shape[1]], out=lines)
        else:
            leak = lines.dtype.type(self.activation.leak)
            np.multiply(lines, leak, out=lines, where=lines <= 0)

    def cells(self, z: list[np.ndarray], count: int) -> Iterator[np.ndarray]:
        """Views (count, W', C) of each cell of the windows, in column-major order."""
        (kh, kw), (sv, sh) = self.activation.pool
        for j in range(kw):
            first = j // sh
            for i in range(kh):
                lines = z[j % sh][i : i + (count - 1) * sv + 1 : sv]
                yield lines[:, first : first + self.out_width]

    def write(self, rows: slice, target: np.ndarray) -> None:
        """Compute output rows and write them to those of the maps (G, H', W', C / G)."""
        source = self.source(rows)
        count = rows.stop - rows.start
        with self.phased(source.stop - source.start) as z:
            self.values(rows, z)
            if self.activation.pool is None:
                self._part(z[0], rows, target)
                return
            (kh, kw), (sv, sh) = self.activation.pool
            with self.phased(count) as tall, self.borrow(rows) as best:
                for part, column in zip(z, tall):
                    highest([part[i : i + (count - 1) * sv + 1 : sv] for i in range(kh)], column)
                offsets = [(j % sh, j // sh) for j in range(kw)]
                highest([tall[f][:, j : j + self.out_width] for f, j in offsets], best)
                # NaN is no maximum: a window without a number gives -inf.
                np.fmax(best, best.dtype.type(-np.inf), out=best)
                self._part(best, rows, target)

    def _part(self, values: np.ndarray, rows: slice, target: np.ndarray) -> None:
        for own, other, place in self.runs:
            target[other, rows, :, place] = values[..., own]

    def gather(self, maps: np.ndarray, rows: slice, out: np.ndarray) -> None:
        """Output rows of the maps (G, H', W', C / G)."""
        for own, other, place in self.runs:
            out[..., own] = maps[other, rows, :, place]

    @contextmanager
    def der_values(
        self, maps: np.ndarray, ders: np.ndarray, rows: slice
    ) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Derivative by ``z`` at rows of ``y``.

        Gives the rows that any window reaches, and phased derivatives there; elsewhere they are
        zero.
        """
        windows = self._windows(rows)
        if windows.stop <= windows.start:
            yield slice(rows.start, rows.start), []
            return
        with self.borrow(windows) as best, self.borrow(windows) as left:
            self.gather(maps, windows, best)
            self.gather(ders, windows, left)
            with self.borrow(windows, np.bool_) as mask:
                self._slope(best, left, mask)
                if self.activation.pool is None:
                    yield rows, [left]
                    return
                source = self.source(windows)
                height = source.stop - source.start
                with self.phased(height) as z, self.phased(height) as der:
                    self.values(windows, z)
                    with self.borrow(windows) as taken:
                        self._send(z, best, left, taken, mask, der)
                    start, stop = max(rows.start, source.start), min(rows.stop, source.stop)
                    here = slice(start - source.start, stop - source.start)
                    yield slice(start, stop), [part[here] for part in der]

    def _windows(self, rows: slice) -> slice:
        """Output rows whose windows reach into rows of ``y``."""
        if self.activation.pool is None:
            return rows
        (kh, _), (sv, _) = self.activation.pool
        first = max(0, -((kh - 1 - rows.start) // sv))
        return slice(first, min(self.out_height, (rows.stop - 1) // sv + 1))

    def _slope(self, values: np.ndarray, ders: np.ndarray, mask: np.ndarray) -> None:
        """Multiply derivatives by the slope of the ReLU at its outputs, in place."""
        if not self.activation.relu:
            return
        np.greater(values, 0, out=mask)
        if self.activation.leak == 0:
            ders *= mask
        else:
            np.logical_not(mask, out=mask)
            np.multiply(ders, ders.dtype.type(self.activation.leak), out=ders, where=mask)

    def _send(
        self,
        z: list[np.ndarray],
        best: np.ndarray,
        left: np.ndarray,
        taken: np.ndarray,
        mask: np.ndarray,
        der: list[np.ndarray],
    ) -> None:
        """Give each window's derivative to the first cell that has its maximum."""
        (kh, kw), (sv, sh) = self.activation.pool
        count = len(best)
        # Windows meet in all cells but those that come first in their row and column: into these
        # the first derivative is written, and only what is left needs zeros.
        for part in der:
            part[0 if kh < sv else count * sv :] = 0
            part[:, self.out_width :] = 0
        # A window of nothing but NaN and -inf has no winner.
        np.greater(best, -np.inf, out=mask)
        left *= mask
        for (j, i), cell, target in zip(
            np.ndindex(kw, kh), self.cells(z, count), self.cells(der, count)
        ):
            first = i < sv and j < sh
            if (j, i) == (kw - 1, kh - 1):
                # Who did not win before has won here.
                np.copyto(target, left) if first else np.add(target, left, out=target)
                return
            np.equal(cell, best, out=mask)
            np.multiply(left, mask, out=target if first else taken)
            # What a window gave to one cell it gives to no other.
            left -= target if first else taken
            if not first:
                target += taken


def highest(parts: list[np.ndarray], out: np.ndarray) -> None:
    """The greatest of arrays, element by element; NaN only where all are."""
    if len(parts) == 1:
        np.copyto(out, parts[0])
        return
    np.fmax(parts[0], parts[1], out=out)
    for part in parts[2:]:
        np.fmax(out, part, out=out)
