"""What a layer requires of its values: looked at once on the CPU, and together, later, on a GPU.

To look at a value of a GPU the host has to wait for all that was asked of it before. So there an
evaluation notes the conditions, and they are read in one transfer with the figures of a step
(``DagNN.fetch``) or when ``DagNN.check_values`` is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import get_array_module
from .records import LayerRecord


@dataclass(frozen=True)
class Requirement:
    """A condition, an array of bool on a device, and the error if it does not hold."""

    holds: Any
    complain: Callable[[], Exception]
    record: LayerRecord


class _Noted(threading.local):
    """Where this thread notes requirements of the layer that it runs; nowhere by default."""

    requirements: list[Requirement] | None = None
    record: LayerRecord | None = None


_noted = _Noted()


@contextmanager
def noting(requirements: list[Requirement], record: LayerRecord) -> Iterator[None]:
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
