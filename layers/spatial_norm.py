"""Normalisation by the plane around a cell, ``dagnn.SpatialNorm`` and ``vl_nnspnorm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import Layer, ReceptiveField, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features
from .pooling import avg_pool, avg_pool_backward

Param = tuple[int, int, float, float]


def _pad(height: int, width: int) -> tuple[int, int, int, int]:
    """Padding (top, bottom, left, right) that keeps the plane's size; an odd cell goes below."""
    top, left = (height - 1) // 2, (width - 1) // 2
    return top, height - 1 - top, left, width - 1 - left


def _normaliser(x: Any, param: Param) -> Any:
    height, width, alpha, _ = param
    return avg_pool(x * x, (height, width), pad=_pad(height, width)) * alpha + 1


def spatial_norm(x: Any, param: Param) -> Any:
    """``y = x F^-beta`` with ``F = 1 + alpha M`` and ``M`` the mean of ``x^2`` around each cell.

    The window has ``ph`` rows, of which ``floor((ph - 1) / 2)`` lie above the cell, and ``pw``
    columns likewise; ``M`` is the mean over those of its cells that lie inside the plane, channel
    by channel. (The help text of ``vl_nnspnorm`` speaks of a sum; its code takes the mean.)

    Parameters
    ----------
    x : array (N, C, H, W)
    param : (ph, pw, alpha, beta)

    Returns
    -------
    array (N, C, H, W) of the dtype of ``x``
    """
    check_features(x)
    return x * get_array_module(x).power(_normaliser(x, param), -param[3])


def spatial_norm_backward(x: Any, der_y: Any, param: Param) -> Any:
    """Derivative of ``spatial_norm`` by its input.

    ``M = A(x^2)`` with the linear map ``A``, average pooling. From ``dF = 2 alpha A(x dx)``,
    ``dy = F^-beta dx - beta F^(-beta - 1) x dF``, so with the adjoint ``A'`` of ``A``
    ``dx = F^-beta dy - 2 alpha beta x A'(F^(-beta - 1) x dy)``.
    """
    check_features(x)
    check_der_y(der_y, x.shape)
    height, width, alpha, beta = param
    normaliser = _normaliser(x, param)
    der_x = der_y * get_array_module(x).power(normaliser, -beta)
    through = avg_pool_backward(
        der_x * x / normaliser, x.shape[2:], (height, width), pad=_pad(height, width)
    )
    der_x -= through * x * (2 * alpha * beta)
    return der_x


@register_layer("dagnn.SpatialNorm")
@dataclass(eq=False, kw_only=True)
class SpatialNorm(Layer):
    """Normalisation of each value by the mean square of its channel around it.

    Input and output: features (N, C, H, W). The receptive field is the window; MatConvNet's
    ``dagnn.SpatialNorm`` says one cell.

    Settings
    --------
    param : (ph, pw, alpha, beta)
        Height and width of the window in cells, and the constants of ``spatial_norm``.
    """

    param: Any = (2, 2, 10.0, 2.0)

    def __post_init__(self):
        param = tuple(float(v) for v in np.ravel(self.param))
        if len(param) != 4 or any(p < 1 or p != int(p) for p in param[:2]):
            raise ValueError(
                "param must be (ph, pw, alpha, beta) with a window of whole cells, at least 1x1, "
                f"received {self.param!r}"
            )
        self.param = (int(param[0]), int(param[1]), *param[2:])

    def forward(self, inputs, params, context):
        return [spatial_norm(inputs[0], self.param)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [spatial_norm_backward(inputs[0], der_outputs[0], self.param)], []

    def get_receptive_fields(self, num_inputs, num_outputs):
        height, width = self.param[:2]
        top, _, left, _ = _pad(height, width)
        offset = (1 - top + (height - 1) / 2, 1 - left + (width - 1) / 2)
        return [[ReceptiveField((height, width), (1, 1), offset)]]
