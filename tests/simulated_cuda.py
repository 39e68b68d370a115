"""CUDA's graphs and memory for the stand-in of ``simulated_cupy``.

While a stream captures, nothing is computed: what functions are asked for is noted with the
addresses of their arrays, and done at each launch of the graph. What CUDA or CuPy refuses while a
stream captures is an error: transfers, waiting, CuPy's calls of cuBLAS, its random numbers,
concatenating more than eight arrays (CuPy sends their addresses over), kernels that were not
loaded and FFTs that were not planned before. A graph keeps nothing alive: a launch that would use
memory that was freed is an error.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

import simulated_streams as streams

ALIGNMENT = 512


class Memory:
    """Bytes of the device."""

    device_id = 0

    def __init__(self, size: int):
        self.size = size
        self._bytes = np.zeros(size + ALIGNMENT, np.uint8)
        self.ptr = -(-self._bytes.ctypes.data // ALIGNMENT) * ALIGNMENT


class UnownedMemory:
    """Bytes that somebody else owns."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1):
        self.ptr, self.size, self._owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    """A place in memory, which it keeps."""

    def __init__(self, mem: Any, offset: int):
        self.mem, self.ptr = mem, mem.ptr + offset


class _Thread(threading.local):
    """What is current in a thread, as in CuPy."""

    def __init__(self):
        self.allocator: Callable | None = None


_thread = _Thread()


def _malloc(size: int) -> MemoryPointer:
    return MemoryPointer(Memory(size), 0)


def get_allocator() -> Callable[[int], MemoryPointer]:
    return _thread.allocator or _malloc


@contextlib.contextmanager
def using_allocator(allocator: Callable[[int], MemoryPointer]) -> Iterator[None]:
    before, _thread.allocator = _thread.allocator, allocator
    try:
        yield
    finally:
        _thread.allocator = before


class Stream(streams.Stream):
    """``cupy.cuda.Stream``, which can capture what is asked of it."""

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.graph = Graph()

    def end_capture(self) -> Graph:
        graph, self.graph = self.graph, None
        if graph is None:
            raise RuntimeError("cudaErrorIllegalState")
        return graph

    def is_capturing(self) -> bool:
        return self.graph is not None

    def synchronize(self):
        refuse("waiting")
        super().synchronize()


def capturing() -> Graph | None:
    """The graph that the current stream is captured in."""
    return streams.get_current_stream().graph


def is_placing() -> bool:
    """Whether results have memory of an allocator that was chosen."""
    return capturing() is not None or _thread.allocator is not None


def refuse(what: str, error: type[Exception] = RuntimeError) -> None:
    """Raise while the current stream captures."""
    if capturing() is not None:
        raise error(f"the current stream is capturing: {what} is disallowed")


class Graph:
    """What was captured, and may be done again and again."""

    def __init__(self):
        self._work: list[tuple[Callable, tuple, dict, list]] = []
        self._owners: list[weakref.ref] = []
        self.launches = 0

    def add(self, function: Callable, args: tuple, kwargs: dict, targets: list) -> None:
        """Note a call whose results go to ``targets``."""
        for array in (*_arrays([args, kwargs]), *targets):
            if array.size:
                self._owners.append(weakref.ref(_owner(array)))
        ghosts = _map((args, kwargs, targets), _ghost)
        self._work.append((function, *ghosts))

    def __len__(self) -> int:
        return len(self._work)

    def launch(self, stream: Stream | None = None) -> None:
        refuse("launching a graph that was not captured on it")
        if any(owner() is None for owner in self._owners):
            raise RuntimeError("cudaErrorIllegalAddress: the graph uses memory that was freed")
        self.launches += 1
        # A card does not warn.
        with np.errstate(all="ignore"):
            for function, args, kwargs, targets in self._work:
                result = function(*args, **kwargs)
                for target, value in zip(targets, _several(result)):
                    target[...] = value


def _map(tree: Any, change: Callable) -> Any:
    """Containers with their arrays changed."""
    if isinstance(tree, np.ndarray):
        return change(tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(entry, change) for entry in tree)
    if isinstance(tree, dict):
        return {key: _map(entry, change) for key, entry in tree.items()}
    return tree


def _arrays(tree: Any) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    _map(tree, found.append)
    return found


class _At:
    """An address with shape and type; keeps nothing but ``pointer``."""

    def __init__(self, address: int, like: np.ndarray, pointer: Any = None):
        self.pointer = pointer
        writeable = pointer is not None or like.flags.writeable
        self.__array_interface__ = {
            "shape": like.shape,
            "typestr": like.dtype.str,
            "data": (address, not writeable),
            "strides": like.strides,
            "version": 3,
        }


def _ghost(array: np.ndarray) -> np.ndarray:
    """The same memory, without keeping it."""
    if array.size == 0:
        return array
    return np.asarray(_At(array.ctypes.data, array))


def _owner(array: np.ndarray) -> Any:
    """What must live as long as the array's memory is used."""
    root, base = array, array.base
    while base is not None and not isinstance(base, _At):
        # What as_strided gives has another object between it and the array.
        root = base if isinstance(base, np.ndarray) else root
        base = getattr(base, "base", None)
    if base is None or base.pointer is None:
        return root
    memory: Any = base.pointer
    while not isinstance(memory, Memory):
        memory = memory.mem if isinstance(memory, MemoryPointer) else memory._owner
    return memory


def _several(result: Any) -> list:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def compute(function: Callable, args: tuple, kwargs: dict, writes: bool = False) -> Any:
    """``function(*args, **kwargs)`` of arrays of the host, which stand for those of the device.

    Done now, or noted in the graph. Results that are no views of an argument have memory of the
    current allocator.

    Parameters
    ----------
    writes : bool
        Whether the function writes to its arguments, and returns nothing.
    """
    if not is_placing():
        return function(*args, **kwargs)
    graph = capturing()
    if graph is not None and (writes or kwargs.get("out") is not None):
        graph.add(function, args, kwargs, [])
        return None
    with np.errstate(all="ignore") if graph is not None else contextlib.nullcontext():
        result = function(*args, **kwargs)
    if writes or kwargs.get("out") is not None:
        return result
    given = _arrays([args, kwargs])
    values = [
        np.asarray(value) if isinstance(value, np.generic) else value for value in _several(result)
    ]
    fresh = [
        isinstance(value, np.ndarray)
        and value.size > 0
        and not any(np.may_share_memory(value, array) for array in given)
        for value in values
    ]
    places = [_placed(v, graph is None) if new else v for v, new in zip(values, fresh)]
    if graph is not None and any(fresh):
        assert all(fresh), f"{function} returns views and arrays of its own"
        graph.add(function, args, kwargs, places)
    return type(result)(places) if isinstance(result, (tuple, list)) else places[0]


def _placed(value: np.ndarray, filled: bool) -> np.ndarray:
    """An array like this one in memory of the current allocator: with its values, or zeros."""
    pointer = get_allocator()(value.nbytes)
    # In the order of its axes, without gaps.
    like = np.empty_like(value)
    place = np.asarray(_At(pointer.ptr, like, pointer))
    place[...] = value if filled else 0
    return place


class _Plans:
    """CuPy's cache of FFT plans."""

    def __init__(self):
        self._size, self._nodes = 16, {}

    def set_size(self, size: int) -> None:
        self._size = size

    def get_size(self) -> int:
        return self._size

    def get_curr_size(self) -> int:
        return len(self._nodes)

    def __iter__(self):
        return iter(list(self._nodes.items()))

    def use(self, key: tuple) -> None:
        """A transform of this kind is asked for."""
        if key not in self._nodes:
            refuse(f"planning the FFT {key}")
            if 0 <= self._size <= len(self._nodes):
                del self._nodes[next(iter(self._nodes))]
            self._nodes[key] = SimpleNamespace(plan=key)


plans = _Plans()
