"""Memory that is used again.

Large memory that is new from the operating system is handed out a page at a time when it is first
touched: for arrays that live for a millisecond that takes longer than what is computed in them.
Here it is kept for the next who asks, up to a limit.

Buffers are cut from regions of many pages, the lowest place that is wide enough first, and
neighbours that are free grow together. So memory that was given back serves every size, and what
is held is hardly more than what was in use at one time. (A list of free buffers for each size
holds what each size needed at its own height, and ``malloc`` a heap for each thread.)
"""

from __future__ import annotations

import math
import mmap
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

# A region that is free goes back to the system if more bytes than this are free with it; what is
# in use is not limited.
LIMIT = 512 << 20
# Bytes of a region, unless more are asked for. Pages that were never touched take no memory.
REGION = 128 << 20
# Buffers below this are left to NumPy, which keeps small ones itself.
SMALLEST = 64 << 10
# Sizes are rounded up to whole pages.
PAGE = 4 << 10


class _Region:
    """Memory of which pieces are taken and given back."""

    def __init__(self, size: int):
        self.memory = _new_memory(size)
        self.used = 0
        # Beyond this nothing was ever taken.
        self.touched = 0
        # First and last bytes of what is free, in order; no two touch one another.
        self._starts, self._ends = [0], [size]

    def take(self, size: int) -> int | None:
        """Where the first piece of this size begins; None if there is none."""
        for i, start in enumerate(self._starts):
            if self._ends[i] - start >= size:
                break
        else:
            return None
        if self._ends[i] - start == size:
            del self._starts[i], self._ends[i]
        else:
            self._starts[i] += size
        self.used += size
        self.touched = max(self.touched, start + size)
        return start

    def give(self, start: int, size: int) -> None:
        end, i = start + size, bisect_left(self._starts, start)
        self.used -= size
        if i < len(self._starts) and self._starts[i] == end:
            end = self._ends[i]
            del self._starts[i], self._ends[i]
        if i > 0 and self._ends[i - 1] == start:
            self._ends[i - 1] = end
        else:
            self._starts.insert(i, start)
            self._ends.insert(i, end)


def _new_memory(size: int) -> np.ndarray:
    """Bytes from the system, contents undefined, from the beginning of a page."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        memory = np.empty(size + PAGE, np.uint8)
        start = -memory.ctypes.data % PAGE
        return memory[start : start + size]
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as exc:
        raise MemoryError(f"unable to allocate {size} bytes: {exc}") from exc
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Large pages are handed out faster; a system that has none refuses.
        with suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


class Buffer(NamedTuple):
    """Bytes that a pool lent: ``array``, which lies at ``start`` of ``region``."""

    array: np.ndarray
    region: Any = None
    start: int = 0


class Pool:
    """Memory that any number of threads may borrow and return.

    Parameters
    ----------
    limit : int
        Bytes that are free and kept.
    region : int
        Bytes that are asked from the system at a time.
    """

    def __init__(self, limit: int = LIMIT, region: int = REGION):
        self.limit = limit
        self.region = region
        self._regions: list[_Region] = []
        # Python may collect a lease on this very thread in the midst of what the lock protects:
        # what comes back waits here for whoever holds the lock.
        self._returned: deque[Buffer] = deque()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes in use, and bytes that are free and kept."""
        with self._lock:
            self._take_back()
            return sum(region.touched for region in self._regions)

    @property
    def free_bytes(self) -> int:
        """Bytes that are free and kept."""
        with self._lock:
            self._take_back()
            return self._count_free()

    def take(self, size: int) -> Buffer:
        """At least ``size`` bytes, contents undefined.

        Raises
        ------
        MemoryError
            If the system has no more.
        """
        if size < SMALLEST:
            return Buffer(np.empty(size, np.uint8))
        size = -(-size // PAGE) * PAGE
        with self._lock:
            self._take_back()
            for region in self._regions:
                start = region.take(size)
                if start is not None:
                    break
            else:
                region = _Region(max(size, self.region))
                self._regions.append(region)
                start = region.take(size)
        return Buffer(region.memory[start : start + size], region, start)

    def give(self, buffer: Buffer) -> None:
        """Return what ``take`` gave; nothing may look at it any more."""
        if buffer.region is None:
            return
        self._returned.append(buffer)
        if self._lock.acquire(blocking=False):
            try:
                self._take_back()
            finally:
                self._lock.release()

    def _take_back(self) -> None:
        while self._returned:
            buffer = self._returned.popleft()
            region = buffer.region
            region.give(buffer.start, buffer.array.size)
            if region.used == 0 and self._count_free() > self.limit:
                self._regions.remove(region)

    def _count_free(self) -> int:
        return sum(region.touched - region.used for region in self._regions)

    def clear(self) -> None:
        """Hand back to the system what is free, as far as nothing beside it is in use."""
        with self._lock:
            self._take_back()
            self._regions = [region for region in self._regions if region.used]


POOL = Pool()


class Lease:
    """Arrays from the pool that live as long as this object, or until ``release``.

    For what is handed from a forward pass to its backward pass: whoever drops it last frees it.
    """

    def __init__(self, pool: Pool = POOL):
        self._pool = pool
        self._buffers: list[Buffer] = []

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with undefined contents."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffer = self._pool.take(size)
        self._buffers.append(buffer)
        return buffer.array[:size].view(dtype).reshape(shape)

    def release(self) -> None:
        """Return the arrays; they must not be used any more."""
        while self._buffers:
            self._pool.give(self._buffers.pop())

    def __del__(self):
        self.release()


class _Owner:
    """What an array from ``pooled`` is a view of: gives its memory back when no view is left."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, pool: Pool):
        self._lease = Lease(pool)
        self.__array_interface__ = self._lease.array(shape, dtype).__array_interface__


def pooled(shape: tuple[int, ...], dtype: Any, pool: Pool = POOL) -> np.ndarray:
    """An array with undefined contents, like ``numpy.empty``, with memory from the pool.

    For arrays that are handed on: the memory comes back when nothing looks at it any more.
    """
    dtype = np.dtype(dtype)
    if math.prod(shape) * dtype.itemsize < SMALLEST:
        return np.empty(shape, dtype)
    return np.asarray(_Owner(shape, dtype, pool))


@contextmanager
def scratch(shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
    """Borrow an array with undefined contents for a ``with`` block."""
    lease = Lease()
    try:
        yield lease.array(shape, dtype)
    finally:
        lease.release()
