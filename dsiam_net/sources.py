"""What can be tracked: folders of frames, globs, video files and cameras.

A source has ``name``, ``fps`` (frames a second), ``truth`` (regions (T, 4) or (T, 8), or None)
and ``frames(every, limit)``, which gives ``Frame`` after ``Frame``. ``Sequence`` is one too.
"""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from .datasets.images import is_image, natural
from .datasets.plain import unlabelled
from .datasets.uav123 import read_uav123
from .sequences import Frame, Sequence, SequenceError, SequenceWarning, read_sequence
from .target import as_region

DEFAULT_FPS = 25.0
# Fewer boxes than this, the first one and no other, are nothing to score a run by.
LEAST_TRUTH = 2
# A camera that gave no frame so often in a row is taken to be gone, and a video to be at its end.
CAMERA_PATIENCE = VIDEO_PATIENCE = 50

_CAMERA = re.compile(r"(?:camera:)?(\d+)")


class VideoFile:
    """The frames of a video file, decoded by OpenCV one after the other.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    name : str
        The file's, without suffix.
    fps : float
    total : int or None
        Number of frames, as the file announces it; None if it does not.

    Raises
    ------
    SequenceError
        If there is no such file, or OpenCV finds no video in it.
    """

    truth = None

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise SequenceError(f"{self.path}: expected a video, and there is no such file")
        self.name = self.path.stem
        capture = self._open()
        self.fps = capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.total = count if count > 0 else None
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise SequenceError(
                f"{self.path}: expected a folder, an image glob or a video that OpenCV decodes; "
                "this file is damaged, or of another format"
            )
        return capture

    def count(self) -> int:
        """Number of frames that there are, whatever the file announces: it decodes them all.

        Raises
        ------
        SequenceError
            If there is none.
        """
        capture = self._open()
        try:
            return sum(1 for _ in self._grabbed(capture))
        finally:
            capture.release()

    def _grabbed(self, capture: cv2.VideoCapture) -> Iterator[bool]:
        """Frame after frame, whether OpenCV has it: a damaged one, which others follow, it has not.

        Raises
        ------
        SequenceError
            If there is no frame at all.
        """
        index = missing = 0
        while missing < VIDEO_PATIENCE:
            if capture.grab():
                yield from [False] * missing
                yield True
                index, missing = index + missing + 1, 0
            elif self.total is not None and index + missing >= self.total:
                break
            else:
                missing += 1
        if index == 0:
            raise SequenceError(f"{self.path}: no frame of this video can be decoded")

    def frames(self, every: int = 1, limit: int | None = None) -> Iterator[Frame]:
        """Every ``every``-th frame of the first ``limit``.

        A video that ends before the announced number of frames gives a ``SequenceWarning``.

        Raises
        ------
        SequenceError
            If not one frame can be decoded.
        """
        capture = self._open()
        seen = 0
        try:
            for index, there in enumerate(islice(self._grabbed(capture), limit)):
                seen = index + 1
                if index % every == 0:
                    found, image = capture.retrieve() if there else (False, None)
                    if found:
                        yield Frame(index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                    else:
                        error = SequenceError(f"cannot decode frame {index + 1} of {self.path}")
                        yield Frame(index, None, error)
        finally:
            capture.release()
        wanted = self.total if limit is None else min(limit, self.total or limit)
        if wanted is not None and seen < wanted:
            warnings.warn(
                f"{self.path}: the video ended after {seen} frames, {self.total} were announced",
                SequenceWarning,
                stacklevel=2,
            )


class Camera:
    """The frames of a camera, without end.

    Parameters
    ----------
    number : int
        As OpenCV counts cameras, from 0.
    """

    truth = None
    total = None
    fps = DEFAULT_FPS

    def __init__(self, number: int):
        self.number = number
        self.name = f"camera {number}"

    def frames(self, every: int = 1, limit: int | None = None) -> Iterator[Frame]:
        """Every ``every``-th frame of the first ``limit``.

        Raises
        ------
        SequenceError
            If the camera cannot be opened, or gives no frames any more.
        """
        capture = cv2.VideoCapture(self.number)
        try:
            if not capture.isOpened():
                raise SequenceError(
                    f"{self.name}: cannot be opened; it is not there, or another program uses it"
                )
            index = failures = 0
            while limit is None or index < limit:
                found, image = capture.read()
                if not found:
                    failures += 1
                    if failures == CAMERA_PATIENCE:
                        raise SequenceError(f"{self.name}: gives no frames any more")
                    continue
                failures = 0
                if index % every == 0:
                    yield Frame(index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            capture.release()


Source = Sequence | VideoFile | Camera


def open_source(text: str, target: int = 1) -> Source:
    """What a name on the command line stands for.

    Parameters
    ----------
    text : str
        A folder: a sequence in one of the layouts of ``dsiam_net.datasets``, or of images alone;
        a file of boxes of UAV123; a video file; a glob of images; ``camera:N`` or ``N``.
    target : int
        Which target, in a folder with several.

    Raises
    ------
    SequenceError
        If it is none of these, and says what is.
    """
    path = Path(text)
    if path.is_dir():
        return read_sequence(path, target)
    if path.is_file():
        if path.suffix == ".txt" and path.parent.parent.name == "anno":
            return read_uav123(path)
        if is_image(path):
            raise SequenceError(
                f"{path}: expected several images, received one; name its folder "
                f"{path.parent} or a glob such as '{path.parent / '*'}{path.suffix}'"
            )
        return VideoFile(path)
    camera = _CAMERA.fullmatch(text)
    if camera:
        return Camera(int(camera[1]))
    if glob.has_magic(text):
        return _images_of_glob(text)
    raise SequenceError(
        f"{text}: there is no such folder or file; expected a folder of images, a sequence, a "
        "video, a glob in quotation marks, or camera:0"
    )


def _images_of_glob(pattern: str) -> Sequence:
    found = (Path(name) for name in glob.glob(pattern, recursive=True))
    images = sorted((p for p in found if is_image(p)), key=lambda p: (str(p.parent), natural(p)))
    if not images:
        raise SequenceError(f"{pattern}: no image matches")
    folder = images[0].resolve().parent
    return unlabelled(folder.parent.name if folder.name == "img" else folder.name, images)


def length(source: Source) -> int | None:
    """Number of frames of a source, or None if it is not known."""
    return len(source) if isinstance(source, Sequence) else source.total


def first_region(source: Source) -> np.ndarray | None:
    """The region of the truth's first frame, a polygon where there are polygons; None without."""
    return None if source.truth is None or not source.present[0] else source.truth[0]


def can_be_scored(present: np.ndarray) -> bool:
    """Whether frames, of which ``present`` (T,) says if they have a true box, make up a score."""
    return bool(present.sum() >= LEAST_TRUTH)


def parse_region(text: str) -> np.ndarray:
    """The region of ``--init``: 4 numbers, or the 8 of a polygon, with commas between.

    Raises
    ------
    ValueError
        If it is no region.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--init must be numbers x,y,w,h, received {text!r}") from None
    try:
        return as_region(numbers)
    except ValueError as exc:
        raise ValueError(f"--init: {exc}") from None
