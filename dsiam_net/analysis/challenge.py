"""Several trackers on one video: their boxes, run here or read from the files of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..boxes import polygon_to_box
from ..metrics import precision, success_auc
from ..opencv_trackers import OpenCVTracker
from ..sequences import read_regions
from ..tracker import TRACKERS
from .following import follow

OPENCV_PREFIX = "opencv-"
# As many as there are colours that everyone can tell apart.
MOST_TRACKERS = 7


class Entrant(NamedTuple):
    """A tracker that takes part.

    Attributes
    ----------
    name : str
    file : str or None
        Of its boxes, where it is not run here.
    """

    name: str
    file: str | None = None

    @property
    def needs_network(self) -> bool:
        """Whether it is one of ours."""
        return self.file is None and not self.name.startswith(OPENCV_PREFIX)


class Result(NamedTuple):
    """Boxes (T, 4) of a tracker, and its scores on the frames that have ground truth."""

    name: str
    boxes: np.ndarray
    auc: float
    precision: float


def parse_entrants(text: str) -> list[Entrant]:
    """Read a list ``dsiamm,siamfc,opencv-mil,NAME=FILE``.

    Raises
    ------
    ValueError
        For an empty, unknown or repeated name, more trackers than colours, or a tracker of
        OpenCV that the installed one has not.
    """
    entrants = []
    for word in text.split(","):
        name, equals, file = (part.strip() for part in word.partition("="))
        if not name or (equals and not file):
            raise ValueError(f"trackers: expected NAME or NAME=FILE, received {word!r}")
        if not equals:
            if name.startswith(OPENCV_PREFIX):
                OpenCVTracker(name.removeprefix(OPENCV_PREFIX))
            elif name not in TRACKERS:
                raise ValueError(
                    f"trackers: expected {', '.join(TRACKERS)}, {OPENCV_PREFIX}NAME or NAME=FILE, "
                    f"received {name!r}"
                )
        if name in (e.name for e in entrants):
            raise ValueError(f"trackers: {name!r} is there twice")
        entrants.append(Entrant(name, file if equals else None))
    if len(entrants) > MOST_TRACKERS:
        raise ValueError(
            f"trackers: at most {MOST_TRACKERS} can be told apart by colour, received "
            f"{len(entrants)}"
        )
    return entrants


def read_boxes(path: str, count: int) -> np.ndarray:
    """Boxes (count, 4) from a file of results: a box or a polygon a line.

    Raises
    ------
    SequenceError
        If the file cannot be read.
    ValueError
        If it has fewer lines; further ones are left out.
    """
    boxes = read_regions(path)
    if len(boxes) < count:
        raise ValueError(
            f"{path}: expected a box for each of {count} frames, received {len(boxes)}"
        )
    return (polygon_to_box(boxes) if boxes.shape[1] == 8 else boxes)[:count]


def run_challenge(
    sequence,
    entrants: Sequence[Entrant],
    make_tracker: Callable[[str], Any],
    frames: int | None = None,
    progress: bool = False,
) -> list[Result]:
    """Boxes and scores of all trackers on a sequence.

    Parameters
    ----------
    sequence : Sequence or GeneratedSequence
    entrants : sequence of Entrant
    make_tracker : function of a name of ours that gives a tracker
    frames : int, optional
        The first frames only.
    progress : bool
        Show a bar for each tracker on standard error.

    Raises
    ------
    ValueError
        As ``read_boxes`` and ``follow``.
    """
    count = len(sequence) if frames is None else min(frames, len(sequence))
    # Files first: what is wrong with them is then known before the long runs.
    boxes = {e.name: read_boxes(e.file, count) for e in entrants if e.file is not None}
    for entrant in entrants:
        if entrant.file is None:
            if entrant.needs_network:
                tracker = make_tracker(entrant.name)
            else:
                tracker = OpenCVTracker(entrant.name.removeprefix(OPENCV_PREFIX))
            bar = entrant.name if progress else None
            boxes[entrant.name] = follow(tracker, sequence, frames, bar)
    truth = sequence.boxes[:count]
    return [
        Result(
            e.name,
            boxes[e.name],
            success_auc(boxes[e.name], truth),
            precision(boxes[e.name], truth),
        )
        for e in entrants
    ]


def table(results: Sequence[Result]) -> str:
    """Scores, a tracker a line."""
    width = max(len(r.name) for r in results)
    return "\n".join(
        f"{r.name:{width}s}  AUC {r.auc:.3f}  precision at 20 px {r.precision:.3f}" for r in results
    )
