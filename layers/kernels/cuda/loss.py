"""The logistic loss on CUDA: ``logistic.cu``."""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module

from .launch import MOST_BLOCKS, launch, offer

# As logistic.cu numbers them.
ALIKE, EACH, BALANCED = range(3)


def _given(x: Any, c: Any, weights: Any, normalise: bool) -> tuple[list, tuple]:
    """Arrays in C order, a weight for each score among them, and the numbers after the arrays."""
    xp = get_array_module(x)
    arrays = [xp.ascontiguousarray(a) for a in (x, c)]
    kind = ALIKE if weights is None else EACH
    if isinstance(weights, str):
        kind, weights = BALANCED, None
    if weights is not None:
        weights = xp.ascontiguousarray(weights)
    samples = x.shape[0]
    divisor = float(samples) if normalise else 1.0
    return [*arrays, weights], (divisor, kind, x.size // samples, samples)


def _logistic(x: Any, c: Any, weights: Any, normalise: bool, function: Any, options: dict) -> Any:
    arrays, numbers = _given(x, c, weights, normalise)
    parts = get_array_module(x).empty(x.shape[0], "float64")
    arguments = (*arrays, parts, *numbers)
    launch("logistic", "logistic", x.dtype, min(x.shape[0], MOST_BLOCKS), arguments)
    return parts.sum().astype(x.dtype)


def _logistic_backward(
    x: Any, c: Any, weights: Any, normalise: bool, function: Any, der_y: Any
) -> Any:
    arrays, numbers = _given(x, c, weights, normalise)
    der_x = get_array_module(x).empty(x.shape, x.dtype)
    arguments = (*arrays, der_y, der_x, *numbers)
    launch("logistic", "logistic_backward", x.dtype, min(x.shape[0], MOST_BLOCKS), arguments)
    return der_x


offer("logistic_loss", _logistic, _logistic_backward)
