"""Tracking of whole sequences and videos: frames in, boxes, scores and pictures out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from .datasets.errors import SequenceWarning
from .datasets.sequence import Frame, Sequence
from .metrics import precision, success_auc
from .overlay import draw_tracking
from .results import save_boxes
from .sources import Source, first_region, length
from .tracker import Tracker, TrackResult

__all__ = ["Step", "Tracked", "save_boxes", "scores", "track", "track_sequence"]


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


class Viewer(Protocol):
    """What is shown the pictures of a run: a VideoWriter or a Window."""

    def add(self, frame: np.ndarray) -> None:
        """Take a picture, uint8 (H, W, 3), RGB."""


class Entry(NamedTuple):
    """What came of one frame.

    Attributes
    ----------
    frame : int
        Its number in the source, from 0.
    box : float64 array (4,)
        x, y, w, h, 1-based; of a frame that could not be read, the one of the frame before.
    score, scale
        Of ``TrackResult``; None for the first frame and for those that could not be read.
    lost : bool
        Whether the target counted as lost.
    seconds : float
        Spent in the tracker, without reading and drawing.
    readable : bool
        Whether the frame could be read.
    """

    frame: int
    box: np.ndarray
    score: float | None
    scale: int | None
    lost: bool
    seconds: float
    readable: bool = True


@dataclass
class Tracked:
    """What ``track_sequence`` did.

    Attributes
    ----------
    entries : list of Entry
        One for each of the T frames that were tracked.
    region : float64 array (4,) or (8,), or None
        What the tracker was started from; None if it was not.
    interrupted : bool
        Whether Ctrl-C, or closing the window, ended the run.
    """

    entries: list[Entry] = field(default_factory=list)
    region: np.ndarray | None = None
    interrupted: bool = False

    @property
    def boxes(self) -> np.ndarray:
        """The boxes, float64 (T, 4): x, y, w, h, 1-based."""
        return np.array([entry.box for entry in self.entries]).reshape(-1, 4)

    @property
    def frames(self) -> list[int]:
        """The numbers of the frames in the source, from 0."""
        return [entry.frame for entry in self.entries]

    def record(self) -> dict[str, Any]:
        """All of it by name, for ``results.save_json``: a list for each of ``Entry``'s fields."""
        entries = self.entries
        return {
            "init": self.region,
            "interrupted": self.interrupted,
            "unreadable": [entry.frame for entry in entries if not entry.readable],
            "frames": self.frames,
            "boxes": self.boxes,
            "scores": [entry.score for entry in entries],
            "scale_index": [entry.scale for entry in entries],
            "lost": [entry.lost for entry in entries],
            "seconds": [entry.seconds for entry in entries],
        }


def track_sequence(
    tracker: Tracker,
    source: Source,
    frames: int | None = None,
    video: Viewer | None = None,
    progress: bool = False,
    *,
    region: Any | Callable[[np.ndarray], Any] | None = None,
    every: int = 1,
    window: Viewer | None = None,
) -> Tracked:
    """Track the target of a sequence, video or camera from its first frame.

    Ctrl-C keeps the frames done. A frame that cannot be read, other than the first, gives a
    ``SequenceWarning`` that names it, and takes the box of the frame before.

    Parameters
    ----------
    tracker : Tracker
    source : Sequence, VideoFile or Camera
    frames : int, optional
        The source's first so many frames; by default all.
    video : VideoWriter, optional
        Receives the frames, with boxes, ground truth, scores and responses drawn in.
    progress : bool
        Show a bar with frames a second on standard error.
    region : region, or function from the first image (H, W, 3) to a region, optional
        The target in the first frame; by default the truth's first polygon where there are
        polygons, else its first box.
    every : int
        Track every so many frames only.
    window : Window, optional
        Receives the same as ``video``; closing it ends the run.

    Raises
    ------
    ValueError
        If there is nothing to start from, the first frame cannot be read, or ``frames`` or
        ``every`` is less than 1.
    """
    for what, number in (("number of frames", frames), ("step between frames", every)):
        if number is not None and number < 1:
            raise ValueError(f"the {what} must be at least 1, received {number}")
    if region is None:
        region = first_region(source)
    if region is None:
        raise ValueError(f"{source.name}: the first frame has no box to start from")
    done = Tracked()
    viewers = [viewer for viewer in (video, window) if viewer is not None]
    with tqdm(
        total=_count(source, frames, every), unit="frame", desc=source.name, disable=not progress
    ) as bar:
        try:
            for frame in source.frames(every, frames):
                _track_frame(tracker, frame, region, done)
                if viewers and frame.image is not None:
                    truth = None if source.truth is None else source.truth[frame.index]
                    picture = draw_tracking(
                        frame.image, done.entries[-1].box, truth, tracker.last, frame.index + 1
                    )
                    for viewer in viewers:
                        viewer.add(picture)
                bar.update()
                if getattr(window, "closed", False):
                    done.interrupted = True
                    break
        except KeyboardInterrupt:
            done.interrupted = True
    return done


def _track_frame(tracker: Tracker, frame: Frame, region: Any, done: Tracked) -> None:
    """Track one frame, and append to ``done`` what came of it."""
    if frame.image is None:
        if not done.entries:
            raise frame.error
        warnings.warn(
            f"{frame.error}; frame {frame.index + 1} takes the box of the frame before",
            SequenceWarning,
            stacklevel=3,
        )
        before = done.entries[-1]
        done.entries.append(
            Entry(frame.index, before.box, None, None, before.lost, 0.0, readable=False)
        )
        return
    if not done.entries:
        region = region(frame.image) if callable(region) else region
        start = time.perf_counter()
        tracker.init(frame.image, region)
        seconds = time.perf_counter() - start
        done.region = np.asarray(region, dtype=np.float64)
        done.entries.append(Entry(frame.index, tracker.box, None, None, False, seconds))
        return
    start = time.perf_counter()
    tracker.update(frame.image)
    seconds = time.perf_counter() - start
    last = tracker.last
    done.entries.append(Entry(frame.index, last.box, last.score, last.scale, last.lost, seconds))


def _count(source: Source, limit: int | None, every: int) -> int | None:
    """How many frames will be tracked; None if that is not known."""
    counts = [n for n in (length(source), limit) if n is not None]
    return -(-min(counts) // every) if counts else None


def scores(
    boxes: np.ndarray, sequence: Sequence, frames: Iterable[int] | None = None
) -> tuple[float, float]:
    """(AUC, precision at 20 pixels), as OTB has them, of boxes (T, 4).

    ``frames`` are the numbers of their frames, from 0; by default the first T.
    """
    truth = sequence.boxes[: len(boxes)] if frames is None else sequence.boxes[list(frames)]
    return success_auc(boxes, truth), precision(boxes, truth)
