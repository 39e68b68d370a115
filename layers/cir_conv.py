"""CirConv, circular convolution: applies a transformation that RLR learned to a feature.

``Y = (1 - lr) X + lr T`` with ``T = R * (w.X)``, ``*`` the circular convolution of each channel's
plane and ``w`` the Hann window: Eq. 2 of the paper and ``CirConv.m`` of the authors' code, which
keeps the filter as a pair of spectra ``(alphaf, featf)``. The derivatives are those of the
supplement's Eq. 2 to 14, whose printed Eq. 12 and 14 lost a conjugate (docs/errata.md); the
public code has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import Layer, ShapeError, get_array_module, get_fft_module, register_layer

from .geometry import WHOLE_PLANE
from .kernels import Kernel, choose, register
from .spectrum import (
    check_features,
    check_window,
    double_sum,
    irfft2,
    real_sum,
    rfft2,
    scalar_param,
    spectrum_bytes,
    windowed,
)


def _cir_conv(x: Any, r: Any, lr: Any, window: str) -> tuple[Any, Any]:
    xh, rh = rfft2(x, window), rfft2(r)
    y = irfft2(rh * xh, x.shape[-2:])
    y *= lr
    y += (1 - lr) * x
    return y, (xh, rh)


def _cir_conv_backward(
    x: Any, lr: Any, saved: Any, der: Any, window: str, needs: tuple[bool, bool]
) -> tuple[Any, Any, Any]:
    xh, rh = saved
    size = x.shape[-2:]
    g = rfft2(der)
    cross = xh.conj()
    cross *= g
    if rh.shape[0] != g.shape[0]:
        cross = cross.sum(axis=0, keepdims=True)
    der_lr = real_sum(cross, rh, size[1]) / (size[0] * size[1]) - double_sum(der * x)
    der_x = der_r = None
    if needs[0]:
        g *= rh.conj()
        der_x = irfft2(g, size, window)
        der_x *= lr
        der_x += (1 - lr) * der
    if needs[1]:
        der_r = irfft2(cross, size)
        der_r *= lr
    return der_x, der_r, der_lr


register("cir_conv", Kernel("reference", _cir_conv, _cir_conv_backward))


def cir_conv(x: Any, r: Any, lr: Any, window: str = "hann") -> tuple[Any, Any]:
    """``(1 - lr) x + lr t``, ``t = real(ifft2(Rh . fft2(w.x)))``.

    Parameters
    ----------
    x : real array (N, C, H, W)
    r : real array (N, C, H, W), or (1, C, H, W): one filter for all samples
    lr : number or array of shape (), the share of the transformed feature
    window : 'hann' or 'none'

    Returns
    -------
    y : array like ``x``
    saved : for ``cir_conv_backward``
    """
    return choose("cir_conv", x).forward(x, r, lr, window)


def cir_conv_backward(
    x: Any,
    lr: Any,
    saved: Any,
    der: Any,
    window: str = "hann",
    needs: tuple[bool, bool] = (True, True),
) -> tuple[Any, Any, Any]:
    """Derivatives of ``cir_conv`` by ``x``, ``r`` and ``lr``.

    With ``G_Y = dL/dy`` and ``G = fft2(G_Y)``. The adjoint of a circular convolution with ``r`` is
    the circular correlation with it, ``conj(Rh)`` in the Fourier domain (the conjugate that was
    lost between the supplement's Eq. 9 and 10), and likewise for ``x``:

        dL/dx  = (1 - lr) G_Y + lr w . real(ifft2(conj(Rh) . G))
        dL/dr  = lr real(ifft2(conj(Xh) . G))            Xh = fft2(w.x)
        dL/dlr = sum(G_Y . (t - x))

    ``t`` is not kept: by Parseval ``sum(G_Y . t) = sum Re(conj(G) Rh Xh) / n``. A filter that
    served all samples adds up their derivatives.

    Parameters
    ----------
    x, lr, window : as given to ``cir_conv``
    saved : what it returned
    der : array like ``x``, ``dL/dy``
    needs : whether the derivatives by ``x`` and ``r`` are wanted

    Returns
    -------
    der_x, der_r : arrays like ``x`` and ``r``, or None where not wanted
    der_lr : array of shape ()
    """
    return choose("cir_conv", x).backward(x, lr, saved, der, window, needs)


def cir_conv_sum(x: Any, blended: Any, alphaf: Any, featf: Any, lr: Any, window: str) -> Any:
    """The public code's ``calsum``: one correlation over all channels, spread by ``alphaf``.

    ``k = sum_c fft2(w.x_c) . conj(featf_c) / (n C)``, ``t = real(ifft2(alphaf . k))``,
    ``y = (1 - lr) blended + lr t``.

    Parameters
    ----------
    x : real array (N, C, H, W)
    blended : real array (N, C', H, W), what ``t`` is mixed with
    alphaf : complex array (N or 1, C', H, W), whole spectra
    featf : complex array (N or 1, C, H, W), whole spectra
    lr, window : as for ``cir_conv``
    """
    fft = get_fft_module(x)
    count = x.shape[1] * x.shape[2] * x.shape[3]
    k = (fft.fft2(windowed(x, window)) * featf.conj()).sum(axis=1, keepdims=True) / count
    return (1 - lr) * blended + lr * fft.ifft2(alphaf * k).real


def cir_conv_sum_backward(
    x: Any, blended: Any, alphaf: Any, featf: Any, lr: Any, der: Any, window: str
) -> tuple[Any, Any, Any, Any, Any]:
    """Derivatives of ``cir_conv_sum`` by its first five arguments.

    For a complex array ``A``, ``D_A = dL/dRe A + i dL/dIm A``. With ``G = fft2(dL/dy)``,
    ``n = H W`` and ``m = n C``; from ``t = real(ifft2(Th))``, ``Th = alphaf k`` follows
    ``D_Th = lr G/n``:

        D_alphaf  = conj(k) D_Th                             D_k = sum_c' conj(alphaf) D_Th
        D_featf   = Xh conj(D_k) / m                         D_Xh = featf D_k / m
        dL/dx     = w . real(n ifft2(D_Xh))
        dL/dblended = (1 - lr) dL/dy                         dL/dlr = sum(dL/dy . (t - blended))

    Returns
    -------
    der_x, der_blended, der_alphaf, der_featf, der_lr
    """
    fft = get_fft_module(x)
    n = x.shape[2] * x.shape[3]
    m = n * x.shape[1]
    xh = fft.fft2(windowed(x, window))
    k = (xh * featf.conj()).sum(axis=1, keepdims=True) / m
    t = fft.ifft2(alphaf * k).real
    der_th = fft.fft2(der) * (lr / n)
    der_k = (alphaf.conj() * der_th).sum(axis=1, keepdims=True)
    der_x = windowed(fft.ifft2(featf * der_k / m, norm="forward").real, window)
    der_alphaf, der_featf = k.conj() * der_th, xh * der_k.conj() / m
    if alphaf.shape[0] != x.shape[0]:
        der_alphaf = der_alphaf.sum(axis=0, keepdims=True)
    if featf.shape[0] != x.shape[0]:
        der_featf = der_featf.sum(axis=0, keepdims=True)
    return der_x, (1 - lr) * der, der_alphaf, der_featf, (der * (t - blended)).sum(dtype="float64")


@register_layer("CirConv")
@dataclass(eq=False, kw_only=True)
class CirConv(Layer):
    """Transforms a feature with a filter from ``RLR``, and blends it with itself.

    Inputs: ``X`` (N, C, H, W) and ``R`` (N, C, H, W) or (1, C, H, W); one ``R`` serves a batch.
    Parameter: ``lr``, one number, the share of the transformed feature. Output: like ``X``, in its
    dtype. (In MATLAB a single ``lr`` makes the output of double features single.)

    With ``sum_channels`` the inputs are ``X1`` (N, C, H, W), ``X2`` (N, C', H, W), which is
    blended, and the pair ``alphaf``, ``featf`` of an ``RLR`` with ``sum_channels``.

    Settings
    --------
    enable : bool
        Off: ``X`` (``X2``) passes through, the other inputs are not looked at, and there is no
        derivative by the filter nor by ``lr``. The tracker switches it off before anything was
        learned and after the target was lost.
    window : 'hann' or 'none'
        Window on ``X`` before it is transformed.
    sum_channels : bool
        The public code's ``calsum``.
    is_rep : bool
        The public code's ``isrep``, kept for saved networks, without effect. There it transformed
        the first sample alone and repeated the result for the batch, whose samples were copies of
        one template; here every sample is transformed, which gives the same for copies.
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (1, 4)
    num_params: ClassVar[tuple[int, int | None]] = (1, 1)

    enable: bool = True
    window: str = "hann"
    sum_channels: bool = False
    is_rep: bool = False
    opts: tuple = ()

    def __post_init__(self):
        check_window(self.window)

    @property
    def backward_uses_inputs(self) -> bool:
        return self.enable

    def differentiable_inputs(self, num_inputs):
        if self.enable:
            return (True,) * num_inputs
        return tuple(i == self._blended for i in range(num_inputs))

    @property
    def _blended(self) -> int:
        """Place of the input that passes through, with the weight 1 - lr or alone."""
        return 1 if self.sum_channels else 0

    def _check(self, inputs: Any) -> None:
        wanted = ("X1", "X2", "alphaf", "featf") if self.sum_channels else ("X", "R")
        if len(inputs) != len(wanted):
            raise ShapeError(
                f"expected {len(wanted)} inputs ({', '.join(wanted)}) with sum_channels="
                f"{self.sum_channels}, received {len(inputs)}"
            )
        x = inputs[0]
        check_features(0, x)
        n, c, h, w = x.shape
        channels = [c, c]
        if self.sum_channels:
            check_features(1, inputs[1], (n, inputs[1].shape[1], h, w))
            channels = [c, inputs[1].shape[1], inputs[1].shape[1], c]
        for place in range(2 if self.sum_channels else 1, len(inputs)):
            check_features(place, inputs[place])
            samples = inputs[place].shape[0] if inputs[place].shape[0] in (1, n) else n
            check_features(place, inputs[place], (samples, channels[place], h, w))

    def forward(self, inputs, params, context):
        if not self.enable:
            return [inputs[self._blended]], None
        self._check(inputs)
        x = inputs[0]
        lr = scalar_param(params[0], 0, "lr", x.dtype)
        if self.sum_channels:
            return [cir_conv_sum(*inputs, lr, self.window)], None
        y, saved = cir_conv(x, inputs[1].astype(x.dtype, copy=False), lr, self.window)
        return [y], saved

    def backward(self, inputs, params, der_outputs, saved, context):
        der, lr = der_outputs[0], params[0]
        xp = get_array_module(lr)
        if not self.enable:
            der_inputs = [der if i == self._blended else None for i in range(len(inputs))]
            return der_inputs, [xp.zeros_like(lr)]
        x = inputs[0]
        value = scalar_param(lr, 0, "lr", x.dtype)
        if self.sum_channels:
            *der_inputs, der_lr = cir_conv_sum_backward(*inputs, value, der, self.window)
        else:
            needs = (context.needs_input(0), context.needs_input(1))
            *der_inputs, der_lr = cir_conv_backward(x, value, saved, der, self.window, needs)
        return der_inputs, [xp.asarray(der_lr, dtype=lr.dtype).reshape(lr.shape)]

    def get_output_sizes(self, input_sizes):
        return [input_sizes[self._blended]]

    def saved_bytes(self, input_sizes):
        if not self.enable or self.sum_channels:
            return 0.0
        return sum(spectrum_bytes(size) for size in input_sizes)

    def get_receptive_fields(self, num_inputs, num_outputs):
        return [[WHOLE_PLANE] * num_outputs for _ in range(num_inputs)]

    def param_attributes(self):
        # A share, which weight decay has no reason to pull to zero.
        return [{"weight_decay": 0.0}]
