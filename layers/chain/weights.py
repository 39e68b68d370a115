"""A chain's parameters, prepared for its kernels: once for an evaluation, or for many.

In mode ``'test'`` a network is evaluated again and again with the same parameters, a tracker's
once a frame. What was prepared for it is kept, and used as long as the parameters are the same
arrays and hold the same numbers, bit for bit: the comparison takes a fraction of the preparation,
and parameters may be changed in place.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from layers.kernels.conv_kernel import ConvKernel

from .norm import StageParams, fold, take_params, uses_stored
from .projection import convolve
from .stages import Stage, Step

# So many networks' parameters are kept in mode 'test'.
KEPT = 4
# Numbers are compared in blocks that stay in a core's cache.
COMPARED_BYTES = 256 << 10


class Weights:
    """Parameters of a chain, and what kernels made of its filters.

    Parameters
    ----------
    stages : tuple of Stage
    params : sequence of arrays
    mode : 'normal' or 'test'
    """

    def __init__(self, stages: tuple[Stage, ...], params: Sequence[np.ndarray], mode: str):
        self._stages = stages
        self._mode = mode
        self._params = take_params(stages, params)
        self._folded: dict[int, StageParams] = {}
        self._prepared: dict[Any, Any] = {}
        self._convolved: list[tuple[Any, Step, np.ndarray]] = []
        self._lock = threading.RLock()

    def params(self, place: int, derivatives: bool) -> StageParams:
        """A stage's parameters; without ``derivatives`` its stored moments are in the filters."""
        if derivatives or not uses_stored(self._stages[place].norm, self._mode):
            return self._params[place]
        with self._lock:
            if place not in self._folded:
                self._folded[place] = fold(self._params[place])
            return self._folded[place]

    def filters(self, place: int, kernel: ConvKernel, derivatives: bool) -> Any:
        """A stage's filters as ``kernel``, or another of its class, takes them."""
        own = self.params(place, derivatives)
        key = (place, type(kernel), kernel.dtype, own is self._params[place])
        with self._lock:
            if key not in self._prepared:
                self._prepared[key] = kernel.prepare(own.filters)
            return self._prepared[key]

    def convolved(self, weighting: Any, step: Step) -> np.ndarray:
        """The first convolution of a weighting (``layers.chain.projection``), made once."""
        with self._lock:
            for known, other, result in self._convolved:
                if other.conv is step.conv and (
                    known is weighting or np.array_equal(known, weighting)
                ):
                    return result
            result = convolve(weighting, step, self.filters(0, step.conv, True))
            self._convolved.append((weighting, step, result))
            return result


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two C-contiguous arrays of one shape and dtype hold the same bytes."""
    a, b = (v.reshape(-1).view(np.uint8) for v in (a, b))
    words = len(a) // 8 * 8
    if not np.array_equal(a[words:], b[words:]):
        return False
    a, b = a[:words].view(np.uint64), b[:words].view(np.uint64)
    step = COMPARED_BYTES // 8
    return all(np.array_equal(a[k : k + step], b[k : k + step]) for k in range(0, len(a), step))


class _Kept:
    """Weights with the parameters that they were made of."""

    def __init__(self, params: Sequence[np.ndarray], weights: Weights):
        # Arrays that live cannot have their place in memory taken by others.
        self._arrays = list(params)
        self._copies = [array.copy() for array in params]
        self.weights = weights

    def holds(self, params: Sequence[np.ndarray]) -> bool:
        """Whether these are the same arrays, unchanged."""
        return len(params) == len(self._arrays) and all(
            known is array
            and array.shape == copy.shape
            and array.dtype == copy.dtype
            and _same_bits(array, copy)
            for known, array, copy in zip(self._arrays, params, self._copies)
        )


_kept: OrderedDict[Any, _Kept] = OrderedDict()
_lock = threading.Lock()


def make_weights(stages: tuple[Stage, ...], params: Sequence[np.ndarray], mode: str) -> Weights:
    """Weights of a chain for an evaluation; kept ones where they can be used."""
    if mode != "test" or not all(array.flags.c_contiguous for array in params):
        return Weights(stages, params, mode)
    key = (stages, *(id(array) for array in params))
    with _lock:
        kept = _kept.pop(key, None)
    if kept is None or not kept.holds(params):
        kept = _Kept(params, Weights(stages, params, mode))
    with _lock:
        _kept[key] = kept
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return kept.weights
