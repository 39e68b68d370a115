"""Max and average pooling, MatConvNet's ``dagnn.Pooling`` and ``vl_nnpool``.

A window that reaches into the padding is clipped to the input: padding never is a maximum, and
an average divides by the number of cells that are left. Both poolings are separable, so each is
computed down the columns and then along the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import Filter, ShapeError, get_array_module, register_layer

from .kernels import Kernel, choose, register
from .kernels.windows import check_der_y, check_features, output_size, span

METHODS = ("max", "avg")
VERTICAL, HORIZONTAL = 2, 3
NO_PAD = (0, 0, 0, 0)


def _at(axis: int, where: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (where,)


def _resized(x: Any, axis: int, length: int) -> tuple[int, ...]:
    return (*x.shape[:axis], length, *x.shape[axis + 1 :])


def _max_along(
    x: Any, axis: int, size: int, count: int, stride: int, before: int
) -> tuple[Any, Any]:
    """Maxima of ``count`` windows along one axis, and the place of each: 1 to ``size``.

    The first of equal values wins and NaN never does, for only a greater value takes over. In a
    window without any value above -inf nothing wins: the place is 0.
    """
    xp = get_array_module(x)
    shape = _resized(x, axis, count)
    values = xp.full(shape, -np.inf, x.dtype)
    places = xp.zeros(shape, np.min_scalar_type(size))
    for offset in range(size):
        outputs, inputs = span(offset, x.shape[axis], count, stride, before)
        candidate, best = x[_at(axis, inputs)], values[_at(axis, outputs)]
        won = xp.multiply(candidate > best, offset + 1, dtype=places.dtype)
        # Offsets grow, so the later winner has the larger place.
        place = places[_at(axis, outputs)]
        xp.maximum(place, won, out=place)
        xp.fmax(best, candidate, out=best)
    return values, places


def _send_along(
    der: Any, places: Any, axis: int, size: int, length: int, stride: int, before: int
) -> Any:
    """Add each window's derivative to the cell that won; the adjoint of ``_max_along``."""
    xp = get_array_module(der)
    der_x = xp.zeros(_resized(der, axis, length), der.dtype)
    for offset in range(size):
        outputs, inputs = span(offset, length, der.shape[axis], stride, before)
        won = places[_at(axis, outputs)] == offset + 1
        der_x[_at(axis, inputs)] += der[_at(axis, outputs)] * won
    return der_x


def _max_pool(x: Any, pool_size: tuple, stride: tuple, pad: tuple) -> tuple[Any, Any]:
    height, width = output_size(x.shape[2:], pool_size, stride, pad)
    values, rows = _max_along(x, VERTICAL, pool_size[0], height, stride[0], pad[0])
    y, columns = _max_along(values, HORIZONTAL, pool_size[1], width, stride[1], pad[2])
    return y, (rows, columns)


def _max_pool_backward(
    der_y: Any, winners: Any, size: tuple, pool_size: tuple, stride: tuple, pad: tuple
) -> Any:
    rows, columns = winners
    der = _send_along(der_y, columns, HORIZONTAL, pool_size[1], size[1], stride[1], pad[2])
    return _send_along(der, rows, VERTICAL, pool_size[0], size[0], stride[0], pad[0])


register("max_pool", Kernel("separable", _max_pool, _max_pool_backward))


def max_pool(
    x: Any,
    pool_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = NO_PAD,
) -> tuple[Any, Any]:
    """Largest value of each window.

    The derivative goes to one cell of a window: of equal values the first in column-major order
    (the leftmost column, in it the topmost row). NaN is ignored; a window that holds nothing but
    NaN and -inf gives -inf and has no derivative.

    Parameters
    ----------
    x : array (N, C, H, W)
    pool_size, stride : (vertical, horizontal)
    pad : (top, bottom, left, right), each smaller than the window

    Returns
    -------
    y : array (N, C, H', W'), ``H' = floor((H + top + bottom - kh) / sv) + 1``
    winners : any
        For ``max_pool_backward``. The reference keeps two arrays of the smallest unsigned
        integers: the winner of each column of a window (N, C, H', W), and the winning column
        (N, C, H', W').

    Raises
    ------
    ShapeError
        If a window is larger than the padded input.
    """
    _check(x, pool_size, pad)
    return choose("max_pool", x).forward(x, pool_size, stride, pad)


def max_pool_backward(
    der_y: Any,
    winners: Any,
    size: tuple[int, int],
    pool_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = NO_PAD,
) -> Any:
    """Derivative of ``max_pool`` by its input of ``size`` (H, W).

    ``y = x[winner]``, so ``dx`` at a cell is the sum of ``dy`` over the windows that it won.
    """
    _check_der_y(der_y, size, pool_size, stride, pad)
    return choose("max_pool", der_y).backward(der_y, winners, size, pool_size, stride, pad)


def _cells(xp, dtype, size, pool_size, stride, pad, output) -> Any:
    """Number of cells that each window keeps after clipping: an array (H', W')."""

    def along(axis, before):
        starts = xp.arange(output[axis]) * stride[axis] - before
        ends = xp.minimum(starts + pool_size[axis], size[axis])
        return (ends - xp.maximum(starts, 0)).astype(dtype)

    return along(0, pad[0])[:, None] * along(1, pad[2])


def _avg_pool(x: Any, pool_size: tuple, stride: tuple, pad: tuple) -> Any:
    xp = get_array_module(x)
    output = output_size(x.shape[2:], pool_size, stride, pad)
    y = x
    for axis in (VERTICAL, HORIZONTAL):
        k = axis - VERTICAL
        total = xp.zeros(_resized(y, axis, output[k]), x.dtype)
        for offset in range(pool_size[k]):
            outputs, inputs = span(offset, y.shape[axis], output[k], stride[k], pad[2 * k])
            total[_at(axis, outputs)] += y[_at(axis, inputs)]
        y = total
    y /= _cells(xp, x.dtype, x.shape[2:], pool_size, stride, pad, output)
    return y


def _avg_pool_backward(der_y: Any, size: tuple, pool_size: tuple, stride: tuple, pad: tuple) -> Any:
    xp = get_array_module(der_y)
    der = der_y / _cells(xp, der_y.dtype, size, pool_size, stride, pad, der_y.shape[2:])
    for axis in (HORIZONTAL, VERTICAL):
        k = axis - VERTICAL
        spread = xp.zeros(_resized(der, axis, size[k]), der.dtype)
        for offset in range(pool_size[k]):
            outputs, inputs = span(offset, size[k], der.shape[axis], stride[k], pad[2 * k])
            spread[_at(axis, inputs)] += der[_at(axis, outputs)]
        der = spread
    return der


register("avg_pool", Kernel("separable", _avg_pool, _avg_pool_backward))


def avg_pool(
    x: Any,
    pool_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = NO_PAD,
) -> Any:
    """Mean of each window's cells inside the input; arguments and shapes as ``max_pool``'s."""
    _check(x, pool_size, pad)
    return choose("avg_pool", x).forward(x, pool_size, stride, pad)


def avg_pool_backward(
    der_y: Any,
    size: tuple[int, int],
    pool_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = NO_PAD,
) -> Any:
    """Derivative of ``avg_pool`` by its input of ``size`` (H, W).

    Each of a window's ``m`` cells has weight ``1/m`` in it, so ``dx`` at a cell is the sum of
    ``dy / m`` over the windows that it lies in.
    """
    _check_der_y(der_y, size, pool_size, stride, pad)
    return choose("avg_pool", der_y).backward(der_y, size, pool_size, stride, pad)


def _check(x: Any, pool_size: tuple, pad: tuple) -> None:
    check_features(x)
    if max(pad[:2]) >= pool_size[0] or max(pad[2:]) >= pool_size[1]:
        raise ShapeError(
            f"padding {tuple(pad)} must be smaller than the window {tuple(pool_size)}: a window "
            "in the padding alone has no value"
        )


def _check_der_y(der_y: Any, size: tuple, pool_size: tuple, stride: tuple, pad: tuple) -> None:
    check_features(der_y)
    expected = (*der_y.shape[:2], *output_size(size, pool_size, stride, pad))
    check_der_y(der_y, expected)


@register_layer("dagnn.Pooling")
@dataclass(eq=False, kw_only=True)
class Pooling(Filter):
    """Maximum or mean over sliding windows, channel by channel.

    Input: features (N, C, H, W). Output: (N, C, H', W').

    Settings
    --------
    method : 'max' or 'avg'
    pool_size : int or (vertical, horizontal)
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.
    pad, stride : as in ``dagnet.Filter``; padding must be smaller than the window.
    dilate : 1
        MatConvNet's Pooling has the setting and ignores it; here another value is refused.
    """

    backward_uses_inputs: ClassVar[bool] = False

    method: str = "max"
    pool_size: Any = (1, 1)
    opts: tuple = ()

    def __post_init__(self):
        super().__post_init__()
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, received {self.method!r}")
        size = tuple(int(v) for v in np.atleast_1d(self.pool_size))
        if len(size) == 1:
            size *= 2
        if len(size) != 2 or min(size) < 1:
            raise ValueError(
                f"pool_size must be one or two positive integers, received {self.pool_size!r}"
            )
        self.pool_size = size
        if self.dilate != (1, 1):
            raise ValueError(
                f"pooling has no dilation (MatConvNet ignores it), received {self.dilate}; use 1"
            )

    def _place(self):
        return {"stride": self.stride, "pad": self.pad}

    def forward(self, inputs, params, context):
        x = inputs[0]
        if self.method == "avg":
            return [avg_pool(x, self.pool_size, **self._place())], (x.shape[2:], None)
        y, winners = max_pool(x, self.pool_size, **self._place())
        return [y], (x.shape[2:], winners)

    def backward(self, inputs, params, der_outputs, saved, context):
        (der_y,) = der_outputs
        size, winners = saved
        if self.method == "avg":
            return [avg_pool_backward(der_y, size, self.pool_size, **self._place())], []
        return [max_pool_backward(der_y, winners, size, self.pool_size, **self._place())], []

    def get_kernel_size(self):
        return self.pool_size
