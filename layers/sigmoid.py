"""Sigmoid, MatConvNet's ``dagnn.Sigmoid`` and ``vl_nnsigmoid``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import ElementWise, get_array_module, register_layer


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, in the dtype of ``x`` (any shape)."""
    xp = get_array_module(x)
    # exp(-|x|) cannot overflow; for x < 0 the fraction is expanded by exp(x).
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, x.dtype.type(1), e) / (1 + e)


def sigmoid_backward(y: Any, der_y: Any) -> Any:
    """Derivative of ``sigmoid`` by its input, from its output ``y``: ``dx = dy y (1 - y)``.

    With ``e = exp(-x)``: ``d/dx 1 / (1 + e) = e / (1 + e)^2``, and ``y (1 - y)`` is the same.
    """
    return der_y * (y * (1 - y))


@register_layer("dagnn.Sigmoid")
@dataclass(eq=False, kw_only=True)
class Sigmoid(ElementWise):
    """``1 / (1 + exp(-x))``, cell by cell."""

    backward_uses_inputs: ClassVar[bool] = False

    def forward(self, inputs, params, context):
        y = sigmoid(inputs[0])
        return [y], y

    def backward(self, inputs, params, der_outputs, saved, context):
        return [sigmoid_backward(saved, der_outputs[0])], []
