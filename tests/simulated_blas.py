"""cuBLAS for the stand-in: what ``layers.kernels.cuda.blas`` calls, on the host's addresses.

Matrices are read as cuBLAS has them, column by column, with leading dimensions and strides; what
cuBLAS refuses has its status.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from simulated_cuda import compute
from simulated_device import precision, to_tf32
from simulated_streams import get_current_stream

INVALID_VALUE = 7
TYPES = {0: np.float32, 1: np.float64}
TF32 = 77
COMPUTE = {0: (68, TF32), 1: (70,)}


class Library:
    """``libcublas``."""

    def __init__(self):
        self._stream = self._workspace = None

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:
        self._stream, self._workspace = stream.value or 0, None
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, pointer: Any, size: Any) -> int:
        self._workspace = pointer.value
        return 0 if pointer.value % 256 == 0 or size.value == 0 else INVALID_VALUE

    def cublasGemmStridedBatchedEx(self, handle: Any, *given: Any) -> int:
        op_a, op_b, m, n, k, alpha, a, type_a, lda, step_a = given[:10]
        b, type_b, ldb, step_b, beta, c, type_c, ldc, step_c, count, kind, _ = given[10:]
        assert self._stream == get_current_stream().ptr and self._workspace is not None
        least = (k if op_a else m, n if op_b else k, m)
        if any(ld < max(1, rows) for ld, rows in zip((lda, ldb, ldc), least)):
            return INVALID_VALUE
        if not type_a == type_b == type_c or kind not in COMPUTE[type_a]:
            return INVALID_VALUE
        assert alpha._obj.value == 1 and beta._obj.value == 0
        sizes = ((k, m) if op_a else (m, k), (n, k) if op_b else (k, n), (m, n))
        places = [
            (p.value, TYPES[type_a], size, ld, step.value, count)
            for p, size, ld, step in zip(
                (a, b, c), sizes, (lda, ldb, ldc), (step_a, step_b, step_c)
            )
        ]
        # Its mode is the handle's, whose of all threads is this one's here.
        rounded = kind == TF32 or (type_a == 0 and precision.is_tf32(3))
        compute(_multiply, (places, bool(op_a), bool(op_b), rounded), {}, writes=True)
        return 0


def _matrices(address: int, dtype: Any, size: tuple, ld: int, step: int, count: int) -> np.ndarray:
    """``count`` matrices (rows, columns), stored by columns."""
    item = np.dtype(dtype).itemsize
    span = (count - 1) * step + (size[1] - 1) * ld + size[0]
    flat = np.frombuffer((ctypes.c_byte * (span * item)).from_address(address), dtype)
    return np.lib.stride_tricks.as_strided(flat, (count, *size), (step * item, item, ld * item))


def _multiply(places: list[tuple], op_a: bool, op_b: bool, rounded: bool) -> None:
    a, b, c = (_matrices(*place) for place in places)
    if rounded:
        a, b = to_tf32(a), to_tf32(b)
    a = a.transpose(0, 2, 1) if op_a else a
    b = b.transpose(0, 2, 1) if op_b else b
    c[...] = a @ b
