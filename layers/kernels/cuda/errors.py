"""Peaks of response maps and the errors that they make, on CUDA: ``errors.cu``."""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module

from .launch import MOST_BLOCKS, launch, offer


def _launch(kernel: str, scores: Any, arguments: tuple) -> None:
    samples, _, height, width = scores.shape
    scores = get_array_module(scores).ascontiguousarray(scores)
    blocks = min(samples, MOST_BLOCKS)
    launch("errors", kernel, scores.dtype, blocks, (scores, *arguments, height, width, samples))


def _find_peak(scores: Any) -> Any:
    places = get_array_module(scores).empty((len(scores), 2), "int64")
    _launch("find_peak", scores, (places,))
    return places


def _total(kernel: str, score: Any, label: Any, target: Any, *numbers: Any) -> Any:
    """The sum over samples of what a kernel finds."""
    xp = get_array_module(score)
    label = xp.ascontiguousarray(xp.asarray(label, dtype=score.dtype))
    if target is not None:
        target = xp.ascontiguousarray(xp.asarray(target, dtype="float64"))
    parts = xp.empty(len(score), "float64")
    _launch(kernel, score, (label, target, parts, *numbers))
    return parts.sum().astype(score.dtype)


def _max_score_error(score: Any, label: Any, target: Any) -> Any:
    return _total("max_score_error", score, label, target)


def _center_threshold_error(score: Any, label: Any, target: Any, radius: float, n_step: int) -> Any:
    numbers = (float(radius), int(n_step))
    return _total("center_threshold_error", score, label, target, *numbers)


offer("find_peak", _find_peak, None)
offer("max_score_error", _max_score_error, None)
offer("center_threshold_error", _center_threshold_error, None)
