"""Convolution of few channels, computed as it is written down.

With channels last, the cells of a kernel row that one output sees are ``taps = kw C`` numbers
next to each other, and filters are a matrix (kh taps, out). Each number is multiplied with its
row of that matrix, for a block of outputs, or of taps, whose sums stay in registers.

In all kernels ``x_row`` is from one row of the input to the next, ``x_down`` and ``x_right`` from
the cells of one output to those of the output below and beside it, ``y_row`` from one row of
outputs to the next. ``height`` and ``width`` count outputs.
"""

from __future__ import annotations

from llvmlite import binding

from ..variants import LANES
from .declare import kernel
from .simd import add, load, load_grid, outer_fma, smaller, store, store_grid, zeros

# Vectors of filters that are taken at a time -> outputs, and taps, that they are multiplied with:
# as many sums as fit into 32 registers of a whole vector, or into fewer or smaller ones.
WIDE = {6: (4, 3), 2: (8, 4), 1: (8, 4)}
NARROW = {1: (6, 6)}


def blocks() -> dict[int, tuple[int, int]]:
    """Those that suit this processor."""
    return WIDE if binding.get_host_cpu_features().get("avx512f") else NARROW


def declare_forward(vectors: int, pixels: int) -> None:
    """Declare the outputs of ``16 vectors`` filters, ``pixels`` at a time."""
    nothing, nothing_for_one = zeros(pixels * vectors), zeros(vectors)
    filters, write = load_grid(1, vectors), store_grid(vectors)

    @kernel(f"direct_forward_{vectors}", "piiipiiipiii")
    def forward(x, x_row, x_down, x_right, w, kernel_rows, taps, out, y, y_row, height, width):
        for h in range(height):
            for block in range(0, width if width >= pixels else 0, pixels):
                # The last block reaches back: some outputs are computed twice.
                p = smaller(block, width - pixels)
                sums = nothing()
                for i in range(kernel_rows):
                    cell = h * x_down + i * x_row + p * x_right
                    row = i * taps * out
                    for t in range(taps):
                        values = filters(w, row + t * out, 0)
                        sums = outer_fma(sums, x, cell + t, x_right, values)
                write(y, h * y_row + p * out, out, sums)
            for p in range(0 if width >= pixels else width):
                single = nothing_for_one()
                for i in range(kernel_rows):
                    cell = h * x_down + i * x_row + p * x_right
                    row = i * taps * out
                    for t in range(taps):
                        single = outer_fma(single, x, cell + t, 0, filters(w, row + t * out, 0))
                write(y, h * y_row + p * out, out, single)


def declare_filters(vectors: int, block: int) -> None:
    """Declare what outputs add to the derivative ``w`` by ``16 vectors`` filters.

    ``block`` taps are computed at a time, and those that are left over one by one.
    """
    sums_of, single_of = load_grid(block, vectors), load_grid(1, vectors)
    write = store_grid(vectors)

    @kernel(f"direct_filters_{vectors}", "piiipiiipiii")
    def filters(
        x, x_row, x_down, x_right, w, kernel_rows, taps, out, der_y, y_row, height, width
    ):  # fmt: skip
        whole = taps - taps % block
        for h in range(height):
            for i in range(kernel_rows):
                for tap in range(0, whole, block):
                    cell = h * x_down + i * x_row + tap
                    place = (i * taps + tap) * out
                    sums = sums_of(w, place, out)
                    for p in range(width):
                        der = single_of(der_y, h * y_row + p * out, 0)
                        sums = outer_fma(sums, x, cell + p * x_right, 1, der)
                    write(w, place, out, sums)
                for tap in range(whole, taps):
                    cell = h * x_down + i * x_row + tap
                    place = (i * taps + tap) * out
                    single = single_of(w, place, 0)
                    for p in range(width):
                        der = single_of(der_y, h * y_row + p * out, 0)
                        single = outer_fma(single, x, cell + p * x_right, 0, der)
                    write(w, place, out, single)


@kernel("direct_inputs", "piiipiiii")
def inputs(x, x_row, x_down, x_right, windows, kernel_rows, taps, height, width):
    """Add windows (height, width, kh, taps) to the cells that they were taken from."""
    whole = taps - taps % LANES
    for h in range(height):
        for p in range(width):
            for i in range(kernel_rows):
                cell = h * x_down + p * x_right + i * x_row
                source = ((h * width + p) * kernel_rows + i) * taps
                for t in range(0, whole, LANES):
                    store(x, cell + t, add(load(x, cell + t), load(windows, source + t)))
                for t in range(whole, taps):
                    x[cell + t] += windows[source + t]


for _vectors, (_pixels, _taps) in blocks().items():
    declare_forward(_vectors, _pixels)
    declare_filters(_vectors, _taps)
