"""Convolution, MatConvNet's ``dagnn.Conv`` and ``vl_nnconv``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import Filter, ShapeError, Size, get_array_module, register_layer
from dagnet.backend import array_like

from .kernels import choose, matmul
from .kernels.windows import check_der_y, check_features, output_size, span

NO_PAD = (0, 0, 0, 0)


def conv(
    x: Any,
    filters: Any = None,
    bias: Any = None,
    *,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = NO_PAD,
    dilate: tuple[int, int] = (1, 1),
) -> Any:
    """Slide filters over features (a correlation: the filters are not flipped).

    ``y[n, k, p, q] = b[k] + sum over c, i, j of
    f[k, c, i, j] x[n, g(k) + c, p*sv + i*dv - top, q*sh + j*dh - left]``, zero outside ``x``.
    ``g(k)`` is the first channel of filter ``k``'s group: with ``C / groups`` channels a filter,
    the filters fall into ``groups`` equal runs, each of which sees its own run of channels.

    Parameters
    ----------
    x : array (N, C, H, W)
    filters : array (out, C / groups, kh, kw), or None or empty
        Without filters ``x`` is padded and subsampled, as ``vl_nnconv`` has it.
    bias : array (out,), or None or empty
    stride, dilate : (vertical, horizontal)
    pad : (top, bottom, left, right)

    Returns
    -------
    array (N, out, H', W') of the dtype of ``x``, with
    ``H' = floor((H + top + bottom - (kh - 1) dv - 1) / sv) + 1`` and ``W'`` likewise.

    Raises
    ------
    ShapeError
        Shapes that do not fit each other, or filters larger than the padded input.
    """
    filters, bias = _checked(x, filters, bias, dilate)
    if filters is None:
        y = _subsample(x, stride, pad)
        return y if bias is None else y + bias[:, None, None]
    return choose("conv", x).forward(x, filters, bias, stride, pad, dilate)


def conv_backward(
    x: Any,
    filters: Any,
    bias: Any,
    der_y: Any,
    *,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = NO_PAD,
    dilate: tuple[int, int] = (1, 1),
    needs_x: bool = True,
) -> tuple[Any, Any, Any]:
    """Derivatives ``(der_x, der_filters, der_bias)`` of ``sum(der_y * conv(x, filters, bias))``.

    ``conv`` is linear in each argument, so each derivative is the adjoint map:
    ``db[k] = sum over n, p, q of dy[n, k, p, q]``;
    ``df[k, c, i, j] = sum over n, p, q of dy[n, k, p, q] x[n, g(k) + c, p*sv + i*dv - top, ...]``;
    ``dx`` at ``[n, g(k) + c, p*sv + i*dv - top, ...]`` collects ``f[k, c, i, j] dy[n, k, p, q]``.

    ``der_x`` is None unless ``needs_x``; ``der_filters`` and ``der_bias`` are None for filters
    and bias that are None or empty.
    """
    filters, bias = _checked(x, filters, bias, dilate)
    kernel = (1, 1) if filters is None else filters.shape[2:]
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilate))
    out = x.shape[1] if filters is None else filters.shape[0]
    check_der_y(der_y, (x.shape[0], out, *output_size(x.shape[2:], extent, stride, pad)))
    der_bias = None if bias is None else der_y.sum(axis=(0, 2, 3))
    if filters is None:
        der_x = _subsample_backward(der_y, x.shape, stride, pad) if needs_x else None
        return der_x, None, der_bias
    der_x, der_filters = choose("conv", x).backward(
        x, filters, der_y, stride, pad, dilate, needs_x=needs_x
    )
    return der_x, der_filters, der_bias


def conv_projection(
    x: Any, filters: Any, der_y: Any, weight: Any, convolved: Any = None, **how: Any
) -> Any:
    """A derivative by ``x`` that has the weighted sums of ``conv_backward``'s, and is cheaper.

    ``conv`` is linear, so with ``w`` the weighting ``sum w dx = sum conv(w) dy`` over each sample:
    one convolution for all samples. The projection of ``dx`` on ``w``, ``w sum(w dx) / sum(w w)``,
    has that sum too.

    Parameters
    ----------
    weight : number, or array that broadcasts to (C, H, W)
    convolved : array, optional
        What ``convolved_weighting`` gives, if that is at hand.
    how : stride, pad and dilate, as ``conv`` has them

    Returns
    -------
    array (N, C, H, W), read-only where the weighting is a number
    """
    xp = get_array_module(x)
    if convolved is None:
        convolved = convolved_weighting(weight, x, filters, **how)
    weight = array_like(weight, x)
    w = xp.broadcast_to(weight, (1, *x.shape[1:]))
    plain = weight.ndim == 0
    if convolved.ndim == 1:
        parts = der_y.sum(axis=(2, 3)) * convolved
    else:
        parts = _rowwise_dot(der_y, convolved)
    # Without weights there is nothing to share out.
    square = weight * weight * float(w.size) if plain else xp.square(w, dtype=np.float64).sum()
    square = xp.maximum(square, np.finfo(x.dtype).tiny)
    shares = (parts.sum(axis=1, dtype=np.float64) / square).astype(x.dtype)[:, None, None, None]
    if plain:
        return xp.broadcast_to(weight * shares, x.shape)
    return w * shares


def convolved_weighting(weight: Any, x: Any, filters: Any, **how: Any) -> Any:
    """``conv`` of a weighting of inputs like ``x``, as ``conv_projection`` uses it.

    Returns
    -------
    array (1, out, H', W'), or (out,) where it is the same in every place
    """
    xp = get_array_module(x)
    weight = array_like(weight, x)
    filled = filters is not None and filters.size > 0
    if weight.ndim == 0 and filled and not any(how["pad"]):
        # Every window sees the same.
        return weight * filters.astype(x.dtype, copy=False).sum(axis=(1, 2, 3))
    w = xp.broadcast_to(weight, (1, *x.shape[1:]))
    return conv(xp.ascontiguousarray(w), filters, **how)


def _rowwise_dot(a: Any, b: Any) -> Any:
    """``sum over h, w of a b``, (N, C): inner products, which need no array ``a b``."""
    n, c = a.shape[:2]
    return matmul(a.reshape(n, c, 1, -1), b.reshape(1, c, -1, 1))[:, :, 0, 0]


def _checked(x: Any, filters: Any, bias: Any, dilate: tuple) -> tuple[Any, Any]:
    """Filters and bias in the dtype of ``x``, None in place of empty ones."""
    check_features(x)
    out = x.shape[1]
    if filters is None or filters.size == 0:
        filters = None
        if tuple(dilate) != (1, 1):
            raise ValueError(f"without filters dilate must be 1, received {dilate}")
    else:
        if filters.ndim != 4:
            raise ShapeError(
                "expected filters (out, in / groups, height, width), received shape "
                f"{tuple(filters.shape)}",
                param=0,
            )
        out, group = filters.shape[:2]
        groups, rest = divmod(x.shape[1], group)
        if rest or groups == 0 or out % groups:
            raise ShapeError(
                f"the input has {x.shape[1]} channels, each of the {out} filters sees {group}: "
                "expected as many, or a part of them such that the filters fall into groups",
                input=0,
            )
        filters = filters.astype(x.dtype, copy=False)
    if bias is None or bias.size == 0:
        return filters, None
    if tuple(bias.shape) != (out,):
        raise ShapeError(
            f"expected a bias of shape ({out},), one for each output channel, received "
            f"{tuple(bias.shape)}",
            param=1,
        )
    return filters, bias.astype(x.dtype, copy=False)


def _subsampled(shape: tuple, stride: tuple, pad: tuple) -> tuple[tuple, tuple, tuple]:
    """Shape of the subsampled array, the place in it that is not padding, and its source."""
    height, width = output_size(shape[2:], (1, 1), stride, pad)
    rows, source_rows = span(0, shape[2], height, stride[0], pad[0])
    columns, source_columns = span(0, shape[3], width, stride[1], pad[2])
    everything = (slice(None), slice(None))
    return (
        (*shape[:2], height, width),
        (*everything, rows, columns),
        (*everything, source_rows, source_columns),
    )


def _subsample(x: Any, stride: tuple, pad: tuple) -> Any:
    shape, place, source = _subsampled(x.shape, stride, pad)
    y = get_array_module(x).zeros(shape, x.dtype)
    y[place] = x[source]
    return y


def _subsample_backward(der_y: Any, shape: tuple, stride: tuple, pad: tuple) -> Any:
    _, place, source = _subsampled(shape, stride, pad)
    der_x = get_array_module(der_y).zeros(shape, der_y.dtype)
    der_x[source] = der_y[place]
    return der_x


@register_layer("dagnn.Conv")
@dataclass(eq=False, kw_only=True)
class Conv(Filter):
    """Convolution with filter groups, stride, padding and dilation.

    Input: features (N, C, H, W). Parameters: filters (out, C / groups, kh, kw) and, with
    ``has_bias``, a bias (out,). The number of groups follows from the channels.

    Settings
    --------
    size : (out, C / groups, kh, kw)
        Of the filters (MatConvNet's order is ``[kh kw C/groups out]``). The default stands for
        empty filters: pad, subsample and add the bias.
    has_bias : bool
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.
    pad, stride, dilate : as in ``dagnet.Filter``
    """

    num_params: ClassVar[tuple[int, int | None]] = (1, 2)

    size: Any = (0, 0, 0, 0)
    has_bias: bool = True
    opts: tuple = ()

    def __post_init__(self):
        super().__post_init__()
        size = tuple(int(v) for v in np.atleast_1d(self.size))
        if len(size) != 4 or min(size) < 0:
            raise ValueError(
                "size must be (out, in / groups, height, width), four non-negative integers, "
                f"received {self.size!r}"
            )
        self.size = size
        self.has_bias = bool(self.has_bias)

    def _arrays(self, params):
        if self.has_bias and len(params) < 2:
            raise ShapeError(
                "has_bias is set, so filters and bias are expected as parameters, received "
                "filters alone; name a bias or clear has_bias"
            )
        return params[0], params[1] if self.has_bias else None

    def forward(self, inputs, params, context):
        filters, bias = self._arrays(params)
        y = conv(inputs[0], filters, bias, stride=self.stride, pad=self.pad, dilate=self.dilate)
        return [y], None

    def backward(self, inputs, params, der_outputs, saved, context):
        filters, bias = self._arrays(params)
        needs_x, weight = context.needs_input(0), context.weight(0)
        how = {"stride": self.stride, "pad": self.pad, "dilate": self.dilate}
        der_x, *der_params = conv_backward(
            *(inputs[0], filters, bias, der_outputs[0]), **how, needs_x=needs_x and weight is None
        )
        if needs_x and weight is not None:
            der_x = conv_projection(inputs[0], filters, der_outputs[0], weight, **how)
        return [der_x], der_params[: len(params)]

    def get_kernel_size(self):
        return self.size[2:] if math.prod(self.size) else (1, 1)

    def get_output_sizes(self, input_sizes):
        (size,) = super().get_output_sizes(input_sizes)
        return [Size(size.n, self.size[0], size.h, size.w) if math.prod(self.size) else size]

    def init_params(self, rng, dtype=np.float32):
        """Gaussian filters of variance ``2 / (kh kw C/groups)``, a zero bias.

        The initialisation of He et al. (ICCV 2015) for rectifiers; ``Conv.initParams``.
        """
        count = math.prod(self.size[1:])
        filters = rng.standard_normal(self.size) * math.sqrt(2 / max(count, 1))
        params = [filters.astype(dtype)]
        if self.has_bias:
            params.append(np.zeros(self.size[0], dtype))
        return params
