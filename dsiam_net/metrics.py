"""Scores of a tracker as OTB, TrackingNet and GOT-10k define them, and SiamFC's ``precision_auc``.

Results and ground truth are boxes (T, 4), ``x, y, w, h``, one a frame. A frame without ground
truth is left out of every score; a frame without result counts as missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layers import precision_auc

from .boxes import box_to_center, iou, valid_boxes

__all__ = [
    "NORMALIZED_THRESHOLDS",
    "OVERLAP_THRESHOLDS",
    "PRECISION_THRESHOLD",
    "PRECISION_THRESHOLDS",
    "average_overlap",
    "center_errors",
    "normalized_errors",
    "normalized_precision",
    "overlaps",
    "precision",
    "precision_auc",
    "success_auc",
    "success_rates",
]

# 0, 0.05, ..., 1: the abscissae of OTB's success plot.
OVERLAP_THRESHOLDS = np.linspace(0, 1, 21)
# Pixels; the one number that stands for OTB's precision plot.
PRECISION_THRESHOLD = 20.0
# 0, 1, ..., 50 pixels: the abscissae of OTB's precision plot.
PRECISION_THRESHOLDS = np.arange(51.0)
# 0, 0.01, ..., 0.5 of the target's size: those of the normalised precision plot.
NORMALIZED_THRESHOLDS = np.linspace(0, 0.5, 51)


def _pair(results: Any, ground_truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (T, 4), for the frames that have ground truth."""
    results = np.asarray(results, dtype=np.float64)
    ground_truth = np.asarray(ground_truth, dtype=np.float64)
    if results.shape != ground_truth.shape or results.ndim != 2 or results.shape[1] != 4:
        raise ValueError(
            "results and ground truth must both be (T, 4), one box a frame; received "
            f"{results.shape} and {ground_truth.shape}"
        )
    there = valid_boxes(ground_truth)
    if not there.any():
        raise ValueError("no frame has ground truth, so there is nothing to score")
    return results[there], ground_truth[there]


def overlaps(results: Any, ground_truth: Any) -> np.ndarray:
    """Intersection over union, (frames with ground truth,); 0 where there is no result."""
    return iou(*_pair(results, ground_truth))


def center_errors(results: Any, ground_truth: Any) -> np.ndarray:
    """Distances of the boxes' centres, frame pixels, (frames with ground truth,).

    Infinite where there is no result.
    """
    return _lengths(*_pair(results, ground_truth), scale=np.ones(2))


def normalized_errors(results: Any, ground_truth: Any) -> np.ndarray:
    """Distances of the centres, across and down in units of the true box's width and height.

    (frames with ground truth,); infinite where there is no result. TrackingNet (Müller et al.,
    ECCV 2018), Section 5.1. As in the got10k toolkit a side of less than a pixel counts as one.
    """
    results, ground_truth = _pair(results, ground_truth)
    return _lengths(results, ground_truth, np.maximum(ground_truth[:, 3:1:-1], 1))


def _lengths(results: np.ndarray, ground_truth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Lengths of the centres' offsets (y, x) divided by ``scale``; infinite without result."""
    there = valid_boxes(results)
    results = np.where(there[:, None], results, ground_truth)
    offset = (box_to_center(results)[0] - box_to_center(ground_truth)[0]) / scale
    return np.where(there, np.hypot(offset[:, 0], offset[:, 1]), np.inf)


def success_rates(
    results: Any, ground_truth: Any, thresholds: Any = OVERLAP_THRESHOLDS
) -> np.ndarray:
    """Share of frames whose overlap is greater than each threshold, (thresholds,)."""
    found = overlaps(results, ground_truth)
    return (found[:, None] > np.asarray(thresholds)).mean(axis=0)


def success_auc(results: Any, ground_truth: Any) -> float:
    """OTB's success score: the mean success rate over 21 thresholds from 0 to 1."""
    return float(success_rates(results, ground_truth).mean())


def precision(results: Any, ground_truth: Any, threshold: float = PRECISION_THRESHOLD) -> float:
    """Share of frames whose centre error is at most ``threshold`` frame pixels."""
    return float((center_errors(results, ground_truth) <= threshold).mean())


def normalized_precision(results: Any, ground_truth: Any) -> float:
    """Mean share of frames within 51 thresholds, 0 to 0.5, of the normalised centre error.

    The area under TrackingNet's normalised precision plot, as the got10k toolkit has it.
    """
    errors = normalized_errors(results, ground_truth)
    return float((errors[:, None] <= NORMALIZED_THRESHOLDS).mean())


def average_overlap(results: Any, ground_truth: Any) -> float:
    """GOT-10k's AO: the mean overlap. Its SR at 0.5 is ``success_rates(..., [0.5])``."""
    return float(overlaps(results, ground_truth).mean())
