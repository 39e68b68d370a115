"""Times of a network's layers on a GPU, by events around each call of a layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dagnet import DagNN
from dagnet.backend import import_cupy
from engine_overhead import COUNTED, replaced


class LayerTime(NamedTuple):
    """All layers of a type (or chains that the plan runs as one) in an evaluation: seconds."""

    kind: str
    calls: int
    forward: float
    backward: float


class CallTimes:
    """Events around calls of layers, in the stream that is the current one then."""

    def __init__(self):
        self._cuda = import_cupy().cuda
        self._events: list[tuple[str, str, Any, Any]] = []

    def time(self, name: str, method: Callable) -> Callable:
        """The method, with events around it if it is one that is counted."""
        if name not in COUNTED:
            return method
        kind = type(method.__self__).__name__

        def call(*args: Any) -> Any:
            start, end = self._cuda.Event(), self._cuda.Event()
            start.record()
            result = method(*args)
            end.record()
            self._events.append((kind, name, start, end))
            return result

        return call

    def read(self) -> dict[tuple[str, str], list[float]]:
        """Seconds of each call, by type and method; waits for the device."""
        self._cuda.runtime.deviceSynchronize()
        found = defaultdict(list)
        for kind, name, start, end in self._events:
            found[kind, name].append(self._cuda.get_elapsed_time(start, end) / 1e3)
        return dict(found)


def layer_times(net: DagNN, run: Callable[[], None], runs: int) -> list[LayerTime]:
    """What each type of layer takes in ``run``, the medians of so many; the longest first.

    A layer that the host launches more slowly than the card computes is as long as that.
    """
    run()
    found = []
    for _ in range(runs):
        times = CallTimes()
        with replaced(net, True, times.time):
            run()
        found.append(times.read())
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in found[0]):
        calls = [len(found[0].get((kind, name), ())) for name in COUNTED]
        seconds = [
            float(np.median([sum(one.get((kind, name), ())) for one in found])) for name in COUNTED
        ]
        rows.append(LayerTime(kind, calls[0], *seconds))
    return sorted(rows, key=lambda row: -(row.forward + row.backward))
