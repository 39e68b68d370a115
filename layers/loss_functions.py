"""The ten losses of MatConvNet's ``vl_nnloss``, cell by cell: the table ``LOSSES``.

Those of classes compare a vector of scores with the number of a class; those of attributes compare
each score with a label of +1 or -1. Labels, weights and sums are in ``layers.loss``. What the
loss is not smooth in (a kink, the place of a maximum) has the derivative that ``vl_nnloss`` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dagnet import get_array_module

# The derivative of the log loss is that of a probability of at least this (vl_nnloss's bound):
# a softmax in single precision underflows to 0, where 1/x would make the whole backward pass NaN.
LEAST_PROBABILITY = 1e-8


# Classes. Scores x are (N, C, H, W), labels c (N, 1, H, W): 1 to C, or 0 for cells to leave out,
# whose values may be anything finite.


def _index(c: Any) -> Any:
    """0-based channel of each label; the first one for labels of 0."""
    xp = get_array_module(c)
    return xp.maximum(c - 1, 0).astype(xp.int64)


def _scores(x: Any, index: Any) -> Any:
    """The score of one channel for each cell, (N, 1, H, W)."""
    return get_array_module(x).take_along_axis(x, index, axis=1)


def _one_hot(x: Any, index: Any) -> Any:
    """(N, C, H, W), dtype of ``x``: 1 in the channel ``index`` of each cell and 0 elsewhere."""
    xp = get_array_module(x)
    return (xp.arange(x.shape[1]).reshape(1, -1, 1, 1) == index).astype(x.dtype)


def _best(x: Any) -> Any:
    """Channel of the greatest score, the first of several, (N, 1, H, W)."""
    return x.argmax(axis=1)[:, None]


def class_error(x: Any, c: Any) -> Any:
    """1 where the class of the greatest score, the first of several, is not ``c``; else 0."""
    return (_best(x) + 1 != c).astype(x.dtype)


def top_k_error(x: Any, c: Any, top_k: int) -> Any:
    """1 where ``c`` is not among the classes of the ``top_k`` greatest scores; else 0.

    Of equal scores the class of the lower number counts as greater, as in MATLAB's ``sort``.
    """
    xp = get_array_module(x)
    index = _index(c)
    own = _scores(x, index)
    before = xp.arange(x.shape[1]).reshape(1, -1, 1, 1) < index
    rank = ((x > own) | ((x == own) & before)).sum(axis=1, keepdims=True)
    return (rank >= top_k).astype(x.dtype)


def no_derivative(x: Any, c: Any) -> Any:
    """Errors count: their derivative is 0 wherever there is one."""
    return get_array_module(x).zeros_like(x)


def log_loss(x: Any, c: Any) -> Any:
    """``-log x_c``, for scores that are probabilities."""
    xp = get_array_module(x)
    return -xp.log(xp.where(c > 0, _scores(x, _index(c)), x.dtype.type(1)))


def log_loss_derivative(x: Any, c: Any) -> Any:
    """``-1 / max(x_c, LEAST_PROBABILITY)`` by ``x_c``, 0 by the other scores."""
    xp = get_array_module(x)
    index = _index(c)
    own = xp.maximum(_scores(x, index), x.dtype.type(LEAST_PROBABILITY))
    return -_one_hot(x, index) / own


def softmax_log(x: Any, c: Any) -> Any:
    """``-log(exp(x_c) / sum_q exp(x_q))``; the greatest score is taken out of the exponentials."""
    xp = get_array_module(x)
    greatest = x.max(axis=1, keepdims=True)
    total = xp.exp(x - greatest).sum(axis=1, keepdims=True)
    return greatest + xp.log(total) - _scores(x, _index(c))


def softmax_log_derivative(x: Any, c: Any) -> Any:
    """``P_q - [q = c]``, with ``P`` the softmax of ``x``."""
    xp = get_array_module(x)
    e = xp.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True) - _one_hot(x, _index(c))


def multiclass_hinge(x: Any, c: Any) -> Any:
    """``max(0, 1 - x_c)``, for scores that are margins."""
    return get_array_module(x).maximum(1 - _scores(x, _index(c)), 0)


def multiclass_hinge_derivative(x: Any, c: Any) -> Any:
    """-1 by ``x_c`` where ``x_c < 1``, else 0."""
    index = _index(c)
    return -_one_hot(x, index) * (_scores(x, index) < 1)


def _rivals(x: Any, index: Any) -> Any:
    """The scores, with that of the label's class at minus infinity."""
    xp = get_array_module(x)
    return xp.where(_one_hot(x, index) > 0, x.dtype.type(-xp.inf), x)


def structured_hinge(x: Any, c: Any) -> Any:
    """``max(0, 1 - (x_c - max_{q != c} x_q))`` (Crammer and Singer); 0 where C is 1."""
    index = _index(c)
    margin = _scores(x, index) - _rivals(x, index).max(axis=1, keepdims=True)
    return get_array_module(x).maximum(1 - margin, 0)


def structured_hinge_derivative(x: Any, c: Any) -> Any:
    """Where the margin is below 1: -1 by ``x_c`` and +1 by the greatest of the others.

    Of equal ones the first is taken. With one class the loss is 0 and so is its derivative;
    ``vl_nnloss`` gives +1 there, since it writes both to the same score.
    """
    index = _index(c)
    rivals = _rivals(x, index)
    rival = _best(rivals)
    below = _scores(x, index) - _scores(rivals, rival) < 1
    return (_one_hot(x, rival) - _one_hot(x, index)) * below


# Attributes. Scores x and labels c, +1 or -1 (0 for cells to leave out), are (N, C, H, W).


def binary_error(x: Any, c: Any, threshold: float) -> Any:
    """1 where ``sign(x - threshold)`` is not ``c``, else 0; a score on the threshold is wrong."""
    xp = get_array_module(x)
    return (xp.sign(x - x.dtype.type(threshold)) != c).astype(x.dtype)


def binary_log(x: Any, c: Any) -> Any:
    """``-log(c (x - 1/2) + 1/2)``: minus the log of ``x`` or ``1 - x``, for probabilities."""
    half = x.dtype.type(0.5)
    return -get_array_module(x).log(c * (x - half) + half)


def binary_log_derivative(x: Any, c: Any) -> Any:
    """``-c / (c (x - 1/2) + 1/2)``.

    For ``c`` of +1 and -1 that is ``vl_nnloss``'s ``-1 / (x + (c - 1)/2)``; for 0 it is 0, where
    the other has a pole at ``x = 1/2``.
    """
    half = x.dtype.type(0.5)
    return -c / (c * (x - half) + half)


def logistic(x: Any, c: Any) -> Any:
    """``log(1 + exp(-c x))`` without overflow."""
    xp = get_array_module(x)
    z = -c * x
    return xp.maximum(z, 0) + xp.log1p(xp.exp(-xp.abs(z)))


def logistic_derivative(x: Any, c: Any) -> Any:
    """``-c / (1 + exp(c x))``, the derivative of ``logistic`` by ``x``.

    ``1 / (1 + exp(z))`` is ``exp(-|z|) / (1 + exp(-|z|))`` where ``z >= 0`` and
    ``1 / (1 + exp(-|z|))`` elsewhere: the exponential never overflows.
    """
    xp = get_array_module(x)
    z = c * x
    e = xp.exp(-xp.abs(z))
    return -c * xp.where(z >= 0, e, xp.ones_like(e)) / (1 + e)


def hinge(x: Any, c: Any) -> Any:
    """``max(0, 1 - c x)``."""
    return get_array_module(x).maximum(1 - c * x, 0)


def hinge_derivative(x: Any, c: Any) -> Any:
    """``-c`` where ``c x < 1``, else 0."""
    return -c * (c * x < 1)


class LossFunction(NamedTuple):
    """One loss: ``forward(x, c)`` and ``derivative(x, c)`` by ``x``, both cell by cell.

    Scores ``x`` are (N, C, H, W) and labels ``c`` have their dtype. With ``classes`` the labels are
    (N, 1, H, W), and so is what ``forward`` returns; else they are (N, C, H, W), every score
    with its own label (MatConvNet's attribute losses). ``derivative`` is (N, C, H, W) in both
    cases. ``forward`` takes the option named in ``option`` as a keyword. Kernels of ``operation``
    compute the weighted sum.
    """

    forward: Callable[..., Any]
    derivative: Callable[[Any, Any], Any]
    classes: bool = False
    option: str | None = None
    operation: str = "loss"


LOSSES: dict[str, LossFunction] = {
    "classerror": LossFunction(class_error, no_derivative, classes=True),
    "topkerror": LossFunction(top_k_error, no_derivative, classes=True, option="top_k"),
    "log": LossFunction(log_loss, log_loss_derivative, classes=True),
    "softmaxlog": LossFunction(softmax_log, softmax_log_derivative, classes=True),
    "mhinge": LossFunction(multiclass_hinge, multiclass_hinge_derivative, classes=True),
    "mshinge": LossFunction(structured_hinge, structured_hinge_derivative, classes=True),
    "binaryerror": LossFunction(binary_error, no_derivative, option="threshold"),
    "binarylog": LossFunction(binary_log, binary_log_derivative),
    "logistic": LossFunction(logistic, logistic_derivative, operation="logistic_loss"),
    "hinge": LossFunction(hinge, hinge_derivative),
}


def check_loss_name(kind: str) -> str:
    """Return ``kind`` in small letters if it is in the table of losses, else raise ValueError."""
    if str(kind).lower() not in LOSSES:
        known = ", ".join(repr(name) for name in sorted(LOSSES))
        raise ValueError(f"no loss {kind!r}; choose one of {known}")
    return kind.lower()
