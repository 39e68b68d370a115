"""Data sets of one folder a sequence: GOT-10k, LaSOT, OTB and the others that are recognised."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..datasets.images import is_image, natural
from ..datasets.recognise import LAYOUTS, read_sequence, recognise
from ..datasets.uav123 import annotations
from ..sequences import Sequence, SequenceError, SequenceWarning, read_image
from .index import Item, Listing, file_state, make_stamp
from .videos import track_record

# LaSOT's sequences lie in folders of their class, GOT-10k's in parts of its sets.
DEPTH = 3


class Folder(NamedTuple):
    """Where a sequence is: the data set's folder, and the sequence's."""

    root: Path
    path: Path


def find_folders(root: Path, layouts: Collection[str] | None = None) -> list[Item]:
    """The sequences with boxes at a folder or up to three levels below it.

    Parameters
    ----------
    root : Path
    layouts : names of ``LAYOUTS``, optional
        Sequences of other layouts are left out, with a SequenceWarning.

    Raises
    ------
    SequenceError
        If there is none, or two have the same name.
    """
    if not root.is_dir():
        raise SequenceError(f"{root}: expected a folder of sequences, and there is none")
    found: list[Path] = []
    others: list[Path] = []
    _search(root, DEPTH, layouts, found, others)
    expected = [layout for layout in LAYOUTS if layouts is None or layout.name in layouts]
    if not found:
        looked = "; ".join(f"{layout.name}: {layout.expects}" for layout in expected)
        raise SequenceError(
            f"{root}: expected sequences here or up to {DEPTH} levels below, and found none; "
            f"looked for {looked}"
        )
    if others:
        warnings.warn(
            f"{len(others)} sequences of other layouts are left out, the first {others[0]}",
            SequenceWarning,
            stacklevel=2,
        )
    items: dict[str, Item] = {}
    for path in found:
        name = path.resolve().name
        if name in items:
            raise SequenceError(
                f"{path}: expected sequences with different names, and {items[name].where.path} "
                "has the same; name a smaller folder"
            )
        items[name] = Item(name, Folder(root, path))
    return list(items.values())


def _search(
    folder: Path,
    depth: int,
    layouts: Collection[str] | None,
    found: list[Path],
    others: list[Path],
) -> None:
    layout = recognise(folder)
    if layout is not None:
        (found if layouts is None or layout.name in layouts else others).append(folder)
    elif depth:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")
        for name in names:
            _search(folder / name, depth - 1, layouts, found, others)


def look_at_folder(where: Folder) -> Listing:
    """The files of a sequence: other boxes or flags, or other frames, are noticed."""
    files = [path for path in where.path.iterdir() if path.is_file()]
    texts = {path for path in files if not is_image(path)} | {*annotations(where.path).values()}
    images = [path.name for path in files if is_image(path)]
    for inner in ("img", "color"):
        if (where.path / inner).is_dir():
            images += os.listdir(where.path / inner)
    states = sorted(file_state(path) for path in texts)
    return Listing(make_stamp([*states, *sorted(images)]), partial(_read, where))


def _read(where: Folder) -> dict[str, Any]:
    """A video's record: each target of a folder is a track."""
    layout = recognise(where.path)
    targets = layout.targets(where.path) if layout.targets else [1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SequenceWarning)
        sequences = [read_sequence(where.path, target) for target in targets]
    paths = sorted({path for sequence in sequences for path in sequence.paths}, key=natural)
    folder = paths[0].parent
    places = {path: index for index, path in enumerate(paths)}
    there = [path for path in paths if path.is_file()]
    height, width = read_image(there[0]).shape[:2]
    notes = [str(warning.message) for warning in caught]
    return {
        "group": where.path.resolve().name,
        "folder": Path(os.path.relpath(folder, where.root)).as_posix(),
        "frames": [path.name for path in paths],
        "size": (width, height),
        "no_image": [places[path] for path in paths if not path.is_file()],
        "tracks": [_record(sequence, places) for sequence in sequences],
        "notes": {"warnings": notes} if notes else {},
    }


def _record(sequence: Sequence, places: dict[Path, int]) -> dict[str, Any]:
    boxes = {
        places[path]: box
        for path, box, there in zip(sequence.paths, sequence.boxes, sequence.present)
        if there
    }
    return track_record(sequence.name, boxes)
