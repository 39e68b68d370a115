"""Local response normalisation, MatConvNet's ``dagnn.LRN`` and ``vl_nnnormalize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ElementWise, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features

Param = tuple[float, float, float, float]


def _window(size: float) -> tuple[int, int]:
    """Channels before and after a channel in its window of ``size`` channels."""
    before = (int(size) - 1) // 2
    return before, int(size) - 1 - before


def _channel_window_sum(values: Any, before: int, after: int) -> Any:
    """Sum over channels ``k - before`` to ``k + after``, those that exist, for each ``k``."""
    total = values.copy()
    c = values.shape[1]
    for shift in range(1, min(before, c - 1) + 1):
        total[:, shift:] += values[:, :-shift]
    for shift in range(1, min(after, c - 1) + 1):
        total[:, :-shift] += values[:, shift:]
    return total


def _normaliser(x: Any, param: Param) -> Any:
    size, kappa, alpha, _ = param
    return _channel_window_sum(x * x, *_window(size)) * alpha + kappa


def lrn(x: Any, param: Param) -> Any:
    """``y = x L^-beta`` with ``L_k = kappa + alpha sum over q in Q(k) of x_q^2``.

    ``Q(k)`` are the channels from ``k - floor((N - 1) / 2)`` to ``k + ceil((N - 1) / 2)`` that
    exist. The power is exact; that of the original's CPU code errs by up to 0.3 % (``fast_pow``).

    Parameters
    ----------
    x : array (N, C, H, W)
    param : (N, kappa, alpha, beta)
        ``N`` counts channels. Other software (Caffe) calls ``N alpha`` what is ``alpha`` here.

    Returns
    -------
    array (N, C, H, W) of the dtype of ``x``
    """
    check_features(x)
    return x * get_array_module(x).power(_normaliser(x, param), -param[3])


def lrn_backward(x: Any, der_y: Any, param: Param) -> Any:
    """Derivative of ``lrn`` by its input.

    ``dy_k / dx_q = L_k^-beta [k = q] - 2 alpha beta x_k x_q L_k^(-beta - 1) [q in Q(k)]``, so
    ``dx_q = dy_q L_q^-beta - 2 alpha beta x_q sum over k with q in Q(k) of
    dy_k x_k L_k^(-beta - 1)``. ``q`` lies in ``Q(k)`` for ``k`` from ``q - ceil((N - 1) / 2)`` to
    ``q + floor((N - 1) / 2)``: the window turned round.
    """
    check_features(x)
    check_der_y(der_y, x.shape)
    size, _, alpha, beta = param
    before, after = _window(size)
    normaliser = _normaliser(x, param)
    der_x = der_y * get_array_module(x).power(normaliser, -beta)
    through = _channel_window_sum(der_x * x / normaliser, after, before)
    through *= x
    through *= 2 * alpha * beta
    der_x -= through
    return der_x


@register_layer("dagnn.LRN")
@dataclass(eq=False, kw_only=True)
class LRN(ElementWise):
    """Normalisation of each value by the channels around it.

    Input and output: features (N, C, H, W).

    Settings
    --------
    param : (N, kappa, alpha, beta)
        Number of channels in a window, and the constants of ``lrn``.
    """

    param: Any = (5, 1, 0.0001 / 5, 0.75)

    def __post_init__(self):
        param = tuple(float(v) for v in np.ravel(self.param))
        if len(param) != 4 or param[0] < 1:
            raise ValueError(
                "param must be (N, kappa, alpha, beta) with a window of N >= 1 channels, received "
                f"{self.param!r}"
            )
        self.param = param

    def forward(self, inputs, params, context):
        return [lrn(inputs[0], self.param)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [lrn_backward(inputs[0], der_outputs[0], self.param)], []
