"""The p-distance between features, MatConvNet's ``dagnn.PDist`` and ``vl_nnpdist``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ShapeError, Size, asnumpy, get_array_module, register_layer, to_device

from .averaged_loss import AveragedLoss
from .kernels.windows import check_der_y, check_features

EPSILON = 1e-6


def pdist(
    x: Any,
    x0: Any,
    p: float = 2,
    *,
    no_root: bool = False,
    aggregate: bool = False,
    instance_weights: Any = None,
) -> Any:
    """Distance over channels between the features of each cell.

    ``y = w (sum over channels of |d|^p)^(1/p)`` with ``d = x - x0``; with ``no_root`` the power
    ``1/p`` is left out. ``p = inf`` is the limit, ``y = w max over channels of |d|``.

    Parameters
    ----------
    x : array (N, C, H, W)
    x0 : array (N, C, H, W), or with length 1 in place of N, H or W
        What ``x`` is compared with; (N, C, 1, 1) is one vector for all cells of a sample.
    p : number above 0
    no_root : bool
        Not for ``p = inf``, which has no power ``p``.
    aggregate : bool
        Return the sum of all distances, of shape ().
    instance_weights : number or array that broadcasts to (N, 1, H, W), optional
        The ``w``.

    Returns
    -------
    array (N, 1, H, W), or of shape () with ``aggregate``, of the dtype of ``x``

    Raises
    ------
    ShapeError
        If ``x0`` or the weights do not fit ``x``.
    ValueError
        If ``p`` is not above 0, or infinite with ``no_root``.
    """
    check_power(p, no_root)
    size = abs(_difference(x, x0))
    if math.isinf(p):
        y = size.max(axis=1, keepdims=True)
    else:
        y = _power(size, p).sum(axis=1, keepdims=True)
        if not no_root and p != 1:
            y = y ** (1 / p)
    weights = _weights(x, instance_weights)
    if weights is not None:
        y = y * weights
    return get_array_module(x).asarray(y.sum()) if aggregate else y


def pdist_backward(
    x: Any,
    x0: Any,
    der_y: Any,
    p: float = 2,
    *,
    no_root: bool = False,
    epsilon: float = EPSILON,
    aggregate: bool = False,
    instance_weights: Any = None,
) -> tuple[Any, Any]:
    """Derivatives of ``pdist`` by ``x`` and by ``x0``.

    ``d|d_q|^p / dd_q = p |d_q|^(p - 1) sign(d_q)``; that is the derivative with ``no_root``. With
    ``T = sum |d|^p``, ``dT^(1/p) / dd_q = T^((1 - p)/p) |d_q|^(p - 1) sign(d_q)``. For ``p = inf``
    it is ``sign(d_q)`` at the largest ``|d_q|``, of equal ones the first. By ``x`` it is this
    times ``w dy``, by ``x0`` the negative, summed over the axes along which ``x0`` was repeated
    (the original leaves that sum to its caller).

    Where negative powers meet zero the distance has no derivative. As in the original ``epsilon``
    is a floor there: under ``T`` for ``p > 1``, under ``|d_q|`` for ``p < 1``.

    Parameters
    ----------
    der_y : array of the shape of ``pdist``'s value
        With ``aggregate`` one number of any shape.
    epsilon : float
        The floor.

    Returns
    -------
    der_x : array (N, C, H, W)
    der_x0 : array like ``x0``
    """
    check_power(p, no_root)
    d = _difference(x, x0)
    xp = get_array_module(x)
    der_y = xp.asarray(der_y, dtype=x.dtype)
    if aggregate:
        der_y = der_y.reshape(())
    else:
        check_der_y(der_y, (d.shape[0], 1, *d.shape[2:]))
    weights = _weights(x, instance_weights)
    der_x = _slope(d, p, no_root, epsilon) * (der_y if weights is None else der_y * weights)
    repeated = tuple(a for a in range(4) if x0.shape[a] == 1 and x.shape[a] > 1)
    return der_x, -(der_x.sum(axis=repeated, keepdims=True) if repeated else der_x)


def check_power(p: float, no_root: bool) -> None:
    """Raise ValueError unless ``p`` is a power that ``pdist`` has."""
    if not p > 0:
        raise ValueError(
            f"p must be above 0 (below 1 it is no norm, at 0 it counts channels), received {p!r}"
        )
    if math.isinf(p) and no_root:
        raise ValueError("p = inf is a largest difference, which has no root; leave no_root out")


def _power(size: Any, p: float) -> Any:
    if p == 1:
        return size
    return size * size if p == 2 else size**p


def _slope(d: Any, p: float, no_root: bool, epsilon: float) -> Any:
    """Derivative of the distance by the difference ``d``, cell by cell."""
    xp = get_array_module(d)
    size, sign = abs(d), xp.sign(d)
    if math.isinf(p):
        first = size.argmax(axis=1)[:, None]
        return sign * (xp.arange(d.shape[1])[:, None, None] == first)
    if p == 1:
        return sign
    if p == 2:
        slope = d
    else:
        slope = sign * (xp.maximum(size, d.dtype.type(epsilon)) if p < 1 else size) ** (p - 1)
    if no_root:
        return slope * p
    total = _power(size, p).sum(axis=1, keepdims=True)
    if p > 1:
        total = xp.maximum(total, d.dtype.type(epsilon))
    return slope * total ** ((1 - p) / p)


def _difference(x: Any, x0: Any) -> Any:
    check_features(x)
    fits = x0.ndim == 4 and x0.shape[1] == x.shape[1]
    if not fits or any(b not in (1, a) for a, b in zip(x.shape, x0.shape)):
        raise ShapeError(
            f"expected targets of shape {tuple(x.shape)}, with 1 in place of any length but the "
            f"channels', received {tuple(x0.shape)}",
            input=1,
        )
    return x - x0.astype(x.dtype, copy=False)


def _weights(x: Any, given: Any) -> Any:
    """Weights in the dtype of ``x``, which broadcast to (N, 1, H, W); None without."""
    if given is None:
        return None
    xp = get_array_module(x)
    weights = xp.asarray(given, dtype=x.dtype)
    shape = (x.shape[0], 1, *x.shape[2:])
    try:
        xp.broadcast_to(weights, shape)
    except ValueError:
        raise ShapeError(
            f"instance weights of shape {tuple(weights.shape)} do not broadcast to the "
            f"distances' {shape}; give a number, (H, W) or (N, 1, H, W)"
        ) from None
    return weights


@register_layer("dagnn.PDist")
@dataclass(eq=False, kw_only=True)
class PDist(AveragedLoss):
    """Distance of features from targets, as a loss or as a map.

    Inputs: features ``x``, targets ``x0`` as in ``pdist``, and where there are three the instance
    weights of each cell, which are constants. Output: the sum of all distances, shape (), or the
    map of distances (N, 1, H, W).

    Settings
    --------
    p, no_root : as in ``pdist``
    aggregate : bool
        Sum up all distances.
    epsilon : float
        Floor of ``pdist_backward``.
    instance_weights : None, number, or array that broadcasts to (N, 1, H, W)
        Weights where there is no third input. MatConvNet has them as
        ``opts = {'instanceWeights', W}``.
    loss : str
        Without effect, kept for saved networks.
    opts : ()
        Options of ``vl_nnpdist`` have settings here.
    ignore_average, normalise : as in ``AveragedLoss``
        The running average is the mean weighted distance, over cells and images. The value is
        not divided by the batch size as a loss is, so ``normalise`` changes nothing; in
        MatConvNet it multiplies the average by the batch size.
    """

    num_inputs = (2, 3)

    loss: str = "pdist"
    p: float = 2
    aggregate: bool = True
    no_root: bool = False
    epsilon: float = EPSILON
    instance_weights: Any = None

    def __post_init__(self):
        check_power(self.p, self.no_root)
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must not be negative, received {self.epsilon!r}")
        if self.opts:
            raise ValueError(
                "options of a distance are its settings (no_root, aggregate, epsilon, "
                f"instance_weights), received opts {self.opts!r}"
            )
        if hasattr(self.instance_weights, "dtype"):
            self.instance_weights = to_device(self.instance_weights, "cpu")

    def _options(self, inputs) -> dict[str, Any]:
        return {
            "no_root": self.no_root,
            "aggregate": self.aggregate,
            "instance_weights": inputs[2] if len(inputs) > 2 else self.instance_weights,
        }

    def forward(self, inputs, params, context):
        return [pdist(*inputs[:2], self.p, **self._options(inputs))], None

    def backward(self, inputs, params, der_outputs, saved, context):
        der_x, der_x0 = pdist_backward(
            *inputs[:2], der_outputs[0], self.p, epsilon=self.epsilon, **self._options(inputs)
        )
        return [der_x, der_x0, None][: len(inputs)], []

    def differentiable_inputs(self, num_inputs):
        return (True, True, False)[:num_inputs]

    def get_output_sizes(self, input_sizes):
        if self.aggregate:
            return super().get_output_sizes(input_sizes)
        return [Size(input_sizes[0].n, 1, input_sizes[0].h, input_sizes[0].w)]

    def update_statistics(self, inputs, outputs):
        if not self.ignore_average:
            n, _, h, w = inputs[0].shape
            self.accumulate(outputs[0].astype(np.float64).sum(), n * h * w)

    def move(self, device):
        super().move(device)
        if hasattr(self.instance_weights, "dtype"):
            self.instance_weights = to_device(self.instance_weights, device)

    def save(self):
        settings = super().save()
        if hasattr(self.instance_weights, "dtype"):
            settings["instance_weights"] = asnumpy(self.instance_weights)
        return settings
