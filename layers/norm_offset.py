"""Offset by the norm over channels, MatConvNet's ``dagnn.NormOffset`` and ``vl_nnnoffset``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ElementWise, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features

# vl_nnnoffset's floor under the sum of squares.
SMALLEST = 1e-8


def _squares(x: Any) -> Any:
    return (x * x).sum(axis=1, keepdims=True)


def _floored(total: Any) -> Any:
    return get_array_module(total).maximum(total, total.dtype.type(SMALLEST))


def norm_offset(x: Any, param: tuple[float, float]) -> Any:
    """``y = x - alpha L^beta`` with ``L = max(1e-8, sum over channels q of x_q^2)``.

    Parameters
    ----------
    x : array (N, C, H, W)
    param : (alpha, beta)

    Returns
    -------
    array (N, C, H, W) of the dtype of ``x``
    """
    check_features(x)
    alpha, beta = param
    return x - alpha * _floored(_squares(x)) ** beta


def norm_offset_backward(x: Any, der_y: Any, param: tuple[float, float]) -> Any:
    """Derivative of ``norm_offset`` by its input.

    ``dy_k / dx_q = [k = q] - 2 alpha beta L^(beta - 1) x_q``, so
    ``dx = dy - 2 alpha beta L^(beta - 1) x (sum over channels of dy)``. Where the floor stands in
    for the sum of squares the offset is constant and ``dx = dy``; the original keeps the second
    term there.
    """
    check_features(x)
    check_der_y(der_y, x.shape)
    alpha, beta = param
    total = _squares(x)
    through = der_y.sum(axis=1, keepdims=True)
    through *= _floored(total) ** (beta - 1)
    through *= total > SMALLEST
    return der_y - x * through * (2 * alpha * beta)


@register_layer("dagnn.NormOffset")
@dataclass(eq=False, kw_only=True)
class NormOffset(ElementWise):
    """Subtracts from each value the weighted norm of its cell's channels.

    Input and output: features (N, C, H, W).

    Settings
    --------
    param : (alpha, beta)
        The constants of ``norm_offset``.
    """

    param: Any = (1.0, 0.5)

    def __post_init__(self):
        param = tuple(float(v) for v in np.ravel(self.param))
        if len(param) != 2:
            raise ValueError(f"param must be (alpha, beta), received {self.param!r}")
        self.param = param

    def forward(self, inputs, params, context):
        return [norm_offset(inputs[0], self.param)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [norm_offset_backward(inputs[0], der_outputs[0], self.param)], []
