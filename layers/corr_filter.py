"""CorrFilter, CFNet's correlation filter as a layer: a ridge regression that is differentiated.

From features ``x`` of an example it computes the template ``w`` whose correlation with every
circular shift of ``x`` comes closest to a wanted response ``y``, a peak at the target. Source:
Valmadre et al., "End-to-end representation learning for Correlation Filter based tracking", CVPR
2017, Eq. 4 to 9, and ``CorrFilter.m``, ``corr_filter.m``, ``gaussian_response.m`` and
``circ_grid.m`` of the CFNet code.

RLR of DSiam is the same regression for each channel alone (and of a convolution, where this is a
correlation); here one response is explained by all channels together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import Layer, ShapeError, Size, get_array_module, register_layer

from .geometry import WHOLE_PLANE
from .kernels.windows import check_der_y, check_features
from .spectrum import irfft2, power, real_product, rfft2, spectrum_bytes


def gaussian_response(size: tuple[int, int], sigma: float) -> np.ndarray:
    """The response that a correlation filter is learned for: 1 at cell (0, 0), falling off around.

    ``exp(-(i^2 + j^2) / (2 sigma^2))``, where ``i`` and ``j`` count rows and columns from the first
    cell either way round the plane, as shifts of a circular correlation do.

    Parameters
    ----------
    size : (H, W), cells
    sigma : float, cells
        CFNet's nets have ``sigma / stride``, 8 pixels by 4 pixels a cell.

    Returns
    -------
    float64 array (H, W)
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be greater than 0, received {sigma!r}")
    rows, columns = (np.minimum(np.arange(n), n - np.arange(n)) for n in size)
    return np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * sigma**2))


def corr_filter(x: Any, y: Any, penalty: float, bias: bool = False) -> tuple[Any, Any, Any]:
    """Template ``w``, and number ``b``, that turn ``x`` into ``y`` by circular correlation.

    Of each sample, with ``n = H W``, they minimise

        1/(2n) sum_u (sum_c,t w_c[t] x_c[u + t] + b - y[u])^2 + penalty/2 sum_c,t w_c[t]^2

    (indices modulo the sides; ``b = 0`` without ``bias``). In the Fourier domain the correlation is
    ``sum_c conj(Wh_c) Xh_c``, so each frequency is a ridge regression of its own with one equation,

        Wh_c = Xh_c . conj(Yh) . U        U = 1/(sum_c |Xh_c|^2 + n penalty)

    ``b`` enters frequency 0 alone, which it fits exactly at no cost: there ``Wh = 0``, and
    ``b = mean(y)``. That is ``U = 0`` at frequency 0, and nothing else changes.

    Parameters
    ----------
    x : array (N, C, H, W)
    y : array (H, W), dtype of ``x``
    penalty : positive number, the paper's lambda
    bias : bool

    Returns
    -------
    w : array (N, C, H, W)
    b : array (N, 1, 1, 1), or None without ``bias``
    saved : for ``corr_filter_backward``
    """
    xp = get_array_module(x)
    height, width = x.shape[-2:]
    xh, yh = rfft2(x), rfft2(y)
    u = power(xh).sum(axis=1, keepdims=True)
    u += x.dtype.type(height * width * penalty)
    u = xp.divide(1, u, out=u)
    b = None
    if bias:
        u[..., 0, 0] = 0
        b = xp.full((x.shape[0], 1, 1, 1), y.mean(), x.dtype)
    w = irfft2(xh * (yh.conj() * u), (height, width))
    return w, b, (xh, yh, u)


def corr_filter_backward(
    saved: Any,
    size: tuple[int, int],
    der_w: Any,
    der_b: Any = None,
    needs: tuple[bool, bool] = (True, True),
) -> tuple[Any, Any]:
    """Derivatives of ``corr_filter`` by ``x`` and ``y``.

    For a complex array ``A`` let ``D_A`` be ``dL/dRe A + i dL/dIm A``, so that ``dL = Re sum
    conj(D_A) dA``. From ``w = real(ifft2(Wh))`` follows ``n D_Wh = G`` with ``G = fft2(dL/dw)``.
    ``Wh_c = Xh_c conj(Yh) U`` and ``dU = -2 U^2 sum_c Re(conj(Xh_c) dXh_c)`` give

        dWh_c = U conj(Yh) dXh_c + U Xh_c conj(dYh) - 2 U^2 Xh_c conj(Yh) sum_k Re(conj(Xh_k) dXh_k)

    With ``S = sum_c conj(G_c) Xh_c``, of one plane for all channels, ``Re sum_c conj(G_c) dWh_c``
    has the parts ``Re conj(Yh U G_c) dXh_c`` for each channel, ``Re(S U conj(dYh))`` and ``-2 U^2
    Re(S conj(Yh)) Re(conj(Xh_k) dXh_k)`` for each ``k``. Hence

        n D_Xh_c = U Yh G_c - 2 U^2 Re(conj(Yh) S) Xh_c
        n D_Yh   = U S                                            (summed over the samples)

    and ``dL/dx = real(n ifft2(D_Xh))``: the two ``n`` cancel. With a bias ``U`` is 0 at frequency
    0, a constant, so the same holds; ``b = mean(y)`` adds ``sum(dL/db) / n`` to ``dL/dy``.

    ``corr_filter.m`` has the same derivatives (by way of ``Yh U / n`` and ``1 / (n U)``).

    Parameters
    ----------
    saved : what ``corr_filter`` returned
    size : (H, W) of the planes
    der_w : array (N, C, H, W), ``dL/dw``, or None for zero
    der_b : array (N, 1, 1, 1), ``dL/db``, or None for zero
    needs : whether the derivatives by ``x`` and ``y`` are wanted

    Returns
    -------
    der_x : array (N, C, H, W), None where not wanted or zero
    der_y : array (H, W), None where not wanted
    """
    xh, yh, u = saved
    xp = get_array_module(xh)
    der_x, der_y = None, xp.zeros(size, u.dtype)
    if der_w is not None:
        g = rfft2(der_w)
        s = (g.conj() * xh).sum(axis=1, keepdims=True)
        if needs[1]:
            der_y = irfft2((u * s).sum(axis=(0, 1)), size)
        if needs[0]:
            g *= u * yh
            g -= (2 * u * u * real_product(yh, s)) * xh
            der_x = irfft2(g, size)
    if der_b is not None:
        der_y = der_y + der_b.sum() / der_y.dtype.type(der_y.size)
    return der_x, der_y if needs[1] else None


@register_layer("CorrFilter")
@dataclass(eq=False, kw_only=True)
class CorrFilter(Layer):
    """Learns a template from an example in closed form, as a layer (``CorrFilter.m`` of CFNet).

    Input: features of the example (N, C, H, W), which CFNet multiplies by a window before
    (``MulConst``). Parameter: the response to be learned, (H, W) or (1, 1, H, W); it starts with
    learning rate 0 and without weight decay, as ``make_net.m`` of CFNet trains it.
    ``gaussian_response`` makes it. Outputs: the template ``w`` (N, C, H, W), and with ``bias`` the
    number ``b`` (N, 1, 1, 1) that is added to responses. ``XCorr`` takes both.

    Settings
    --------
    lambda_ : float
        ``lambda`` of the original, which is no name in Python: the weight of the template's
        square beside the mean squared error. CFNet's nets have 10.
    window : str
        Kept for saved networks, without effect, as in the original.
    bias : bool
        Whether there is the second output. The public code lacks the function that computes it
        (its nets have ``False``); here it is the regression's intercept, which is not penalised.
    """

    num_outputs: ClassVar[tuple[int, int | None]] = (1, 2)
    num_params: ClassVar[tuple[int, int | None]] = (1, 1)
    backward_uses_inputs: ClassVar[bool] = False

    lambda_: float = 1e-3
    window: str = ""
    bias: bool = True

    def __post_init__(self):
        if not 0 < self.lambda_ < math.inf:
            raise ValueError(
                f"lambda must be a finite number greater than 0, received {self.lambda_!r}: "
                "without it the filter divides by a power spectrum that can vanish"
            )
        self.lambda_ = float(self.lambda_)
        self.bias = bool(self.bias)

    def forward(self, inputs, params, context):
        (x,), (y,) = inputs, params
        check_features(x)
        size = tuple(x.shape[2:])
        if tuple(y.shape) not in (size, (1, 1, *size)):
            raise ShapeError(
                f"expected a response of the features' size, {size} or {(1, 1, *size)}, received "
                f"shape {tuple(y.shape)}; gaussian_response(size, sigma) makes one",
                param=0,
            )
        plane = y.reshape(size).astype(x.dtype, copy=False)
        w, b, saved = corr_filter(x, plane, self.lambda_, self.bias)
        return [w, b] if self.bias else [w], (saved, tuple(x.shape))

    def backward(self, inputs, params, der_outputs, saved, context):
        arrays, shape = saved
        y = params[0]
        der_w, der_b = (*der_outputs, None)[:2]
        if der_w is not None:
            check_der_y(der_w, shape)
        needs = (context.needs_input(0), True)
        der_x, der_y = corr_filter_backward(arrays, shape[2:], der_w, der_b, needs)
        return [der_x], [der_y.reshape(y.shape).astype(y.dtype, copy=False)]

    def get_output_sizes(self, input_sizes):
        x = input_sizes[0]
        return [x, Size(x.n, 1, 1, 1)] if self.bias else [x]

    def get_receptive_fields(self, num_inputs, num_outputs):
        return [[WHOLE_PLANE] * num_outputs for _ in range(num_inputs)]

    def saved_bytes(self, input_sizes):
        x = input_sizes[0]
        # The spectrum of x, and U, real and of one plane a sample. That of y is next to nothing.
        return spectrum_bytes(x) + spectrum_bytes(Size(x.n, 1, x.h, x.w)) / 2

    def param_attributes(self):
        return [{"learning_rate": 0.0, "weight_decay": 0.0}]
