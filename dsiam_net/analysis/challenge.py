"""Several trackers on one video: their boxes, run here or read from the files of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..evaluation.results import read_boxes as read_result
from ..metrics import precision, success_auc
from ..opencv_trackers import OpenCVTracker
from ..sources import can_be_scored
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
    """Boxes (T, 4) of a tracker, and its scores on the frames that have ground truth.

    The scores are None where no frame beyond the first has.
    """

    name: str
    boxes: np.ndarray
    auc: float | None
    precision: float | None


def parse_entrants(text: str) -> list[Entrant]:
    """Read a list ``dsiamm,siamfc,opencv-mil,NAME=FILE,FILE``.

    A file that comes without a name has its own, without suffix.

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
        if not equals and Path(name).is_file() and name not in TRACKERS:
            name, equals, file = Path(name).stem, "=", name
        if not equals:
            if name.startswith(OPENCV_PREFIX):
                OpenCVTracker(name.removeprefix(OPENCV_PREFIX))
            elif name not in TRACKERS:
                raise ValueError(
                    f"trackers: expected {', '.join(TRACKERS)}, {OPENCV_PREFIX}NAME, NAME=FILE or "
                    f"a file that is there, received {name!r}"
                )
        if Path(name).name != name:
            raise ValueError(f"trackers: {name!r} is the name of files, and cannot be a path")
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
    """Boxes (count, 4) from a file of results, text or OTB's .mat.

    Raises
    ------
    SequenceError, ResultError, MatFileError
        If the file cannot be read.
    ValueError
        If it has fewer lines; further ones are left out.
    """
    boxes = read_result(path)
    if len(boxes) < count:
        raise ValueError(
            f"{path}: expected a box for each of {count} frames, received {len(boxes)}"
        )
    return boxes[:count]


def run_challenge(
    sequence,
    entrants: Sequence[Entrant],
    make_tracker: Callable[[str], Any],
    frames: int | None = None,
    progress: bool = False,
    region: Any = None,
) -> list[Result]:
    """Boxes and scores of all trackers on a sequence.

    Parameters
    ----------
    sequence : Sequence, DecodedVideo or GeneratedSequence
    entrants : sequence of Entrant
    make_tracker : function of a name of ours that gives a tracker
    frames : int, optional
        The first frames only.
    progress : bool
        Show a bar for each tracker on standard error.
    region : 4 or 8 numbers, optional
        The target in the first frame, for the trackers that are run; by default as ``follow``.

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
            boxes[entrant.name] = follow(tracker, sequence, frames, bar, region)
    return [_score(e.name, boxes[e.name], sequence) for e in entrants]


def _score(name: str, boxes: np.ndarray, sequence) -> Result:
    count = len(boxes)
    if not can_be_scored(sequence.present[:count]):
        return Result(name, boxes, None, None)
    truth = sequence.boxes[:count]
    return Result(name, boxes, success_auc(boxes, truth), precision(boxes, truth))


def table(results: Sequence[Result]) -> str:
    """Scores, a tracker a line; numbers of frames where there are none."""
    width = max(len(r.name) for r in results)
    return "\n".join(f"{r.name:{width}s}  {_words(r)}" for r in results)


def _words(result: Result) -> str:
    if result.auc is None:
        return f"{len(result.boxes)} frames, not scored: there is no ground truth"
    return f"AUC {result.auc:.3f}  precision at 20 px {result.precision:.3f}"
