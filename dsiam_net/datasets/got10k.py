"""GOT-10k's layout.

::

    GOT-10k_Val_000001/
        00000001.jpg, 00000002.jpg, ...
        groundtruth.txt            x,y,w,h of each frame; in the test set of the first one alone
        absence.label              1 for each frame without the target, else 0
        cover.label                how much of the target is seen, 0 to 8, for each frame
        meta_info.ini              not read
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .images import images_in
from .sequence import Sequence, make_sequence
from .text import read_flags, read_regions

LABELS = ("absence.label", "cover.label", "meta_info.ini")


def is_got10k(directory: Path) -> bool:
    """Whether there are ``groundtruth.txt`` and one of GOT-10k's labels, or a single box."""
    path = directory / "groundtruth.txt"
    if not path.is_file() or (directory / "img").is_dir() or (directory / "color").is_dir():
        return False
    if any((directory / name).is_file() for name in LABELS):
        return True
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first, second = file.readline(), file.readline()
    return bool(first.strip()) and not second.strip()


def read_got10k(directory: str | os.PathLike) -> Sequence:
    """Read a sequence of GOT-10k; a target that is absent, or of which nothing is seen, has no box.

    GOT-10k's own scores leave these frames out too. Where only the first frame has a box, the
    others have none.

    Raises
    ------
    SequenceError
        If frames or boxes are missing or cannot be read, or labels are not one a box.
    """
    directory = Path(directory)
    images = images_in(directory)
    source = directory / "groundtruth.txt"
    regions = read_regions(source)
    absent = np.zeros(len(regions), bool)
    if (directory / "absence.label").is_file():
        absent |= read_flags(directory / "absence.label", len(regions)) == 1
    if (directory / "cover.label").is_file():
        absent |= read_flags(directory / "cover.label", len(regions)) == 0
    if len(regions) == 1:
        unknown = np.full((len(images) - 1, regions.shape[1]), np.nan)
        regions = np.concatenate([regions, unknown])
        absent = np.concatenate([absent, np.zeros(len(unknown), bool)])
    return make_sequence(directory.resolve().name, images, regions, source, absent)
