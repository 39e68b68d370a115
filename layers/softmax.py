"""Softmax over channels, MatConvNet's ``dagnn.SoftMax`` and ``vl_nnsoftmax``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import ElementWise, get_array_module, register_layer

from .kernels.windows import check_features


def softmax(x: Any) -> Any:
    """``y_k = exp(x_k) / sum over channels q of exp(x_q)``, for each sample and position.

    Parameters
    ----------
    x : array (N, C, H, W)

    Returns
    -------
    array (N, C, H, W) of the dtype of ``x``; it sums to 1 over the channels.
    """
    check_features(x)
    # Less the maximum, which cancels: exp does not overflow.
    y = x - x.max(axis=1, keepdims=True)
    get_array_module(x).exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)
    return y


def softmax_backward(y: Any, der_y: Any) -> Any:
    """Derivative of ``softmax`` by its input, from its output ``y``.

    ``dy_k / dx_q = y_k ([k = q] - y_q)``, so ``dx = y (dy - sum over channels of dy y)``.
    """
    return y * (der_y - (der_y * y).sum(axis=1, keepdims=True))


@register_layer("dagnn.SoftMax")
@dataclass(eq=False, kw_only=True)
class SoftMax(ElementWise):
    """Softmax over the channels, at every sample and position of features (N, C, H, W)."""

    backward_uses_inputs: ClassVar[bool] = False

    def forward(self, inputs, params, context):
        y = softmax(inputs[0])
        return [y], y

    def backward(self, inputs, params, der_outputs, saved, context):
        return [softmax_backward(saved, der_outputs[0])], []
