"""Streams, events and pinned memory of the stand-in for CuPy: what goes wrong now and then on a
card goes wrong here each time.

What a stream has done is a number, its time. An event knows how far each stream was when it was
recorded, and a stream that waits for it knows that then too. Memory that a stream beside the
null stream has touched is watched: it may be read by another stream only after an event of its
last write, and be written only after events of all reads; the same holds for memory that was
freed and may have been given out again. A copy from pinned memory is made when somebody needs it,
so that a buffer which is written to before, or is gone, shows.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import numpy as np

from simulated_device import transfers

_lock = threading.RLock()
_here = threading.local()


class StreamError(RuntimeError):
    """Memory is used on a stream that does not know whether it is ready."""


class Stream:
    """``cupy.cuda.Stream``; the null stream and streams that block wait for one another."""

    null: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self._blocks_others = not non_blocking
        self.ptr = 0 if null else id(self)
        # What it is captured in; nothing is done then.
        self.graph: object = None
        self.time = 0
        self.seen: dict[Stream, int] = {}
        self.queue: list[tuple[int, Callable[[], None]]] = []
        # What was known of the last uses of memory that this stream gave back.
        self.freed: dict[Stream, int] = {}

    def __enter__(self):
        _stack().append(self)
        return self

    def __exit__(self, *exc):
        _stack().pop()

    def use(self):
        _stack()[-1] = self
        return self

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        with _lock:
            _merge(self.seen, event.known)

    @property
    def done(self):
        return not self.queue

    def synchronize(self):
        transfers.to_host += 1
        with _lock:
            self.run(self.time)
            _merge(_null().seen, {**self.seen, self: self.time})

    def run(self, until: int) -> None:
        """Do what was put off, up to a time."""
        while self.queue and self.queue[0][0] <= until:
            self.queue.pop(0)[1]()

    def knows(self, other: Stream, time: int) -> bool:
        """Whether what another stream did at a time is over for this one."""
        if other is self or self.seen.get(other, 0) >= time:
            return True
        null = _null()
        return (self is null and other._blocks_others) or (other is null and self._blocks_others)


Stream.null = Stream(null=True)


class Event:
    """``cupy.cuda.Event``."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.known: dict[Stream, int] = {}

    def record(self, stream=None):
        stream = get_current_stream() if stream is None else stream
        with _lock:
            self.known = {**stream.seen, stream: stream.time}

    @property
    def done(self):
        """The device gets on while nobody looks: what is asked the first time is not done."""
        with _lock:
            waiting = [s for s, time in self.known.items() if s.queue and s.queue[0][0] <= time]
            for stream in waiting:
                stream.run(self.known[stream])
            return not waiting

    def synchronize(self):
        transfers.to_host += 1
        with _lock:
            for stream, time in self.known.items():
                stream.run(time)
            _merge(get_current_stream().seen, self.known)


class _Memory:
    """What is known of an array's memory: its last write, its last reads, its owner."""

    def __init__(self, owner: Stream):
        self.owner = owner
        self.write: tuple[Stream, int] = (owner, owner.time)
        self.reads: dict[Stream, int] = {}
        # Memory that was freed on the owner's stream may be this.
        self.before = dict(owner.freed)


_watched: dict[int, _Memory] = {}
_pinned: dict[int, weakref.ref] = {}


def forget() -> None:
    """Begin anew, with a null stream that has done nothing."""
    _watched.clear()
    _pinned.clear()
    Stream.null.__init__(null=True)
    _here.streams = [Stream.null]


def get_current_stream() -> Stream:
    """Of this thread."""
    return _stack()[-1]


def empty_pinned(shape, dtype=float, order="C") -> np.ndarray:
    """``cupyx.empty_pinned``: memory of the host that the device reads by itself."""
    array = np.full(shape, 113, dtype, order)
    with _lock:
        _pinned[id(array)] = weakref.ref(array)
        weakref.finalize(array, _pinned.pop, id(array), None).atexit = False
    return array


def made(array: np.ndarray) -> None:
    """An array of the device was made; it is watched if that was not on the null stream."""
    stream = get_current_stream()
    if stream is not Stream.null and stream.graph is None:
        with _lock:
            _watch(_root(array), stream)


def used(array: np.ndarray) -> None:
    """An array of the device is read on the current stream."""
    if not _watched or get_current_stream().graph is not None:
        return
    with _lock:
        memory = _watched.get(id(_root(array)))
        if memory is None:
            return
        stream = get_current_stream()
        writer, time = memory.write
        _require(stream, writer, time, "read", "written")
        writer.run(time)
        stream.time += 1
        memory.reads[stream] = stream.time


def copied(target: np.ndarray, source: np.ndarray, stream: Stream | None) -> None:
    """``target.set(source, stream)``: later, if the source is pinned."""
    stream = get_current_stream() if stream is None else stream
    with _lock:
        root = _root(target)
        memory = _watched.get(id(root)) or _watch(root, stream)
        _require(stream, *memory.write, "written", "written")
        for reader, time in [*memory.reads.items(), *memory.before.items()]:
            _require(stream, reader, time, "written", "read, or was before it was freed")
        stream.time += 1
        memory.write, memory.reads = (stream, stream.time), {}
        held = _root(source)
        if id(held) not in _pinned:
            # Ordinary memory is gathered by the driver before it returns.
            stream.run(stream.time)
            target[...] = source
            return
        start = source.__array_interface__["data"][0] - held.__array_interface__["data"][0]
        stream.queue.append((stream.time, _copy(weakref.ref(held), start, target)))


def _copy(held: weakref.ref, start: int, target: np.ndarray) -> Callable[[], None]:
    def copy() -> None:
        memory = held()
        if memory is None:
            raise StreamError("pinned memory was given back before it was copied")
        bytes_of = memory.reshape(-1).view(np.uint8)[start : start + target.nbytes]
        target[...] = bytes_of.view(target.dtype).reshape(target.shape)

    return copy


def _watch(root: np.ndarray, stream: Stream) -> _Memory:
    memory = _watched[id(root)] = _Memory(stream)
    weakref.finalize(root, _free, id(root)).atexit = False
    return memory


def _free(key: int) -> None:
    with _lock:
        memory = _watched.pop(key, None)
        if memory is not None:
            writer, time = memory.write
            _merge(memory.owner.freed, {**memory.reads, writer: max(time, 0)})


def _require(stream: Stream, other: Stream, time: int, now: str, then: str) -> None:
    if not stream.knows(other, time):
        raise StreamError(
            f"memory is {now} on a stream that has not waited for the event after which another "
            f"has {then} it"
        )


def _merge(known: dict[Stream, int], more: dict[Stream, int]) -> None:
    for stream, time in more.items():
        known[stream] = max(known.get(stream, 0), time)


def _root(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _null() -> Stream:
    return Stream.null


def _stack() -> list[Stream]:
    if not hasattr(_here, "streams"):
        _here.streams = [Stream.null]
    return _here.streams
