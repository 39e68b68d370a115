"""Normalisation: ``vl_nnbnorm``, ``vl_nnnormalize``, ``vl_nnnormalizelp``, ``vl_nnspnorm`` ..."""

from __future__ import annotations

import numpy as np

from dagnet import Context, Layer
from layers import LRN, BatchNorm, NormalizeLp, NormOffset, SpatialNorm
from layers.batch_norm import batch_norm_backward

from ..compare import Comparer, Comparison
from ..files import Case, GoldenError
from ..original_formulas import bnorm_backward_given_moments
from ..registry import checks

# Axes of vl_nnnormalizelp, 1-based in (H, W, C, N), as axes of (N, C, H, W).
AXES = {1: 2, 2: 3, 3: 1, 4: 0}

# The original's CPU code computes powers with an approximation that is off by up to this much.
FAST_POW = 3e-3


@checks("vl_nnbnorm")
def check_bnorm(case: Case) -> list[Comparison]:
    """Training mode, the same with its moments handed back, and with given moments."""
    x, dzdy = case.array("x"), case.array("dzdy")
    arrays = (case.vector("g"), case.vector("b"), case.matrix("mg"), case.matrix("m"))
    multipliers, biases, given, moments = (case.on_device(a) for a in arrays)
    layer = BatchNorm(epsilon=case.option("epsilon"))
    params = [multipliers, biases, given]
    compare = Comparer(case)

    (y,), saved = layer.forward([x], params, Context())
    (der_x,), der_params = layer.backward([x], params, [dzdy], saved, Context())
    again = batch_norm_backward(x, multipliers, dzdy, moments)
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
    x = case.array("x")
    (y,), saved = layer.forward([x], [], Context())
    (der_x,), _ = layer.backward([x], [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.present("y_exact", y)
    compare.present("dx_exact", der_x)
    if not compare.found:
        note = f"the original's powers are approximate, {FAST_POW:.0e}"
        compare.field("y", y, FAST_POW, note=note)
        compare.field("dx", der_x, FAST_POW, note=note)
    return compare.found


@checks("vl_nnnormalizelp")
def check_normalize_lp(case: Case) -> list[Comparison]:
    """With the options that stand in ``args``: names and values in turn, ``spatial`` without."""
    args = list(case.option("args", []))
    settings = {}
    while args:
        name = str(args.pop(0)).lower()
        if name == "spatial":
            settings["spatial"] = True
        elif name == "dimensions":
            settings["dimensions"] = tuple(AXES[int(v)] for v in np.ravel(args.pop(0)))
        elif name in ("p", "exponent"):
            settings["p"] = args.pop(0)
        elif name == "epsilon":
            settings["epsilon"] = args.pop(0)
        else:
            raise GoldenError(f"no option {name!r} of vl_nnnormalizelp is known")
    layer = NormalizeLp(**settings)
    (y,), norms = layer.forward([case.array("x")], [], Context())
    (der_x,), _ = layer.backward([case.array("x")], [], [case.array("dzdy")], norms, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.present("n", norms)
    compare.field("dx", der_x)
    return compare.found


@checks("vl_nnspnorm")
def check_spatial_norm(case: Case) -> list[Comparison]:
    return _check_with_param(case, SpatialNorm(param=case.option("param")))


@checks("vl_nnnoffset")
def check_norm_offset(case: Case) -> list[Comparison]:
    return _check_with_param(case, NormOffset(param=case.option("param")))


def _check_with_param(case: Case, layer: Layer) -> list[Comparison]:
    x = case.array("x")
    (y,), saved = layer.forward([x], [], Context())
    (der_x,), _ = layer.backward([x], [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    return compare.found
