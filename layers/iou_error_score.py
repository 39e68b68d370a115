"""IOUErrorScore of the CFNet code: overlap of the box at a response's peak with the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ShapeError, get_array_module, register_layer

from .averaged_loss import AveragedLoss
from .crop import find_peak
from .max_score_error import sample_labels


def iou_error(score: Any, label: Any, reference: Any, predicted: Any, stride: float) -> Any:
    """Sum of the overlaps of the batch's positive samples, ``iou_error.m``.

    A sample's reference lies in the centre of the map, its prediction around the peak; the overlap
    is intersection over union of the two boxes.

    Parameters
    ----------
    score : array (N, 1, H, W), H and W odd
    label : array, N numbers
        A sample is positive if its label is greater than 0.
    reference, predicted : arrays (N, 2)
        Height and width of the boxes, pixels. (The original's are 2 x N.)
    stride : float
        Pixels a cell.

    Returns
    -------
    array of shape (), dtype of ``score``
        From 0 to the number of positive samples, which is best: it is no error, but for its name.

    Raises
    ------
    ShapeError
        If shapes do not fit, or the map has no centre cell.
    """
    xp = get_array_module(score)
    positive = sample_labels(score, label) > 0
    n, _, height, width = score.shape
    if height % 2 == 0 or width % 2 == 0:
        raise ShapeError(
            f"a map of {height}x{width} cells has no centre cell; give odd sides", input=0
        )
    for place, sizes in enumerate((reference, predicted), start=2):
        if tuple(sizes.shape) != (n, 2):
            raise ShapeError(
                f"sizes must be (N, 2), height and width of each of {n} samples, received shape "
                f"{tuple(sizes.shape)}",
                input=place,
            )
    center = xp.asarray([height // 2, width // 2])
    shift = (find_peak(score) - center) * float(stride)
    reference, predicted = (xp.asarray(s, dtype=np.float64) for s in (reference, predicted))
    start = xp.maximum(-reference / 2, shift - predicted / 2)
    end = xp.minimum(reference / 2, shift + predicted / 2)
    common = xp.maximum(end - start, 0).prod(axis=1)
    union = predicted.prod(axis=1) + reference.prod(axis=1) - common
    return (common[positive] / union[positive]).sum().astype(score.dtype)


@register_layer("IOUErrorScore")
@dataclass(eq=False, kw_only=True)
class IOUErrorScore(AveragedLoss):
    """Overlap of predicted and true boxes; see ``iou_error``. No derivative.

    Inputs are ``(score, label, reference, predicted)``. The running average is over positive
    samples alone; a batch without any leaves it as it was.

    Settings
    --------
    stride : float
        Pixels of the search region a cell. 0, the original's default, stands for one that is not
        set: the layer then cannot be run.
    ignore_average : bool
        Leave the average out of the training log.
    loss, normalise, opts : kept for saved networks
        Inherited in the original too, and without effect there.
    """

    num_inputs = (4, 4)

    stride: float = 0

    def __post_init__(self):
        if not self.stride >= 0:
            raise ValueError(f"stride must not be negative, received {self.stride!r}")

    def forward(self, inputs, params, context):
        if not self.stride:
            raise ValueError("stride is not set; give the pixels of the search region a cell")
        return [iou_error(*inputs, self.stride)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [None] * len(inputs), []

    def differentiable_inputs(self, num_inputs):
        return (False,) * num_inputs

    def update_statistics(self, inputs, outputs):
        positive = (sample_labels(*inputs[:2]) > 0).sum()
        self.accumulate(outputs[0].astype(np.float64), positive)
