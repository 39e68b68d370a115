"""VOT's layout.

::

    bag/
        color/00000001.jpg, ...    or the frames here, as up to 2017
        groundtruth.txt            x1,y1,...,x4,y4 of each frame, or x,y,w,h
"""

from __future__ import annotations

import os
from pathlib import Path

from .images import images_in
from .sequence import Sequence, make_sequence
from .text import read_regions


def is_vot(directory: Path) -> bool:
    """Whether there is ``groundtruth.txt``, and no folder ``img``."""
    return (directory / "groundtruth.txt").is_file() and not (directory / "img").is_dir()


def read_vot(directory: str | os.PathLike) -> Sequence:
    """Read a sequence of VOT, with upright boxes or with polygons of four corners.

    Raises
    ------
    SequenceError
        If frames or regions are missing or cannot be read; regions that are masks, as from 2020
        on, are not read.
    """
    directory = Path(directory)
    folder = directory / "color"
    images = images_in(folder if folder.is_dir() else directory)
    source = directory / "groundtruth.txt"
    return make_sequence(directory.resolve().name, images, read_regions(source), source)
