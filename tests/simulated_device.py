"""The stand-in for CuPy's device: transfers, memory that ends, precision of products."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import numpy as np


@dataclass
class Transfers:
    """How often the host waited for the device (``to_host``) and sent arrays to it."""

    to_host: int = 0
    to_device: int = 0


transfers = Transfers()


class Device:
    """``cupy.cuda.Device``: there is one, an H100."""

    id = 0
    compute_capability = "90"

    def __init__(self, device=None):
        assert device in (None, 0)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


class OutOfMemoryError(MemoryError):
    """``cupy.cuda.memory.OutOfMemoryError``."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, size: int, total: int, limit: int = 0):
        self._size, self._total, self._limit = size, total, limit
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes)."
        )


@dataclass
class Memory:
    """The device's memory: how often some was taken, and at which time there is no more."""

    taken: int = 0
    fail_at: int | None = None
    free: int = 3 << 30
    total: int = 8 << 30

    def take(self, size: int) -> None:
        self.taken += 1
        if self.fail_at is not None and self.taken >= self.fail_at:
            raise OutOfMemoryError(size, self.total - self.free)


memory = Memory()


class Precision:
    """What CuPy and cuBLAS have been told about products of single precision."""

    DEFAULT, TF32 = 1, 7
    DEFAULT_MATH, TF32_MATH = 0, 3

    def __init__(self):
        self.compute_type = 0  # not looked up yet
        self.modes: dict[int, int] = {}

    def set_compute_type(self, dtype, compute_type):
        assert np.dtype(dtype) == np.float32
        self.compute_type = compute_type

    def get_compute_type(self, dtype):
        if self.compute_type == 0:
            asked = int(os.getenv("CUPY_TF32", "0")) > 0
            self.compute_type = self.TF32 if asked else self.DEFAULT
        return self.compute_type

    def set_mode(self, handle, mode):
        self.modes[handle] = mode

    def is_tf32(self, axes: int) -> bool:
        """Products of two matrices have CuPy's type, batches the mode of the thread's handle."""
        if axes <= 2:
            return self.get_compute_type("f") == self.TF32
        return self.modes.get(threading.get_ident()) == self.TF32_MATH


precision = Precision()


def to_tf32(array: np.ndarray) -> np.ndarray:
    """Numbers of single precision with 10 bits after the point, rounded half up."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
