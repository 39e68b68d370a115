"""Cross-correlation of template and search features: SiamFC's ``XCorr``, Eq. 1 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import Layer, ShapeError, Size, get_array_module, register_layer, to_device

from .geometry import WHOLE_PLANE
from .kernels import matmul


def _windows(products: Any, size: tuple[int, int]) -> Any:
    """View ``v[n, i, j, p, q] = products[n, p, q, i + p, j + q]`` of (N, h, w, H, W)."""
    xp = get_array_module(products)
    n, h, w = products.shape[:3]
    sn, sp, sq, si, sj = products.strides
    return xp.lib.stride_tricks.as_strided(
        products, (n, *size, h, w), (sn, si, sj, sp + si, sq + sj)
    )


def xcorr(z: Any, x: Any) -> Any:
    """Correlate each sample of ``x`` with its template, summed over channels.

    ``y[n, 0, i, j] = sum over c, p, q of z[n, c, p, q] x[n, c, i + p, j + q]``.

    One matrix product, ``K = z' x`` of (h*w, C) and (C, H*W), holds every product of a template
    cell with a search cell; ``y`` adds up the entries of ``K`` along its shifted diagonals. For
    6x6 templates this moves far less memory than unrolling the windows of ``x`` would.

    Parameters
    ----------
    z : array (N, C, h, w), or (1, C, h, w): one template for all samples
    x : array (N, C, H, W), with H >= h and W >= w

    Returns
    -------
    array (N, 1, H - h + 1, W - w + 1)
    """
    nz, c, h, w = z.shape
    n, _, height, width = x.shape
    products = matmul(
        z.reshape(nz, c, h * w).transpose(0, 2, 1), x.reshape(n, c, height * width)
    ).reshape(n, h, w, height, width)
    size = (height - h + 1, width - w + 1)
    return _windows(products, size).sum(axis=(3, 4)).reshape(n, 1, *size)


def xcorr_backward(
    z: Any, x: Any, der: Any, needs: tuple[bool, bool] = (True, True)
) -> tuple[Any, Any]:
    """Derivatives of ``xcorr`` by ``z`` and ``x``; None for one that ``needs`` does not ask for.

    ``K`` enters ``y`` with weight one at shifted places, so ``dK[p, q, i + p, j + q] = dy[i, j]``
    and zero elsewhere; from ``K = z' x`` follow ``dx = z dK`` and ``dz = x dK'``. A template that
    served all samples adds up their derivatives.
    """
    xp = get_array_module(x)
    nz, c, h, w = z.shape
    n, _, height, width = x.shape
    der_products = xp.zeros((n, h, w, height, width), x.dtype)
    _windows(der_products, der.shape[2:])[...] = der.reshape(n, *der.shape[2:], 1, 1)
    der_products = der_products.reshape(n, h * w, height * width)
    der_z = der_x = None
    if needs[0]:
        der_z = matmul(x.reshape(n, c, height * width), der_products.transpose(0, 2, 1))
        der_z = (der_z if nz == n else der_z.sum(axis=0)).reshape(z.shape)
    if needs[1]:
        der_x = matmul(z.reshape(nz, c, h * w), der_products).reshape(x.shape)
    return der_z, der_x


def _sum_of_cells(der: Any, number: Any) -> Any:
    """Derivative by a number a map, or one for all, from that by the maps (N, 1, H, W)."""
    axes = (2, 3) if len(number) == len(der) else (0, 2, 3)
    return der.sum(axis=axes, keepdims=True).astype(number.dtype, copy=False)


@register_layer("XCorr")
@dataclass(eq=False, kw_only=True)
class XCorr(Layer):
    """Response map of a template in a search region.

    Inputs: template features ``z`` (N, C, h, w), search features ``x`` (N, C, H, W) and, with
    ``bias``, a number ``c`` (N, 1, 1, 1) that is added to the map. Output: (N, 1, H - h + 1,
    W - w + 1). Each sample has its own template and number; a single one serves a batch, in place
    of the copies that the public tracker makes.

    Settings
    --------
    weight : array (H - h + 1, W - w + 1), optional
        The public DSiam's: the map is multiplied by it. (Its ``backward`` forgot to; here the
        derivative is multiplied too.)
    bias : bool
        CFNet's: whether there is the third input, which comes from ``CorrFilter``. It is added
        behind ``weight``.
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.
    expect, visualization_active, visualization_grid_sz : any
        Found in saved SiamFC networks, of a debugging display; kept, without effect.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (2, 3)

    weight: Any = None
    bias: bool = False
    opts: tuple = ()
    expect: Any = None
    visualization_active: Any = False
    visualization_grid_sz: Any = None

    def __post_init__(self):
        self.bias = bool(self.bias)
        if self.weight is not None and np.size(self.weight) == 0:
            self.weight = None  # MATLAB's [], the original's default
        if self.weight is not None and self.weight.ndim != 2:
            raise ValueError(
                f"weight must have the two axes of the response map, received {self.weight.shape}"
            )

    def _check(self, z: Any, x: Any, *bias: Any) -> None:
        if len(bias) != self.bias:
            raise ShapeError(
                f"{'with' if self.bias else 'without'} bias expected {2 + self.bias} inputs "
                f"(template, search features{', number to add' * self.bias}), received "
                f"{2 + len(bias)}"
            )
        for place, array in enumerate((z, x)):
            if array.ndim != 4:
                raise ShapeError(
                    f"expected features (N, C, H, W), received shape {array.shape}", input=place
                )
        if z.shape[1] != x.shape[1]:
            raise ShapeError(
                f"template and search features must have the same channels, received {z.shape[1]} "
                f"and {x.shape[1]}; take both from the same layer of the branches",
                input=1,
            )
        if z.shape[0] not in (1, x.shape[0]):
            raise ShapeError(
                f"expected one template, or one for each of the {x.shape[0]} search samples, "
                f"received {z.shape[0]}",
                input=0,
            )
        if z.shape[2] > x.shape[2] or z.shape[3] > x.shape[3]:
            raise ShapeError(
                f"the template {z.shape[2:]} must not be larger than the search region "
                f"{x.shape[2:]}; the template is input 0",
                input=0,
            )
        size = (x.shape[2] - z.shape[2] + 1, x.shape[3] - z.shape[3] + 1)
        if self.weight is not None and tuple(self.weight.shape) != size:
            raise ShapeError(
                f"the response map is {size}, the setting weight has shape {self.weight.shape}"
            )
        if bias and tuple(bias[0].shape) not in ((1, 1, 1, 1), (x.shape[0], 1, 1, 1)):
            raise ShapeError(
                f"expected one number for all samples or for each, {(x.shape[0], 1, 1, 1)}, "
                f"received shape {tuple(bias[0].shape)}",
                input=2,
            )

    def forward(self, inputs, params, context):
        z, x, *bias = inputs
        self._check(z, x, *bias)
        z = z.astype(x.dtype, copy=False)
        y = xcorr(z, x)
        if self.weight is not None:
            y *= get_array_module(x).asarray(self.weight, dtype=x.dtype)
        for number in bias:
            y += number.astype(x.dtype, copy=False)
        return [y], None

    def backward(self, inputs, params, der_outputs, saved, context):
        """See ``xcorr_backward``; the number is added to each cell: ``dc`` is the sum of ``dy``."""
        z, x, *bias = inputs
        der = der_outputs[0]
        der_bias = [_sum_of_cells(der, number) for number in bias]
        if self.weight is not None:
            der = der * get_array_module(x).asarray(self.weight, dtype=x.dtype)
        needs = (context.needs_input(0), context.needs_input(1))
        ders = xcorr_backward(z.astype(x.dtype, copy=False), x, der, needs)
        return [*ders, *der_bias], []

    def get_output_sizes(self, input_sizes):
        z, x = input_sizes[:2]
        return [Size(x.n, 1, x.h - z.h + 1, x.w - z.w + 1)]

    def get_receptive_fields(self, num_inputs, num_outputs):
        return [[WHOLE_PLANE] * num_outputs for _ in range(num_inputs)]

    def move(self, device):
        self.weight = to_device(self.weight, device)
