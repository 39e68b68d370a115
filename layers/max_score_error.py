"""MaxScoreErr: how many response maps of a batch have the wrong sign (SiamFC's ``MaxScoreErr.m``).

Also what it shares with ``centerThrErr``: which samples are positive, and where their target is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ShapeError, get_array_module, register_layer

from .averaged_loss import AveragedLoss
from .kernels import Kernel, choose, register


def sample_labels(score: Any, label: Any, target: Any = None) -> Any:
    """One label a sample, (N,): the labels themselves, or the sign of a map of labels.

    Parameters
    ----------
    score : array (N, 1, H, W)
    label : array
        Without ``target`` one label a sample, N numbers: +1 or -1. With it a map of labels,
        (N, 1, H, W): a sample is positive if any cell of its map is, else negative.
    target : array (N, 2), optional
        Row and column of the target, in cells, 0-based, unrounded.

    Raises
    ------
    ShapeError
        If shapes do not fit.
    """
    label = check_samples(score, label, target)
    if target is None:
        return label.reshape(len(score))
    return get_array_module(score).where((label > 0).any(axis=(1, 2, 3)), 1, -1)


def check_samples(score: Any, label: Any, target: Any = None) -> Any:
    """The labels as an array; raises ShapeError if shapes do not fit (see ``sample_labels``)."""
    if score.ndim != 4 or score.shape[1] != 1:
        raise ShapeError(f"scores must be (N, 1, H, W), received shape {score.shape}", input=0)
    n = score.shape[0]
    xp = get_array_module(score)
    label = xp.asarray(label)
    if target is None:
        if label.size != n:
            raise ShapeError(
                f"without a target there must be one label a sample, {n}, received shape "
                f"{label.shape}; a map of labels needs the target's position as third input",
                input=1,
            )
        return label
    if label.shape != score.shape:
        raise ShapeError(
            f"with a target the labels must be a map like the scores, {score.shape}, received "
            f"shape {label.shape}",
            input=1,
        )
    if target.shape != (n, 2):
        raise ShapeError(
            f"target must be (N, 2), the row and column of each of {n} samples, received shape "
            f"{target.shape}",
            input=2,
        )
    return label


def target_cells(score: Any, target: Any = None) -> tuple[Any, Any]:
    """Row and column of the cell that the target lies in, two integer arrays (N,), 0-based.

    Without ``target`` the centre of the map, ``(H // 2, W // 2)`` (the original takes the row's
    number for the column too, which is the same on its square maps). Else the nearest cell:
    MATLAB's rounding, half away from zero in 1-based cells, and clipped to the map. A position
    that is NaN, of an absent target, counts as 0; such a sample is negative and its cell unread.
    """
    xp = get_array_module(score)
    n, _, h, w = score.shape
    if target is None:
        return xp.full(n, h // 2), xp.full(n, w // 2)
    # Rounding half away from zero differs from floor(p + 0.5) only below -0.5: clipped to 0.
    cells = xp.floor(xp.where(xp.isnan(target), 0, target) + 0.5)
    return tuple(
        xp.clip(cells[:, axis], 0, side - 1).astype(np.int64) for axis, side in enumerate((h, w))
    )


def _max_score_error(score: Any, label: Any, target: Any) -> Any:
    xp = get_array_module(score)
    labels = sample_labels(score, label, target)
    rows, columns = target_cells(score, target)
    at_target = score[xp.arange(len(score)), 0, rows, columns]
    margin = xp.where(labels > 0, at_target, -score.max(axis=(1, 2, 3)))
    margin = xp.where(labels == 0, xp.zeros_like(margin), margin)
    return xp.asarray((margin <= 0).sum(), dtype=score.dtype)


register("max_score_error", Kernel("reference", _max_score_error, None))


def max_score_error(score: Any, label: Any, target: Any = None) -> Any:
    """How many samples of the batch have the wrong sign, an array of shape ().

    A positive sample is wrong if its score at the target is 0 or less, a negative one if its
    greatest score is 0 or more; a label of 0 is always wrong, as in ``max_score_err.m``.

    Parameters
    ----------
    score : array (N, 1, H, W)
        H and W odd where there is no ``target``, so that the map has a centre.
    label, target : see ``sample_labels``

    Returns
    -------
    array of shape (), dtype of ``score``

    Raises
    ------
    ShapeError
        If shapes do not fit.
    """
    label = check_samples(score, label, target)
    h, w = score.shape[2:]
    if target is None and (h % 2 == 0 or w % 2 == 0):
        raise ShapeError(
            f"a map of {h}x{w} cells has no centre cell; give odd sides, or the target's position",
            input=0,
        )
    return choose("max_score_error", score).forward(score, label, target)


@register_layer("MaxScoreErr")
@dataclass(eq=False, kw_only=True)
class MaxScoreError(AveragedLoss):
    """Number of samples with the wrong sign; see ``max_score_error``. No derivative.

    Inputs are ``(score, label)`` or ``(score, label, target)``. The running average is the share
    of wrong samples.

    Settings
    --------
    ignore_average : bool
        Leave the average out of the training log.
    loss, normalise, opts : kept for saved networks
        Inherited in the original too, and without effect there.
    """

    num_inputs = (2, 3)

    def forward(self, inputs, params, context):
        return [max_score_error(*inputs)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [None] * len(inputs), []

    def differentiable_inputs(self, num_inputs):
        return (False,) * num_inputs

    def update_statistics(self, inputs, outputs):
        self.accumulate(outputs[0].astype(np.float64), inputs[0].shape[0])
