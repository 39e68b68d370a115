"""Compiling and launching the ``.cu`` files of this folder."""

from __future__ import annotations

import os
import re
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import get_array_module

from ..registry import Kernel, register

# Set to 0, this variable leaves everything to CuPy's own functions.
SWITCH = "DSIAM_CUDA"
FOLDER = Path(__file__).parent
TYPES = {"float32": "float", "float64": "double"}
PRECISIONS = {"float32": "float32", "complex64": "float32"}
PRECISIONS |= {"float64": "float64", "complex128": "float64"}
# Threads of a block, a power of two: sums over a block halve it step by step.
THREADS = 256
# Enough blocks to fill any card; the kernels' loops go on where there are more elements.
MOST_BLOCKS = 1 << 16


def source(name: str) -> str:
    """The text of ``name.cu``, with the files of this folder that it includes in their places.

    So nothing but this text decides what is compiled: CuPy keeps binaries by it.
    """
    text = (FOLDER / f"{name}.cu").read_text(encoding="utf-8")
    return re.sub(r'#include "(\w+\.cuh)"\n', lambda m: (FOLDER / m[1]).read_text("utf-8"), text)


def options(dtype: str) -> tuple[str, ...]:
    """What the compiler is told, for a precision: ``'float32'`` or ``'float64'``."""
    return ("--std=c++14", f"-DREAL={TYPES[dtype]}")


@cache
def cuda_module(name: str, dtype: str) -> Any:
    """``name.cu`` for a precision, as a ``cupy.RawModule``; it is compiled at its first launch."""
    return sys.modules["cupy"].RawModule(code=source(name), options=options(dtype))


@cache
def usable() -> bool:
    """Whether kernels can be compiled here and are wanted; if they cannot, a warning says why.

    Asked only where there are arrays of CuPy.
    """
    if os.environ.get(SWITCH) == "0":
        return False
    try:
        cuda_module("pooling", "float32").compile()
    except Exception as exc:
        # Whatever a compiler may have against this computer, there is another way.
        warnings.warn(
            f"the CUDA kernels cannot be compiled, CuPy's functions are used ({exc}); {SWITCH}=0 "
            "asks for that",
            stacklevel=2,
        )
        return False
    return True


def offer(operation: str, forward: Any, backward: Any) -> None:
    """Register a pair of functions as the CUDA kernel of an operation."""
    names = tuple(PRECISIONS)
    register(
        operation,
        Kernel("cuda", forward, backward, backend="cupy", dtypes=names, rank=1, usable=usable),
    )


def launch(name: str, kernel: str, dtype: Any, blocks: int, arguments: tuple) -> None:
    """Launch ``kernel`` of ``name.cu`` on ``blocks`` blocks of ``THREADS`` threads.

    Parameters
    ----------
    dtype : of the arrays: its precision is what the kernel is compiled for
    arguments : arrays of CuPy in C order, or None for no array; integers, which arrive as
        ``long long``; numbers of type float, which arrive as ``double``
    """
    function = cuda_module(name, PRECISIONS[np.dtype(dtype).name]).get_function(kernel)
    # CuPy hands over 0 as eight bytes of zeros, a null pointer; None it does not know.
    function((blocks,), (THREADS,), tuple(0 if a is None else a for a in arguments))


def launch_over(name: str, kernel: str, dtype: Any, count: int, arguments: tuple) -> None:
    """Launch a kernel whose threads share ``count`` elements, the last argument that it gets."""
    if count:
        launch(name, kernel, dtype, _blocks(count), (*arguments, count))


def shares(array: Any) -> Any:
    """Where the blocks of a launch over the elements of ``array`` leave their parts of a sum."""
    return get_array_module(array).zeros(_blocks(array.size), "float64")


def _blocks(count: int) -> int:
    return min(-(-count // THREADS), MOST_BLOCKS)
