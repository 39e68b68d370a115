"""UAV123's layout: frames and boxes in two trees.

::

    UAV123/
        data_seq/UAV123/bike1/000001.jpg, 000002.jpg, ...
        anno/UAV123/bike1.txt      x,y,w,h of each frame, NaN where the target is absent
        anno/UAV123/bird1_1.txt    of a part of bird1's frames
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import SequenceError
from .images import images_in
from .sequence import Sequence, make_sequence
from .text import read_regions

# First and last frame (from 1) of the sequences that are parts of a longer video, as UAV123's
# configuration has them.
PARTS = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "car1": ((1, 751), (751, 1627), (1627, 2629)),
    "car6": ((1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)),
    "car8": ((1, 1357), (1357, 2575)),
    "car16": ((1, 415), (415, 1993)),
    "group1": ((1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)),
    "group2": ((1, 907), (907, 1771), (1771, 2683)),
    "group3": ((1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)),
    "person2": ((1, 1189), (1189, 2623)),
    "person4": ((1, 1501), (1501, 2743)),
    "person5": ((1, 877), (877, 2101)),
    "person7": ((1, 1249), (1249, 2065)),
    "person8": ((1, 1075), (1075, 1525)),
    "person12": ((1, 601), (601, 1621)),
    "person14": ((1, 847), (847, 1813), (1813, 2923)),
    "person17": ((1, 1501), (1501, 2347)),
    "person19": ((1, 1243), (1243, 2791), (2791, 4357)),
    "truck4": ((1, 577), (577, 1261)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
}
PARTS_SET = "UAV123"  # in the sets with other frame rates the parts begin elsewhere


def annotations(directory: Path) -> dict[int, Path]:
    """Files of boxes of the frames in ``data_seq/SET/NAME``, by the number of their part."""
    directory = Path(os.path.abspath(directory))
    frames_of_set = directory.parent
    if frames_of_set.parent.name != "data_seq":
        return {}
    anno = frames_of_set.parent.parent / "anno" / frames_of_set.name
    whole = anno / f"{directory.name}.txt"
    if whole.is_file():
        return {1: whole}
    numbered = re.compile(rf"{re.escape(directory.name)}_(\d+)\.txt")
    parts = ((numbered.fullmatch(path.name), path) for path in anno.glob(f"{directory.name}_*.txt"))
    return {int(match[1]): path for match, path in parts if match}


def is_uav123(directory: Path) -> bool:
    """Whether a folder is ``data_seq/SET/NAME`` and ``anno/SET`` has boxes of it."""
    return bool(annotations(directory))


def uav123_targets(directory: Path) -> list[int]:
    """Numbers of the parts that a folder has boxes of; 1 where it is not divided."""
    return sorted(annotations(directory))


def read_uav123(path: str | os.PathLike, target: int = 1) -> Sequence:
    """Read a sequence of UAV123.

    Parameters
    ----------
    path : path
        The folder of frames, ``.../data_seq/UAV123/NAME``, or the file of boxes,
        ``.../anno/UAV123/NAME.txt``, whose name is the sequence's.
    target : int
        Which part, where the video of a folder is divided: 2 for ``bird1_2``.

    Raises
    ------
    SequenceError
        If frames or boxes are missing or cannot be read, or it is not known which frames of a
        video a part has.
    """
    path = Path(os.path.abspath(path))
    if path.suffix == ".txt":
        folder, source = _frames_of(path), path
    else:
        found = annotations(path)
        folder, source = path, found.get(target)
        if source is None:
            parts = ", ".join(map(str, sorted(found))) or "none"
            raise SequenceError(
                f"{path}: expected boxes of part {target} in anno/{path.parent.name}, and there "
                f"are of {parts}"
            )
    images = images_in(folder)
    regions = read_regions(source)
    if source.stem != folder.name:
        images = _part(images, folder, source)
    return make_sequence(source.stem, images, regions, source)


def _frames_of(annotation: Path) -> Path:
    """The folder of the frames that a file in ``anno/SET`` has the boxes of."""
    root = annotation.parent.parent.parent / "data_seq"
    names = (annotation.stem, re.sub(r"_\d+$", "", annotation.stem))
    # The long videos' set, UAV20L, has boxes alone; its frames are UAV123's.
    folders = [root / s / name for s in (annotation.parent.name, PARTS_SET) for name in names]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise SequenceError(
        f"{annotation}: expected its frames in {' or '.join(map(str, dict.fromkeys(folders)))}, "
        "and there is no such folder"
    )


def _part(images: list[Path], folder: Path, source: Path) -> list[Path]:
    number = int(source.stem.rsplit("_", 1)[1])
    parts = PARTS.get(folder.name, ()) if source.parent.name == PARTS_SET else ()
    if not 1 <= number <= len(parts):
        raise SequenceError(
            f"{source}: it is not known which frames of {folder} these boxes are of"
        )
    first, last = parts[number - 1]
    found = [p for p in images if p.stem.isdecimal() and first <= int(p.stem) <= last]
    if not found:
        raise SequenceError(
            f"{source}: expected its frames, numbers {first} to {last}, in {folder}, and there are "
            f"none among {len(images)} images"
        )
    return found
