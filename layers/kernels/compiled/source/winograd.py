"""Winograd's transformations: ``Y = T X T'`` for every tile and channel.

Those of ``layers.kernels.winograd`` (of inputs, products and filters, and their adjoints) are one
kernel with other matrices and strides. Filters are tiles too: one for each input channel, with the
filters of a group as its channels.
"""

from __future__ import annotations

from ...winograd import POINTS, TILE, cook_toom
from ..variants import LANES
from .declare import kernel
from .simd import add_many, linear_map, load_many, smaller, stack, store_many


def declare_transformation(name: str, matrix: list[list[float]], add: bool) -> None:
    """Declare ``Y = T X T'`` with ``T = matrix``, or with ``add`` ``Y += T X T'``.

    The kernel takes, for ``X`` and then for ``Y``: the first number; steps from one cell of a
    tile to the one below and to the one beside it; steps from one tile to the one below and to
    the one beside it. Then how many tiles there are below and beside one another, and how many
    channels, a multiple of 16 that lie next to each other. With ``add`` tiles may overlap.
    """
    outputs, inputs = len(matrix), len(matrix[0])
    apply, load_line, write = linear_map(matrix), load_many(inputs), add_many if add else store_many
    # Half transformed, row by row.
    half, line = stack(outputs * inputs), inputs * LANES

    @kernel(name, "piiiipiiiiiii")
    def transform(
        x,
        x_below,
        x_beside,
        x_tile_below,
        x_tile_beside,
        y,
        y_below,
        y_beside,
        y_tile_below,
        y_tile_beside,
        tile_rows,
        tile_columns,
        channels,
    ):
        middle = half()
        for row in range(tile_rows):
            for column in range(tile_columns):
                source = row * x_tile_below + column * x_tile_beside
                target = row * y_tile_below + column * y_tile_beside
                for c in range(0, channels, LANES):
                    for j in range(inputs):
                        values = load_line(x, source + c + j * x_beside, x_below)
                        store_many(middle, j * LANES, line, apply(values))
                    for i in range(outputs):
                        values = apply(load_line(middle, i * line, LANES))
                        write(y, target + c + i * y_below, y_beside, values)


@kernel("transpose", "piipiiiii")
def transpose(x, x_next, x_row, y, y_next, y_row, count, rows, columns):
    """Transpose ``count`` matrices of ``rows x columns``, block by block.

    A block of both fits the first cache, so that a line of it is fetched once.
    """
    for k in range(count):
        for first_row in range(0, rows, LANES):
            for first_column in range(0, columns, LANES):
                last_row = smaller(first_row + LANES, rows)
                last_column = smaller(first_column + LANES, columns)
                for column in range(first_column, last_column):
                    for row in range(first_row, last_row):
                        value = x[k * x_next + row * x_row + column]
                        y[k * y_next + column * y_row + row] = value


def _transposed(matrix: list[list]) -> list[list]:
    return [list(column) for column in zip(*matrix)]


for _side, _points in POINTS.items():
    _a_t, _g, _b_t = cook_toom(TILE, _side, _points)
    declare_transformation(f"winograd_filters_{_side}", _g, add=False)
    declare_transformation(f"winograd_der_filters_{_side}", _transposed(_g), add=False)
    declare_transformation(f"winograd_inputs_{_side}", _b_t, add=False)
    declare_transformation(f"winograd_products_{_side}", _a_t, add=False)
    declare_transformation(f"winograd_der_outputs_{_side}", _transposed(_a_t), add=False)
    declare_transformation(f"winograd_der_inputs_{_side}", _transposed(_b_t), add=True)
