"""LogisticLoss of the CFNet code: the logistic loss with weights that are an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ShapeError, register_layer

from .averaged_loss import AveragedLoss
from .loss import loss, loss_backward


def _check_weights(score: Any, weights: Any) -> None:
    try:
        fits = np.broadcast_shapes(score.shape, weights.shape) == tuple(score.shape)
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"expected a weight for each score, of shape {tuple(score.shape)} or one that "
            f"broadcasts to it, received shape {tuple(weights.shape)}",
            input=2,
        )


@register_layer("LogisticLoss")
@dataclass(eq=False, kw_only=True)
class LogisticLoss(AveragedLoss):
    """``sum_i w_i log(1 + exp(-c_i x_i))`` (``LogisticLoss.m``, ``logistic_loss.m``).

    Inputs: scores ``x`` (N, C, H, W); labels ``c``, +1 or -1, one for each score, or for one
    channel (N,); weights ``w`` that broadcast to the scores. Labels and weights are constants.
    Output: one number, shape (), not divided by the batch size as that of ``Loss`` is. The
    running average is the loss of a sample.

    A label of 0 leaves its score out. In the original it makes the weights of all other scores 1
    as well; here they keep theirs, as in ``vl_nnloss``.

    Settings
    --------
    ignore_average : bool
        Leave the average out of the training log.
    loss, normalise, opts : kept for saved networks
        Inherited in the original too, and without effect there.
    """

    num_inputs = (3, 3)

    def forward(self, inputs, params, context):
        x, labels, weights = inputs
        _check_weights(x, weights)
        return [loss(x, labels, "logistic", weights, normalise=False)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        """See ``loss_backward``: ``dx_i = -dy w_i c_i / (1 + exp(c_i x_i))``."""
        x, labels, weights = inputs
        der_x = loss_backward(x, labels, der_outputs[0], "logistic", weights, normalise=False)
        return [der_x, None, None], []

    def differentiable_inputs(self, num_inputs):
        return (True, False, False)

    def update_statistics(self, inputs, outputs):
        self.accumulate(outputs[0].astype(np.float64), inputs[0].shape[0])
