"""Batch normalisation on CUDA, alone or with the ReLU behind it: ``batch_norm.cu``.

``leak`` is ReLU's slope for negative values; 1 stands for no ReLU.
"""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module

from .launch import MOST_BLOCKS, launch, launch_over, offer

NO_RELU = 1.0


def _sizes(x: Any) -> tuple[int, int, int]:
    """Samples, cells of a plane, channels."""
    return x.shape[0], x.shape[2] * x.shape[3], x.shape[1]


def _in_order(*arrays: Any) -> list[Any]:
    """The arrays in C order; None passes through."""
    xp = get_array_module(*arrays)
    return [None if a is None else xp.ascontiguousarray(a) for a in arrays]


def forward(
    x: Any, multipliers: Any, biases: Any, epsilon: float, leak: float = NO_RELU
) -> tuple[Any, Any]:
    """As ``layers.batch_norm.batch_norm``, then ReLU."""
    xp = get_array_module(x)
    x, multipliers, biases = _in_order(x, multipliers, biases)
    y, moments = xp.empty_like(x), xp.empty((x.shape[1], 2), x.dtype)
    arguments = (x, multipliers, biases, y, moments, float(epsilon), float(leak), *_sizes(x))
    launch("batch_norm", "batch_norm", x.dtype, min(x.shape[1], MOST_BLOCKS), arguments)
    return y, moments


def forward_stored(
    x: Any, multipliers: Any, biases: Any, moments: Any, leak: float = NO_RELU
) -> Any:
    """As ``layers.batch_norm.batch_norm_stored``, then ReLU."""
    x, multipliers, biases, moments = _in_order(x, multipliers, biases, moments)
    y = get_array_module(x).empty_like(x)
    arguments = (x, multipliers, biases, moments, y, float(leak), *_sizes(x)[1:])
    launch_over("batch_norm", "batch_norm_stored", x.dtype, x.size, arguments)
    return y


def _backward(
    x: Any,
    multipliers: Any,
    biases: Any,
    der_y: Any,
    moments: Any,
    leak: float,
    stored: bool,
    needs_x: bool,
) -> tuple[Any, ...]:
    xp = get_array_module(x)
    x, multipliers, biases, moments, der_y = _in_order(x, multipliers, biases, moments, der_y)
    der_x = xp.empty_like(x) if needs_x else None
    der_params = [xp.empty(multipliers.shape, x.dtype) for _ in range(2)]
    der_moments = xp.empty(moments.shape, x.dtype) if stored else None
    arguments = (x, multipliers, biases, moments, der_y, der_x, *der_params, der_moments)
    arguments += (float(leak), *_sizes(x))
    blocks = min(x.shape[1], MOST_BLOCKS)
    launch("batch_norm", "batch_norm_backward", x.dtype, blocks, arguments)
    return (der_x, *der_params, der_moments) if stored else (der_x, *der_params)


def backward(
    x: Any, multipliers: Any, der_y: Any, moments: Any, leak: float = NO_RELU, biases: Any = None
) -> tuple[Any, Any, Any]:
    """As ``layers.batch_norm.batch_norm_backward``; ReLU needs the biases."""
    return _backward(x, multipliers, biases, der_y, moments, leak, stored=False, needs_x=True)


def backward_stored(
    x: Any,
    multipliers: Any,
    der_y: Any,
    moments: Any,
    needs_x: bool,
    leak: float = NO_RELU,
    biases: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """As ``layers.batch_norm.batch_norm_stored_backward``; ReLU needs the biases."""
    return _backward(x, multipliers, biases, der_y, moments, leak, stored=True, needs_x=needs_x)


offer("batch_norm", forward, backward)
offer("batch_norm_stored", forward_stored, backward_stored)
offer("batch_norm_relu", forward, backward)
offer("batch_norm_relu_stored", forward_stored, backward_stored)
