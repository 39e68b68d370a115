"""The one place that knows about array modules and devices.

Layer code asks ``xp = get_array_module(x)`` and then runs on NumPy and on CuPy alike. CuPy is
imported only when a caller brings a CuPy array or asks for the device ``'gpu'``.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from .errors import BackendError

DEVICES = ("cpu", "gpu")


def _is_cupy(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "cupy"


def get_array_module(*arrays: Any) -> ModuleType:
    """Return the module (``numpy`` or ``cupy``) whose functions work on ``arrays``.

    ``cupy`` if any argument is a CuPy array, else ``numpy``. ``None`` and Python numbers are
    allowed and decide nothing.
    """
    for array in arrays:
        # What nearly all are is told apart first: layers ask thousands of times a second.
        if type(array) is not np.ndarray and _is_cupy(array):
            return sys.modules["cupy"]
    return np


def get_fft_module(*arrays: Any) -> ModuleType:
    """Return ``scipy.fft`` or ``cupyx.scipy.fft`` for ``arrays``; both keep single precision."""
    if get_array_module(*arrays) is np:
        import scipy.fft

        return scipy.fft
    import cupyx.scipy.fft

    return cupyx.scipy.fft


def import_cupy() -> ModuleType:
    """Import CuPy for the device ``'gpu'``.

    Raises
    ------
    BackendError
        If CuPy is not installed, or finds no usable driver or device.
    """
    try:
        import cupy
    except ImportError as exc:
        raise BackendError(
            "device 'gpu' needs CuPy, which is not installed; "
            "install the extra that fits the CUDA driver: pip install 'dsiam[cuda12]' or "
            f"'dsiam[cuda13]', or use device 'cpu' (import said: {exc})"
        ) from exc
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as exc:
        raise BackendError(
            f"device 'gpu': CuPy is installed but the CUDA driver cannot be used ({exc}); "
            "check nvidia-smi, or use device 'cpu'"
        ) from exc
    if count == 0:
        raise BackendError("device 'gpu': the CUDA driver reports no device; use device 'cpu'")
    _begin_without_tf32(cupy)
    return cupy


@cache
def _begin_without_tf32(cupy: ModuleType) -> None:
    """Single precision is what it says, whatever ``CUPY_TF32`` is, until ``set_tf32``."""
    _set_compute_type(cupy, False)


def _set_compute_type(cupy: ModuleType, tf32: bool) -> None:
    core = cupy._core
    types = core._routines_linalg
    chosen = types.COMPUTE_TYPE_TF32 if tf32 else types.COMPUTE_TYPE_DEFAULT
    core.set_compute_type("float32", chosen)


# Compute capability from which on GPUs have TF32 (Ampere).
TF32_CAPABILITY = 80


def set_tf32(on: bool) -> None:
    """Let matrix products of single precision on the GPU round their factors to TF32, or not.

    TF32 has the exponent of single precision and 10 bits after the point in place of 23; sums stay
    in single precision. Convolutions and cross-correlations are matrix products here; FFTs, our
    own kernels and double precision are not touched.

    Off by default, also where the environment has ``CUPY_TF32=1``. (``NVIDIA_TF32_OVERRIDE=0``
    of NVIDIA's libraries keeps it off in any case.) CuPy has a switch of its own for products of
    two matrices, and leaves batches of them to the mode of the cuBLAS handle, which each thread
    has one of: both are set, for the present device and thread. A CUDA graph keeps the mode that
    it was captured with.

    Raises
    ------
    BackendError
        If the device ``'gpu'`` cannot be used, or TF32 is asked of one that has none.
    """
    cupy = import_cupy()
    device = cupy.cuda.Device()
    if on and int(device.compute_capability) < TF32_CAPABILITY:
        raise BackendError(
            f"this GPU has compute capability {device.compute_capability}, and TF32 needs "
            f"{TF32_CAPABILITY} or more: compute without TF32"
        )
    _set_compute_type(cupy, on)
    cublas = cupy.cuda.cublas
    mode = cublas.CUBLAS_TF32_TENSOR_OP_MATH if on else cublas.CUBLAS_DEFAULT_MATH
    cublas.setMathMode(cupy.cuda.get_cublas_handle(), mode)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def blas_threads() -> int:
    """Number of threads that the BLAS behind NumPy uses for one product; 1 if it cannot tell."""
    return max((library["num_threads"] for library in _blas().info()), default=1)


def limit_blas_threads(count: int) -> AbstractContextManager:
    """Let BLAS use ``count`` threads a product within a ``with`` block."""
    return _blas().limit(limits=count)


def check_device(device: str) -> str:
    """Return ``device`` if it is one of ``DEVICES`` and usable here, else raise BackendError."""
    if device not in DEVICES:
        raise BackendError(f"device must be one of {DEVICES}, received {device!r}")
    if device == "gpu":
        import_cupy()
    return device


class _Noted(threading.local):
    """Where this thread notes the constants that it uses; nowhere by default."""

    constants: list[Any] | None = None


_noted = _Noted()


@contextmanager
def noting_constants() -> Iterator[list[Any]]:
    """Within the block, what ``constant_like`` gives on a device is added to a list, by which it
    lives longer than ``constant_like`` keeps it."""
    _noted.constants = []
    try:
        yield _noted.constants
    finally:
        _noted.constants = None


def constant_like(array: Any, make: Callable[..., np.ndarray], *arguments: Any) -> Any:
    """``make(*arguments)``, an array of numbers that never change, where ``array`` lies.

    A device gets it once; ``arguments`` must be hashable.
    """
    if get_array_module(array) is np:
        return make(*arguments)
    constant = _constant(getattr(array.device, "id", 0), make, arguments)
    if _noted.constants is not None:
        _noted.constants.append(constant)
    return constant


def array_like(value: Any, like: Any) -> Any:
    """A number or an array in the dtype of ``like``, where that lies.

    A number becomes an array of shape () there without being sent: a captured step may do it.
    """
    xp = get_array_module(like)
    if xp is not np and isinstance(value, (int, float)):
        return xp.full((), value, like.dtype)
    return xp.asarray(value, dtype=like.dtype)


@lru_cache(maxsize=256)
def _constant(device: int, make: Callable[..., np.ndarray], arguments: tuple) -> Any:
    return sys.modules["cupy"].asarray(make(*arguments))


class Packed:
    """Arrays of real numbers of a device side by side in one, so that one transfer brings them.

    Parameters
    ----------
    arrays : sequence of arrays of CuPy or Python numbers, one array at least
    """

    def __init__(self, arrays: Sequence[Any]):
        xp = get_array_module(*arrays)
        self._parts = [
            (a.shape, a.dtype) if hasattr(a, "dtype") else ((), np.dtype(type(a))) for a in arrays
        ]
        self._ends = np.cumsum([math.prod(shape) for shape, _ in self._parts]).tolist()
        # Double precision, in which they travel, holds what they were.
        self.buffer = xp.empty(self._ends[-1], np.float64)
        for array, begin, end in zip(arrays, [0, *self._ends], self._ends):
            self.buffer[begin:end] = array.reshape(-1) if hasattr(array, "dtype") else array

    def get(self) -> list[np.ndarray]:
        """The arrays in host memory."""
        parts = np.split(asnumpy(self.buffer), self._ends[:-1])
        return [
            flat.reshape(shape).astype(dtype) for flat, (shape, dtype) in zip(parts, self._parts)
        ]


def asnumpy(array: Any) -> np.ndarray:
    """Return ``array`` as a NumPy array in host memory (MATLAB's ``gather``)."""
    return array.get() if _is_cupy(array) else np.asarray(array)


def to_device(array: Any, device: str) -> Any:
    """Return ``array`` in the memory of ``device``; ``None`` passes through."""
    if array is None:
        return None
    if device == "gpu":
        return import_cupy().asarray(array)
    return asnumpy(array)


def tree_to_device(tree: Any, device: str) -> Any:
    """Containers (dicts, lists, tuples) with their arrays in the memory of ``device``.

    The containers are new; what is no array is left as it is.
    """
    if isinstance(tree, dict):
        return {key: tree_to_device(entry, device) for key, entry in tree.items()}
    if isinstance(tree, (list, tuple)):
        entries = [tree_to_device(entry, device) for entry in tree]
        return entries if isinstance(tree, list) else tuple(entries)
    return to_device(tree, device) if hasattr(tree, "dtype") else tree
