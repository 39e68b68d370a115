"""Batch normalisation, MatConvNet's ``dagnn.BatchNorm`` and ``vl_nnbnorm``.

``y = g (x - mean) / sigma + b``, channel by channel. Moments are kept as ``[mean, sigma]`` with
``sigma = sqrt(var + epsilon)``, as MatConvNet keeps them: epsilon is part of sigma and is not
added again when stored moments are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import ElementWise, ShapeError, get_array_module, register_layer, require

from .kernels import Kernel, choose, matmul, register
from .kernels.windows import check_der_y, check_features

MOMENTS = ("batch", "stored")
UNTRAINED = (
    "stored moments [mean, sigma] must have a positive sigma in every channel; zeros mean that "
    "they were never trained (NaN, that training diverged). Train in mode 'normal' first, or load "
    "trained moments"
)


def _over_plane(channels: Any) -> Any:
    """A vector (C,) in the shape that multiplies (N, C, H, W)."""
    return channels[:, None, None]


def _channel_sum(a: Any) -> Any:
    return a.sum(axis=(0, 2, 3))


def _channel_dot(a: Any, b: Any) -> Any:
    """``sum over n, h, w of a b``: (C,), as inner products, which need no array ``a b``."""
    n, c = a.shape[:2]
    return matmul(a.reshape(n, c, 1, -1), b.reshape(n, c, -1, 1)).sum(axis=(0, 2, 3))


def _batch_norm(x: Any, multipliers: Any, biases: Any, epsilon: float) -> tuple[Any, Any]:
    xp = get_array_module(x)
    count = x.size // x.shape[1]
    mean = _channel_sum(x) / count
    # The deviations are needed for y anyway. Their mean square is stable where the original's
    # E[x^2] - mean^2 cancels.
    y = x - _over_plane(mean)
    sigma = xp.sqrt(_channel_dot(y, y) / count + epsilon)
    y *= _over_plane(multipliers / sigma)
    y += _over_plane(biases)
    return y, xp.stack([mean, sigma], axis=1)


def _batch_norm_backward(
    x: Any, multipliers: Any, der_y: Any, moments: Any
) -> tuple[Any, Any, Any]:
    mean, sigma = moments[:, 0], moments[:, 1]
    count = x.size // x.shape[1]
    der_x = x - _over_plane(mean)
    der_multipliers = _channel_dot(der_y, der_x) / sigma
    der_biases = _channel_sum(der_y)
    der_x *= _over_plane(-der_multipliers / (sigma * count))
    der_x += der_y
    der_x -= _over_plane(der_biases / count)
    der_x *= _over_plane(multipliers / sigma)
    return der_x, der_multipliers, der_biases


def _batch_norm_stored(x: Any, multipliers: Any, biases: Any, moments: Any) -> Any:
    y = x - _over_plane(moments[:, 0])
    y *= _over_plane(multipliers / moments[:, 1])
    y += _over_plane(biases)
    return y


def _batch_norm_stored_backward(
    x: Any, multipliers: Any, der_y: Any, moments: Any, needs_x: bool
) -> tuple[Any, Any, Any, Any]:
    mean, sigma = moments[:, 0], moments[:, 1]
    scale = multipliers / sigma
    der_biases = _channel_sum(der_y)
    der_multipliers = _channel_dot(der_y, x - _over_plane(mean)) / sigma
    xp = get_array_module(x)
    der_moments = -xp.stack([scale * der_biases, scale * der_multipliers], axis=1)
    der_x = der_y * _over_plane(scale) if needs_x else None
    return der_x, der_multipliers, der_biases, der_moments


register("batch_norm", Kernel("reference", _batch_norm, _batch_norm_backward))
register("batch_norm_stored", Kernel("reference", _batch_norm_stored, _batch_norm_stored_backward))


def batch_norm(x: Any, multipliers: Any, biases: Any, epsilon: float = 1e-5) -> tuple[Any, Any]:
    """Normalise each channel by the mean and deviation of this batch.

    Parameters
    ----------
    x : array (N, C, H, W)
    multipliers, biases : arrays (C,)
    epsilon : float
        Added to the (biased) variance.

    Returns
    -------
    y : array (N, C, H, W) of the dtype of ``x``
    moments : array (C, 2)
        ``[mean, sigma]``, ``sigma = sqrt(var + epsilon)``.

    Raises
    ------
    ShapeError
        If the parameters are not one number for each channel.
    """
    multipliers, biases = _checked(x, multipliers, biases)
    return choose("batch_norm", x).forward(x, multipliers, biases, epsilon)


def batch_norm_backward(x: Any, multipliers: Any, der_y: Any, moments: Any) -> tuple[Any, Any, Any]:
    """Derivatives of ``batch_norm`` by ``x``, multipliers and biases, from its ``moments``.

    With ``t = (x - mean) / sigma`` and ``m`` values a channel: ``dg = sum dy t``,
    ``db = sum dy``. Mean and sigma depend on ``x``: ``d mean / dx_i = 1/m`` and
    ``d sigma / dx_i = t_i / m``, so ``d t_j / d x_i = (delta_ij - 1/m - t_j t_i / m) / sigma`` and
    ``dx = (g / sigma) (dy - db / m - t dg / m)``.
    """
    (multipliers,) = _checked(x, multipliers)
    check_der_y(der_y, x.shape)
    return choose("batch_norm", x).backward(x, multipliers, der_y, moments)


def batch_norm_stored(x: Any, multipliers: Any, biases: Any, moments: Any) -> Any:
    """``g (x - mean) / sigma + b`` with given ``moments`` (C, 2), ``[mean, sigma]``.

    Raises
    ------
    ShapeError
        As ``batch_norm``, and for moments that are not of shape (C, 2).
    ValueError
        If a sigma is not positive: the moments of a layer that never was trained are zero.
    """
    multipliers, biases, moments = _checked(x, multipliers, biases, moments)
    return choose("batch_norm_stored", x).forward(x, multipliers, biases, moments)


def batch_norm_stored_backward(
    x: Any, multipliers: Any, der_y: Any, moments: Any, *, needs_x: bool = True
) -> tuple[Any, Any, Any, Any]:
    """Derivatives of ``batch_norm_stored`` by ``x``, multipliers, biases and moments.

    The moments are constants of their own: with ``t = (x - mean) / sigma``,
    ``dx = (g / sigma) dy``, ``dg = sum dy t``, ``db = sum dy``,
    ``d mean = -(g / sigma) sum dy``, ``d sigma = -(g / sigma) sum dy t``.

    ``vl_nnbnorm`` uses the formula of ``batch_norm_backward`` here too, which is wrong: it
    subtracts the part of the derivative that passes through moments that do not depend on ``x``.
    """
    multipliers, moments = _checked(x, multipliers, moments=moments)
    check_der_y(der_y, x.shape)
    kernel = choose("batch_norm_stored", x)
    return kernel.backward(x, multipliers, der_y, moments, needs_x)


def _checked(x: Any, multipliers: Any, biases: Any = None, moments: Any = None) -> list[Any]:
    """The parameters that are given, in the dtype of ``x``."""
    check_features(x)
    c = x.shape[1]
    names = ("multipliers", "biases", "moments")
    shapes = ((c,), (c,), (c, 2))
    checked = []
    for place, array in enumerate((multipliers, biases, moments)):
        if array is None:
            continue
        if tuple(array.shape) != shapes[place]:
            raise ShapeError(
                f"expected {names[place]} of shape {shapes[place]} for an input of {c} channels, "
                f"received {tuple(array.shape)}",
                param=place,
            )
        checked.append(array.astype(x.dtype, copy=False))
    if moments is not None:
        require(moments[:, 1] > 0, lambda: ValueError(UNTRAINED))
    return checked


def check_params(x: Any, multipliers: Any, biases: Any, moments: Any, *, used: bool) -> list[Any]:
    """The parameters in the dtype of ``x``; in place of moments that are not ``used`` None.

    Raises
    ------
    ShapeError, TypeError, ValueError
        As ``batch_norm_stored``.
    """
    if used:
        return _checked(x, multipliers, biases, moments)
    return [*_checked(x, multipliers, biases), None]


@register_layer("dagnn.BatchNorm")
@dataclass(eq=False, kw_only=True)
class BatchNorm(ElementWise):
    """Batch normalisation.

    Input: features (N, C, H, W). Parameters: multipliers (C,), biases (C,), and moments (C, 2).
    In mode ``'normal'`` the batch's own moments are used, and what ``backward`` returns for the
    parameter ``moments`` is the batch's moments, for train method ``average``. In mode
    ``'test'``, or with ``moments='stored'``, the parameter's moments are used and its derivative
    is the exact one, so training with ``moments='stored'`` needs that parameter's learning rate
    to be 0 where its train method is ``average``.

    Settings
    --------
    num_channels : int or None
        For ``init_params``. Networks made from SimpleNN files leave it empty.
    epsilon : float
        Added to the variance. MatConvNet's present default; the release that trained SiamFC had
        1e-4.
    moments : 'batch' or 'stored'
        Whose moments mode ``'normal'`` uses (an addition of ours).
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.
    """

    num_params: ClassVar[tuple[int, int | None]] = (3, 3)

    num_channels: Any = None
    epsilon: float = 1e-5
    moments: str = "batch"
    opts: tuple = ()

    def __post_init__(self):
        if self.num_channels is not None:
            channels = np.atleast_1d(self.num_channels)
            self.num_channels = int(channels[0]) if channels.size else None
        self.epsilon = float(self.epsilon)
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must not be negative, received {self.epsilon}")
        if self.moments not in MOMENTS:
            raise ValueError(f"moments must be one of {MOMENTS}, received {self.moments!r}")

    def forward(self, inputs, params, context):
        multipliers, biases, moments = params
        if context.mode == "test" or self.moments == "stored":
            return [batch_norm_stored(inputs[0], multipliers, biases, moments)], None
        y, observed = batch_norm(inputs[0], multipliers, biases, self.epsilon)
        return [y], observed

    def backward(self, inputs, params, der_outputs, saved, context):
        x, multipliers, der_y = inputs[0], params[0], der_outputs[0]
        if saved is None:
            der_x, *der_params = batch_norm_stored_backward(
                x, multipliers, der_y, params[2], needs_x=context.needs_input(0)
            )
            return [der_x], der_params
        der_x, *der_params = batch_norm_backward(x, multipliers, der_y, saved)
        return [der_x], [*der_params, saved]

    def init_params(self, rng, dtype=np.float32):
        """Multipliers 1, biases 0, moments 0.

        Raises
        ------
        ValueError
            If ``num_channels`` is not set.
        """
        if self.num_channels is None:
            raise ValueError("init_params needs num_channels, the number of input channels")
        c = self.num_channels
        return [np.ones(c, dtype), np.zeros(c, dtype), np.zeros((c, 2), dtype)]

    def param_attributes(self):
        if self.moments == "stored":
            frozen = {"train_method": "gradient", "learning_rate": 0.0, "weight_decay": 0.0}
            return [{}, {}, frozen]
        return [{}, {}, {"train_method": "average", "learning_rate": 0.1}]
