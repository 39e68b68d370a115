"""The layers of DSiam: ``XCorr``, ``update_change``, ``CirConv``, ``Sum_w``, ``Mul``."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagnet import Context, asnumpy, get_array_module, relative_error
from layers import RLR, CirConv, Elefusion, Eltwise, XCorr, filter_from_pair, update_change

from ..compare import Comparer, Comparison, relative
from ..files import SINGLE, Case
from ..original_formulas import sum_w_backward
from ..registry import checks

PAIR = ("alphaf", "featf")


def pair_of(case: Case) -> list[np.ndarray]:
    """The pair of spectra that the original keeps of a filter, (N, C, H, W)."""
    return [case.array(name) for name in PAIR]


@checks("XCorr")
def check_xcorr(case: Case) -> list[Comparison]:
    z, x = case.array("z"), case.array("x")
    layer = XCorr()
    (y,), saved = layer.forward([z, x], [], Context())
    (dz, dx), _ = layer.backward([z, x], [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    for field, actual in (("y", y), ("dz", dz), ("dx", dx)):
        compare.field(field, actual)
    return compare.found


def cir_conv(case: Case, layer: CirConv, inputs: list) -> Any:
    # The original's learning rate is single: with double features its class rule makes the result
    # single, and so close only.
    lr = case.on_device(np.asarray(case.option("lr"), np.float32))
    return layer.forward(inputs, [lr], Context())[0][0]


@checks("CirConv.forward")
def check_cir_conv(case: Case) -> list[Comparison]:
    """The original's filter comes as a pair of spectra; here it is the R that stands behind it.

    With ``isrep`` the original repeats the first sample's result.
    """
    x, pair = case.array("x"), pair_of(case)
    compare = Comparer(case)
    if case.options.get("calsum"):
        y = cir_conv(case, CirConv(sum_channels=True), [x, case.array("x2"), *pair])
        compare.field("y", y)
        return compare.found
    is_rep = bool(case.options.get("isrep"))
    if is_rep:
        x = get_array_module(x).repeat(x[:1], len(x), axis=0)
    r = filter_from_pair(*pair)
    compare.field("y", cir_conv(case, CirConv(is_rep=is_rep), [x, r]))
    if case.has("y_disabled_equal"):
        passed_through = cir_conv(case, CirConv(enable=False), [x, r]) is x
        compare.field("y_disabled_equal", np.float64(passed_through), 0.0)
    return compare.found


@checks("update_change+CirConv.forward")
def check_learned_cir_conv(case: Case) -> list[Comparison]:
    features = [case.array("corrfeat"), case.array("new_corrfeat")]
    lam = case.on_device(np.asarray(case.option("lambda"), features[0].dtype))
    (r,), _ = RLR().forward(features, [lam], Context())
    if case.has("x"):
        x = case.array("x")
    else:  # with isrep one sample is stored of several that are equal
        x = case.tensor("x1")
        x = case.on_device(np.repeat(x, case.matlab("y_sub").shape[3], axis=0))
    y = cir_conv(case, CirConv(), [x, r])
    compare = Comparer(case)
    compare.field("y_sub", y[:, :: int(case.option("chanstep"))])
    compare.field("y_sum", y.sum(axis=(2, 3), dtype=np.float64).T)  # (channels, samples)
    return compare.found


def update_change_in_double(x: Any, y: Any, lam: float) -> tuple[Any, Any, Any]:
    """The formula of ``update_change`` in double precision, and the filter behind it."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    n = x.shape[2] * x.shape[3]
    w = np.outer(np.hanning(x.shape[2]), np.hanning(x.shape[3]))
    featf = np.fft.fft2(x * w)
    alphaf = np.fft.fft2(y * w) / (np.abs(featf) ** 2 / n + lam)
    return alphaf, featf, np.fft.ifft2(alphaf * featf.conj() / n).real


def computed_pair(case: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pair, and the layer's outputs, at the channels that the case has stored."""
    x, y = case.array("corrfeat"), case.array("new_corrfeat")
    lam = case.on_device(np.asarray(case.option("lambda"), x.dtype))
    sum_channels = bool(case.options.get("issum"))
    pair = update_change(x, y, lam, sum_channels=sum_channels)
    outputs, _ = RLR(sum_channels=sum_channels).forward([x, y], [lam], Context())
    step = int(case.option("chanstep", 1))
    return [asnumpy(a)[:, ::step] for a in pair], [asnumpy(a)[:, ::step] for a in outputs]


@checks("run_DSiam.m:update_change")
def check_update_change(case: Case) -> list[Comparison]:
    """The pair, and the layer's filter against the one behind the original's pair."""
    expected = [case.tensor(name) for name in PAIR]
    pair, outputs = computed_pair(case)
    found = [relative(n, a, e, case.tolerance) for n, a, e in zip(PAIR, pair, expected)]
    if case.options.get("issum"):
        names = [f"{name} of the layer" for name in PAIR]
        found += [relative(n, a, e, case.tolerance) for n, a, e in zip(names, outputs, expected)]
        return found
    behind = filter_from_pair(*(e.astype(np.complex128) for e in expected))
    found.append(relative("R", outputs[0], behind, case.tolerance))
    if all(c.passed for c in found) or case.tolerance != SINGLE:
        return found
    return _check_against_double(case, expected, behind, (*pair, outputs[0])) or found


def _check_against_double(
    case: Case, pair: list[Any], behind: Any, ours: tuple
) -> list[Comparison] | None:
    """Where the original itself is further than the bound from its formula in double precision.

    With lambda = 1e-5 a frequency at which the feature is weak magnifies the rounding of its
    spectrum in single precision. There our results keep the bound against the formula in double
    precision, the feature's spectrum agrees, and the original's pair has to satisfy the equation
    that defines it: alphaf times its denominator, which nothing magnifies. None if the original
    is as exact as it should be.
    """
    step, tolerance = int(case.option("chanstep", 1)), case.tolerance
    lam, x = float(case.option("lambda")), case.tensor("corrfeat")
    exact = [a[:, ::step] for a in update_change_in_double(x, case.tensor("new_corrfeat"), lam)]
    if max(relative_error(o, e) for o, e in zip((*pair, behind), exact)) <= tolerance:
        return None
    note = "where rounding is magnified beyond the bound: against the formula in double precision"
    n = x.shape[2] * x.shape[3]
    alphaf, featf = (a.astype(np.complex128) for a in pair)
    numerator = exact[0] * (np.abs(exact[1]) ** 2 / n + lam)
    return [
        relative("featf", ours[1], pair[1], tolerance),
        relative(
            "alphaf . denominator", numerator, alphaf * (np.abs(featf) ** 2 / n + lam), tolerance
        ),
        *(
            relative(f"{name} in double", a, e, tolerance, note)
            for name, a, e in zip((*PAIR, "R"), ours, exact)
        ),
    ]


@checks("Sum_w")
def check_sum_w(case: Case) -> list[Comparison]:
    """The value, and the derivatives by the original's formulas, which are not derivatives."""
    maps, weight = [case.array("x1"), case.array("x2")], case.array("w")[0, 0]
    (y,), _ = Elefusion().forward(maps, [weight], Context())
    compare = Comparer(case)
    compare.field("y", y)
    if case.has("dx1"):
        note = "dx1, dx2, dw: the original's formulas, kept in original_formulas.py"
        fields = ("dx1", "dx2", "dw")
        for field, actual in zip(fields, sum_w_backward(*maps, case.array("dzdy"))):
            compare.field(field, actual, note=note)
    return compare.found


@checks("Mul")
def check_mul(case: Case) -> list[Comparison]:
    """A window of several planes; it was run backward with y for the derivative by y."""
    layer = Eltwise(constant=case.array("window_sub")[0])
    (y,), saved = layer.forward([case.array("x_sub")], [], Context())
    (der,), _ = layer.backward([None], [], [case.array("y_sub")], saved, Context())
    compare = Comparer(case)
    compare.field("y_sub", y)
    compare.field("dx_sub", der)
    return compare.found
