"""A tracker over a sequence, whatever tracker and sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from ..tracker import Tracker


def follow(
    tracker: Any, sequence, frames: int | None = None, progress: str | None = None
) -> np.ndarray:
    """Boxes of a target, followed from the first frame.

    Parameters
    ----------
    tracker : object with ``init(image, box)`` and ``update(image) -> box``
    sequence : Sequence or GeneratedSequence
        The target starts as its first polygon where there are polygons, else as its first box.
    frames : int, optional
        Number of frames, from the first; by default all.
    progress : str, optional
        Name of a bar on standard error; without, there is none.

    Returns
    -------
    float64 array (T, 4)
        x, y, w, h, 1-based. The first is the true one, or what our trackers make of it.

    Raises
    ------
    ValueError
        If the first frame has no box, or ``frames`` is less than 1.
    """
    if frames is not None and frames < 1:
        raise ValueError(f"the number of frames must be at least 1, received {frames}")
    if not sequence.present[0]:
        raise ValueError(f"sequence {sequence.name}: the first frame has no box to start from")
    count = len(sequence) if frames is None else min(frames, len(sequence))
    polygons = sequence.polygons
    tracker.init(sequence.frame(0), sequence.boxes[0] if polygons is None else polygons[0])
    boxes = [tracker.box if isinstance(tracker, Tracker) else sequence.boxes[0]]
    with tqdm(total=count, initial=1, desc=progress, unit="frame", disable=progress is None) as bar:
        for index in range(1, count):
            boxes.append(tracker.update(sequence.frame(index)))
            bar.update()
    return np.array(boxes, dtype=np.float64)
