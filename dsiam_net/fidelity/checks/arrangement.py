"""Layers that put cells elsewhere, as they are: ``vl_nnconcat``, ``vl_nncrop``."""

from __future__ import annotations

from itertools import count, takewhile

from dagnet import Context
from layers import Concat, cut_borders, cut_borders_backward

from ..compare import Comparer, Comparison
from ..files import Case, GoldenError
from ..registry import checks

# Axes of the original, 1-based in (H, W, C, N), as axes of (N, C, H, W).
AXES = {1: 2, 2: 3, 3: 1, 4: 0}


@checks("vl_nnconcat")
def check_concat(case: Case) -> list[Comparison]:
    """Inputs ``x1``, ``x2`` and so on, with derivatives ``dx1``, ``dx2`` and so on."""
    places = [str(k) for k in takewhile(lambda k: case.has(f"x{k}"), count(1))]
    if not places:
        raise GoldenError(f"case {case.name!r} lacks the field 'x1'")
    inputs = [case.array(f"x{k}") for k in places]
    layer = Concat(dim=AXES[int(case.option("dim", 3))])
    (y,), saved = layer.forward(inputs, [], Context())
    ders, _ = layer.backward(inputs, [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    for k, der in zip(places, ders):
        compare.field(f"dx{k}", der)
    return compare.found


@checks("vl_nncrop")
def check_crop(case: Case) -> list[Comparison]:
    x = case.array("x")
    crop = tuple(int(v) for v in case.option("crop"))
    compare = Comparer(case)
    compare.field("y", cut_borders(x, crop))
    compare.field("dx", cut_borders_backward(case.array("dzdy"), crop, x.shape[2:]))
    return compare.found
