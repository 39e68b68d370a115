"""CFNet's functions: ``corr_filter``, ``mul_const``, ``logistic_loss``, ``iou_error``, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagnet import Context, Layer
from layers import CorrFilter, IOUErrorScore, LogisticLoss, MulConst, gaussian_response

from ..compare import Comparer, Comparison
from ..files import Case
from ..registry import checks


def _compare_layer(
    case: Case, layer: Layer, x: Any, param: Any, fields: tuple[str, str, str, str]
) -> list[Comparison]:
    """A layer of one input and one parameter: value, derivatives; ``fields``: dy, y, dx, dp."""
    der, *expected = fields
    (y,), saved = layer.forward([x], [param], Context())
    ders = layer.backward([x], [param], [case.array(der)], saved, Context())
    compare = Comparer(case)
    for field, actual in zip(expected, (y, *ders[0], *ders[1])):
        compare.field(field, actual)
    return compare.found


@checks("corr_filter")
def check_corr_filter(case: Case) -> list[Comparison]:
    layer = CorrFilter(lambda_=case.option("lambda"), bias=False)
    x, y = case.array("x"), case.on_device(case.matrix("y"))
    return _compare_layer(case, layer, x, y, ("dzdw", "w", "dx", "dy"))


@checks("mul_const")
def check_mul_const(case: Case) -> list[Comparison]:
    x, h = case.array("x"), case.on_device(case.matrix("h"))
    return _compare_layer(case, MulConst(), x, h, ("dzdy", "y", "dx", "dh"))


@checks("logistic_loss")
def check_logistic_loss(case: Case) -> list[Comparison]:
    layer = LogisticLoss()
    inputs = [case.array(name) for name in ("x", "c", "weights")]
    (y,), saved = layer.forward(inputs, [], Context())
    der_y = case.on_device(case.vector("dzdy").reshape(()))
    (der_x, *_), _ = layer.backward(inputs, [], [der_y], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    return compare.found


@checks("iou_error")
def check_iou_error(case: Case) -> list[Comparison]:
    layer = IOUErrorScore(stride=case.option("stride"))
    sizes = [case.matrix(name).T for name in ("reference", "predicted")]
    inputs = [case.array("x"), *map(case.on_device, (case.vector("label"), *sizes))]
    (y,), _ = layer.forward(inputs, [], Context())
    compare = Comparer(case)
    compare.field("e", y)
    return compare.found


@checks("gaussian_response")
def check_gaussian_response(case: Case) -> list[Comparison]:
    size = tuple(int(n) for n in np.ravel(case.option("size")))
    compare = Comparer(case)
    compare.field("y", gaussian_response(size, case.option("sigma")))
    return compare.found
