"""Convolution as a matrix product: the windows of the input become columns (MatConvNet's im2row).

With ``F`` the filters as a matrix (out, in * kh * kw) and ``X`` the columns (in * kh * kw,
positions), ``Y = F X``; so ``dF = dY X'`` and ``dX = F' dY``, whose columns add up where windows
overlap. Filter groups are independent products. The columns are built again in backward, not
kept, and only for a block of samples or of output rows at a time.

Measured on one core at SiamFC's sizes against products of shifted inputs (one for each cell of
the kernel, with and without a copy) and against columns of a single kernel row: the full columns
are the fastest forward and backward in every layer but one, where they are equal. They cost 5 to
20 % beside the product. With few filters the product is small beside them:
``layers.kernels.conv_lines`` is faster then, on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from dagnet import get_array_module

from . import conv_lines
from .products import matmul
from .registry import Kernel, register
from .windows import output_size

# Columns of 8 MiB stay in a CPU's last cache and are large enough for the product; smaller
# blocks pack the filters too often, larger ones wait for memory. A GPU wants few, large calls.
CPU_COLUMN_BYTES = 8 << 20
GPU_COLUMN_BYTES = 256 << 20


def _steps(total: int, most: int) -> Iterator[slice]:
    """Cut ``range(total)`` into equal parts of at most ``most``."""
    parts = -(-total // most)
    step = -(-total // parts)
    for first in range(0, total, step):
        yield slice(first, min(first + step, total))


def _blocks(samples: int, rows: int, row_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Blocks (samples, output rows) whose columns take at most ``limit`` bytes, or one row."""
    rows_at_once = max(1, limit // row_bytes)
    for block in _steps(samples, max(1, rows_at_once // rows)):
        for part in _steps(rows, rows_at_once):
            yield block, part


def _windows(x: Any, size: tuple, filters: Any, stride: tuple, dilate: tuple) -> Any:
    """View ``v[c, i, j, n, p, q]``: cell (i, j) of the window at output position (p, q)."""
    xp = get_array_module(x)
    sn, sc, sh, sw = x.strides
    return xp.lib.stride_tricks.as_strided(
        x,
        (x.shape[1], *filters.shape[2:], x.shape[0], *size),
        (sc, sh * dilate[0], sw * dilate[1], sn, sh * stride[0], sw * stride[1]),
    )


def _padded(x: Any, pad: tuple) -> Any:
    top, bottom, left, right = pad
    if not any(pad):
        return x
    return get_array_module(x).pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))


def _unpadded(x: Any, pad: tuple, size: tuple[int, int]) -> Any:
    """What is left of a padded array, or None, without its padding."""
    if x is None or not any(pad):
        return x
    top, _, left, _ = pad
    inner = x[:, :, top : top + size[0], left : left + size[1]]
    return get_array_module(x).ascontiguousarray(inner)


def _size(x: Any, filters: Any, stride: tuple, pad: tuple, dilate: tuple) -> tuple[int, int]:
    extent = tuple((k - 1) * d + 1 for k, d in zip(filters.shape[2:], dilate))
    return output_size(x.shape[2:], extent, stride, pad)


def _is_pointwise(filters: Any, stride: tuple, pad: tuple) -> bool:
    """Whether the columns would be the input itself."""
    return filters.shape[2:] == (1, 1) and stride == (1, 1) and not any(pad)


def conv_im2row(
    x: Any,
    filters: Any,
    bias: Any,
    stride: tuple[int, int],
    pad: tuple[int, int, int, int],
    dilate: tuple[int, int],
    *,
    column_bytes: int,
    lines: bool = False,
) -> Any:
    """The output of ``layers.conv.conv``, whose arguments these are (``bias`` may be None).

    ``lines`` allows ``conv_lines`` in place of columns where that suits.
    """
    xp = get_array_module(x)
    n, c = x.shape[:2]
    out = filters.shape[0]
    groups = c // filters.shape[1]
    height, width = _size(x, filters, stride, pad, dilate)
    matrix = filters.reshape(groups, out // groups, -1)
    if bias is not None:
        bias = bias.reshape(groups, out // groups, 1)
    if _is_pointwise(filters, stride, pad):
        y = matmul(matrix, x.reshape(n, groups, c // groups, height * width))
        if bias is not None:
            y += bias
        return y.reshape(n, out, height, width)
    if lines and conv_lines.suits(x, filters):
        y = conv_lines.forward(_padded(x, pad), filters, (height, width), stride, dilate)
        if bias is not None:
            y += bias.reshape(out, 1, 1)
        return y
    y = xp.empty((n, out, height, width), x.dtype)
    windows = _windows(_padded(x, pad), (height, width), filters, stride, dilate)
    row_bytes = c * filters[0, 0].size * width * x.dtype.itemsize
    for samples, rows in _blocks(n, height, row_bytes, column_bytes):
        columns = windows[:, :, :, samples, rows].reshape(groups, matrix.shape[2], -1)
        product = matmul(matrix, columns)
        if bias is not None:
            product += bias
        block = y[samples, :, rows]
        block[...] = product.reshape(out, len(block), -1, width).transpose(1, 0, 2, 3)
    return y


def conv_im2row_backward(
    x: Any,
    filters: Any,
    der_y: Any,
    stride: tuple[int, int],
    pad: tuple[int, int, int, int],
    dilate: tuple[int, int],
    *,
    needs_x: bool,
    column_bytes: int,
    lines: bool = False,
) -> tuple[Any, Any]:
    """Derivatives by input (None unless ``needs_x``) and filters; ``lines`` as forward."""
    xp = get_array_module(x)
    n, c, h, w = x.shape
    out = filters.shape[0]
    groups = c // filters.shape[1]
    height, width = _size(x, filters, stride, pad, dilate)
    matrix = filters.reshape(groups, out // groups, -1)
    transposed = matrix.transpose(0, 2, 1)
    if _is_pointwise(filters, stride, pad):
        der = der_y.reshape(n, groups, out // groups, height * width)
        columns = x.reshape(n, groups, c // groups, height * width)
        der_filters = matmul(der, columns.transpose(0, 1, 3, 2)).sum(axis=0)
        der_x = matmul(transposed, der).reshape(x.shape) if needs_x else None
        return der_x, der_filters.reshape(filters.shape)
    padded = _padded(x, pad)
    if lines and conv_lines.suits(x, filters):
        der_padded, der_filters = conv_lines.backward(
            padded, filters, der_y, stride, dilate, needs_x
        )
        return _unpadded(der_padded, pad, (h, w)), der_filters
    windows = _windows(padded, (height, width), filters, stride, dilate)
    der_padded = xp.zeros(padded.shape, x.dtype) if needs_x else None
    der_matrix = None
    row_bytes = c * filters[0, 0].size * width * x.dtype.itemsize
    for samples, rows in _blocks(n, height, row_bytes, column_bytes):
        block = der_y[samples, :, rows].transpose(1, 0, 2, 3)
        der = block.reshape(groups, out // groups, -1)
        columns = windows[:, :, :, samples, rows].reshape(groups, matrix.shape[2], -1)
        part = matmul(der, columns.transpose(0, 2, 1))
        der_matrix = part if der_matrix is None else xp.add(der_matrix, part, out=der_matrix)
        if needs_x:
            der_columns = matmul(transposed, der)
            der_columns = der_columns.reshape(c, *filters.shape[2:], *block.shape[1:])
            _add_windows(der_padded[samples], der_columns, rows, stride, dilate)
    return _unpadded(der_padded, pad, (h, w)), der_matrix.reshape(filters.shape)


def _add_windows(x: Any, columns: Any, rows: slice, stride: tuple, dilate: tuple) -> None:
    """Add columns (C, kh, kw, N, p, q), of the output rows ``rows``, where their cells lie."""
    _, kh, kw, _, height, width = columns.shape
    for i in range(kh):
        top = rows.start * stride[0] + i * dilate[0]
        vertical = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
        for j in range(kw):
            left = j * dilate[1]
            horizontal = slice(left, left + (width - 1) * stride[1] + 1, stride[1])
            x[:, :, vertical, horizontal] += columns[:, i, j].transpose(1, 0, 2, 3)


for _backend, _bytes in (("numpy", CPU_COLUMN_BYTES), ("cupy", GPU_COLUMN_BYTES)):
    register(
        "conv",
        Kernel(
            name=f"im2row_{_backend}",
            forward=partial(conv_im2row, column_bytes=_bytes, lines=_backend == "numpy"),
            backward=partial(conv_im2row_backward, column_bytes=_bytes, lines=_backend == "numpy"),
            backend=_backend,
        ),
    )
