"""RLR, regularised linear regression: the circular filter that turns one feature into another.

The filter ``R`` minimises ``|R * X - Y|^2 + lambda |R|^2`` with ``*`` the circular convolution of
each channel's plane (Eq. 3 of the paper); in the Fourier domain every frequency is solved alone
(Eq. 4). The paper uses it twice: ``V`` turns the features of the first template into those of the
target now, ``W`` turns features of the search region into those without background.

Source: the paper's supplement, Eq. 15 to 26, and ``update_change`` in the authors'
``run_DSiam.m``. Printed Eq. 20, 21 and 23 have errors, see docs/errata.md; built here are the exact
forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import (
    Layer,
    ShapeError,
    Size,
    get_array_module,
    get_fft_module,
    register_layer,
    require,
)

from .geometry import WHOLE_PLANE
from .kernels import Kernel, choose, register
from .spectrum import (
    check_features,
    check_window,
    irfft2,
    power,
    real_product,
    real_sum,
    rfft2,
    scalar_param,
    spectrum_bytes,
    windowed,
)

LAMBDA_SCALES = ("n", "1")


def _rlr(x: Any, y: Any, penalty: Any, window: str) -> tuple[Any, Any]:
    xh, uy = rfft2(x, window), rfft2(y, window)
    u = power(xh)
    u += penalty
    u = get_array_module(u).divide(1, u, out=u)
    uy *= u
    return irfft2(xh.conj() * uy, x.shape[-2:]), (xh, uy, u)


def _rlr_backward(
    saved: Any, der: Any, penalty: Any, window: str, needs: tuple[bool, bool]
) -> tuple[Any, Any, Any]:
    xh, uy, u = saved
    xp = get_array_module(der)
    size = der.shape[-2:]
    g = rfft2(der)
    ug = xp.multiply(u, g, out=g)
    q = ug.conj()
    q *= uy
    der_lambda = -real_sum(xh, q, size[1])
    der_x = der_y = None
    if needs[0]:
        der_xh = penalty * q
        xp.conj(q, out=q)
        q *= xh
        q *= xh
        der_xh -= q
        der_x = irfft2(der_xh, size, window)
    if needs[1]:
        ug *= xh
        der_y = irfft2(ug, size, window)
    return der_x, der_y, der_lambda


register("rlr", Kernel("reference", _rlr, _rlr_backward))


def rlr(x: Any, y: Any, penalty: Any, window: str = "hann") -> tuple[Any, Any]:
    """Filter that turns ``x`` into ``y``, plane by plane.

    ``R = real(ifft2(conj(Xh).Yh.U))`` with ``Xh = fft2(w.x)``, ``Yh = fft2(w.y)`` and
    ``U = 1/(|Xh|^2 + penalty)``.

    Parameters
    ----------
    x, y : real arrays (N, C, H, W)
    penalty : positive number or array of shape ()
        What is added to ``|Xh|^2``: ``n lambda`` in the public code, ``lambda`` in the supplement.
    window : 'hann' or 'none'

    Returns
    -------
    r : array (N, C, H, W), dtype of ``x``
    saved : for ``rlr_backward``
    """
    return choose("rlr", x).forward(x, y, penalty, window)


def rlr_backward(
    saved: Any,
    der: Any,
    penalty: Any,
    window: str = "hann",
    needs: tuple[bool, bool] = (True, True),
) -> tuple[Any, Any, Any]:
    """Derivatives of ``rlr`` by ``x``, by ``y`` and by ``lambda = penalty / n``.

    Let ``L`` be the loss, ``n = H W``, and for a complex array ``A`` let ``D_A`` be
    ``dL/dRe A + i dL/dIm A``, so that ``dL = Re sum conj(D_A) dA``. From ``R = real(ifft2(Rh))``
    follows ``D_Rh = G/n`` with ``G = fft2(dL/dR)``. ``Rh = conj(Xh) Yh U`` and
    ``U = 1/(Xh conj(Xh) + p)`` give, with ``dU = -U^2 (conj(Xh) dXh + Xh conj(dXh) + dp)``,

        dRh = U conj(Xh) dYh + U Yh conj(dXh) - U^2 conj(Xh) Yh (conj(Xh) dXh + Xh conj(dXh) + dp)
            = U conj(Xh) dYh + p U^2 Yh conj(dXh) - U^2 conj(Xh)^2 Yh dXh - U^2 conj(Xh) Yh dp

    because ``U - U^2 |Xh|^2 = p U^2``. ``Rh`` depends on ``Xh`` and on ``conj(Xh)``: both Wirtinger
    derivatives count (the supplement's Eq. 20 and 21 keep one). Collecting ``Re conj(D_Rh) dRh``:

        n D_Yh = U Xh G
        n D_Xh = -U^2 Xh^2 conj(Yh) G + p U^2 Yh conj(G)
        n dL/dp = -sum Re(conj(G) U^2 conj(Xh) Yh)

    and ``Xh = fft2(w.x)`` gives ``dL/dx = w . real(n ifft2(D_Xh))``: the two ``n`` cancel. With
    ``Q = U^2 Yh conj(G)`` they are ``n D_Xh = p Q - Xh^2 conj(Q)``, ``n D_Yh = Xh (U G)`` and
    ``n dL/dp = -sum Re(conj(Xh) Q)``.

    Parameters
    ----------
    saved : what ``rlr`` returned
    der : array (N, C, H, W), ``dL/dR``
    penalty, window : as given to ``rlr``
    needs : whether the derivatives by ``x`` and ``y`` are wanted

    Returns
    -------
    der_x, der_y : arrays (N, C, H, W), or None where not wanted
    der_lambda : array of shape (), ``dL/dlambda = n dL/dp`` for ``p = n lambda``
    """
    return choose("rlr", der).backward(saved, der, penalty, window, needs)


def update_change(
    x: Any, y: Any, lam: Any, *, window: str = "hann", sum_channels: bool = False
) -> tuple[Any, Any]:
    """The public code's form of a transformation: ``update_change`` of ``run_DSiam.m``.

    Parameters
    ----------
    x, y : real arrays (N, C, H, W)
        Features to be transformed, and what they are to become. With ``sum_channels``, ``y`` may
        have any number of channels.
    lam : positive number or array of shape ()
    window : 'hann' or 'none'
    sum_channels : bool
        ``issum`` there: one power spectrum for all channels, their mean.

    Returns
    -------
    alphaf, featf : complex arrays, whole spectra
        ``featf = Xh`` (N, C, H, W), not conjugated, and ``alphaf = Yh / (|Xh|^2/n + lam)``, or with
        ``sum_channels`` ``alphaf = Yh / (sum_c |Xh|^2/(n C) + lam)``.
    """
    fft = get_fft_module(x)
    featf = fft.fft2(windowed(x, window))
    spectrum = power(featf)
    if sum_channels:
        spectrum = spectrum.mean(axis=1, keepdims=True)
    n = x.shape[-2] * x.shape[-1]
    return fft.fft2(windowed(y, window)) / (spectrum / n + lam), featf


def filter_from_pair(alphaf: Any, featf: Any) -> Any:
    """The filter ``R`` that stands behind a pair ``(alphaf, featf)`` (without ``sum_channels``).

    ``R = real(ifft2(alphaf . conj(featf) / n))``; for the pair of ``update_change`` this is ``rlr``
    with ``penalty = n lam``. Complex arrays (N, C, H, W) give a real one.
    """
    n = featf.shape[-2] * featf.shape[-1]
    return get_fft_module(featf).ifft2(alphaf * featf.conj() / n).real


def update_change_backward(
    x: Any, y: Any, lam: Any, der_alphaf: Any, der_featf: Any, window: str = "hann"
) -> tuple[Any, Any, Any]:
    """Derivatives of ``update_change(..., sum_channels=True)`` by ``x``, ``y`` and ``lam``.

    ``alphaf = Yh U`` with ``U = 1/(s/(n C) + lam)`` real and ``s = sum_c |Xh_c|^2``. Complex
    derivatives are ``D_A = dL/dRe A + i dL/dIm A`` as in ``rlr_backward``. With
    ``q = sum_c Re(conj(D_alphaf) Yh)``, from ``dU = -U^2 (ds/(n C) + dlam)``:

        D_Yh = U D_alphaf
        D_Xh = -2/(n C) q U^2 Xh + D_featf
        dL/dlam = -sum q U^2

    and ``Xh = fft2(w.x)`` gives ``dL/dx = w . real(n ifft2(D_Xh))``. The spectra need not be
    Hermitian in their derivatives, so whole ones are used.

    Parameters
    ----------
    x : array (N, C, H, W); y : array (N, C', H, W); lam : as given to ``update_change``
    der_alphaf : complex array (N, C', H, W), or None for zero
    der_featf : complex array (N, C, H, W), or None for zero

    Returns
    -------
    der_x, der_y : real arrays like ``x`` and ``y``, or None for zero
    der_lambda : array of shape (), or None for zero
    """
    fft = get_fft_module(x)
    n = x.shape[-2] * x.shape[-1]

    def to_plane(der_spectrum):
        return windowed(fft.ifft2(der_spectrum, norm="forward").real, window)

    if der_alphaf is None:
        return to_plane(der_featf), None, None
    xh, yh = fft.fft2(windowed(x, window)), fft.fft2(windowed(y, window))
    u = 1 / (power(xh).mean(axis=1, keepdims=True) / n + lam)
    qu2 = real_product(der_alphaf, yh).sum(axis=1, keepdims=True) * u**2
    der_xh = (-2 / (n * x.shape[1])) * qu2 * xh
    if der_featf is not None:
        der_xh = der_xh + der_featf
    return to_plane(der_xh), to_plane(u * der_alphaf), -qu2.sum(dtype="float64")


@register_layer("RLR")
@dataclass(eq=False, kw_only=True)
class RLR(Layer):
    """Learns the circular filter ``R`` that turns ``X`` into ``Y``.

    Inputs: ``X`` and ``Y`` (N, C, H, W). Parameter: ``lambda``, one positive number. Output: ``R``
    (N, C, H, W), for ``CirConv``. Vectors are planes of H x 1 or 1 x W.

    Settings
    --------
    window : 'hann' or 'none'
        Window on ``X`` and ``Y``. ``'hann'`` is the public code's, ``'none'`` the supplement's.
    lambda_scale : 'n' or '1'
        What is added to ``|Xh|^2``: ``H W lambda``, as the public code has it (it divides
        ``|Xh|^2`` by ``H W`` before it adds lambda), or ``lambda`` itself, as the supplement.
    sum_channels : bool
        The public code's ``issum``: one power spectrum for all channels, summed over them and
        divided by ``H W C``. The outputs are then the pair ``alphaf`` (N, C', H, W) and ``featf``
        (N, C, H, W), complex, for a ``CirConv`` with ``sum_channels``; ``Y`` may have C' channels.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (2, 2)
    num_outputs: ClassVar[tuple[int, int | None]] = (1, 2)
    num_params: ClassVar[tuple[int, int | None]] = (1, 1)

    window: str = "hann"
    lambda_scale: str = "n"
    sum_channels: bool = False

    def __post_init__(self):
        check_window(self.window)
        if self.lambda_scale not in LAMBDA_SCALES:
            raise ValueError(
                f"lambda_scale must be one of {LAMBDA_SCALES}, received {self.lambda_scale!r}"
            )

    @property
    def backward_uses_inputs(self) -> bool:
        return self.sum_channels

    def _lambda(self, params: Any, dtype: Any) -> Any:
        value = scalar_param(params[0], 0, "lambda", dtype)
        require(
            value > 0,
            lambda: ShapeError(
                f"lambda must be greater than 0, received {float(value)}: without it the filter "
                "divides by a power spectrum that can vanish",
                param=0,
            ),
        )
        return value

    def _scale(self, x_shape: tuple[int, ...]) -> float:
        """Factor of lambda in the public code's form of the denominator."""
        if self.lambda_scale == "n":
            return 1.0
        channels = x_shape[1] if self.sum_channels else 1
        return 1.0 / (x_shape[2] * x_shape[3] * channels)

    def forward(self, inputs, params, context):
        x, y = inputs
        check_features(0, x)
        channels = y.shape[1] if self.sum_channels and y.ndim == 4 else x.shape[1]
        check_features(1, y, (x.shape[0], channels, *x.shape[2:]))
        lam = self._lambda(params, x.dtype) * x.dtype.type(self._scale(x.shape))
        y = y.astype(x.dtype, copy=False)
        if self.sum_channels:
            return list(update_change(x, y, lam, window=self.window, sum_channels=True)), None
        penalty = lam * x.dtype.type(x.shape[2] * x.shape[3])
        r, saved = rlr(x, y, penalty, self.window)
        return [r], (saved, penalty)

    def backward(self, inputs, params, der_outputs, saved, context):
        lam = params[0]
        if self.sum_channels:
            x, y = inputs
            scale = self._scale(x.shape)
            value = self._lambda(params, x.dtype) * x.dtype.type(scale)
            der_x, der_y, der_lambda = update_change_backward(
                x, y.astype(x.dtype, copy=False), value, *der_outputs, self.window
            )
        else:
            arrays, penalty = saved
            shape = der_outputs[0].shape
            scale = self._scale(shape)
            needs = (context.needs_input(0), context.needs_input(1))
            der_x, der_y, der_lambda = rlr_backward(
                arrays, der_outputs[0], penalty, self.window, needs
            )
        if der_lambda is not None:
            xp = get_array_module(lam)
            der_lambda = xp.asarray(der_lambda * scale, dtype=lam.dtype).reshape(lam.shape)
        return [der_x, der_y], [der_lambda]

    def get_output_sizes(self, input_sizes):
        x, y = input_sizes
        if self.sum_channels:
            return [Size(x.n, y.c, x.h, x.w), x]
        return [x]

    def saved_bytes(self, input_sizes):
        # The spectrum of X, that of Y times U, and U, which is real.
        return 0.0 if self.sum_channels else 2.5 * spectrum_bytes(input_sizes[0])

    def get_receptive_fields(self, num_inputs, num_outputs):
        return [[WHOLE_PLANE] * num_outputs for _ in range(num_inputs)]

    def param_attributes(self):
        # Weight decay would pull lambda towards 0, where the filter is undefined.
        return [{"weight_decay": 0.0}]
