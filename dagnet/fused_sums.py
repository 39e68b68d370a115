"""Derivatives of all parameters added up over processes: one buffer, sent while backward goes on.

The derivatives lie in one buffer in the order in which backward finishes them, cut into buckets.
A bucket is sent as soon as all of its derivatives are there and those before it are sent. So every
process sends the same buckets in the same order, as collective operations ask, in whatever
order its own threads finish parameters; and the sum of one bucket goes over the network while
layers before it are still computed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import asnumpy, get_array_module, to_device
from .communicator import Communicator, Pending
from .errors import DagNNError
from .records import Parameter

if TYPE_CHECKING:
    from .net import DagNN

# A bucket ends with the parameter that fills it. Large enough that its latency does not count,
# small enough that the first ones leave early: conv5 and conv4 of SiamFC are one each.
BUCKET_BYTES = 1 << 20


@dataclass
class _Bucket:
    """Neighbours in the buffer that are sent together, and a mark for each, 1 if it was pushed."""

    buffer: Any
    places: dict[str, slice]
    marks: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    missing: set[str] = field(default_factory=set)
    pending: Pending | None = None


class FusedSums:
    """A ``ParameterServer`` over the processes of a communicator.

    Parameters
    ----------
    net : DagNN
        Whose parameters have values; the same on all processes. Derivatives are added up in the
        dtype of their parameter.
    communicator : Communicator
    bucket_bytes : int

    Raises
    ------
    DagNNError
        From ``push``, if a derivative comes a second time in a step, has not its parameter's
        shape, or is by a parameter that had no value.
    """

    def __init__(self, net: DagNN, communicator: Communicator, bucket_bytes: int = BUCKET_BYTES):
        self.num_workers = communicator.size
        self._communicator = communicator
        self._device = net.device
        self._lock = threading.Lock()
        self._buckets: list[_Bucket] = []
        parameters = [p for p in completion_order(net) if p.value is not None]
        for dtype, same in groupby(parameters, key=lambda p: np.dtype(p.value.dtype)):
            self._make_buckets(list(same), dtype, bucket_bytes)
        self._home = {name: bucket for bucket in self._buckets for name in bucket.places}
        self._open = False
        self._begin()

    @property
    def buckets(self) -> list[tuple[str, ...]]:
        """The parameters of each bucket, in the order in which they are sent."""
        return [tuple(bucket.places) for bucket in self._buckets]

    def _make_buckets(self, parameters: list[Parameter], dtype: np.dtype, least: int) -> None:
        """Buckets of neighbours of one dtype, slices of one buffer."""
        groups = list(_cut(parameters, least))
        sizes = [sum(p.value.size for p in group) + len(group) for group in groups]
        buffer = self._communicator.empty(sum(sizes), dtype, self._device)
        start = 0
        for group, size in zip(groups, sizes):
            places, at = {}, 0
            for parameter in group:
                places[parameter.name] = slice(at, at + parameter.value.size)
                at += parameter.value.size
            marks = {name: at + i for i, name in enumerate(places)}
            shapes = {p.name: tuple(p.value.shape) for p in group}
            self._buckets.append(_Bucket(buffer[start : start + size], places, marks, shapes))
            start += size

    def _begin(self) -> None:
        """A new step: no derivative is there yet."""
        for bucket in self._buckets:
            bucket.missing = set(bucket.places)
            bucket.pending = None
        self._next = 0
        self._open = True

    def push(self, name: str, der: Any) -> None:
        """Take over this process's derivative by a parameter; from any thread."""
        bucket = self._home.get(name)
        if bucket is None:
            raise DagNNError(
                f"parameter {name!r} had no value when the processes began to train together: "
                "initialise all parameters before"
            )
        if tuple(der.shape) != bucket.shapes[name]:
            raise DagNNError(
                f"the derivative by parameter {name!r} must have its shape {bucket.shapes[name]} "
                f"to be added up over processes, received {tuple(der.shape)}"
            )
        with self._lock:
            if not self._open:
                self._begin()
            if name not in bucket.missing:
                raise DagNNError(f"the derivative by parameter {name!r} was pushed twice in a step")
            _write(bucket.buffer[bucket.places[name]], der)
            bucket.buffer[bucket.marks[name]] = 1
            bucket.missing.remove(name)
            if self._communicator.any_thread:
                self._send()
                for other in self._buckets[: self._next]:
                    other.pending.test()

    def _send(self) -> None:
        """Start the buckets that are complete, in order."""
        while self._next < len(self._buckets) and not self._buckets[self._next].missing:
            bucket = self._buckets[self._next]
            bucket.pending = self._communicator.start_sum(bucket.buffer)
            self._next += 1

    def sync(self) -> None:
        """Send what is left, with 0 for what was not pushed, and wait for all sums."""
        with self._lock:
            if not self._open:
                # A step of which this process had no part.
                self._begin()
            for bucket in self._buckets:
                for name in bucket.missing:
                    bucket.buffer[bucket.places[name]] = 0
                    bucket.buffer[bucket.marks[name]] = 0
                bucket.missing.clear()
            self._send()
            for bucket in self._buckets:
                bucket.pending.wait()
            self._open = False

    def pull(self, name: str) -> Any:
        """The sum, on the network's device, until the next push; None if nobody pushed it."""
        bucket = self._home.get(name)
        if bucket is None or not bool(asnumpy(bucket.buffer[bucket.marks[name]]) > 0):
            return None
        total = bucket.buffer[bucket.places[name]].reshape(bucket.shapes[name])
        return to_device(total, self._device)


def completion_order(net: DagNN) -> list[Parameter]:
    """Parameters in the order in which backward finishes them when it runs layers one by one.

    A derivative is complete with the earliest layer that uses the parameter. Those that no layer
    uses come last.
    """
    first: dict[str, int] = {}
    for place, index in enumerate(net.get_layer_execution_order()):
        for name in net.layers[index].params:
            first.setdefault(name, place)
    return sorted(net.params, key=lambda p: -first.get(p.name, -1))


def _cut(parameters: list[Parameter], least: int) -> Iterator[list[Parameter]]:
    """Neighbours that together have at least so many bytes; the last may have less."""
    group: list[Parameter] = []
    for parameter in parameters:
        group.append(parameter)
        if sum(p.value.nbytes for p in group) >= least:
            yield group
            group = []
    if group:
        yield group


def _write(place: Any, der: Any) -> None:
    """Copy a derivative into its place, which may lie in another memory."""
    flat = der.reshape(-1)
    if get_array_module(place) is get_array_module(flat):
        place[...] = flat
    else:
        flat.astype(place.dtype, copy=False).get(out=place)
