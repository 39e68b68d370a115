"""Normalisation by the Lp norm over chosen axes, MatConvNet's ``vl_nnnormalizelp``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import Layer, ReceptiveField, ShapeError, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features

CHANNELS, PLANE = (1,), (2, 3)


def lp_norms(x: Any, p: float = 2, epsilon: float = 1e-2, axes: tuple = CHANNELS) -> Any:
    """``(epsilon + sum over the axes of x^p)^(1/p)``, of length 1 along ``axes``."""
    return ((x**p).sum(axis=axes, keepdims=True) + epsilon) ** (1 / p)


def normalize_lp(
    x: Any,
    p: float = 2,
    epsilon: float = 1e-2,
    axes: tuple[int, ...] = CHANNELS,
    norms: Any = None,
) -> tuple[Any, Any]:
    """``y = x / n`` with ``n = (epsilon + sum over the axes of x^p)^(1/p)``.

    The powers are those of ``x`` itself, not of ``|x|``: for an exponent that is not even ``n``
    is a norm only of features that are not negative (the original says of such exponents that it
    does not support them).

    Parameters
    ----------
    x : array (N, C, H, W)
    p : number, not 0
        MatConvNet's ``p`` or ``exponent``.
    epsilon : float
        Added to the sum of powers.
    axes : tuple of int
        The axes of ``x`` that the sum goes over: MatConvNet's ``dimensions``, which are
        1-based and of (H, W, C, N); its ``spatial`` is ``(2, 3)``.
    norms : array, optional
        Norms to divide by in place of those of ``x``.

    Returns
    -------
    y : array (N, C, H, W) of the dtype of ``x``
    norms : array like ``x``, of length 1 along ``axes``

    Raises
    ------
    ShapeError
        If given norms have not that shape.
    """
    check_features(x)
    norms = _norms(x, p, epsilon, axes, norms)
    return x / norms, norms


def normalize_lp_backward(
    x: Any,
    der_y: Any,
    p: float = 2,
    epsilon: float = 1e-2,
    axes: tuple[int, ...] = CHANNELS,
    norms: Any = None,
) -> Any:
    """Derivative of ``normalize_lp`` by its input.

    ``dn / dx_q = n^(1 - p) x_q^(p - 1)``, so ``dy_k / dx_q = [k = q] / n - x_k n^(-p - 1)
    x_q^(p - 1)`` and, with ``y = x / n``,
    ``dx = dy / n - (sum over the axes of dy x) y^(p - 1) / n^2``.

    ``norms`` are those that ``normalize_lp`` returned, which spares their computation.
    """
    check_features(x)
    check_der_y(der_y, x.shape)
    norms = _norms(x, p, epsilon, axes, norms)
    y = x / norms
    along = (der_y * y).sum(axis=axes, keepdims=True)
    return (der_y - along * y ** (p - 1)) / norms


def _norms(x: Any, p: float, epsilon: float, axes: tuple, norms: Any) -> Any:
    if norms is None:
        return lp_norms(x, p, epsilon, axes)
    expected = tuple(1 if axis in axes else length for axis, length in enumerate(x.shape))
    if tuple(norms.shape) != expected:
        raise ShapeError(
            f"expected norms of shape {expected} for features {tuple(x.shape)} and axes {axes}, "
            f"received {tuple(norms.shape)}"
        )
    return get_array_module(x).asarray(norms, dtype=x.dtype)


@register_layer("NormalizeLp")
@dataclass(eq=False, kw_only=True)
class NormalizeLp(Layer):
    """Division of features (N, C, H, W) by their Lp norms, which have a size of their own each.

    MatConvNet has the operator alone; this is it as a layer.

    Settings
    --------
    p : number, not 0
        The exponent.
    epsilon : float
        Added to the sum of powers.
    dimensions : tuple of int, or None
        Axes of (N, C, H, W) that a norm goes over; None is the channels, (1,), or with
        ``spatial`` the plane, (2, 3).
    spatial : bool
        Norms over the plane; ``dimensions`` must then be None or say the same.
    """

    p: float = 2
    epsilon: float = 1e-2
    dimensions: Any = None
    spatial: bool = False

    def __post_init__(self):
        if not math.isfinite(self.p) or self.p == 0:
            raise ValueError(f"p must be a finite number other than 0, received {self.p!r}")
        if self.dimensions is None:
            return
        axes = tuple(int(v) for v in np.ravel(self.dimensions))
        if not axes or len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2, 3}:
            raise ValueError(
                "dimensions must be different axes of (N, C, H, W), 0 to 3, received "
                f"{self.dimensions!r}"
            )
        if self.spatial and set(axes) != set(PLANE):
            raise ValueError(
                f"spatial norms are over the axes {PLANE}, received dimensions {axes}; leave one "
                "of the two settings out"
            )
        self.dimensions = axes

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that a norm goes over."""
        if self.dimensions is not None:
            return self.dimensions
        return PLANE if self.spatial else CHANNELS

    def forward(self, inputs, params, context):
        y, norms = normalize_lp(inputs[0], self.p, self.epsilon, self.axes)
        return [y], norms

    def backward(self, inputs, params, der_outputs, saved, context):
        der_x = normalize_lp_backward(
            inputs[0], der_outputs[0], self.p, self.epsilon, self.axes, saved
        )
        return [der_x], []

    def get_receptive_fields(self, num_inputs, num_outputs):
        # A norm over rows or columns sees all of them: a field of infinite size.
        size = tuple(math.inf if axis in self.axes else 1 for axis in PLANE)
        return [[ReceptiveField(size, (1, 1), (1, 1))]]
