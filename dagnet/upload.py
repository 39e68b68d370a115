"""Arrays sent to a GPU ahead of their use: pinned memory, a stream of their own, no waiting."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import import_cupy

# Where arrays begin within a block, in bytes, as the device's own allocations do.
ALIGNMENT = 256


@dataclass(frozen=True)
class Sent:
    """Arrays on their way: ``Uploads.receive`` gives them.

    Attributes
    ----------
    block : uint8 array of the device
        All of them, one after the other.
    event : CUDA event
        The copy is done.
    places : dict of name to (first byte, dtype, shape)
    """

    block: Any
    event: Any
    places: dict[str, tuple[int, np.dtype, tuple[int, ...]]]


class Uploads:
    """Copies from host memory to a GPU beside what it computes.

    Arrays are gathered in a pinned buffer, which the device reads by itself, and are copied to a
    block of the device's memory in one transfer on a second stream. An event tells the computing
    stream when they are there: it waits for it, the host does not. A buffer is given back when
    its copy is done; a block when the computing stream is past the evaluations that read it.

    ``send`` may be called by any thread, ``receive`` by the one that computes, on the stream that
    is current there. What is received may be read until the next call of ``receive``.
    """

    def __init__(self):
        self._cupy = import_cupy()
        self._device = self._cupy.cuda.Device()
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._lock = threading.Lock()
        # Pinned buffers with the events that end their copies.
        self._copying: list[tuple[Any, np.ndarray]] = []
        # What was received last, and the event that the computing stream is past all before it.
        self._present: Any = None
        self._past: Any = None

    def send(self, arrays: Mapping[str, np.ndarray]) -> Sent:
        """Begin to copy arrays to the device."""
        import cupyx

        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        places, end = {}, 0
        for name, array in arrays.items():
            places[name] = (end, array.dtype, array.shape)
            end += math.ceil(array.nbytes / ALIGNMENT) * ALIGNMENT
        with self._device:
            buffer = cupyx.empty_pinned(end, np.uint8)
            for name, array in arrays.items():
                start = places[name][0]
                part = buffer[start : start + array.nbytes]
                part.view(array.dtype).reshape(array.shape)[...] = array
            with self._lock:
                self._copying = [pair for pair in self._copying if not pair[0].done]
                with self._stream:
                    block = self._cupy.empty(end, np.uint8)
                # The block may be memory that was freed while the computing stream still had to
                # read it. So the copy waits, on the device, for the event that was recorded
                # last: whatever was freed before the block was taken is older than that.
                if self._past is not None:
                    self._stream.wait_event(self._past)
                block.set(buffer, stream=self._stream)
                event = self._stream.record(self._event())
                self._copying.append((event, buffer))
        return Sent(block, event, places)

    def receive(self, sent: Sent) -> dict[str, Any]:
        """The arrays on the device, for what the current stream computes from now on."""
        stream = self._cupy.cuda.get_current_stream()
        with self._lock:
            self._past = stream.record(self._event())
            self._present = sent.block
        stream.wait_event(sent.event)
        arrays = {}
        for name, (start, dtype, shape) in sent.places.items():
            part = sent.block[start : start + math.prod(shape) * dtype.itemsize]
            arrays[name] = part.view(dtype).reshape(shape)
        return arrays

    def close(self) -> None:
        """Wait for the copies that are under way; their buffers are free then."""
        self._stream.synchronize()
        self._copying, self._present = [], None

    def _event(self) -> Any:
        return self._cupy.cuda.Event(disable_timing=True)
