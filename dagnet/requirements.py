"""What a layer requires of its values: looked at once on the CPU, and together, later, on a GPU.

To look at a value of a GPU the host has to wait for all that was asked of it before. So there an
evaluation notes the conditions, and they are read in one transfer with the figures of a step
(``DagNN.fetch``, ``DagNN.take``) or when ``DagNN.check_values`` is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import Packed, get_array_module
from .records import LayerRecord


@dataclass(frozen=True)
class Requirement:
    """A condition, an array of bool on a device, and the error if it does not hold.

    ``record`` is the layer whose condition it is; None for one that is not of a layer.
    """

    holds: Any
    complain: Callable[[], Exception]
    record: LayerRecord | None = None


@dataclass(frozen=True)
class Package:
    """Values of variables of the names, after conditions, as ``DagNN.pack`` brings them together.

    They lie in host memory in ``arrays``, or on a device in ``packed``.
    """

    names: list[str]
    requirements: list[Requirement]
    arrays: list[Any]
    packed: Packed | None

    def all_hold(self) -> Any:
        """Whether all conditions hold: an array of bool, shape (), on the device."""
        return self.packed.buffer[: len(self.requirements)].all()

    def get(self) -> list[np.ndarray]:
        """Conditions and values in host memory."""
        if self.packed is None:
            return [np.asarray(array) for array in self.arrays]
        return self.packed.get()


class _Noted(threading.local):
    """Where this thread notes requirements of the layer that it runs; nowhere by default."""

    requirements: list[Requirement] | None = None
    record: LayerRecord | None = None


_noted = _Noted()


@contextmanager
def noting(requirements: list[Requirement], record: LayerRecord | None) -> Iterator[None]:
    """Within the block, what layers require of values on a device is added to ``requirements``."""
    _noted.requirements, _noted.record = requirements, record
    try:
        yield
    finally:
        _noted.requirements = _noted.record = None


def require(condition: Any, complain: Callable[[], Exception]) -> None:
    """Raise ``complain()`` unless all of ``condition`` holds.

    At once for NumPy's arrays, and for any array where a layer is called by itself. In an
    evaluation on a GPU the condition is noted, and looked at with the next figures that are read.

    Parameters
    ----------
    condition : array of bool
    complain : function () -> Exception
        Makes the error; it may read values.
    """
    if get_array_module(condition) is np or _noted.requirements is None:
        if not bool(condition.all()):
            raise complain()
    else:
        _noted.requirements.append(Requirement(condition.all(), complain, _noted.record))
