"""OTB's layout, and that of TLD, DTB70 and others like it.

::

    David/
        img/0001.jpg, 0002.jpg, ...
        groundtruth_rect.txt       x,y,w,h of each frame
        groundtruth_rect.2.txt     of a second target, where there is one
        groundtruth_poly.txt       x1,y1,...,x4,y4 of each frame, where the truth is a polygon
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import SequenceError
from .images import images_in
from .sequence import Sequence, make_sequence
from .text import read_regions

# OTB's sequences whose boxes begin later than their images: the number of the first.
FIRST_FRAMES = {"David": 300}

_RECT_FILE = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")


def rect_files(directory: Path) -> dict[int, Path]:
    """Files of boxes by the number of their target; without a number it is the first."""
    found = {}
    for path in sorted(directory.glob("groundtruth_rect*.txt")):
        match = _RECT_FILE.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1] or 1), path)
    return found


def is_otb(directory: Path) -> bool:
    """Whether a folder has frames in ``img`` and boxes, or polygons, under OTB's names."""
    boxes = rect_files(directory) or (directory / "groundtruth_poly.txt").is_file()
    return bool(boxes) and (directory / "img").is_dir()


def otb_targets(directory: Path) -> list[int]:
    """Numbers of the targets that a folder has boxes of."""
    return sorted(rect_files(directory)) or [1]


def read_otb(directory: str | os.PathLike, target: int = 1) -> Sequence:
    """Read a sequence in OTB's layout (see the head of this module).

    Where there are more frames than boxes the frames beyond are left out, with a
    ``SequenceWarning``; but OTB's David is known to begin at frame 300.

    Parameters
    ----------
    directory : path
        Its name is the sequence's, followed by ``.2`` for the second target.
    target : int
        Which target; boxes of the first are in ``groundtruth_rect.txt`` (or
        ``groundtruth_rect.1.txt``), else follow from ``groundtruth_poly.txt``.

    Raises
    ------
    SequenceError
        If frames or boxes are missing or cannot be read, or there are more boxes than frames.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise SequenceError(f"{directory}: expected the folder of a sequence, and there is none")
    images = images_in(directory / "img")
    rect, poly = rect_files(directory).get(target), directory / "groundtruth_poly.txt"
    if target != 1 or not poly.is_file():
        poly = None
    source = rect or poly
    if source is None:
        which = "groundtruth_rect.txt or groundtruth_poly.txt"
        if target != 1:
            which = f"groundtruth_rect.{target}.txt"
        raise SequenceError(f"{directory}: expected boxes in {which}, and there is no such file")
    regions = read_regions(source)
    polygons = read_regions(poly) if rect and poly and regions.shape[1] == 4 else None
    if polygons is not None and polygons.shape != (len(regions), 8):
        raise SequenceError(
            f"{poly}: expected {len(regions)} polygons, as {source.name} has boxes, received "
            f"{len(polygons)} lines of {polygons.shape[1]} numbers"
        )

    name = directory.resolve().name
    first = FIRST_FRAMES.get(name)
    if first is not None and len(images) - len(regions) >= first - 1:
        images = images[first - 1 :]
    name += f".{target}" if target != 1 else ""
    sequence = make_sequence(name, images, regions, source)
    if polygons is None:
        return sequence
    return Sequence(name, sequence.paths, sequence.boxes, polygons)
