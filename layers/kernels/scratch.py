"""Memory that is used again.

A large NumPy array is new memory from the operating system, which is handed out a page at a time
when it is first touched: for arrays that live for a millisecond that takes longer than what is
computed in them. Here freed buffers are kept, up to a limit, for the next who asks for as much.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Free buffers of more bytes than this in all go back to the system; what is in use is not limited.
LIMIT = 512 << 20
# Buffers below this are left to NumPy, which keeps small ones itself.
SMALLEST = 64 << 10
# Sizes are rounded up to a multiple of an eighth of their power of two, so that arrays of nearly
# the same size share a buffer, and at most an eighth of it is wasted.
STEPS_LOG2 = 3
# Vectors of a cache line's length are read fastest where they lie in one line.
ALIGNMENT = 64


def _rounded(size: int) -> int:
    step = 1 << max(0, size.bit_length() - 1 - STEPS_LOG2)
    return -(-size // step) * step


class Pool:
    """Free buffers by size; any number of threads may borrow and return.

    Parameters
    ----------
    limit : int
        Bytes of free buffers that are kept.
    """

    def __init__(self, limit: int = LIMIT):
        self.limit = limit
        self.free_bytes = 0
        self._free: dict[int, list[np.ndarray]] = {}
        # Python may collect a lease on this very thread in the midst of what the lock protects.
        self._lock = threading.RLock()

    def take(self, size: int) -> np.ndarray:
        """A buffer (bytes) of at least ``size`` bytes, contents undefined."""
        size = _rounded(size)
        with self._lock:
            buffers = self._free.get(size)
            if buffers:
                self.free_bytes -= size
                # The last one that came back is the likeliest to lie in a cache.
                return buffers.pop()
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size]

    def give(self, buffer: np.ndarray) -> None:
        """Return a buffer that ``take`` gave; nothing may look at it any more."""
        with self._lock:
            if buffer.size >= SMALLEST and self.free_bytes + buffer.size <= self.limit:
                self._free.setdefault(buffer.size, []).append(buffer)
                self.free_bytes += buffer.size

    def clear(self) -> None:
        """Hand all free buffers back to the system."""
        with self._lock:
            self._free.clear()
            self.free_bytes = 0


POOL = Pool()


class Lease:
    """Arrays from the pool that live as long as this object, or until ``release``.

    For what is handed from a forward pass to its backward pass: whoever drops it last frees it.
    """

    def __init__(self, pool: Pool = POOL):
        self._pool = pool
        self._buffers: list[np.ndarray] = []

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with undefined contents."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffer = self._pool.take(size)
        self._buffers.append(buffer)
        return buffer[:size].view(dtype).reshape(shape)

    def release(self) -> None:
        """Return the arrays; they must not be used any more."""
        while self._buffers:
            self._pool.give(self._buffers.pop())

    def __del__(self):
        self.release()


@contextmanager
def scratch(shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
    """Borrow an array with undefined contents for a ``with`` block."""
    lease = Lease()
    try:
        yield lease.array(shape, dtype)
    finally:
        lease.release()
