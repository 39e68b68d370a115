"""Concatenation, MatConvNet's ``dagnn.Concat`` and ``vl_nnconcat``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import POINT, UNKNOWN, Layer, ShapeError, Size, get_array_module, register_layer

AXES = ("N", "C", "H", "W")


def concat(inputs: Sequence[Any], dim: int = 1) -> Any:
    """Lay arrays side by side along the axis ``dim``.

    Parameters
    ----------
    inputs : sequence of arrays (N, C, H, W)
        Of the same size but for the axis ``dim``.
    dim : int
        0 to 3, of (N, C, H, W). (``vl_nnconcat`` counts from 1 and in the order H, W, C, N: its
        usual 3 is 1 here.)

    Returns
    -------
    array of the dtype of the first input

    Raises
    ------
    ShapeError
        If the other axes differ.
    """
    first = inputs[0]
    for place, x in enumerate(inputs):
        if first.ndim != 4 or x.ndim != 4 or _others(x, dim) != _others(first, dim):
            raise ShapeError(
                f"expected features (N, C, H, W) that differ in {AXES[dim]} alone, received shape "
                f"{tuple(x.shape)} beside the first input's {tuple(first.shape)}",
                input=place,
            )
    arrays = [x.astype(first.dtype, copy=False) for x in inputs]
    return get_array_module(first).concatenate(arrays, axis=dim)


def _others(x: Any, dim: int) -> tuple[int, ...]:
    return (*x.shape[:dim], *x.shape[dim + 1 :])


def concat_backward(der_y: Any, lengths: Sequence[int], dim: int = 1) -> list[Any]:
    """Derivatives of ``concat`` by its inputs, which are ``lengths`` long along ``dim``.

    Every cell of the output is one of an input, so they are the parts of ``der_y``.
    """
    if der_y.ndim != 4 or der_y.shape[dim] != sum(lengths):
        raise ShapeError(
            f"the derivative by the output has shape {tuple(der_y.shape)}, the output is "
            f"{sum(lengths)} long in {AXES[dim]}"
        )
    xp = get_array_module(der_y)
    parts, start = [], 0
    for length in lengths:
        place = (slice(None),) * dim + (slice(start, start + length),)
        parts.append(xp.ascontiguousarray(der_y[place]))
        start += length
    return parts


@register_layer("dagnn.Concat")
@dataclass(eq=False, kw_only=True)
class Concat(Layer):
    """Lay variables side by side along an axis.

    Inputs: features (N, C, H, W), any number, of the same size but for one axis.

    Settings
    --------
    dim : int
        The axis, 0 to 3 of (N, C, H, W); channels by default. (MatConvNet's 3; its files are
        converted.)
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (1, None)
    backward_uses_inputs: ClassVar[bool] = False

    dim: int = 1

    def __post_init__(self):
        if self.dim not in range(4):
            raise ValueError(f"dim must be an axis of (N, C, H, W), 0 to 3, received {self.dim!r}")
        self.dim = int(self.dim)

    def forward(self, inputs, params, context):
        return [concat(inputs, self.dim)], tuple(x.shape[self.dim] for x in inputs)

    def backward(self, inputs, params, der_outputs, saved, context):
        return concat_backward(der_outputs[0], saved, self.dim), []

    def get_output_sizes(self, input_sizes):
        sides = list(input_sizes[0])
        sides[self.dim] = sum(size[self.dim] for size in input_sizes)
        for axis in range(4):
            if axis != self.dim:
                known = (s[axis] for s in input_sizes if not math.isnan(s[axis]))
                sides[axis] = next(known, math.nan)
        return [Size(*sides)]

    def get_receptive_fields(self, num_inputs, num_outputs):
        # Planes that are laid beside each other in the plane have no common field.
        field = POINT if self.dim in (0, 1) else UNKNOWN
        return [[field] * num_outputs for _ in range(num_inputs)]

    def saved_bytes(self, input_sizes):
        return 0.0
