"""Matrix products of the layers: the operation ``matmul``."""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module

from .registry import Kernel, choose, register


def _matmul(a: Any, b: Any) -> Any:
    return get_array_module(a).matmul(a, b)


register("matmul", Kernel("reference", _matmul, None))


def matmul(a: Any, b: Any) -> Any:
    """``xp.matmul``, for arrays with two axes or more; new memory.

    Layers use it in place of CuPy's own, which cannot be captured in a CUDA graph.
    """
    return choose("matmul", a).forward(a, b)
