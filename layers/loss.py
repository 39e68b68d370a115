"""Losses of MatConvNet's ``vl_nnloss`` and its ``dagnn.Loss``, with instance weights.

A loss is a row of the table ``LOSSES``: its value for each cell, and the derivative of that value
by the score. Labels, weights, the sum and the average over the batch are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dagnet import Layer, ShapeError, Size, asnumpy, get_array_module, register_layer, to_device


def logistic(x: Any, c: Any) -> Any:
    """``log(1 + exp(-c x))`` cell by cell, for labels ``c`` of +1 or -1, without overflow."""
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


class LossFunction(NamedTuple):
    """One loss: ``forward(x, c)`` and ``derivative(x, c)`` by ``x``, both cell by cell.

    ``x`` are scores and ``c`` labels in the dtype of ``x``, both (N, C, H, W): every score has
    its own label (MatConvNet's attribute losses).
    """

    forward: Callable[[Any, Any], Any]
    derivative: Callable[[Any, Any], Any]


LOSSES: dict[str, LossFunction] = {
    "logistic": LossFunction(logistic, logistic_derivative),
}


def check_loss_name(kind: str) -> str:
    """Return ``kind`` if it is in the table of losses, else raise ValueError."""
    if kind not in LOSSES:
        known = ", ".join(repr(name) for name in sorted(LOSSES))
        raise ValueError(f"no loss {kind!r}; choose one of {known}")
    return kind


def label_map(x: Any, labels: Any) -> Any:
    """Labels for every score, in the dtype of ``x``.

    Parameters
    ----------
    x : array (N, C, H, W)
    labels : array (N, C, H, W), or one label an image: (N,) or (N, 1, 1, 1)

    Returns
    -------
    array broadcast to (N, C, H, W)

    Raises
    ------
    ShapeError
        If the scores have not four axes, or the labels fit neither form.
    """
    if x.ndim != 4:
        raise ShapeError(f"scores must be (N, C, H, W), received shape {x.shape}", input=0)
    xp = get_array_module(x)
    labels = xp.asarray(labels, dtype=x.dtype)
    if labels.shape == x.shape:
        return labels
    if labels.size == x.shape[0] and x.shape[1] == 1:
        return xp.broadcast_to(labels.reshape(-1, 1, 1, 1), x.shape)
    raise ShapeError(
        f"labels of shape {labels.shape} do not fit scores of shape {x.shape}: give one label for "
        "each score, or one for each image, (N,), where the scores have one channel",
        input=1,
    )


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
    x, c : arrays (N, C, H, W)
        Scores; labels for each of them.
    instance_weights : None, 'balanced', or array that broadcasts to (N, C, H, W)
    normalise : bool
        Divide by N.

    Raises
    ------
    ShapeError
        If the weights do not broadcast to the shape of the scores.
    """
    xp = get_array_module(x)
    weights = (c != 0).astype(x.dtype)
    if isinstance(instance_weights, str):
        weights = balanced_weights(c)
    elif instance_weights is not None:
        given = xp.asarray(instance_weights, dtype=x.dtype)
        try:
            weights = weights * xp.broadcast_to(given, x.shape)
        except ValueError:
            raise ShapeError(
                f"instance weights of shape {given.shape} do not broadcast to the scores' "
                f"{x.shape}; give (H, W), or (N, 1, H, W)",
                input=0,
            ) from None
    if normalise:
        weights = weights / x.dtype.type(x.shape[0])
    return weights


def loss(
    x: Any,
    labels: Any,
    kind: str = "logistic",
    instance_weights: Any = None,
    normalise: bool = True,
) -> Any:
    """Weighted sum of a loss over all scores, ``sum_i w_i L(x_i, c_i) / N``.

    MatConvNet's ``vl_nnloss`` (HEAD; releases up to 1.0-beta24 did not divide by N, which is
    ``normalise=False``).

    Parameters
    ----------
    x : array (N, C, H, W)
        Scores.
    labels : array (N, C, H, W), or (N,) or (N, 1, 1, 1): one label an image
        +1 or -1; where it is 0 the score is ignored.
    kind : str
        A name in ``LOSSES``.
    instance_weights : None, 'balanced', or array that broadcasts to (N, C, H, W)
        The ``w_i``; see ``balanced_weights``.
    normalise : bool
        Divide by N.

    Returns
    -------
    array of shape (), dtype of ``x``

    Raises
    ------
    ShapeError
        If labels or weights do not fit the scores.
    ValueError
        If the loss is not known.
    """
    function = LOSSES[check_loss_name(kind)]
    c = label_map(x, labels)
    weights = cell_weights(x, c, instance_weights, normalise)
    return get_array_module(x).asarray((weights * function.forward(x, c)).sum())


def loss_backward(
    x: Any,
    labels: Any,
    der_y: Any,
    kind: str = "logistic",
    instance_weights: Any = None,
    normalise: bool = True,
) -> Any:
    """Derivative of ``loss`` by the scores, ``der_y w_i L'(x_i, c_i) / N``; (N, C, H, W).

    Labels and weights are constants, 'balanced' ones too: they follow from the labels alone.
    ``der_y`` is the derivative by the loss, one number; the rest is as in ``loss``.
    """
    function = LOSSES[check_loss_name(kind)]
    c = label_map(x, labels)
    weights = cell_weights(x, c, instance_weights, normalise)
    der_y = get_array_module(x).asarray(der_y, dtype=x.dtype).reshape(())
    return der_y * weights * function.derivative(x, c)


@dataclass(eq=False, kw_only=True)
class AveragedLoss(Layer):
    """A layer with one number for output and its running average: the base of losses and errors.

    Settings
    --------
    loss : str
        Name of the loss.
    ignore_average : bool
        Keep no running average.
    normalise : bool
        Average over cells and images; else the output is divided by them without having been
        multiplied by the batch size.
    opts : tuple
        Options of ``vl_nnloss``: names and values in turn.

    Attributes
    ----------
    average, num_averaged : numbers
        The running average and what it counts. They are not settings. On a GPU they may be
        arrays of shape () there, which spares a wait for the device after each forward:
        ``float(layer.average)``.
    """

    num_inputs = (2, 2)
    # Each keeps an average of its own.
    mergeable = False

    loss: str = "softmaxlog"
    ignore_average: bool = False
    normalise: bool = True
    opts: tuple = ()
    average: Any = field(default=0.0, init=False)
    num_averaged: Any = field(default=0, init=False)

    def get_output_sizes(self, input_sizes):
        # The value is one number; MatConvNet's table gives it the batch size, and so its rows
        # can be compared with ours.
        return [Size(input_sizes[0].n, 1, 1, 1)]

    def accumulate(self, total: Any, count: Any) -> None:
        """Take ``total``, the sum of ``count`` new values, into the average; no sync on a GPU."""
        seen = self.num_averaged + count
        # Before anything was counted the average stays 0.
        divisor = seen + (seen == 0)
        self.average = (self.num_averaged * self.average + total) / divisor
        self.num_averaged = seen
        if get_array_module(self.average, self.num_averaged) is np:
            self.average, self.num_averaged = float(self.average), int(self.num_averaged)

    def statistics(self):
        return None if self.ignore_average else {"average": float(self.average)}

    def statistics_state(self):
        return {"average": float(self.average), "num_averaged": int(self.num_averaged)}

    def load_statistics_state(self, state):
        self.average, self.num_averaged = state["average"], state["num_averaged"]

    def reset(self):
        self.average, self.num_averaged = 0.0, 0

    def move(self, device):
        self.average = float(asnumpy(self.average))
        self.num_averaged = int(asnumpy(self.num_averaged))


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
        ``('normalise', False)`` keeps the value from being divided by N.
    instance_weights : None, 'balanced', or array that broadcasts to (N, C, H, W)
        Weight of each cell. MatConvNet has an array here, as ``opts = {'instanceWeights', W}``.
    """

    instance_weights: Any = None

    def __post_init__(self):
        check_loss_name(self.loss)
        self._divides_by_batch()
        weights = self.instance_weights
        if isinstance(weights, str) and weights != "balanced":
            raise ValueError(
                f"instance_weights must be None, 'balanced' or an array, received {weights!r}"
            )
        if weights is not None and not isinstance(weights, str):
            self.instance_weights = to_device(weights, "cpu")

    def _divides_by_batch(self) -> bool:
        names, values = self.opts[::2], self.opts[1::2]
        if len(names) != len(values) or any(name != "normalise" for name in names):
            raise ValueError(
                "opts of a loss may hold 'normalise' and its value, received "
                f"{self.opts!r}; give instance weights as instance_weights"
            )
        return bool(values[-1]) if values else True

    def forward(self, inputs, params, context):
        x, labels = inputs
        y = loss(x, labels, self.loss, self.instance_weights, self._divides_by_batch())
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
