"""Matrix products on CUDA: cuBLAS, called through ``ctypes``.

CuPy refuses its own calls of cuBLAS while a stream captures, which cuBLAS itself allows, so a
training step with CuPy's ``matmul`` could not be part of a CUDA graph. Handle and settings (TF32)
are CuPy's; the workspace is one that is kept, so that a graph finds it at each launch.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from dagnet import BackendError, get_array_module

from ..registry import Kernel, register
from .launch import usable

# Of cublas_api.h and library_types.h.
NO, TRANSPOSED = 0, 1
DATA_TYPES = {"float32": 0, "float64": 1}
COMPUTE_TYPES = {"float32": 68, "float64": 70}
COMPUTE_TF32 = 77
DEFAULT_ALGORITHM = -1
# CUBLAS_STATUS_ALLOC_FAILED.
NO_MEMORY = 3
# What cuBLAS takes for itself on Hopper; 4 MiB elsewhere.
WORKSPACE_BYTES = 32 << 20


def load_library() -> Any:
    """The cuBLAS that CuPy uses."""
    runtime = sys.modules["cupy"].cuda.runtime
    return ctypes.CDLL(f"libcublas.so.{runtime.runtimeGetVersion() // 1000}")


@cache
def library(device: int) -> tuple[Any, Any]:
    """cuBLAS, and a workspace for its calls on a device."""
    cupy = sys.modules["cupy"]
    # CuPy finds and loads the library; it is found by its name then.
    cupy.cuda.get_cublas_handle()
    return load_library(), cupy.cuda.Memory(WORKSPACE_BYTES)


def _call(function: Any, *arguments: Any) -> None:
    status = function(*arguments)
    if status == NO_MEMORY:
        raise MemoryError("cuBLAS found no memory for a matrix product")
    if status:
        raise BackendError(f"cuBLAS failed with status {status} (cublasStatus_t)")


def matmul(a: Any, b: Any) -> Any:
    """``xp.matmul`` of arrays with two axes or more, of single or double precision."""
    xp = get_array_module(a)
    rows, inner = a.shape[-2:]
    columns = b.shape[-1]
    if b.shape[-2] != inner:
        raise ValueError(f"arrays of shapes {a.shape} and {b.shape} have no product")
    dtype = np.result_type(a.dtype, b.dtype)
    a, b = (array.astype(dtype, copy=False) for array in (a, b))
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = xp.empty((*lead, rows, columns), a.dtype)
    if y.size and inner:
        a = xp.broadcast_to(a, (*lead, rows, inner))
        b = xp.broadcast_to(b, (*lead, inner, columns))
        _multiply(_readable(a), _readable(b), y)
    else:
        y[...] = 0
    return y


def _readable(a: Any) -> Any:
    """The array, copied if neither its rows nor its columns lie as cuBLAS takes them."""
    return a if _layout(a) is not None else get_array_module(a).ascontiguousarray(a)


def _layout(a: Any) -> tuple[int, int] | None:
    """(operation, leading dimension) of the matrices; None if cuBLAS cannot take them.

    cuBLAS counts columns first: a matrix whose rows are whole is a transposed one to it, and a
    product ``y = a b`` by rows is ``y' = b' a'`` there. So these are the operations on ``a'``.
    """
    rows, columns = a.shape[-2:]
    down, across = (stride // a.itemsize for stride in a.strides[-2:])
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return NO, max(down if rows > 1 else columns, columns)
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return TRANSPOSED, max(across if columns > 1 else rows, rows)
    return None


def _multiply(a: Any, b: Any, y: Any) -> None:
    """Batches with one stride in each array by one call; others part by part."""
    lead = y.shape[:-2]
    strides = [_one_stride(array.shape[:-2], array.strides[:-2]) for array in (a, b, y)]
    if None in strides:
        for i in range(lead[0]):
            _multiply(a[i], b[i], y[i])
        return
    count = 1
    for length in lead:
        count *= length
    _gemm(a, b, y, count, [stride // y.itemsize for stride in strides])


def _one_stride(lengths: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The stride of one axis in place of several; None if there is none."""
    axes = [(n, s) for n, s in zip(lengths, strides) if n > 1]
    for (_, outer), (n, inner) in pairwise(axes):
        if outer != n * inner:
            return None
    return axes[-1][1] if axes else 0


def _gemm(a: Any, b: Any, y: Any, count: int, strides: list[int]) -> None:
    cupy = sys.modules["cupy"]
    blas, workspace = library(cupy.cuda.Device().id)
    handle = ctypes.c_void_p(cupy.cuda.get_cublas_handle())
    stream = ctypes.c_void_p(cupy.cuda.get_current_stream().ptr)
    _call(blas.cublasSetStream_v2, handle, stream)
    # Setting the stream has taken the workspace away.
    space = ctypes.c_void_p(workspace.ptr), ctypes.c_size_t(workspace.size)
    _call(blas.cublasSetWorkspace_v2, handle, *space)
    kind = y.dtype.name
    number = ctypes.c_float if kind == "float32" else ctypes.c_double
    one, zero = number(1), number(0)
    (op_a, lead_a), (op_b, lead_b) = _layout(a), _layout(b)
    rows, columns = y.shape[-2:]
    step_a, step_b, step_y = strides
    given = [
        (ctypes.c_void_p(x.data.ptr), DATA_TYPES[kind], lead, ctypes.c_longlong(step))
        for x, lead, step in ((b, lead_b, step_b), (a, lead_a, step_a), (y, columns, step_y))
    ]
    compute = COMPUTE_TYPES[kind]
    core = cupy._core
    tf32 = core._routines_linalg.COMPUTE_TYPE_TF32
    if kind == "float32" and core.get_compute_type(kind) == tf32:
        compute = COMPUTE_TF32
    _call(
        blas.cublasGemmStridedBatchedEx,
        *(handle, op_b, op_a, columns, rows, a.shape[-1], ctypes.byref(one)),
        *(*given[0], *given[1], ctypes.byref(zero), *given[2]),
        *(count, compute, DEFAULT_ALGORITHM),
    )


register(
    "matmul",
    Kernel("cublas", matmul, None, "cupy", tuple(DATA_TYPES), rank=1, usable=usable),
)
