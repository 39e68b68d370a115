"""Transposed convolution, MatConvNet's ``dagnn.ConvTranspose`` and ``vl_nnconvt``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import (
    UNKNOWN,
    Layer,
    ReceptiveField,
    ShapeError,
    Size,
    get_array_module,
    register_layer,
)

from .conv import conv, conv_backward
from .kernels import matmul
from .kernels.windows import check_der_y, check_features

NO_CROP = (0, 0, 0, 0)


def conv_transpose(
    x: Any,
    filters: Any,
    bias: Any = None,
    *,
    upsample: tuple[int, int] = (1, 1),
    crop: tuple[int, int, int, int] = NO_CROP,
    groups: int = 1,
) -> Any:
    """Put a filter, times the feature, at every place of a finer grid, and add up.

    ``y[n, g K + k, p*uv + i - top, q*uh + j - left]`` collects ``f[c, k, i, j] x[n, c, p, q]``
    over the channels ``c`` of group ``g``, plus ``b[g K + k]``. It is the adjoint of the
    convolution with these filters, stride ``upsample`` and padding ``crop``.

    Parameters
    ----------
    x : array (N, C, H, W)
    filters : array (C, K, kh, kw)
        For each input channel ``K`` planes. (``vl_nnconvt`` has them as ``kh x kw x K x C``.)
    bias : array (K groups,), or None or empty
    upsample : (vertical, horizontal)
    crop : (top, bottom, left, right)
        Rows and columns that are cut off the output.
    groups : int
        The input channels fall into so many equal runs; each makes its own ``K`` channels of
        the output.

    Returns
    -------
    array (N, K groups, H', W') of the dtype of ``x``, with
    ``H' = uv (H - 1) + kh - top - bottom`` and ``W'`` likewise.

    Raises
    ------
    ShapeError
        Shapes that do not fit each other, or a crop that leaves nothing.
    """
    filters, bias = _checked(x, filters, bias, groups)
    height, width = _output_size(x, filters, upsample, crop)
    xp = get_array_module(x)
    n, c, h, w = x.shape
    planes, kh, kw = filters.shape[1:]
    top, bottom, left, right = crop
    shape = (n, groups * planes, height + top + bottom, width + left + right)
    whole = xp.zeros(shape, x.dtype)
    features = x.reshape(n, groups, c // groups, h * w)
    rows_end, columns_end = upsample[0] * (h - 1) + 1, upsample[1] * (w - 1) + 1
    for i in range(kh):
        # One row of the filters at a time: products of all of them would be as large as the
        # windows of the convolution.
        line = filters[:, :, i].reshape(groups, c // groups, planes * kw)
        products = matmul(line.transpose(0, 2, 1), features)
        products = products.reshape(n, groups * planes, kw, h, w)
        rows = slice(i, i + rows_end, upsample[0])
        for j in range(kw):
            whole[:, :, rows, j : j + columns_end : upsample[1]] += products[:, :, j]
    y = xp.ascontiguousarray(whole[:, :, top : top + height, left : left + width])
    if bias is not None:
        y += bias[:, None, None]
    return y


def conv_transpose_backward(
    x: Any,
    filters: Any,
    bias: Any,
    der_y: Any,
    *,
    upsample: tuple[int, int] = (1, 1),
    crop: tuple[int, int, int, int] = NO_CROP,
    groups: int = 1,
    needs_x: bool = True,
) -> tuple[Any, Any, Any]:
    """Derivatives ``(der_x, der_filters, der_bias)`` of ``sum(der_y * conv_transpose(...))``.

    With ``A`` the convolution that ``conv_transpose`` is the adjoint of, ``sum(dy . A'(f) x) =
    sum(A(f) dy . x)``. So ``dx = A(f) dy``, the convolution of ``dy`` itself; and the derivative
    by the filters is that of ``sum(A(f) dy . x)``: that of a convolution of ``dy`` whose output
    has the derivative ``x``. ``db[k] = sum over n, p, q of dy[n, k, p, q]``.

    ``der_x`` is None unless ``needs_x``; ``der_bias`` is None for a bias that is None or empty.
    """
    filters, bias = _checked(x, filters, bias, groups)
    size = _output_size(x, filters, upsample, crop)
    check_der_y(der_y, (x.shape[0], groups * filters.shape[1], *size))
    how = {"stride": tuple(upsample), "pad": tuple(crop)}
    _, der_filters, _ = conv_backward(der_y, filters, None, x, **how, needs_x=False)
    der_x = conv(der_y, filters, **how) if needs_x else None
    return der_x, der_filters, None if bias is None else der_y.sum(axis=(0, 2, 3))


def _checked(x: Any, filters: Any, bias: Any, groups: int) -> tuple[Any, Any]:
    """Filters and bias in the dtype of ``x``, None in place of an empty bias."""
    check_features(x)
    if filters.ndim != 4 or filters.size == 0:
        raise ShapeError(
            "expected filters (in, out / groups, height, width), none of them 0, received shape "
            f"{tuple(filters.shape)}",
            param=0,
        )
    if filters.shape[0] != x.shape[1]:
        raise ShapeError(
            f"the input has {x.shape[1]} channels, the filters are for {filters.shape[0]}: their "
            "first axis is that of the input's channels",
            input=0,
        )
    if x.shape[1] % groups:
        raise ShapeError(
            f"{groups} groups do not divide the input's {x.shape[1]} channels", input=0
        )
    if bias is None or bias.size == 0:
        return filters.astype(x.dtype, copy=False), None
    out = groups * filters.shape[1]
    if tuple(bias.shape) != (out,):
        raise ShapeError(
            f"expected a bias of shape ({out},), one for each output channel, received "
            f"{tuple(bias.shape)}",
            param=1,
        )
    return filters.astype(x.dtype, copy=False), bias.astype(x.dtype, copy=False)


def _output_size(x: Any, filters: Any, upsample: tuple, crop: tuple) -> tuple[int, int]:
    height = upsample[0] * (x.shape[2] - 1) + filters.shape[2] - crop[0] - crop[1]
    width = upsample[1] * (x.shape[3] - 1) + filters.shape[3] - crop[2] - crop[3]
    if height < 1 or width < 1:
        raise ShapeError(
            f"the crop {tuple(crop)} (top, bottom, left, right) leaves nothing of an output of "
            f"{height + crop[0] + crop[1]}x{width + crop[2] + crop[3]} cells",
            input=0,
        )
    return height, width


def _integers(value: Any, counts: tuple[int, ...], least: int, name: str) -> tuple[int, ...]:
    numbers = tuple(int(v) for v in np.atleast_1d(value))
    if len(numbers) not in counts or min(numbers) < least:
        raise ValueError(
            f"{name} must be {' or '.join(map(str, counts))} integers of at least {least}, "
            f"received {value!r}"
        )
    return numbers


@register_layer("dagnn.ConvTranspose")
@dataclass(eq=False, kw_only=True)
class ConvTranspose(Layer):
    """Transposed convolution, with upsampling, cropping and filter groups.

    Input: features (N, C, H, W). Parameters: filters (C, out / num_groups, kh, kw) and, with
    ``has_bias``, a bias (out,). Output: (N, out, H', W').

    Settings
    --------
    size : (C, out / num_groups, kh, kw)
        Of the filters (MatConvNet's order is ``[kh kw out/groups C]``). The default is a size
        that is not known, of a layer that only evaluates.
    has_bias : bool
    upsample : int or (vertical, horizontal)
    crop : int, (vertical, horizontal) or (top, bottom, left, right)
    num_groups : int
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.

    Notes
    -----
    With more than one group the original tells ``size(3)`` output channels and draws as many
    biases, where its operator makes ``num_groups`` times that; here it is what the operator makes.
    """

    num_params: ClassVar[tuple[int, int | None]] = (1, 2)

    size: Any = (0, 0, 0, 0)
    has_bias: bool = True
    upsample: Any = (1, 1)
    crop: Any = NO_CROP
    num_groups: int = 1
    opts: tuple = ()

    def __post_init__(self):
        self.size = _integers(self.size, (4,), 0, "size (in, out / num_groups, height, width)")
        self.has_bias = bool(self.has_bias)
        self.upsample = _integers(self.upsample, (1, 2), 1, "upsample")
        self.upsample *= 2 // len(self.upsample)
        crop = _integers(self.crop, (1, 2, 4), 0, "crop")
        self.crop = tuple(c for c in crop for _ in range(4 // len(crop)))
        (self.num_groups,) = _integers(self.num_groups, (1,), 1, "num_groups")

    @property
    def _sized(self) -> bool:
        return math.prod(self.size) > 0

    def _arrays(self, params):
        if self.has_bias and len(params) < 2:
            raise ShapeError(
                "has_bias is set, so filters and bias are expected as parameters, received "
                "filters alone; name a bias or clear has_bias"
            )
        return params[0], params[1] if self.has_bias else None

    def _how(self):
        return {"upsample": self.upsample, "crop": self.crop, "groups": self.num_groups}

    def forward(self, inputs, params, context):
        return [conv_transpose(inputs[0], *self._arrays(params), **self._how())], None

    def backward(self, inputs, params, der_outputs, saved, context):
        der_x, *der_params = conv_transpose_backward(
            *(inputs[0], *self._arrays(params), der_outputs[0]),
            **self._how(),
            needs_x=context.needs_input(0),
        )
        return [der_x], der_params[: len(params)]

    def get_output_sizes(self, input_sizes):
        n, _, h, w = input_sizes[0]
        if not self._sized:
            return [Size(n, math.nan, math.nan, math.nan)]
        _, planes, kh, kw = self.size
        top, bottom, left, right = self.crop
        height = self.upsample[0] * (h - 1) + kh - top - bottom
        width = self.upsample[1] * (w - 1) + kw - left - right
        return [Size(n, planes * self.num_groups, height, width)]

    def get_receptive_fields(self, num_inputs, num_outputs):
        """Output cell ``p`` sees the input cells ``P`` with ``0 <= p + top - u P < k`` (from 0).

        They reach ``(k - 1) / u`` far, are centred on ``(p + top - (k - 1) / 2) / u``, and that
        moves on by ``1 / u`` a cell of the output.
        """
        if not self._sized:
            return [[UNKNOWN]]
        kernel, before = self.size[2:], self.crop[::2]
        field = ReceptiveField(
            size=tuple((k - 1) / u + 1 for k, u in zip(kernel, self.upsample)),
            stride=tuple(1 / u for u in self.upsample),
            offset=tuple(
                (2 * b - k + 1) / (2 * u) + 1 for b, k, u in zip(before, kernel, self.upsample)
            ),
        )
        return [[field]]

    def init_params(self, rng, dtype=np.float32):
        """Gaussian filters of variance ``2 / (kh kw C)``, a zero bias; as the original's."""
        channels, planes, kh, kw = self.size
        scale = math.sqrt(2 / max(channels * kh * kw, 1))
        params = [(rng.standard_normal(self.size) * scale).astype(dtype)]
        if self.has_bias:
            params.append(np.zeros(planes * self.num_groups, dtype))
        return params
