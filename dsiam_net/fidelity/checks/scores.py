"""Errors, measures and labels: ``centerThrErr``, ``precision_auc``, ``create_labels``, ..."""

from __future__ import annotations

import numpy as np

from dagnet import Context, asnumpy
from layers import CenterThresholdError, MaxScoreError, find_peak

from ...boxes import get_axis_aligned_bb
from ...labels import create_labels, create_logistic_loss_label, gaussian_weight
from ...metrics import precision_auc
from ..compare import Comparer, Comparison
from ..files import DOUBLE, Case
from ..registry import checks


@checks("centerThrErr/precision_auc", "centerThrErr")
def check_center_thr_err(case: Case) -> list[Comparison]:
    x, label = case.array("x"), case.on_device(case.vector("label"))
    compare = Comparer(case, 0.0)
    if case.has("positions"):
        compare.field("positions", find_peak(x)[label > 0] + 1)
    settings = {}
    if "radius" in case.options:  # of precision_auc, in cells
        settings["radius_in_pixel"] = float(case.option("radius"))
        settings["total_stride"] = 1
    if "nStep" in case.options:
        settings["n_step"] = int(case.option("nStep"))
    layer = CenterThresholdError(**settings)
    (y,), _ = layer.forward([x, label], [], Context())
    layer.update_statistics([x, label], [y])
    compare.field("out", y)
    compare.field("average", asnumpy(layer.average), DOUBLE)
    compare.field("numAveraged", asnumpy(layer.num_averaged))
    return compare.found


@checks("max_score_err")
def check_max_score_err(case: Case) -> list[Comparison]:
    inputs = [case.array("x"), case.on_device(case.vector("label"))]
    (y,), _ = MaxScoreError().forward(inputs, [], Context())
    compare = Comparer(case, 0.0)
    compare.field("y", y)
    return compare.found


@checks("precision_auc")
def check_precision_auc(case: Case) -> list[Comparison]:
    positions, truth = case.matrix("positions"), case.matrix("groundTruth")
    score = precision_auc(positions, truth, case.option("radius"), int(case.option("nStep")))
    compare = Comparer(case, 0.0)
    compare.field("score", np.asarray(score))
    return compare.found


@checks("get_axis_aligned_BB")
def check_axis_aligned_bb(case: Case) -> list[Comparison]:
    compare = Comparer(case, DOUBLE)
    compare.field("out", get_axis_aligned_bb(case.matrix("region")))
    return compare.found


def _size(case: Case) -> list[int]:
    return [int(v) for v in np.ravel(case.option("size"))]


@checks("create_logisticloss_label")
def check_logistic_label(case: Case) -> list[Comparison]:
    label = create_logistic_loss_label(_size(case), case.option("rPos"), case.option("rNeg"))
    compare = Comparer(case, 0.0)
    compare.field("label", label)
    return compare.found


@checks("create_labels")
def check_create_labels(case: Case) -> list[Comparison]:
    label, weight = create_labels(
        _size(case), case.option("labelWeight"), case.option("rPos"), case.option("rNeg")
    )
    compare = Comparer(case)
    compare.field("label", label, 0.0)
    compare.field("weight", weight)
    return compare.found


@checks("gaussian_weight")
def check_gaussian_weight(case: Case) -> list[Comparison]:
    """Called with half the map's side for its width."""
    size = case.matrix("w").shape
    compare = Comparer(case)
    compare.field("w", gaussian_weight(size, size[0] / 2))
    return compare.found
