"""The layout of ILSVRC-2015 VID.

::

    ILSVRC2015/
        Annotations/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.xml, ...
        Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000/000000.JPEG, ...
        Annotations/VID/val/ILSVRC2015_val_00000000/000000.xml, ...
        Data/VID/val/ILSVRC2015_val_00000000/000000.JPEG, ...

A folder of frames is a snippet, a run of frames of a video; of the eight digits of its name the
first five number the video, the last three the snippet. Where this software says video it means
a snippet, as the 4417 of the paper are (3862 to train, 555 to validate); snippets of one video
are a group.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..sequences import SequenceError
from .annotation import Annotation, read_annotation
from .index import Item, Listing, make_stamp
from .videos import FLAGS, track_record

SETS = ("train", "val")
ANNOTATIONS = Path("Annotations", "VID")
DATA = Path("Data", "VID")

_FRAME = re.compile(r"\d{6}")
_SNIPPET = re.compile(r"(.*_\d{5})\d{3}")


class VidVideo(NamedTuple):
    """Where a video is: the data set's folder, and the video's path in ``Data/VID``."""

    root: Path
    name: str


def find_vid_videos(root: Path, sets: Iterable[str] = SETS) -> list[Item]:
    """The videos of a data set, those without annotations or without frames too.

    Parameters
    ----------
    root : Path
        The folder with ``Annotations`` and ``Data``.
    sets : names of ``SETS``

    Raises
    ------
    SequenceError
        If folders are not as expected, or a video is there twice.
    """
    for folder in (root / ANNOTATIONS, root / DATA):
        if not folder.is_dir():
            inner = next((p for p in sorted(root.glob("*")) if (p / ANNOTATIONS).is_dir()), None)
            advice = f"; did you mean {inner}?" if inner else ""
            raise SequenceError(
                f"{root}: expected the folder of ILSVRC-2015 with {ANNOTATIONS.as_posix()} and "
                f"{DATA.as_posix()}, and there is no {folder}{advice}"
            )
    names: dict[str, None] = {}
    for which in dict.fromkeys(sets):
        found = {name for tree in (ANNOTATIONS, DATA) for name in _videos_below(root / tree, which)}
        if not found:
            raise SequenceError(
                f"{root}: expected videos in {(ANNOTATIONS / which).as_posix()}, found none; name "
                "the sets that there are with --sets"
            )
        names.update(dict.fromkeys(sorted(found)))
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(name.rpartition("/")[2], name)
        if twin != name:
            raise SequenceError(
                f"{root}: expected each video once, and {twin} and {name} have the same name; "
                "remove one of them, its annotations and its frames"
            )
    return [Item(name, VidVideo(root, name)) for name in names]


def _videos_below(tree: Path, which: str) -> list[str]:
    """Paths, relative to ``tree``, of the videos of a set: in parts, or directly."""
    names = []
    for folder in _folders(tree / which):
        inner = _folders(folder) if _has_folders(folder) else [folder]
        names += [path.relative_to(tree).as_posix() for path in inner]
    return names


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [folder / e.name for e in entries if e.is_dir() and not e.name.startswith(".")]


def _has_folders(folder: Path) -> bool:
    """Whether a folder's first entry is one: parts hold folders alone, videos files."""
    with os.scandir(folder) as entries:
        return next((e.is_dir() for e in entries if not e.name.startswith(".")), False)


def look_at_vid_video(where: VidVideo) -> Listing:
    """The files of a video: a change of an annotation, or another set of frames, is noticed.

    Raises
    ------
    SequenceError
        If an annotation's or a frame's name is not a number of six digits.
    """
    annotations = _numbered(where.root / ANNOTATIONS / where.name, ".xml")
    images = _numbered(where.root / DATA / where.name, ".JPEG")
    states = [(number, *_state(entry)) for number, entry in sorted(annotations.items())]
    stamp = make_stamp([*states, *sorted(images)])
    return Listing(stamp, partial(_read, where, annotations, images))


def _state(entry: os.DirEntry) -> tuple[int, int]:
    state = entry.stat()
    return state.st_size, state.st_mtime_ns


def _numbered(folder: Path, suffix: str) -> dict[int, os.DirEntry]:
    """Files of a suffix by their number; other files, such as those of other tools, are not seen.

    A folder that is missing has none.
    """
    found: dict[int, os.DirEntry] = {}
    if not folder.is_dir():
        return found
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, dot, rest = entry.name.rpartition(".")
            if dot + rest != suffix or not stem or stem.startswith("."):
                continue
            if not _FRAME.fullmatch(stem):
                raise SequenceError(
                    f"{folder / entry.name}: expected a name of six digits and {suffix}"
                )
            found[int(stem)] = entry
    return found


def _read(
    where: VidVideo, annotations: dict[int, os.DirEntry], images: dict[int, os.DirEntry]
) -> dict[str, Any]:
    """A video's record. A frame that is missing altogether keeps its place: the frames before
    and after it are not consecutive.
    """
    read = {number: read_annotation(Path(annotations[number])) for number in sorted(annotations)}
    there = annotations.keys() | images.keys()
    first = min(there, default=0)
    numbers = range(first, max(there, default=-1) + 1)
    sizes = [annotation.size for annotation in read.values()]
    size = sizes[0] if sizes else (0, 0)
    other = {number for number, annotation in read.items() if annotation.size != size}
    tracks, repeated = _tracks(where.name.rpartition("/")[2], read, other, first)
    notes = {
        "frames without image": len(set(numbers) - images.keys()),
        "frames without annotation": len(set(numbers) - annotations.keys()),
        "frames of another size": len(other),
        "objects with the track of another": repeated,
    }
    match = _SNIPPET.fullmatch(where.name.rpartition("/")[2])
    return {
        "group": match[1] if match else where.name,
        "folder": (DATA / where.name).as_posix(),
        "frames": [f"{number:06d}.JPEG" for number in numbers],
        "size": size,
        "no_image": [number - first for number in numbers if number not in images],
        "tracks": tracks,
        "notes": {kind: count for kind, count in notes.items() if count},
    }


def _tracks(
    video: str, read: dict[int, Annotation], other: set[int], first: int
) -> tuple[list[dict[str, Any]], int]:
    """Records of the tracks, and how many objects are left out as a track is twice in a frame.

    Boxes in frames of another size than the first are left out too: a clip has one size.
    """
    boxes: dict[int, dict[int, tuple[float, ...]]] = {}
    labels: dict[int, str] = {}
    flags: dict[int, dict[str, list[int]]] = {}
    repeated = 0
    for number, annotation in read.items():
        for found in annotation.objects if number not in other else ():
            track = boxes.setdefault(found.track, {})
            if number - first in track:
                repeated += 1
                continue
            track[number - first] = _box(found.corners)
            labels.setdefault(found.track, found.label)
            for flag in FLAGS:
                if getattr(found, flag):
                    flags.setdefault(found.track, {}).setdefault(flag, []).append(number - first)
    records = [
        track_record(f"{video}.{track:02d}", boxes[track], labels[track], flags.get(track))
        for track in sorted(boxes)
    ]
    return records, repeated


def _box(corners: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """x, y, w, h, 1-based, of corners that count from 0 and belong to the box."""
    left, top, right, bottom = corners
    return left + 1, top + 1, right - left + 1, bottom - top + 1
