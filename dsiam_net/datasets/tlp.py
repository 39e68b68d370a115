"""The layout of TLP (Track Long and Prosper).

::

    CarChase2/
        img/00001.jpg, 00002.jpg, ...
        groundtruth_rect.txt       frame,x,y,w,h,lost of each frame; lost is 1 or 0
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .errors import SequenceError
from .images import images_in
from .sequence import Sequence, make_sequence
from .text import read_table

COLUMNS = 6


def is_tlp(directory: Path) -> bool:
    """Whether the first line of ``groundtruth_rect.txt`` has TLP's six columns."""
    path = directory / "groundtruth_rect.txt"
    if not ((directory / "img").is_dir() and path.is_file()):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return len(file.readline().replace(",", " ").split()) == COLUMNS


def read_tlp(directory: str | os.PathLike) -> Sequence:
    """Read a sequence of TLP; a target that is lost has no box.

    Raises
    ------
    SequenceError
        If frames or boxes are missing or cannot be read, or frames are not numbered in turn.
    """
    directory = Path(directory)
    images = images_in(directory / "img")
    source = directory / "groundtruth_rect.txt"
    table = read_table(source, (COLUMNS,))
    jumps = np.flatnonzero(np.diff(table[:, 0]) != 1)
    if len(jumps):
        line = int(jumps[0]) + 2
        raise SequenceError(
            f"{source}, line {line}: expected frame {table[line - 2, 0] + 1:g}, received "
            f"{table[line - 1, 0]:g}"
        )
    return make_sequence(
        directory.resolve().name, images, table[:, 1:5], source, absent=table[:, 5] != 0
    )
