"""Sums of two arrays with factors, ``vl_taccum``: what the original's training loop is made of."""

from __future__ import annotations

from dagnet import SGD

from ..compare import Comparer, Comparison, NotYetError
from ..files import Case
from ..registry import checks


@checks("vl_taccum")
def check_accumulation(case: Case) -> list[Comparison]:
    """``y = alpha a + beta b``, as ``cnn_train_dag`` uses it.

    A momentum ``alpha m - der``, of a derivative ``-beta b``; with ``alpha = 1`` the step
    ``value + rate m``, of a rate ``beta``. Both are compared as SGD takes them.
    """
    alpha, beta = float(case.option("alpha")), float(case.option("beta"))
    a, b = case.array("a"), case.array("b")
    if 0 <= alpha < 1:
        _, y = SGD(momentum=alpha).update(a, a, -beta * b, 0.0)
    elif alpha == 1:
        y, _ = SGD(momentum=0.0).update(a, None, -b, beta)
    else:
        raise NotYetError(f"vl_taccum with alpha {alpha:g}")
    compare = Comparer(case)
    compare.field("y", y)
    return compare.found
