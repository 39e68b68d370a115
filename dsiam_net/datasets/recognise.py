"""Which layout a folder has, and the sequences in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from .errors import SequenceError
from .got10k import is_got10k, read_got10k
from .lasot import is_lasot, read_lasot
from .otb import is_otb, otb_targets, read_otb
from .plain import is_plain, read_plain
from .sequence import Sequence
from .tlp import is_tlp, read_tlp
from .uav123 import is_uav123, read_uav123, uav123_targets
from .vot import is_vot, read_vot


class Layout(NamedTuple):
    """A way in which frames and boxes lie in folders.

    ``targets`` and the second argument of ``read`` are there where a folder can have several.
    """

    name: str
    expects: str
    matches: Callable[[Path], bool]
    read: Callable[..., Sequence]
    targets: Callable[[Path], list[int]] | None = None


# The first that matches is taken: TLP's files have OTB's names, GOT-10k's VOT's.
LAYOUTS = (
    Layout("TLP", "img/ and groundtruth_rect.txt of 6 columns", is_tlp, read_tlp),
    Layout(
        "OTB",
        "img/ and groundtruth_rect.txt or groundtruth_poly.txt",
        is_otb,
        read_otb,
        otb_targets,
    ),
    Layout("LaSOT", "img/ and groundtruth.txt", is_lasot, read_lasot),
    Layout(
        "GOT-10k",
        "images, groundtruth.txt and absence.label or cover.label",
        is_got10k,
        read_got10k,
    ),
    Layout("VOT", "images here or in color/, and groundtruth.txt", is_vot, read_vot),
    Layout(
        "UAV123",
        "data_seq/UAV123/NAME with images, and anno/UAV123/NAME.txt",
        is_uav123,
        read_uav123,
        uav123_targets,
    ),
)
PLAIN = Layout("plain", "images here, in img/ or in color/, without boxes", is_plain, read_plain)


def recognise(directory: str | os.PathLike) -> Layout | None:
    """The layout of a folder with boxes, or None."""
    directory = Path(directory)
    return next((layout for layout in LAYOUTS if layout.matches(directory)), None)


def read_sequence(directory: str | os.PathLike, target: int = 1) -> Sequence:
    """Read the sequence in a folder, whatever its layout; images alone are one without boxes.

    Parameters
    ----------
    directory : path
    target : int
        Which target, of several.

    Raises
    ------
    SequenceError
        If no layout is recognised, with all that was looked for, or a target is asked for that
        the layout cannot have, or what the layout's reader raises.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise SequenceError(f"{directory}: expected the folder of a sequence, and there is none")
    layout = recognise(directory) or (PLAIN if is_plain(directory) else None)
    if layout is None:
        below = [p.name for p in sorted(directory.iterdir()) if p.is_dir() and recognise(p)]
        if below:
            raise SequenceError(
                f"{directory}: expected one sequence, received a folder of {len(below)}; name "
                f"one of them, such as {directory / below[0]}"
            )
        looked = "; ".join(f"{known.name}: {known.expects}" for known in (*LAYOUTS, PLAIN))
        raise SequenceError(f"{directory}: no sequence is recognised here; looked for {looked}")
    if layout.targets is not None:
        return layout.read(directory, target)
    if target != 1:
        raise SequenceError(
            f"{directory}: a sequence in {layout.name}'s layout has one target, asked for {target}"
        )
    return layout.read(directory)


def _targets(directory: Path) -> list[int]:
    """Numbers of the targets that a folder has boxes of; none if it is no sequence."""
    layout = recognise(directory)
    if layout is None:  # frames without boxes are a sequence that lacks them
        return [1] if (directory / "img").is_dir() else []
    return layout.targets(directory) if layout.targets else [1]


def find_sequences(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Sequence]:
    """Read all sequences with boxes below folders, each target of each.

    Parameters
    ----------
    paths : path or paths
        Each the folder of a sequence, or a folder of such folders (taken in order of name).

    Raises
    ------
    SequenceError
        If a path holds no sequence, or one cannot be read.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise SequenceError(f"{path}: expected a folder of sequences, and there is none")
        folders = [path]
        if not _targets(path):
            folders = sorted(p for p in path.iterdir() if p.is_dir() and _targets(p))
        if not folders:
            looked = "; ".join(f"{known.name}: {known.expects}" for known in LAYOUTS)
            raise SequenceError(
                f"{path}: expected a sequence here or one level below, and found none; looked "
                f"for {looked}"
            )
        for folder in folders:
            if recognise(folder) is None:
                raise SequenceError(
                    f"{folder}: expected boxes in groundtruth_rect.txt, groundtruth_poly.txt or "
                    "groundtruth.txt, and there is no such file"
                )
            found += [read_sequence(folder, target) for target in _targets(folder)]
    return found
