"""Scale: multipliers and biases that broadcast, MatConvNet's ``dagnn.Scale``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import POINT, Layer, ShapeError, Size, register_layer

from .kernels.windows import check_features


def scale(x: Any, multipliers: Any, biases: Any = None) -> Any:
    """``a . x + b``, cell by cell, where axes of length 1 are repeated.

    Parameters
    ----------
    x : array (N, C, H, W)
    multipliers, biases : arrays of at most four axes
        Each axis, counted from the last, is as long as that of the others or 1:
        (1, C, 1, 1) is a number for each channel, (N, 1, H, W) one for each position.

    Returns
    -------
    array (N, C, H, W) of the dtype of ``x``; the longest of each axis

    Raises
    ------
    ShapeError
        If the axes do not fit.
    """
    y = x * multipliers
    return y if biases is None else y + biases


def scale_backward(x: Any, multipliers: Any, biases: Any, der_y: Any) -> tuple[Any, Any, Any]:
    """Derivatives of ``scale`` by ``x``, multipliers and biases (None for biases None).

    Cell by cell ``dx = a dy``, ``da = x dy`` and ``db = dy``; where an axis of one of them was
    repeated, its derivative is the sum over the repetitions.

    ``Scale.m`` sums over the axes of the multipliers for the biases too, and never for ``x``, so
    its derivative by biases of another shape, or by an ``x`` that was repeated, is wrong.
    """
    der_x = _summed(der_y * multipliers, x.shape)
    der_multipliers = _summed(der_y * x, multipliers.shape)
    return der_x, der_multipliers, None if biases is None else _summed(der_y, biases.shape)


def _summed(der: Any, shape: tuple[int, ...]) -> Any:
    """The sum over what was repeated of an array of this shape."""
    missing = der.ndim - len(shape)
    full = (1,) * missing + tuple(shape)
    axes = tuple(k for k, (d, s) in enumerate(zip(der.shape, full)) if s == 1 and d != 1)
    return (der.sum(axis=axes, keepdims=True) if axes else der).reshape(shape)


@register_layer("dagnn.Scale")
@dataclass(eq=False, kw_only=True)
class Scale(Layer):
    """``a . x + b`` with multipliers and biases that broadcast.

    ``x`` (N, C, H, W) is the first input. Multipliers and, with ``has_bias``, biases are either
    parameters or further inputs (all that are inputs come first). In each, an axis is as long as
    that of ``x`` or 1: (1, C, 1, 1), say. Where one of ``x`` is 1, it is repeated too.

    Settings
    --------
    size : one to four integers, the last axes of (N, C, H, W), or None
        Of the parameters; for ``init_params``. (MatConvNet's order is ``[H W C N]``.)
    has_bias : bool
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (1, 3)
    num_params: ClassVar[tuple[int, int | None]] = (0, 2)

    size: Any = None
    has_bias: bool = True

    def __post_init__(self):
        if self.size is not None:
            size = tuple(int(v) for v in np.atleast_1d(self.size))
            if not 1 <= len(size) <= 4 or min(size) < 1:
                raise ValueError(
                    f"size must be one to four positive integers, received {self.size!r}"
                )
            self.size = (1,) * (4 - len(size)) + size
        self.has_bias = bool(self.has_bias)

    def _arrays(self, inputs, params):
        """``x``, multipliers and biases or None, the latter in the dtype of ``x``."""
        arrays = [*inputs, *params]
        wanted = 3 if self.has_bias else 2
        if len(arrays) != wanted:
            raise ShapeError(
                f"{'with' if self.has_bias else 'without'} has_bias the inputs and parameters "
                f"must be {wanted} in all (features, multipliers{', biases' * self.has_bias}), "
                f"received {len(inputs)} and {len(params)}"
            )
        x = arrays[0]
        check_features(x)
        shape = x.shape
        for place, array in enumerate(arrays[1:], start=1):
            try:
                shape = np.broadcast_shapes(shape, array.shape)
            except ValueError:
                shape = None
            if shape is None or len(shape) != 4:
                is_input = place < len(inputs)
                where = {"input": place} if is_input else {"param": place - len(inputs)}
                raise ShapeError(
                    f"expected axes of length 1 or those of the features {tuple(x.shape)}, "
                    f"received shape {tuple(array.shape)}",
                    **where,
                )
        arrays[1:] = (a.astype(x.dtype, copy=False) for a in arrays[1:])
        return arrays if self.has_bias else [*arrays, None]

    def forward(self, inputs, params, context):
        return [scale(*self._arrays(inputs, params))], None

    def backward(self, inputs, params, der_outputs, saved, context):
        ders = scale_backward(*self._arrays(inputs, params), der_outputs[0])
        return list(ders[: len(inputs)]), list(ders[len(inputs) : len(inputs) + len(params)])

    def get_output_sizes(self, input_sizes):
        sizes = list(input_sizes)
        if self.size is not None:
            sizes.append(Size(*self.size))
        return [Size(*(_longest(axis) for axis in zip(*sizes)))]

    def get_receptive_fields(self, num_inputs, num_outputs):
        return [[POINT] * num_outputs for _ in range(num_inputs)]

    def init_params(self, rng, dtype=np.float32):
        """Multipliers 1 and biases 0, of ``size``; none where that is not set.

        The original has no rule for them.
        """
        if self.size is None:
            return []
        params = [np.ones(self.size, dtype)]
        return [*params, np.zeros(self.size, dtype)] if self.has_bias else params


def _longest(lengths: Any) -> float:
    """Of an axis that broadcasts: the length that is not 1, unknown if it may be one unknown."""
    known = max((v for v in lengths if not math.isnan(v)), default=math.nan)
    unknown = any(math.isnan(v) for v in lengths)
    return math.nan if unknown and not known > 1 else known
