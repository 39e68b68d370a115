"""Elefusion on CUDA: ``elefusion.cu`` for up to four maps, the reference for more."""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module

from ..registry import reference
from .launch import launch_over, offer

MOST_MAPS = 4


def _padded(arrays: list, count: int) -> list:
    """The arrays in C order, and None for those that there are not."""
    xp = get_array_module(arrays[0])
    return [*map(xp.ascontiguousarray, arrays), *[None] * (count - len(arrays))]


def _given(maps: list, weights: list) -> list:
    return _padded(maps, MOST_MAPS) + _padded(weights, MOST_MAPS - 1)


def _elefusion(maps: list, weights: list) -> Any:
    if len(maps) > MOST_MAPS:
        return reference("elefusion").forward(maps, weights)
    last = maps[-1]
    y = get_array_module(last).empty(last.shape, last.dtype)
    arguments = (*_given(maps, weights), y, weights[0].size)
    launch_over("elefusion", "elefusion", last.dtype, y.size, arguments)
    return y


def _elefusion_backward(maps: list, weights: list, der: Any) -> tuple[list, list]:
    if len(maps) > MOST_MAPS:
        return reference("elefusion").backward(maps, weights, der)
    xp = get_array_module(der)
    der_maps = [xp.empty(m.shape, m.dtype) for m in maps]
    der_weights = [xp.empty(w.shape, w.dtype) for w in weights]
    arguments = (*_given(maps, weights), xp.ascontiguousarray(der), *_given(der_maps, der_weights))
    planes = der.shape[0] * der.shape[1]
    launch_over("elefusion", "elefusion_backward", der.dtype, weights[0].size, (*arguments, planes))
    return der_maps, der_weights


offer("elefusion", _elefusion, _elefusion_backward)
