"""Sizes and receptive fields: how large each variable is and what of an input it sees.

Sizes are ``(N, C, H, W)`` with NaN for what is not known. Receptive fields follow MatConvNet's
``getReceptiveFields``: ``size`` and ``stride`` in cells of the input, ``offset`` the 1-based
coordinate of the field's centre for the first cell of the output; each is ``(vertical,
horizontal)``. Derivation of the composition: Appendix of the MatConvNet manual, chapter 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

NAN = math.nan


class Size(NamedTuple):
    """Size of a variable; NaN where it is not known."""

    n: float
    c: float
    h: float
    w: float

    @property
    def known(self) -> bool:
        return not any(math.isnan(v) for v in self)

    @property
    def count(self) -> float:
        """Number of elements, NaN if any side is unknown."""
        return math.prod(self)


UNKNOWN_SIZE = Size(NAN, NAN, NAN, NAN)


class ReceptiveField(NamedTuple):
    """What one cell of an output sees of an input; ``(vertical, horizontal)`` each."""

    size: tuple[float, float]
    stride: tuple[float, float]
    offset: tuple[float, float]

    @property
    def known(self) -> bool:
        return not math.isnan(self.size[0])


POINT = ReceptiveField((1, 1), (1, 1), (1, 1))
UNKNOWN = ReceptiveField((NAN, NAN), (NAN, NAN), (NAN, NAN))


def compose(first: ReceptiveField, second: ReceptiveField) -> ReceptiveField:
    """Field of ``second`` applied after ``first``, in the input of ``first``."""
    return ReceptiveField(
        size=tuple(s1 * (z2 - 1) + z1 for z1, s1, z2 in zip(first.size, first.stride, second.size)),
        stride=tuple(s1 * s2 for s1, s2 in zip(first.stride, second.stride)),
        offset=tuple(
            s1 * (o2 - 1) + o1 for o1, s1, o2 in zip(first.offset, first.stride, second.offset)
        ),
    )


def join(fields: Iterable[ReceptiveField]) -> ReceptiveField | None:
    """Smallest field that covers ``fields``, which reach a variable by different ways.

    ``None`` if there is none; UNKNOWN if one is unknown or their strides differ.
    """
    fields = list(fields)
    if not fields:
        return None
    if any(not f.known for f in fields) or len({f.stride for f in fields}) > 1:
        return UNKNOWN
    sizes, offsets = [], []
    for axis in (0, 1):
        low = min(f.offset[axis] - (f.size[axis] - 1) / 2 for f in fields)
        high = max(f.offset[axis] + (f.size[axis] - 1) / 2 for f in fields)
        sizes.append(high - low + 1)
        # What covers the whole plane has no centre of its own: the first one's stands.
        infinite = [f.offset[axis] for f in fields if math.isinf(f.size[axis])]
        offsets.append(infinite[0] if infinite else (low + high) / 2)
    return ReceptiveField(tuple(sizes), fields[0].stride, tuple(offsets))
