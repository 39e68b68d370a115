"""Distances between features: ``vl_nnpdist``."""

from __future__ import annotations

from dagnet import Context
from layers import PDist

from ..compare import Comparer, Comparison
from ..files import Case
from ..registry import checks


@checks("vl_nnpdist")
def check_pdist(case: Case) -> list[Comparison]:
    """The value and both derivatives; that by a repeated target has its sum here, not there."""
    layer = PDist(
        p=case.option("p"),
        no_root=bool(case.option("noRoot", False)),
        aggregate=bool(case.option("aggregate", False)),
        epsilon=float(case.option("epsilon", 1e-6)),
    )
    inputs = [case.array("x"), case.array("x0")]
    if case.has("instanceWeights"):
        inputs.append(case.array("instanceWeights"))
    (y,), saved = layer.forward(inputs, [], Context())
    dzdy = case.array("dzdy")
    (der_x, der_x0, *_), _ = layer.backward(inputs, [], [dzdy], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    if inputs[1].shape == inputs[0].shape:
        compare.field("dx0", der_x0)
    return compare.found
