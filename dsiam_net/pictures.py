"""Folders of photographs: backgrounds, textures, and cut-out things for generated video.

A folder is searched at every depth, as ``dsiam_net.preparation.stills`` does it. Where it has the
layout of BSDS500, segments that people drew around things become targets with an outline of their
own::

    images/{train,val,test}/NAME.jpg
    groundTruth/{train,val,test}/NAME.mat      groundTruth{k}.Segmentation, (H, W) labels
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from .sequences import SequenceError, read_image

# A segment is taken for a thing if it is neither a speck nor most of the picture (shares of its
# area), compact (area by that of the convex hull), not a strip (longer by shorter side of the
# narrowest rectangle around it) and hardly cut off by the picture's border (border pixels by the
# root of the area).
AREA_RANGE = (0.004, 0.35)
LEAST_DIAMETER = 32
LEAST_COMPACTNESS = 0.55
GREATEST_ELONGATION = 4.0
GREATEST_CUT = 0.15
# Pictures that are looked at for a segment before one does without.
TRIES = 12


class Pictures(Sequence):
    """The photographs in some folders, each read when it is asked for.

    Parameters
    ----------
    folders : iterable of path

    Attributes
    ----------
    paths : list of Path
        The images, in the order of folders and names.
    segmented : list of (Path, Path)
        Images that have a file of segments, and that file.

    Raises
    ------
    SequenceError
        If a folder does not exist or has no image.
    """

    def __init__(self, folders: Iterable[str | os.PathLike]):
        # Imported here since it brings SciPy, which takes longer than all else together.
        from .preparation.stills import SEGMENTS, find_stills

        stills = [still for folder in folders for still in find_stills(Path(folder))]
        if not stills:
            raise SequenceError("expected at least one folder of photographs, received none")
        self.paths = [still.path for still in stills]
        self.segmented = [(s.path, s.boxes) for s in stills if s.kind == SEGMENTS]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Picture ``index``, (H, W, 3) uint8, RGB; errors as in ``read_image``."""
        return read_image(self.paths[index])

    def segment(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """A random thing cut out of a random picture.

        Returns
        -------
        texture : uint8 array (S, S, 3), RGB
            The square of the picture around it.
        outline : float64 array (K, 2)
            (x, y) in that square, whose sides are at -1 and 1.

        or None, if no picture has segments, or some in a row have none that suits.

        Raises
        ------
        SequenceError
            If a file cannot be read, or segments are not of the picture's size.
        """
        from .preparation.still_boxes import read_segmentations

        for _ in range(TRIES if self.segmented else 0):
            path, file = self.segmented[rng.integers(len(self.segmented))]
            choices = read_segmentations(file)
            labels = choices[rng.integers(len(choices))]
            things = things_in(labels)
            if things:
                image = read_image(path)
                if image.shape[:2] != labels.shape:
                    (h, w), (h0, w0) = labels.shape, image.shape[:2]
                    raise SequenceError(
                        f"{file}: expected segments of {h0}x{w0} pixels, as {path} has, received "
                        f"{h}x{w}"
                    )
                return cut_out(image, things[rng.integers(len(things))])
        return None


def things_in(labels: np.ndarray) -> list[np.ndarray]:
    """Contours (K, 2), (x, y) in pixels, of those segments that may be things.

    Parameters
    ----------
    labels : int array (H, W)
        A number for each segment. A segment in several pieces stands for its largest one; holes
        are filled.
    """
    found = []
    for label in np.unique(labels):
        mask = (labels == label).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        contour = max(contours, key=cv2.contourArea)[:, 0]
        if _is_thing(contour, labels.shape):
            found.append(contour)
    return found


def _is_thing(contour: np.ndarray, shape: tuple[int, int]) -> bool:
    height, width = shape
    area = cv2.contourArea(contour)
    if not AREA_RANGE[0] <= area / (height * width) <= AREA_RANGE[1]:
        return False
    sides = sorted(cv2.minAreaRect(contour)[1])
    on_border = _border_length(contour, height, width)
    return (
        sides[1] >= LEAST_DIAMETER
        and sides[1] <= GREATEST_ELONGATION * max(sides[0], 1)
        and area >= LEAST_COMPACTNESS * cv2.contourArea(cv2.convexHull(contour))
        and on_border <= GREATEST_CUT * np.sqrt(area)
    )


def _border_length(contour: np.ndarray, height: int, width: int) -> float:
    """Length of the parts of a closed contour that run along the picture's border, pixels."""
    following = np.roll(contour, -1, axis=0)
    length = 0.0
    for axis, last in ((0, width - 1), (1, height - 1)):
        for place in (0, last):
            along = (contour[:, axis] == place) & (following[:, axis] == place)
            length += np.abs(following - contour)[along].sum()
    return length


def cut_out(image: np.ndarray, contour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square around a contour, and the contour in it; see ``Pictures.segment``."""
    (x, y), radius = cv2.minEnclosingCircle(contour.astype(np.float32))
    left, top = int(np.floor(x - radius)), int(np.floor(y - radius))
    side = int(np.ceil(2 * radius)) + 1
    height, width = image.shape[:2]
    before = max(0, -left), max(0, -top)
    after = max(0, left + side - width), max(0, top + side - height)
    part = image[max(0, top) : top + side, max(0, left) : left + side]
    part = cv2.copyMakeBorder(part, before[1], after[1], before[0], after[0], cv2.BORDER_REPLICATE)
    # The square's sides are edges of pixels, half a pixel from the centres of the outermost.
    outline = (contour - [left, top] + 0.5) * (2 / side) - 1
    return part, outline
