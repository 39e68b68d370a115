"""A tracker over a sequence, whatever tracker and sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from ..boxes import polygon_to_box
from ..tracker import Tracker
from .recordings import frame_or_none, starting_region


def follow(
    tracker: Any,
    sequence,
    frames: int | None = None,
    progress: str | None = None,
    region: Any = None,
) -> np.ndarray:
    """Boxes of a target, followed from the first frame.

    A frame that cannot be read, other than the first, gives a ``SequenceWarning`` and takes the
    box of the frame before.

    Parameters
    ----------
    tracker : object with ``init(image, box)`` and ``update(image) -> box``
    sequence : Sequence, DecodedVideo or GeneratedSequence
    frames : int, optional
        Number of frames, from the first; by default all.
    progress : str, optional
        Name of a bar on standard error; without, there is none.
    region : 4 or 8 numbers, optional
        The target in the first frame; by default the truth's first polygon where there are
        polygons, else its first box.

    Returns
    -------
    float64 array (T, 4)
        x, y, w, h, 1-based. The first is that of ``region``, or what our trackers make of it.

    Raises
    ------
    ValueError
        If there is nothing to start from, the first frame cannot be read, or ``frames`` is less
        than 1.
    """
    if frames is not None and frames < 1:
        raise ValueError(f"the number of frames must be at least 1, received {frames}")
    start = starting_region(sequence, region)
    count = len(sequence) if frames is None else min(frames, len(sequence))
    tracker.init(sequence.frame(0), start)
    boxes = [tracker.box if isinstance(tracker, Tracker) else _first_box(sequence, region)]
    with tqdm(total=count, initial=1, desc=progress, unit="frame", disable=progress is None) as bar:
        for index in range(1, count):
            image = frame_or_none(sequence, index)
            boxes.append(boxes[-1] if image is None else tracker.update(image))
            bar.update()
    return np.array(boxes, dtype=np.float64)


def _first_box(sequence, region: Any) -> np.ndarray:
    """The upright box that a tracker which knows no polygons is taken to start from."""
    if region is None:
        return sequence.boxes[0]
    region = np.asarray(region, dtype=np.float64)
    return polygon_to_box(region) if region.size == 8 else region
