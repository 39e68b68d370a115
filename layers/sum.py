"""Sum of several variables, MatConvNet's ``dagnn.Sum``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dagnet import ElementWise, ShapeError, Size, register_layer


def _known(values):
    return next((v for v in values if not math.isnan(v)), math.nan)


@register_layer("dagnn.Sum")
@dataclass(eq=False, kw_only=True)
class Sum(ElementWise):
    """The sum of all inputs, which have the same shape; the residual connections of ResNet.

    ``y = x_1 + x_2 + ...``, in the dtype of the first, so the derivative by each is that by ``y``.
    MATLAB since R2016b also adds an input with axes of length 1; then the original's derivative
    is none of that input's, and its shape is wrong. Here that is refused; ``Scale`` broadcasts.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (1, None)
    backward_uses_inputs: ClassVar[bool] = False

    def forward(self, inputs, params, context):
        first = inputs[0]
        for place, x in enumerate(inputs):
            if x.shape != first.shape:
                raise ShapeError(
                    f"all inputs must have the shape of the first, {tuple(first.shape)}, received "
                    f"{tuple(x.shape)}",
                    input=place,
                )
        y = first
        for place, x in enumerate(inputs[1:]):
            x = x.astype(first.dtype, copy=False)
            if place == 0:
                y = y + x
            else:
                y += x
        return [y], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [der_outputs[0]] * len(inputs), []

    def get_output_sizes(self, input_sizes):
        """What any of the inputs tells."""
        return [Size(*(_known(axis) for axis in zip(*input_sizes)))]

    def saved_bytes(self, input_sizes):
        return 0.0
