"""Memory of a step that repeats, planned once: what it asks for is recorded, then laid out in one
block, where requests that are never in use together share bytes.

1. ``Recorder`` hands memory on and notes when each piece was asked for and given back.
2. ``plan_arena`` gives each piece a place in one block.
3. ``Arena`` serves the same step again out of that block, and refuses anything else.

Kernels that were captured in a CUDA graph keep the addresses that they were given, so a graph can
be launched again and again as long as its arena lives.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from .errors import DagNNError

# What CUDA aligns its own allocations to, and CuPy's pool its pieces.
ALIGNMENT = 512


class ArenaError(DagNNError, RuntimeError):
    """A step asked for other memory than the one that was recorded."""


@dataclass(frozen=True)
class Request:
    """A piece of memory that a step used.

    ``size`` bytes; ``begin`` and ``end`` count the step's requests and returns: it is in use from
    ``begin`` up to, and without, ``end``, which is None for what the step leaves behind.
    """

    size: int
    begin: int
    end: int | None

    def meets(self, other: Request) -> bool:
        """Whether the two are in use at the same time."""
        return (other.end is None or self.begin < other.end) and (
            self.end is None or other.begin < self.end
        )


@dataclass(frozen=True)
class ArenaPlan:
    """Where each request lies.

    Attributes
    ----------
    requests : tuple of Request
        In the order in which they were made.
    offsets : tuple of int
        Of each, bytes from the beginning of the block; multiples of ``ALIGNMENT``.
    size : int
        Bytes of the block.
    peak : int
        Most bytes, rounded up, that are in use at a time: no block can be smaller.
    """

    requests: tuple[Request, ...]
    offsets: tuple[int, ...]
    size: int
    peak: int

    def __str__(self) -> str:
        asked = sum(request.size for request in self.requests)
        over = self.size / self.peak - 1 if self.peak else 0.0
        return (
            f"arena of {self.size / 2**20:.1f} MiB for {len(self.requests)} requests of "
            f"{asked / 2**20:.1f} MiB, {over:.1%} above the {self.peak / 2**20:.1f} MiB in use at "
            "one time"
        )


def aligned(size: int) -> int:
    """``size`` rounded up to whole units."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_arena(requests: Sequence[Request]) -> ArenaPlan:
    """Lay requests out in one block: the largest first, each in the lowest gap that fits.

    Two requests share bytes only if one is given back before the other is made.
    """
    offsets = [0] * len(requests)
    # (offset, end, place) of those laid out so far, in order of their offsets.
    laid: list[tuple[int, int, int]] = []
    order = sorted(range(len(requests)), key=lambda i: (-requests[i].size, requests[i].begin))
    for place in order:
        size = aligned(requests[place].size)
        if not size:
            continue
        low = 0
        for offset, end, other in laid:
            if requests[place].meets(requests[other]):
                if offset - low >= size:
                    break
                low = max(low, end)
        offsets[place] = low
        insort(laid, (low, low + size, place))
    block = max((end for _, end, _ in laid), default=0)
    return ArenaPlan(tuple(requests), tuple(offsets), block, _peak(requests))


def _peak(requests: Sequence[Request]) -> int:
    changes = [(r.begin, aligned(r.size)) for r in requests]
    changes += [(r.end, -aligned(r.size)) for r in requests if r.end is not None]
    most = used = 0
    for _, change in sorted(changes):
        used += change
        most = max(most, used)
    return most


class _Log:
    """Counts requests and returns as they come."""

    def __init__(self):
        self.time = 0
        self.sizes: list[int] = []
        self.begins: list[int] = []
        self.ends: dict[int, int] = {}
        self.open = True

    def ask(self, size: int) -> int:
        self.sizes.append(size)
        self.begins.append(self.time)
        self.time += 1
        return len(self.sizes) - 1

    def give_back(self, place: int) -> None:
        if self.open:
            self.ends[place] = self.time
            self.time += 1


class Recorder:
    """An allocator that notes what is asked of another one, and when it comes back.

    Use ``malloc`` with ``cupy.cuda.using_allocator``.

    Parameters
    ----------
    malloc : function (size) -> cupy.cuda.MemoryPointer
        Where the memory comes from; by default CuPy's present allocator.
    """

    def __init__(self, malloc: Callable[[int], Any] | None = None):
        self._malloc = sys.modules["cupy"].cuda.get_allocator() if malloc is None else malloc
        self._log = _Log()

    def malloc(self, size: int) -> Any:
        """``size`` bytes."""
        given = self._malloc(size)
        if not size:
            return given
        place = self._log.ask(size)
        return _pointer(given.ptr, size, given, partial(self._log.give_back, place))

    def finish(self) -> tuple[Request, ...]:
        """The step is over: its requests. What comes back from now on is none of its."""
        log = self._log
        log.open = False
        return tuple(
            Request(size, begin, log.ends.get(place))
            for place, (size, begin) in enumerate(zip(log.sizes, log.begins))
        )


class Arena:
    """One block of memory that serves a recorded step, once and in order.

    Parameters
    ----------
    plan : ArenaPlan
    block : cupy.cuda.Memory, optional
        At least ``plan.size`` bytes; by default new ones.
    """

    def __init__(self, plan: ArenaPlan, block: Any = None):
        self.plan = plan
        self.block = sys.modules["cupy"].cuda.Memory(plan.size) if block is None else block
        self._next = 0
        # Places of requests that are in use.
        self._used: set[int] = set()

    def malloc(self, size: int) -> Any:
        """The next request of the step: for ``cupy.cuda.using_allocator``.

        Raises
        ------
        ArenaError
            If it is another one than was recorded, or memory that it is to share is still in use.
        """
        if not size:
            return sys.modules["cupy"].cuda.MemoryPointer(self.block, 0)
        requests, place = self.plan.requests, self._next
        if place == len(requests) or requests[place].size != size:
            was = "no further one" if place == len(requests) else f"{requests[place].size} bytes"
            raise ArenaError(
                f"request {place} of a step was {was} when it was recorded, and is {size} bytes"
            )
        first, last = self.plan.offsets[place], self.plan.offsets[place] + size
        for other in self._used:
            offset = self.plan.offsets[other]
            if first < offset + requests[other].size and offset < last:
                raise ArenaError(
                    f"request {place} of a step is to have memory of request {other}, which was "
                    "given back by then when the step was recorded, and is in use"
                )
        self._next += 1
        self._used.add(place)
        gone = partial(self._used.discard, place)
        return _pointer(self.block.ptr + first, size, self.block, gone)

    def finish(self) -> None:
        """The step is over.

        Raises
        ------
        ArenaError
            If it asked for less than was recorded.
        """
        if self._next != len(self.plan.requests):
            raise ArenaError(
                f"a step made {len(self.plan.requests)} requests when it was recorded, and "
                f"{self._next} now"
            )


@cache
def _piece(unowned: type) -> type:
    """CuPy's class of memory that others own, which tells when no array has it any more."""

    class Piece(unowned):
        def __init__(self, address: int, size: int, owner: Any, device: int, gone: Callable):
            super().__init__(address, size, owner, device)
            self._gone = gone

        def __del__(self):
            self._gone()

    return Piece


def _pointer(address: int, size: int, owner: Any, gone: Callable[[], None]) -> Any:
    """A ``MemoryPointer`` that keeps ``owner``, and calls ``gone`` when no array has it."""
    cuda = sys.modules["cupy"].cuda
    piece = _piece(cuda.UnownedMemory)
    return cuda.MemoryPointer(piece(address, size, owner, cuda.Device().id, gone), 0)
