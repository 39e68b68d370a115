"""What the analyses look at: a source that has an end, whose frames are had by number."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..sequences import Frame, Sequence, SequenceError, SequenceWarning
from ..sources import Camera, VideoFile, first_region, open_source
from ..target import as_region


class DecodedVideo:
    """A video file with the members of ``dsiam_net.sequences.Sequence`` but its files.

    Frames are decoded one after the other; to ask for an earlier one begins anew.

    Parameters
    ----------
    video : VideoFile

    Attributes
    ----------
    name : str
    fps : float
    boxes : float64 array (T, 4)
        NaN, as no box is known.
    """

    polygons = truth = None

    def __init__(self, video: VideoFile):
        self.name = video.name
        self.fps = video.fps
        self.boxes = np.full((video.count(), 4), np.nan)
        self._video = video
        self._frames: Iterator[Frame] = iter(())
        self._next = len(self)

    def __len__(self) -> int:
        return len(self.boxes)

    def frame(self, index: int) -> np.ndarray:
        """Frame ``index`` (0-based), (H, W, 3) uint8, RGB; SequenceError if it does not decode."""
        if index < self._next:
            self._frames, self._next = self._video.frames(limit=len(self)), 0
        for frame in self._frames:
            self._next = frame.index + 1
            if frame.index == index:
                break
        else:
            raise IndexError(f"{self.name}: there is no frame {index + 1}, only {len(self)}")
        if frame.image is None:
            raise frame.error
        return frame.image

    @property
    def present(self) -> np.ndarray:
        """In which frames there is a box: none, (T,) bool."""
        return np.zeros(len(self), dtype=bool)


def open_recording(text: str, target: int = 1) -> Sequence | DecodedVideo:
    """What a name on the command line stands for; see ``dsiam_net.sources.open_source``.

    Raises
    ------
    SequenceError
        For a camera, whose frames are seen once, and as ``open_source``.
    """
    source = open_source(text, target)
    if isinstance(source, Camera):
        raise SequenceError(
            f"{source.name}: expected frames that can be looked at several times, received a "
            "camera; record a video (dsiam_net.track has --save-video) and name its file"
        )
    return DecodedVideo(source) if isinstance(source, VideoFile) else source


def starting_region(sequence: Any, region: Any = None) -> np.ndarray:
    """Where the target starts: ``region``, or the truth's first polygon or box.

    Raises
    ------
    ValueError
        If it is no region, or there is none.
    """
    region = first_region(sequence) if region is None else as_region(region)
    if region is None:
        raise ValueError(
            f"{sequence.name}: the first frame has no box to start from; give one (--init x,y,w,h)"
        )
    return region


def frame_or_none(sequence: Any, index: int) -> np.ndarray | None:
    """A frame, or None with a SequenceWarning that names it, where it cannot be read."""
    try:
        return sequence.frame(index)
    except SequenceError as error:
        warnings.warn(f"{error}; frame {index + 1} is passed over", SequenceWarning, stacklevel=1)
        return None
