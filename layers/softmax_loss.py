"""The older softmax loss, MatConvNet's ``vl_nnsoftmaxloss``; new networks take ``layers.loss``."""

from __future__ import annotations

from typing import Any

from dagnet import ShapeError, get_array_module

from .loss import loss, loss_backward


def softmax_loss(x: Any, labels: Any) -> Any:
    """``sum_i w_i (-log softmax(x_i)_{c_i}) / N``: ``loss`` of kind ``softmaxlog``.

    Parameters
    ----------
    x : array (N, C, H, W)
        Scores.
    labels : array (N,), (N, 1, 1, 1), (N, 1, H, W), (N, 2, 1, 1) or (N, 2, H, W)
        Classes 1 to C; cells of label 0 or less are left out. A second channel has the weights
        ``w_i``.

    Returns
    -------
    array of shape (), dtype of ``x``

    Raises
    ------
    ShapeError
        If the labels fit none of these forms.
    ValueError
        If a class is none.
    """
    classes, weights = _split(x, labels)
    return loss(x, classes, "softmaxlog", weights)


def softmax_loss_backward(x: Any, labels: Any, der_y: Any) -> Any:
    """Derivative of ``softmax_loss`` by the scores, (N, C, H, W).

    ``der_y w_i (softmax(x_i) - [q = c_i]) / N``; labels and weights are constants.
    """
    classes, weights = _split(x, labels)
    return loss_backward(x, classes, der_y, "softmaxlog", weights)


def _split(x: Any, labels: Any) -> tuple[Any, Any]:
    """Classes with 0 for all that are left out, and weights or None."""
    xp = get_array_module(x)
    labels, weights = xp.asarray(labels), None
    if labels.ndim == 4 and labels.shape[1] == 2:
        labels, weights = labels[:, :1], labels[:, 1:]
    elif labels.ndim == 4 and labels.shape[1] != 1:
        raise ShapeError(
            f"labels must have one channel, the classes, or two, classes and weights; received "
            f"shape {labels.shape}",
            input=1,
        )
    return xp.maximum(labels, 0), weights
