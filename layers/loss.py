"""Losses of MatConvNet's ``vl_nnloss`` and its ``dagnn.Loss``, with instance weights.

``layers.loss_functions`` has the ten losses, a cell at a time. Labels, weights, the sum and the
division by the batch size are here, and the same for all.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ShapeError, asnumpy, get_array_module, register_layer, require, to_device

from .averaged_loss import AveragedLoss
from .kernels import Kernel, choose, register
from .loss_functions import LOSSES, LossFunction, check_loss_name

# vl_nnloss's default of K in the top-K error.
TOP_K = 5


def label_map(x: Any, labels: Any, classes: bool = False) -> Any:
    """Labels for every cell, in the dtype of ``x``.

    Parameters
    ----------
    x : array (N, C, H, W)
    labels : array
        One label an image, (N,) or (N, 1, 1, 1), for all of its cells; or one for each:
        (N, 1, H, W) with ``classes``, else (N, C, H, W). Classes are numbered from 1 to C, as in
        MATLAB, so that 0 is free for cells to leave out: class ``k`` is channel ``k - 1``.
    classes : bool
        Whether labels are classes; else they are attributes, +1 or -1, and one label an image
        needs scores of one channel. 0 leaves a cell out in both.

    Returns
    -------
    array broadcast to (N, 1, H, W) with ``classes``, else to (N, C, H, W)

    Raises
    ------
    ShapeError
        If the scores have not four axes, or the labels fit neither form.
    ValueError
        If a class is not one of 0 to C.
    """
    if x.ndim != 4:
        raise ShapeError(f"scores must be (N, C, H, W), received shape {x.shape}", input=0)
    xp = get_array_module(x)
    labels = xp.asarray(labels, dtype=x.dtype)
    n, channels, h, w = x.shape
    shape = (n, 1, h, w) if classes else x.shape
    if labels.shape != shape:
        if labels.size != n or not (classes or channels == 1):
            each = f"(N, 1, H, W) = {shape}" if classes else "one for each score"
            only = "" if classes else ", where the scores have one channel"
            raise ShapeError(
                f"labels of shape {labels.shape} do not fit scores of shape {x.shape}: give "
                f"{each}, or one for each image, (N,){only}",
                input=1,
            )
        labels = xp.broadcast_to(labels.reshape(-1, 1, 1, 1), shape)
    if classes:
        known = (labels >= 0) & (labels <= channels) & (labels == xp.floor(labels))
        require(
            known,
            lambda: ValueError(
                f"labels must be classes from 1 to {channels} (the first channel is class 1), or "
                f"0 for cells to leave out, received {float(labels[~known][0]):g}"
            ),
        )
    return labels


def balanced_weights(c: Any) -> Any:
    """Weights that give both signs of a sample's labels half of its loss.

    Each cell of a sign gets 0.5 / (how often the sign occurs in the sample). A sign that does
    not occur gets nothing, and the other keeps its half: a map without a positive cell has
    weights that sum to 0.5. Labels of 0 weigh nothing.

    Parameters
    ----------
    c : array (N, C, H, W)

    Returns
    -------
    array (N, C, H, W), dtype of ``c``
    """
    xp = get_array_module(c)
    weights = xp.zeros_like(c)
    for chosen in (c > 0, c < 0):
        count = xp.maximum(chosen.sum(axis=(1, 2, 3), keepdims=True), 1)
        weights += chosen * (0.5 / count).astype(c.dtype)
    return weights


def cell_weights(x: Any, c: Any, instance_weights: Any = None, normalise: bool = True) -> Any:
    """The factor of each cell's loss: 0 where the label is 0, instance weight, and 1/N.

    Parameters
    ----------
    x : array (N, C, H, W)
        Scores.
    c : array (N, 1, H, W) or (N, C, H, W)
        Labels, as ``label_map`` gives them.
    instance_weights : None, 'balanced', or array that broadcasts to the shape of ``c``
    normalise : bool
        Divide by N.

    Returns
    -------
    array shaped like ``c``, dtype of ``x``

    Raises
    ------
    ShapeError
        If the weights do not broadcast to the shape of the labels.
    """
    weights = (c != 0).astype(x.dtype)
    given = _given_weights(x, c, instance_weights)
    if isinstance(given, str):
        weights = balanced_weights(c)
    elif given is not None:
        weights = weights * given
    if normalise:
        weights = weights / x.dtype.type(x.shape[0])
    return weights


def _given_weights(x: Any, c: Any, instance_weights: Any) -> Any:
    """Instance weights that are an array: in the dtype of ``x`` and the shape of ``c``."""
    if instance_weights is None or isinstance(instance_weights, str):
        return instance_weights
    xp = get_array_module(x)
    given = xp.asarray(instance_weights, dtype=x.dtype)
    try:
        return xp.broadcast_to(given, c.shape)
    except ValueError:
        raise ShapeError(
            f"instance weights of shape {given.shape} do not broadcast to the labels' "
            f"{c.shape}; give (H, W), or (N, 1, H, W)",
            input=0,
        ) from None


def _check_weights_name(instance_weights: Any, function: LossFunction) -> None:
    """Refuse weights that are named and not 'balanced', or 'balanced' ones of classes."""
    if not isinstance(instance_weights, str):
        return
    if instance_weights != "balanced":
        raise ValueError(
            f"instance_weights must be None, 'balanced' or an array, received {instance_weights!r}"
        )
    if function.classes:
        raise ValueError(
            "instance_weights 'balanced' weighs the two signs of attributes; give an array of "
            "weights for a loss of classes"
        )


def _option(
    function: LossFunction, threshold: float, top_k: int, channels: float = np.inf
) -> dict[str, Any]:
    """The option that the loss takes, if any, within its range."""
    if function.option == "threshold":
        if not np.isfinite(threshold):
            raise ValueError(f"threshold must be a finite number, received {threshold!r}")
        return {"threshold": threshold}
    if function.option == "top_k":
        if not isinstance(top_k, numbers.Integral) or not 1 <= top_k <= channels:
            most = "" if channels == np.inf else f" and at most the number of classes, {channels}"
            raise ValueError(f"top_k must be an integer of at least 1{most}, received {top_k!r}")
        return {"top_k": top_k}
    return {}


def _sum(
    x: Any, c: Any, weights: Any, normalise: bool, function: LossFunction, options: dict
) -> Any:
    weights = cell_weights(x, c, weights, normalise)
    return get_array_module(x).asarray((weights * function.forward(x, c, **options)).sum())


def _sum_backward(
    x: Any, c: Any, weights: Any, normalise: bool, function: LossFunction, der_y: Any
) -> Any:
    return der_y * cell_weights(x, c, weights, normalise) * function.derivative(x, c)


for _operation in sorted({function.operation for function in LOSSES.values()}):
    register(_operation, Kernel("reference", _sum, _sum_backward))


def loss(
    x: Any,
    labels: Any,
    kind: str = "softmaxlog",
    instance_weights: Any = None,
    normalise: bool = True,
    *,
    threshold: float = 0.0,
    top_k: int = TOP_K,
) -> Any:
    """Weighted sum of a loss over all cells, ``sum_i w_i L(x_i, c_i) / N``.

    MatConvNet's ``vl_nnloss`` (HEAD; releases up to 1.0-beta24 did not divide by N, which is
    ``normalise=False``).

    Parameters
    ----------
    x : array (N, C, H, W)
        Scores.
    labels : array
        Classes 1 to C, (N,), (N, 1, 1, 1) or (N, 1, H, W), for ``classerror``, ``topkerror``,
        ``log``, ``softmaxlog``, ``mhinge`` and ``mshinge``. Attributes +1 or -1, (N, C, H, W), or
        for one channel (N,) or (N, 1, 1, 1), for ``binaryerror``, ``binarylog``, ``logistic``
        and ``hinge``. Cells of label 0 are left out. See ``label_map``.
    kind : str
        A name in ``LOSSES``, in small letters or capitals.
    instance_weights : None, 'balanced', or array
        The ``w_i``; the array broadcasts to a weight for each label, (N, 1, H, W) or
        (N, C, H, W). For 'balanced', of attributes alone, see ``balanced_weights``.
    normalise : bool
        Divide by N.
    threshold : float
        ``binaryerror``: the score above which an attribute counts as present.
    top_k : int
        ``topkerror``: K, at most C.

    Returns
    -------
    array of shape (), dtype of ``x``

    Raises
    ------
    ShapeError
        If labels or weights do not fit the scores.
    ValueError
        If the loss, a class or an option is not known or out of its range.
    """
    function = LOSSES[check_loss_name(kind)]
    _check_weights_name(instance_weights, function)
    c = label_map(x, labels, function.classes)
    options = _option(function, threshold, top_k, x.shape[1])
    given = _given_weights(x, c, instance_weights)
    kernel = choose(function.operation, x)
    return kernel.forward(x, c, given, normalise, function, options)


def loss_backward(
    x: Any,
    labels: Any,
    der_y: Any,
    kind: str = "softmaxlog",
    instance_weights: Any = None,
    normalise: bool = True,
) -> Any:
    """Derivative of ``loss`` by the scores, ``der_y w_i L'(x_i, c_i) / N``; (N, C, H, W).

    Labels and weights are constants, 'balanced' ones too: they follow from the labels alone.
    ``der_y`` is the derivative by the loss, one number; the rest is as in ``loss``. The losses
    that take an option are errors, whose derivative is 0 for all of its values.
    """
    function = LOSSES[check_loss_name(kind)]
    _check_weights_name(instance_weights, function)
    c = label_map(x, labels, function.classes)
    given = _given_weights(x, c, instance_weights)
    der_y = get_array_module(x).asarray(der_y, dtype=x.dtype).reshape(())
    return choose(function.operation, x).backward(x, c, given, normalise, function, der_y)


@register_layer("dagnn.Loss")
@dataclass(eq=False, kw_only=True)
class Loss(AveragedLoss):
    """Weighted loss of scores (N, C, H, W) against labels; the output is one number, shape ().

    Inputs are scores and labels as in the function ``loss``. Labels are constants.

    Settings
    --------
    loss, ignore_average : see ``AveragedLoss``
        A loss that is not in ``LOSSES`` is refused.
    normalise : bool
        MatConvNet's setting of the running average: with it the average is over the batch and
        over the cells of the map, ``value / (H W)``.
    opts : tuple
        ``('normalise', False)`` keeps the value from being divided by N. The other options of
        MatConvNet's ``opts = {'instanceWeights', W, 'topK', 3, ...}`` are settings here.
    instance_weights : None, 'balanced', or array that broadcasts to the labels of all cells
        Weight of each cell.
    threshold : float
        Of ``binaryerror``.
    top_k : int
        Of ``topkerror``.
    """

    instance_weights: Any = None
    threshold: float = 0.0
    top_k: int = TOP_K

    def __post_init__(self):
        self.loss = check_loss_name(self.loss)
        self._divides_by_batch()
        weights = self.instance_weights
        _check_weights_name(weights, LOSSES[self.loss])
        _option(LOSSES[self.loss], self.threshold, self.top_k)
        if weights is not None and not isinstance(weights, str):
            self.instance_weights = to_device(weights, "cpu")

    def _divides_by_batch(self) -> bool:
        names, values = self.opts[::2], self.opts[1::2]
        if len(names) != len(values) or any(name != "normalise" for name in names):
            raise ValueError(
                "opts of a loss may hold 'normalise' and its value, received "
                f"{self.opts!r}; give instance_weights, threshold and top_k as settings"
            )
        return bool(values[-1]) if values else True

    def forward(self, inputs, params, context):
        x, labels = inputs
        y = loss(
            x,
            labels,
            self.loss,
            self.instance_weights,
            self._divides_by_batch(),
            threshold=self.threshold,
            top_k=self.top_k,
        )
        return [y], None

    def backward(self, inputs, params, der_outputs, saved, context):
        x, labels = inputs
        der_x = loss_backward(
            x, labels, der_outputs[0], self.loss, self.instance_weights, self._divides_by_batch()
        )
        return [der_x, None], []

    def differentiable_inputs(self, num_inputs):
        return (True, False)

    def update_statistics(self, inputs, outputs):
        if self.ignore_average:
            return
        n, _, h, w = inputs[0].shape
        value = outputs[0].astype(np.float64)
        self.accumulate(value * n if self.normalise else value, n * h * w)

    def move(self, device):
        super().move(device)
        if self.instance_weights is not None and not isinstance(self.instance_weights, str):
            self.instance_weights = to_device(self.instance_weights, device)

    def save(self):
        settings = super().save()
        weights = self.instance_weights
        if weights is not None and not isinstance(weights, str):
            settings["instance_weights"] = asnumpy(weights)
        return settings
