"""centerThrErr: how far the peak of a response map lies from the target (SiamFC's
``centerThrErr.m`` and ``precision_auc.m``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import get_array_module, register_layer

from .averaged_loss import AveragedLoss
from .crop import find_peak
from .kernels import Kernel, choose, register
from .max_score_error import check_samples, sample_labels, target_cells


def precision_auc(
    positions: Any, ground_truth: Any, radius: float, n_step: int, counted: Any = None
) -> Any:
    """Area under the curve of missed positions over distance thresholds.

    For ``n_step`` thresholds from 0 to ``radius`` the number of positions that are farther than
    the threshold from the ground truth, integrated by the trapezoidal rule with steps of 1: a
    sum over positions, not their mean. 0 is best.

    Parameters
    ----------
    positions, ground_truth : arrays (N, 2)
        A row with NaN is left out.
    radius : float
        In the unit of the positions.
    n_step : int
    counted : array (N,) of bool, optional
        Which rows to take; default all.

    Returns
    -------
    array of shape (), float64
    """
    xp = get_array_module(positions)
    distances = xp.sqrt(((positions - ground_truth) ** 2).sum(axis=1))
    valid = ~xp.isnan(distances)
    if counted is not None:
        valid = valid & counted
    # A distance of 0 is beyond no threshold.
    distances = xp.where(valid, distances, 0)
    missed = distances[:, None] > xp.linspace(0, radius, n_step)
    # trapz with unit steps: every value once, but half of the first and of the last.
    ends = (missed[:, 0].sum() + missed[:, -1].sum()) / 2
    return xp.asarray(missed.sum() - ends, dtype=np.float64)


def _center_threshold_error(score: Any, label: Any, target: Any, radius: float, n_step: int) -> Any:
    xp = get_array_module(score)
    positive = sample_labels(score, label, target) > 0
    peaks = find_peak(score).astype(np.float64)
    targets = xp.stack(target_cells(score, target), axis=1).astype(np.float64)
    return precision_auc(peaks, targets, radius, n_step, positive).astype(score.dtype)


register("center_threshold_error", Kernel("reference", _center_threshold_error, None))


def center_threshold_error(
    score: Any, label: Any, target: Any = None, radius: float = 50 / 8, n_step: int = 100
) -> Any:
    """``precision_auc`` of the peaks of the batch's positive samples.

    Parameters
    ----------
    score : array (N, 1, H, W)
    label, target : see ``sample_labels``
        The cell that the target lies in takes the place of the original's centre of the map.
    radius : float
        Greatest threshold, in cells.
    n_step : int
        Number of thresholds.

    Returns
    -------
    array of shape (), dtype of ``score``
        From 0 to ``(n_step - 1)`` times the number of positive samples; 0 if there are none.

    Raises
    ------
    ShapeError
        If shapes do not fit.
    """
    label = check_samples(score, label, target)
    kernel = choose("center_threshold_error", score)
    return kernel.forward(score, label, target, radius, n_step)


@register_layer("centerThrErr")
@dataclass(eq=False, kw_only=True)
class CenterThresholdError(AveragedLoss):
    """Displacement of the peak from the target; see ``center_threshold_error``. No derivative.

    Inputs are ``(score, label)`` or ``(score, label, target)``. The running average is over
    positive samples alone; a batch without any leaves it as it was.

    Settings
    --------
    radius_in_pixel : float
        Greatest threshold, in pixels of the search region.
    total_stride : float
        Pixels of the search region a cell.
    n_step : int
        Number of thresholds.
    ignore_average : bool
        Leave the average out of the training log.
    loss, normalise, opts : kept for saved networks
        Inherited in the original too, and without effect there.
    """

    num_inputs = (2, 3)

    radius_in_pixel: float = 50
    total_stride: float = 8
    n_step: int = 100

    def __post_init__(self):
        if self.radius_in_pixel <= 0 or self.total_stride <= 0 or self.n_step < 2:
            raise ValueError(
                "radius_in_pixel and total_stride must be positive and n_step at least 2, "
                f"received {self.radius_in_pixel!r}, {self.total_stride!r}, {self.n_step!r}"
            )

    def forward(self, inputs, params, context):
        score, label, *rest = inputs
        target = rest[0] if rest else None
        radius = self.radius_in_pixel / self.total_stride
        return [center_threshold_error(score, label, target, radius, self.n_step)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [None] * len(inputs), []

    def differentiable_inputs(self, num_inputs):
        return (False,) * num_inputs

    def update_statistics(self, inputs, outputs):
        positive = (sample_labels(*inputs) > 0).sum()
        self.accumulate(outputs[0].astype(np.float64), positive)
