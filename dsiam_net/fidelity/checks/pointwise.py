"""Layers without parameters, and the loss: ``vl_nnrelu``, ``vl_nnsoftmax``, ``vl_nnloss``."""

from __future__ import annotations

import re

from dagnet import Context
from layers import LOSSES, SoftMax, loss, loss_backward, relu, relu_backward

from ..compare import Comparer, Comparison, NotYetError
from ..files import Case, GoldenError
from ..registry import checks

# Losses of vl_nnloss; a case of one that layers.LOSSES lacks is not yet run.
KNOWN_LOSSES = (
    "classerror", "topkerror", "log", "softmaxlog", "mhinge", "mshinge",
    "binaryerror", "binarylog", "logistic", "hinge",
)  # fmt: skip


@checks("vl_nnrelu")
def check_relu(case: Case) -> list[Comparison]:
    leak = float(case.option("leak", 0.0) or 0.0)
    y = relu(case.tensor("x"), leak)
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", relu_backward(y, case.tensor("dzdy"), leak))
    return compare.found


@checks("vl_nnsoftmax")
def check_softmax(case: Case) -> list[Comparison]:
    layer = SoftMax()
    (y,), saved = layer.forward([case.tensor("x")], [], Context())
    (der_x,), _ = layer.backward([None], [], [case.tensor("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    return compare.found


@checks("vl_nnloss")
def check_loss(case: Case) -> list[Comparison]:
    """Value and derivative; ``dx2`` is the derivative for the ``dzdy`` that the note tells."""
    kind = case.option("loss")
    if kind not in LOSSES:
        if kind in KNOWN_LOSSES:
            raise NotYetError(f"loss {kind!r}")
        raise GoldenError(f"no loss {kind!r} is known; known are {', '.join(KNOWN_LOSSES)}")
    x, c = case.tensor("x"), case.tensor("c")
    if c.size == len(x):  # one label an image
        c = c.reshape(-1)
    weights = case.tensor("instanceWeights") if case.has("instanceWeights") else None
    compare = Comparer(case)
    compare.field("y", loss(x, c, kind, weights))
    compare.field("dx", loss_backward(x, c, case.option("dzdy", 1), kind, weights))
    if case.has("dx2"):
        told = re.search(r"dx2: dzdy=([\d.]*\d)", case.note)
        if not told:
            raise GoldenError("the note does not tell the dzdy of dx2 ('dx2: dzdy=...')")
        compare.field("dx2", loss_backward(x, c, float(told.group(1)), kind, weights))
    return compare.found
