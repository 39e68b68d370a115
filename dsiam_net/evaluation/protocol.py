"""How the boxes of a run become scores: the conventions of OTB and of the got10k toolkit.

What both do: the tracker starts from the first true box and is never started again (one-pass
evaluation); a frame without ground truth is not scored. What they differ in is ``Protocol``.
Sources: ``calcSeqErrRobust.m`` and ``genPerfMat.m`` of OTB's MATLAB toolkit,
``experiments/otb.py``, ``experiments/got10k.py`` and ``experiments/lasot.py`` of got10k's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..boxes import iou, valid_boxes
from ..metrics import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLD,
    PRECISION_THRESHOLDS,
    center_errors,
    normalized_errors,
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Conventions of a benchmark.

    Attributes
    ----------
    name : str
    first_frame : bool
        Whether the first frame is scored (with the true box as its result, as every tracker is
        given it) or left out.
    repeat_lost : bool
        Whether a frame without result takes the box of the frame before, or counts as missed.
    clip : bool
        Whether boxes are cut to the frame before their overlap is taken.
    overlap_thresholds : int
        Number of thresholds from 0 to 1 of the success curve.
    by_frames : bool
        Whether all frames count alike in a mean over sequences, or all sequences.
    rank_by : str
        The score that trackers are ranked by, a field of ``Scores``.
    """

    name: str
    first_frame: bool
    repeat_lost: bool
    clip: bool
    overlap_thresholds: int
    by_frames: bool
    rank_by: str

    @property
    def thresholds(self) -> np.ndarray:
        """Of the success curve, (overlap_thresholds,)."""
        return np.linspace(0, 1, self.overlap_thresholds)


PROTOCOLS = {
    "otb": Protocol(
        name="otb",
        first_frame=True,
        repeat_lost=True,
        clip=False,
        overlap_thresholds=21,
        by_frames=False,
        rank_by="auc",
    ),
    "got10k": Protocol(
        name="got10k",
        first_frame=False,
        repeat_lost=False,
        clip=True,
        overlap_thresholds=101,
        by_frames=True,
        rank_by="ao",
    ),
}


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a tracker on a sequence, or over several.

    Attributes
    ----------
    frames : int
        Frames scored; with several runs of a sequence, those of all.
    auc : float
        Mean of the success curve.
    precision : float
        Share of frames whose centres are at most 20 pixels apart.
    normalized_precision : float
        Mean of the normalised precision curve.
    ao, sr50, sr75 : float
        Mean overlap, and shares of frames whose overlap is greater than 0.5 and 0.75.
    fps : float or None
        Frames a second; None where no times are known.
    timed : int
        Frames whose time is known.
    success, centre, normalized : float64 arrays (thresholds,)
        The curves: shares of frames with an overlap greater than, or an error of at most, each
        threshold of the protocol, ``PRECISION_THRESHOLDS`` and ``NORMALIZED_THRESHOLDS``.
    """

    frames: int
    auc: float
    precision: float
    normalized_precision: float
    ao: float
    sr50: float
    sr75: float
    fps: float | None
    timed: int
    success: np.ndarray
    centre: np.ndarray
    normalized: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }


# The scores that are means over frames or sequences, with their titles in tables and files.
MEASURES = {
    "auc": "AUC",
    "precision": "P@20",
    "normalized_precision": "Pnorm",
    "ao": "AO",
    "sr50": "SR.50",
    "sr75": "SR.75",
}


@dataclass(frozen=True, eq=False)
class Run:
    """A tracker's boxes on a sequence.

    Attributes
    ----------
    boxes : float64 array (R, T, 4)
        x, y, w, h, 1-based, of R repetitions; NaN where the tracker gave none.
    times : float64 array (R, T), or None
        Seconds a frame; 0 or NaN where unknown.
    """

    boxes: np.ndarray
    times: np.ndarray | None = None


def prepare(protocol: Protocol, boxes: Any, truth: Any) -> np.ndarray:
    """The boxes (T, 4) that are scored: the first is the true one; lost ones as the protocol says.

    Raises
    ------
    ValueError
        If the numbers of boxes differ.
    """
    boxes, truth = np.array(boxes, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if boxes.shape != truth.shape:
        raise ValueError(
            f"expected {len(truth)} boxes, one a frame of the sequence, received {len(boxes)}"
        )
    boxes[0] = truth[0]
    if protocol.repeat_lost:
        lost = ~valid_boxes(boxes)
        lost[0] = False
        # The last frame with a box, for each frame.
        source = np.maximum.accumulate(np.where(lost, 0, np.arange(len(boxes))))
        boxes = boxes[source]
    return boxes


def clip_boxes(boxes: Any, size: tuple[int, int]) -> np.ndarray:
    """Boxes (T, 4) cut to a frame of ``size`` (width, height), as got10k's ``rect_iou`` does.

    Their numbers are taken as they are: the first column and row count as 0.
    """
    boxes = np.array(boxes, dtype=np.float64)
    boxes[:, :2] = np.clip(boxes[:, :2], 0, size)
    boxes[:, 2:] = np.clip(boxes[:, 2:], 0, np.array(size) - boxes[:, :2])
    return boxes


def scored_frames(protocol: Protocol, truth: Any) -> np.ndarray:
    """Indices (0-based) of the frames that are scored."""
    there = valid_boxes(truth)
    if not protocol.first_frame:
        there[0] = False
    return np.flatnonzero(there)


def frame_overlaps(protocol: Protocol, boxes: Any, truth: Any, size: tuple[int, int]) -> np.ndarray:
    """Overlap of each frame's boxes, 0 to 1, as a protocol has it.

    Parameters
    ----------
    protocol : Protocol
    boxes, truth : arrays (T, 4)
        x, y, w, h, 1-based; NaN where there is no box.
    size : (width, height)
        Of the frames, pixels; used by protocols that clip.

    Returns
    -------
    float64 array (T,) : NaN in frames that are not scored.
    """
    boxes, truth = prepare(protocol, boxes, truth), np.asarray(truth, dtype=np.float64)
    found = np.full(len(truth), np.nan)
    frames = scored_frames(protocol, truth)
    boxes, truth = boxes[frames], truth[frames]
    if protocol.clip:
        boxes, truth = clip_boxes(boxes, size), clip_boxes(truth, size)
    found[frames] = iou(boxes, truth)
    return found


def score_run(protocol: Protocol, run: Run, truth: Any, size: tuple[int, int]) -> Scores:
    """Scores of a tracker on one sequence; arguments and errors as in ``score_runs``."""
    return score_runs(protocol, [(run, truth)], size)


def score_runs(
    protocol: Protocol, runs: Sequence[tuple[Run, Any]], size: tuple[int, int]
) -> Scores:
    """Scores of a tracker's runs over one sequence, all frames of all runs alike.

    Parameters
    ----------
    protocol : Protocol
    runs : sequence of (Run, true boxes (T, 4))
        Several where the tracker was started in several ways; T may differ.
    size : (width, height)
        As in ``frame_overlaps``.

    Raises
    ------
    ValueError
        If the numbers of boxes differ in a run, or no frame is scored.
    """
    measured = [_measure(protocol, run, truth, size) for run, truth in runs]
    overlap, errors, relative = (np.concatenate(values) for values in zip(*measured))
    if not len(overlap):
        raise ValueError("no frame has ground truth, so there is nothing to score")
    success = (overlap[:, None] > protocol.thresholds).mean(axis=0)
    centre = _within(errors, PRECISION_THRESHOLDS)
    normalized = _within(relative, NORMALIZED_THRESHOLDS)
    times = np.concatenate([np.ravel([] if run.times is None else run.times) for run, _ in runs])
    times = times[np.isfinite(times) & (times > 0)]
    return Scores(
        frames=len(overlap),
        auc=float(success.mean()),
        precision=_at_20(centre),
        normalized_precision=float(normalized.mean()),
        ao=float(overlap.mean()),
        sr50=float((overlap > 0.5).mean()),
        sr75=float((overlap > 0.75).mean()),
        fps=float((1 / times).mean()) if len(times) else None,
        timed=len(times),
        success=success,
        centre=centre,
        normalized=normalized,
    )


def _measure(
    protocol: Protocol, run: Run, truth: Any, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlap, centre error and normalised error of every scored frame of every repetition."""
    truth = np.asarray(truth, dtype=np.float64)
    frames = scored_frames(protocol, truth)
    boxes = [prepare(protocol, each, truth)[frames] for each in run.boxes]
    if not len(frames):
        return np.empty(0), np.empty(0), np.empty(0)
    overlap = [frame_overlaps(protocol, each, truth, size)[frames] for each in run.boxes]
    boxes, truth = np.concatenate(boxes), np.tile(truth[frames], (len(run.boxes), 1))
    return np.concatenate(overlap), center_errors(boxes, truth), normalized_errors(boxes, truth)


def _within(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of errors that are at most each threshold."""
    return (errors[:, None] <= thresholds).mean(axis=0)


def _at_20(curve: np.ndarray) -> float:
    return float(curve[np.flatnonzero(PRECISION_THRESHOLDS == PRECISION_THRESHOLD)[0]])


def mean_scores(protocol: Protocol, scores: Iterable[Scores]) -> Scores:
    """Scores over several sequences: the mean over sequences, or over frames (``by_frames``).

    Raises
    ------
    ValueError
        If there is no sequence.
    """
    scores = list(scores)
    if not scores:
        raise ValueError("expected scores of a sequence at least, received none")
    weights = np.array([s.frames if protocol.by_frames else 1 for s in scores], dtype=np.float64)

    def mean(name: str) -> Any:
        return np.average([getattr(s, name) for s in scores], axis=0, weights=weights)

    timed = [s for s in scores if s.timed]
    speed_weights = [s.timed if protocol.by_frames else 1 for s in timed]
    return Scores(
        frames=sum(s.frames for s in scores),
        **{name: float(mean(name)) for name in MEASURES},
        fps=float(np.average([s.fps for s in timed], weights=speed_weights)) if timed else None,
        timed=sum(s.timed for s in timed),
        **{name: mean(name) for name in ("success", "centre", "normalized")},
    )


def ranking(protocol: Protocol, overall: Mapping[str, Scores]) -> list[str]:
    """Names of trackers, the best first; equal ones in the order given."""
    return sorted(overall, key=lambda name: -getattr(overall[name], protocol.rank_by))
