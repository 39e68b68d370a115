"""Scores of a tracker, as OTB defines them, and SiamFC's ``precision_auc``.

Results and ground truth are boxes (T, 4), ``x, y, w, h``, one a frame. A frame without ground
truth is left out of every score; a frame without result counts as missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layers import precision_auc

from .boxes import box_to_center, iou, valid_boxes

__all__ = [
    "OVERLAP_THRESHOLDS",
    "PRECISION_THRESHOLD",
    "center_errors",
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
    results, ground_truth = _pair(results, ground_truth)
    there = valid_boxes(results)
    results = np.where(there[:, None], results, ground_truth)
    offset = box_to_center(results)[0] - box_to_center(ground_truth)[0]
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
