"""What calls of one fused layer share in an evaluation: prepared parameters, and a sum of parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from .fusion import FusedLayer
from .layer import Arrays, Context
from .scheduling import OrderedSum


@dataclass(frozen=True)
class Rest:
    """What the last call of a family finds in ``context.rest`` in backward, where somebody waits
    for derivatives by parameters: with it those are complete one after the other.

    Attributes
    ----------
    total : any
        The sum of the parts of all other calls, or None. It may be written to.
    hand_over : function
        ``hand_over(place, der)``: the whole derivative by parameter ``place``. What is handed
        over is left out of the call's own part, and is None in what ``finish`` returns.
    """

    total: Any
    hand_over: Callable[[int, Any], None]


class Family:
    """All units of an evaluation that run equal chains with the same parameters."""

    def __init__(self, block: FusedLayer):
        self._block = block
        self._lock = threading.Lock()
        self._began = False
        self._shared: Any = None
        self._parts: OrderedSum | None = None
        # Parameters whose derivatives were handed over before the last call ended.
        self.handed: set[int] = set()

    def begin(self, params: Arrays, context: Context) -> Any:
        """What ``FusedLayer.begin`` makes of the parameters; made by the first that asks."""
        with self._lock:
            if not self._began:
                self._shared = self._block.begin(params, context)
                self._began = True
            return self._shared

    def expect(self, sources: Sequence[Hashable]) -> None:
        """Say who will bring parts, in the order of their addition."""
        self._parts = OrderedSum(sources, add=self._block.add)

    def add(self, source: Hashable, part: Any) -> bool:
        """Bring a part, or None; True if all are there with it."""
        return self._parts.add(source, part)

    def rest(self, source: Hashable, settle: Callable[[int, Any], None]) -> Rest | None:
        """For the call ``source``, if it is the last one: how it hands over derivatives, each of
        which is given to ``settle``."""
        if not self._parts.lacks_only(source):
            return None

        def hand_over(place: int, der: Any) -> None:
            self.handed.add(place)
            settle(place, der)

        return Rest(self._parts.total, hand_over)

    def finish(self, params: Arrays, context: Context) -> list:
        """Derivatives by the parameters from all parts; each None without a part."""
        total = self._parts.total
        if total is None:
            return [None] * len(params)
        return self._block.finish(total, params, self._shared, context)
