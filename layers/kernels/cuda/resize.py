"""One pass of MATLAB's ``imresize`` on CUDA: ``resize.cu``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dagnet import get_array_module
from dagnet.backend import constant_like
from layers.resize_weights import taps

from .launch import launch_over, offer


def _cells(*along: Any) -> np.ndarray:
    return np.ascontiguousarray(taps(*along)[0], np.int64)


def _weights(*along: Any) -> np.ndarray:
    return np.ascontiguousarray(taps(*along)[1])


def _pass(adjoint: bool, planes: Any, axis: int, along: tuple, rounded: bool) -> Any:
    xp = get_array_module(planes)
    cells = constant_like(planes, _cells, *along, adjoint)
    weights = constant_like(planes, _weights, *along, adjoint)
    count, height, width = planes.shape
    size = len(cells)
    y = xp.empty((count, size, width) if axis == 0 else (count, height, size), planes.dtype)
    sizes = (cells.shape[1], planes.shape[axis + 1], size, width if axis == 0 else 1)
    arguments = (xp.ascontiguousarray(planes), cells, weights, y, *sizes)
    launch_over("resize", "resize", planes.dtype, y.size, arguments)
    return y


offer("resize", partial(_pass, False), partial(_pass, True))
