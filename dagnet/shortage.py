"""What a machine lacked, told from whatever was raised for it."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .net import DagNN

# Of OpenCV's errors, StsNoMem.
_OPENCV_NO_MEMORY = -4
# What the driver, cuBLAS and cuFFT say where CuPy's own allocator is not asked.
_CUDA_NO_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "ALLOC_FAILED")


def memory_shortage(exc: BaseException | None) -> str | None:
    """What memory was wanted for, if an exception is, or was raised for, a lack of memory.

    Libraries say it in many ways: Python and NumPy with MemoryError, as CuPy's allocator does;
    OpenCV and CUDA's libraries with errors of their own, and a thread that gets no stack is a
    RuntimeError.

    Returns
    -------
    str or None
        None for any other exception.
    """
    for error in _causes(exc):
        if isinstance(error, MemoryError):
            return str(error) or "the system gave no more"
        if getattr(error, "code", None) == _OPENCV_NO_MEMORY and hasattr(error, "err"):
            return str(error.err)
        if _is_cupys(error) and any(words in str(error) for words in _CUDA_NO_MEMORY):
            return str(error)
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            return "a thread could not be started"
    return None


def requested_bytes(exc: BaseException | None) -> int | None:
    """How many bytes were asked for, where NumPy or CuPy lacked memory; None if nobody says."""
    for error in _causes(exc):
        if hasattr(error, "shape") and hasattr(error, "dtype"):  # NumPy's
            return math.prod(error.shape) * error.dtype.itemsize
        if _is_cupys(error) and hasattr(error, "_size"):
            return error._size
    return None


def is_of_gpu(exc: BaseException | None) -> bool:
    """Whether an exception is, or was raised for, one of CuPy's."""
    return any(_is_cupys(error) for error in _causes(exc))


def gpu_memory() -> tuple[int, int] | tuple[None, None]:
    """Bytes of the present GPU that are in use, by any program, and that it has.

    None where the driver does not answer any more.
    """
    runtime = sys.modules["cupy"].cuda.runtime
    try:
        free, total = runtime.memGetInfo()
    except runtime.CUDARuntimeError:
        return None, None
    return total - free, total


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__


def _is_cupys(exc: BaseException) -> bool:
    return type(exc).__module__.startswith("cupy")


def free_all(net: DagNN, exc: BaseException | None) -> None:
    """Free what an evaluation that lacked memory has made, where a traceback holds it too."""
    for variable in net.vars:
        variable.value = variable.der = None
    for parameter in net.params:
        parameter.der = None
    net.requirements = []
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__
