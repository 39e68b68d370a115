"""Batch and local normalisation: ``vl_nnbnorm``, ``vl_nnnormalize``."""

from __future__ import annotations

from dagnet import Context
from layers import LRN, BatchNorm
from layers.batch_norm import batch_norm_backward

from ..compare import Comparer, Comparison
from ..files import Case
from ..original_formulas import bnorm_backward_given_moments
from ..registry import checks

# The original's CPU code computes powers with an approximation that is off by up to this much.
FAST_POW = 3e-3


@checks("vl_nnbnorm")
def check_bnorm(case: Case) -> list[Comparison]:
    """Training mode, the same with its moments handed back, and with given moments."""
    x, dzdy = case.tensor("x"), case.tensor("dzdy")
    multipliers, biases, given = case.vector("g"), case.vector("b"), case.matrix("mg")
    layer = BatchNorm(epsilon=case.option("epsilon"))
    params = [multipliers, biases, given]
    compare = Comparer(case)

    (y,), saved = layer.forward([x], params, Context())
    (der_x,), der_params = layer.backward([x], params, [dzdy], saved, Context())
    again = batch_norm_backward(x, multipliers, dzdy, case.matrix("m"))
    compare.field("y", y)
    compare.field("m", saved)
    for field, actual in zip(("dx", "dg", "db", "dm"), (der_x, *der_params), strict=True):
        compare.field(field, actual)
    for field, actual in zip(("dx2", "dg2", "db2", "dm2"), (*again, saved), strict=True):
        compare.field(field, actual)

    test_mode = Context(mode="test")
    (y,), saved = layer.forward([x], params, test_mode)
    _, (der_multipliers, der_biases, _) = layer.backward([x], params, [dzdy], saved, test_mode)
    compare.field("yg", y)
    compare.field("dgg", der_multipliers)
    compare.field("dbg", der_biases)
    compare.field("mgo", given)
    # The original's derivative by x is the wrong one, and for the moments it returns themselves.
    der_x, _, _, moments = bnorm_backward_given_moments(x, multipliers, dzdy, given)
    note = "dxg: the original's formula, kept in original_formulas.py"
    compare.field("dxg", der_x, note=note)
    compare.field("dmg", moments)
    return compare.found


@checks("vl_nnnormalize")
def check_normalize(case: Case) -> list[Comparison]:
    """Against exact powers where the case has them, else against the approximate ones."""
    layer = LRN(param=case.option("param"))
    x = case.tensor("x")
    (y,), saved = layer.forward([x], [], Context())
    (der_x,), _ = layer.backward([x], [], [case.tensor("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.present("y_exact", y)
    compare.present("dx_exact", der_x)
    if not compare.found:
        note = f"the original's powers are approximate, {FAST_POW:.0e}"
        compare.field("y", y, FAST_POW, note=note)
        compare.field("dx", der_x, FAST_POW, note=note)
    return compare.found
