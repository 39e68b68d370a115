"""Tracking of whole sequences: frames in, boxes, scores and videos out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dagnet.files import atomic_write

from .metrics import precision, success_auc
from .overlay import VideoWriter, draw_tracking
from .sequences import Sequence
from .tracker import Tracker, TrackResult


class Step(NamedTuple):
    """A frame that was tracked: the image as it came, the box (4,), 1-based, and the rest.

    ``result`` is None for the first frame, whose box is the one that the tracker starts from.
    """

    image: Any
    box: np.ndarray
    result: TrackResult | None


def track(tracker: Tracker, images: Iterable[Any], region: Any) -> Iterator[Step]:
    """Follow a target through images, one after the other as they are asked for.

    Parameters
    ----------
    tracker : Tracker
    images : iterable of frames, as ``Tracker.init`` takes them
    region : the target in the first frame, as ``Tracker.init`` takes it
    """
    for number, image in enumerate(images):
        if number == 0:
            tracker.init(image, region)
        else:
            tracker.update(image)
        yield Step(image, tracker.box, tracker.last)


@dataclass(frozen=True)
class Tracked:
    """What ``track_sequence`` did.

    Attributes
    ----------
    boxes : float64 array (T, 4)
        x, y, w, h, 1-based, of the frames done.
    interrupted : bool
        Whether Ctrl-C ended the run.
    """

    boxes: np.ndarray
    interrupted: bool


def track_sequence(
    tracker: Tracker,
    sequence: Sequence,
    frames: int | None = None,
    video: VideoWriter | None = None,
    progress: bool = False,
) -> Tracked:
    """Track the target of a sequence from its first frame; Ctrl-C keeps the frames done.

    Parameters
    ----------
    tracker : Tracker
    sequence : Sequence
        The target starts as its first polygon where there are polygons, else as its first box.
    frames : int, optional
        Number of frames, from the first; by default all.
    video : VideoWriter, optional
        Receives the frames, with boxes, ground truth, scores and responses drawn in.
    progress : bool
        Show a bar with frames a second on standard error.

    Raises
    ------
    ValueError
        If the first frame has no target, or ``frames`` is less than 1.
    """
    if frames is not None and frames < 1:
        raise ValueError(f"the number of frames must be at least 1, received {frames}")
    if not sequence.present[0]:
        raise ValueError(f"sequence {sequence.name}: the first frame has no box to start from")
    truth = sequence.boxes if sequence.polygons is None else sequence.polygons
    count = len(sequence) if frames is None else min(frames, len(sequence))
    boxes: list[np.ndarray] = []
    images = map(sequence.frame, range(count))
    interrupted = False
    with tqdm(total=count, unit="frame", desc=sequence.name, disable=not progress) as bar:
        try:
            for index, (image, box, result) in enumerate(track(tracker, images, truth[0])):
                boxes.append(box)
                if video is not None:
                    video.add(draw_tracking(image, box, truth[index], result, index + 1))
                bar.update()
        except KeyboardInterrupt:
            interrupted = True
    return Tracked(np.array(boxes).reshape(-1, 4), interrupted)


def save_boxes(path: str | os.PathLike, boxes: np.ndarray) -> None:
    """Write boxes (T, 4) as text, a row ``x,y,w,h`` each, under a temporary name first.

    Missing folders are made. Numbers are written so that reading gives the same ones.
    """
    with atomic_write(path, "w") as file:
        file.writelines(",".join(repr(float(v)) for v in box) + "\n" for box in boxes)


def scores(boxes: np.ndarray, sequence: Sequence) -> tuple[float, float]:
    """(AUC, precision at 20 pixels) of boxes (T, 4) of the first T frames, as OTB has them."""
    truth = sequence.boxes[: len(boxes)]
    return success_auc(boxes, truth), precision(boxes, truth)
