"""RLR and CirConv on CUDA: FFTs of the library, and ``spectra.cu`` between them."""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module
from dagnet.backend import array_like
from layers.spectrum import irfft2, rfft2

from .launch import launch_over, offer, shares


def _half(x: Any, window: str = "none") -> Any:
    return get_array_module(x).ascontiguousarray(rfft2(x, window))


def _rlr(x: Any, y: Any, penalty: Any, window: str) -> tuple[Any, Any]:
    xp = get_array_module(x)
    xh, uy = _half(x, window), _half(y, window)
    u, rh = xp.empty(xh.shape, x.dtype), xp.empty_like(xh)
    arguments = (xh, uy, array_like(penalty, x), u, rh)
    launch_over("spectra", "rlr", x.dtype, xh.size, arguments)
    return irfft2(rh, x.shape[-2:]), (xh, uy, u)


def _rlr_backward(
    saved: Any, der: Any, penalty: Any, window: str, needs: tuple[bool, bool]
) -> tuple[Any, Any, Any]:
    xh, uy, u = saved
    xp = get_array_module(der)
    size = der.shape[-2:]
    g = _half(der)
    der_xh, der_yh = (xp.empty_like(xh) if needed else None for needed in needs)
    sums = shares(g)
    arguments = (g, xh, uy, u, array_like(penalty, der), der_xh, der_yh, sums, g.shape[-1], size[1])
    launch_over("spectra", "rlr_backward", der.dtype, g.size, arguments)
    der_x, der_y = (None if d is None else irfft2(d, size, window) for d in (der_xh, der_yh))
    return der_x, der_y, -sums.sum()


def _cir_conv(x: Any, r: Any, lr: Any, window: str) -> tuple[Any, Any]:
    xp = get_array_module(x)
    xh, rh = _half(x, window), _half(r)
    yh = xp.empty_like(xh)
    launch_over("spectra", "cir_conv", x.dtype, xh.size, (xh, rh, yh, rh.size))
    y = xp.ascontiguousarray(irfft2(yh, x.shape[-2:]))
    x = xp.ascontiguousarray(x)
    launch_over("spectra", "blend", x.dtype, x.size, (y, x, array_like(lr, x)))
    return y, (xh, rh)


def _cir_conv_backward(
    x: Any, lr: Any, saved: Any, der: Any, window: str, needs: tuple[bool, bool]
) -> tuple[Any, Any, Any]:
    xh, rh = saved
    xp = get_array_module(x)
    x, der, lr = xp.ascontiguousarray(x), xp.ascontiguousarray(der), array_like(lr, x)
    size = x.shape[-2:]
    g, cross, sums = _half(der), xp.empty_like(rh), shares(rh)
    samples = xh.size // rh.size
    arguments = (g, xh, rh, cross, sums, samples, rh.shape[-1], size[1])
    launch_over("spectra", "cir_conv_backward", x.dtype, rh.size, arguments)
    der_x = xp.ascontiguousarray(irfft2(g, size, window)) if needs[0] else None
    direct = shares(x)
    launch_over("spectra", "blend_backward", x.dtype, x.size, (der_x, der, x, lr, direct))
    der_r = irfft2(cross, size) * lr if needs[1] else None
    return der_x, der_r, sums.sum() / (size[0] * size[1]) - direct.sum()


offer("rlr", _rlr, _rlr_backward)
offer("cir_conv", _cir_conv, _cir_conv_backward)
