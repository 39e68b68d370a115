"""Max and average pooling on CUDA: ``pooling.cu``."""

from __future__ import annotations

from functools import partial
from typing import Any

from dagnet import get_array_module

from ..windows import output_size
from .launch import launch_over, offer


def _place(size: tuple, output: tuple, pool_size: tuple, stride: tuple, pad: tuple) -> tuple:
    """What all kernels take of the geometry."""
    return (*size, *output, *pool_size, *stride, pad[0], pad[2])


def _forward(method: str, x: Any, pool_size: tuple, stride: tuple, pad: tuple) -> Any:
    xp = get_array_module(x)
    output = output_size(x.shape[2:], pool_size, stride, pad)
    y = xp.empty((*x.shape[:2], *output), x.dtype)
    results = (y, xp.empty(y.shape, "int32")) if method == "max" else (y,)
    place = _place(x.shape[2:], output, pool_size, stride, pad)
    arguments = (xp.ascontiguousarray(x), *results, *place)
    launch_over("pooling", f"{method}_pool", x.dtype, y.size, arguments)
    return results if method == "max" else y


def _backward(der_y: Any, given: tuple, size: tuple, *window: tuple) -> Any:
    xp = get_array_module(der_y)
    der_x = xp.empty((*der_y.shape[:2], *size), der_y.dtype)
    place = _place(size, der_y.shape[2:], *window)
    name = "max_pool_backward" if given else "avg_pool_backward"
    arguments = (xp.ascontiguousarray(der_y), *given, der_x, *place)
    launch_over("pooling", name, der_y.dtype, der_x.size, arguments)
    return der_x


def _max_backward(der_y: Any, winners: Any, size: tuple, *window: tuple) -> Any:
    return _backward(der_y, (winners,), size, *window)


def _avg_backward(der_y: Any, size: tuple, *window: tuple) -> Any:
    return _backward(der_y, (), size, *window)


offer("max_pool", partial(_forward, "max"), _max_backward)
offer("avg_pool", partial(_forward, "avg"), _avg_backward)
