"""What calls of one fused layer share in an evaluation: prepared parameters, and a sum of parts."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Any

from .fusion import FusedLayer
from .layer import Arrays, Context
from .scheduling import OrderedSum


class Family:
    """All units of an evaluation that run equal chains with the same parameters."""

    def __init__(self, block: FusedLayer):
        self._block = block
        self._lock = threading.Lock()
        self._began = False
        self._shared: Any = None
        self._parts: OrderedSum | None = None

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

    def finish(self, params: Arrays, context: Context) -> list:
        """Derivatives by the parameters from all parts; each None without a part."""
        total = self._parts.total
        if total is None:
            return [None] * len(params)
        return self._block.finish(total, params, self._shared, context)
