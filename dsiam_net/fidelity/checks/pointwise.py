"""Layers without parameters, and losses: ``vl_nnrelu``, ``vl_nnsoftmax``, ``vl_nnloss`` ..."""

from __future__ import annotations

import re
from typing import Any

from dagnet import Context, Layer
from layers import (
    LOSSES,
    Sigmoid,
    SoftMax,
    dropout,
    loss,
    loss_backward,
    relu,
    relu_backward,
    softmax_loss,
    softmax_loss_backward,
)

from ..compare import Comparer, Comparison
from ..files import Case, GoldenError
from ..registry import checks


@checks("vl_nnrelu")
def check_relu(case: Case) -> list[Comparison]:
    leak = float(case.option("leak", 0.0) or 0.0)
    y = relu(case.array("x"), leak)
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", relu_backward(y, case.array("dzdy"), leak))
    return compare.found


@checks("vl_nnsigmoid")
def check_sigmoid(case: Case) -> list[Comparison]:
    return _check_plain(case, Sigmoid())


@checks("vl_nndropout")
def check_dropout(case: Case) -> list[Comparison]:
    """With the original's mask, whose values are compared with those that ours take."""
    x, mask, dzdy = (case.array(field) for field in ("x", "mask", "dzdy"))
    compare = Comparer(case)
    compare.field("mask", (mask > 0) * x.dtype.type(1 / (1 - case.option("rate"))))
    compare.field("y", dropout(x, mask))
    compare.field("dx", dropout(dzdy, mask))
    return compare.found


@checks("vl_nnsoftmax")
def check_softmax(case: Case) -> list[Comparison]:
    return _check_plain(case, SoftMax())


def _check_plain(case: Case, layer: Layer) -> list[Comparison]:
    """A layer of one input whose backward does without it."""
    (y,), saved = layer.forward([case.array("x")], [], Context())
    (der_x,), _ = layer.backward([None], [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    return compare.found


def _scores_and_labels(case: Case) -> tuple[Any, Any]:
    x, c = case.array("x"), case.array("c")
    return x, c.reshape(-1) if c.size == len(x) else c  # one label an image, or one a cell


@checks("vl_nnsoftmaxloss")
def check_softmax_loss(case: Case) -> list[Comparison]:
    x, c = _scores_and_labels(case)
    compare = Comparer(case)
    compare.field("y", softmax_loss(x, c))
    compare.field("dx", softmax_loss_backward(x, c, case.option("dzdy", 1)))
    return compare.found


@checks("vl_nnloss")
def check_loss(case: Case) -> list[Comparison]:
    """Value and derivative; ``dx2`` is the derivative for the ``dzdy`` that the note tells."""
    kind = case.option("loss")
    if kind not in LOSSES:
        raise GoldenError(f"no loss {kind!r} is known; known are {', '.join(sorted(LOSSES))}")
    x, c = _scores_and_labels(case)
    weights = case.array("instanceWeights") if case.has("instanceWeights") else None
    compare = Comparer(case)
    compare.field("y", loss(x, c, kind, weights))
    compare.field("dx", loss_backward(x, c, case.option("dzdy", 1), kind, weights))
    if case.has("dx2"):
        told = re.search(r"dx2: dzdy=([\d.]*\d)", case.note)
        if not told:
            raise GoldenError("the note does not tell the dzdy of dx2 ('dx2: dzdy=...')")
        compare.field("dx2", loss_backward(x, c, float(told.group(1)), kind, weights))
    return compare.found
