"""LaSOT's layout.

::

    airplane-1/
        img/00000001.jpg, 00000002.jpg, ...
        groundtruth.txt            x,y,w,h of each frame
        full_occlusion.txt         0 or 1 for each frame
        out_of_view.txt            0 or 1 for each frame
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .images import images_in
from .sequence import Sequence, make_sequence
from .text import read_flags, read_regions

ABSENT_FILES = ("full_occlusion.txt", "out_of_view.txt")


def is_lasot(directory: Path) -> bool:
    """Whether there are frames in ``img`` and ``groundtruth.txt``."""
    return (directory / "img").is_dir() and (directory / "groundtruth.txt").is_file()


def read_lasot(directory: str | os.PathLike) -> Sequence:
    """Read a sequence of LaSOT; a target that is wholly hidden or out of view has no box.

    LaSOT's own scores leave these frames out too. The two files of flags may be missing.

    Raises
    ------
    SequenceError
        If frames or boxes are missing or cannot be read, or flags are not one a box.
    """
    directory = Path(directory)
    images = images_in(directory / "img")
    source = directory / "groundtruth.txt"
    regions = read_regions(source)
    absent = np.zeros(len(regions), bool)
    for name in ABSENT_FILES:
        if (directory / name).is_file():
            absent |= read_flags(directory / name, len(regions)) != 0
    return make_sequence(directory.resolve().name, images, regions, source, absent)
