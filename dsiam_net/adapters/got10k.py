"""The got10k toolkit's side: our trackers in its experiments, our sequences in its OTB layout.

The toolkit (github.com/got-10k/toolkit, ``pip install 'dsiam[got10k]'``) is imported when it is
first needed, and nothing else in this package needs it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dagnet import atomic_write

from ..datasets.otb import FIRST_FRAMES
from ..datasets.sequence import Sequence
from ..evaluation.sets import SETS

INSTALL = "pip install 'dsiam[got10k]'"


def import_toolkit() -> ModuleType:
    """The package ``got10k.trackers``.

    Raises
    ------
    ImportError
        If the toolkit, or a package that it needs, is not installed; or if it is older than the
        libraries that are, and fails as it is imported.
    """
    try:
        import got10k.trackers
    except ModuleNotFoundError as exc:
        raise ImportError(
            f"the got10k toolkit cannot be imported, for want of the package {exc.name}: {INSTALL}"
        ) from exc
    except (ImportError, AttributeError, SyntaxError) as exc:
        # Names that NumPy and Matplotlib had when an old release was written, and have no more.
        raise ImportError(
            "the installed got10k toolkit does not go with the installed libraries "
            f"({type(exc).__name__}: {exc}): {INSTALL} --upgrade"
        ) from exc
    return got10k.trackers


def toolkit_tracker(tracker: Any, name: str, is_deterministic: bool = True) -> Any:
    """One of our trackers as one of the toolkit's: its experiments ``run`` it.

    Parameters
    ----------
    tracker : object with ``init(image, box)`` and ``update(image) -> box``
        Such as ``create_tracker`` makes. Both sides have boxes ``x, y, w, h``, 1-based.
    name : str
        The name of its folder of results.
    is_deterministic : bool
        Whether one repetition is enough, as it is for ours: they give the same boxes every time.

    Returns
    -------
    an instance of ``got10k.trackers.Tracker``.

    Raises
    ------
    ImportError
        As ``import_toolkit``.
    """

    class Adapted(import_toolkit().Tracker):
        def init(self, image: Any, box: Any) -> None:
            tracker.init(image, box)

        def update(self, image: Any) -> np.ndarray:
            return tracker.update(image)

    return Adapted(name=name, is_deterministic=is_deterministic)


def lay_out_otb(
    sequences: Iterable[Sequence], root: str | os.PathLike, frames: int | None = None
) -> dict[str, str]:
    """Sequences in the folder that the toolkit's ``OTB`` and ``ExperimentOTB`` read.

    Frames are links to the files where they are (copies where links cannot be made). The toolkit
    takes frames 300 to 770 of David: there, frames 1 to 299 are links to the first. For OTB's
    other sequences there are empty folders, without which the toolkit downloads them.

    Parameters
    ----------
    sequences : iterable of Sequence
        Targets of one video, such as Jogging and Jogging.2, have the video's frames once.
    root : path
        A folder that is empty, or not there.
    frames : int, optional
        Take the first so many of each; of David, which the toolkit cuts by itself, too.

    Returns
    -------
    dict : our name of each sequence by the toolkit's, in the toolkit's order.

    Raises
    ------
    ValueError
        If the folder is not empty.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root}: expected an empty folder, found files in it")
    by_folder: dict[str, dict[int, Sequence]] = {}
    for sequence in sequences:
        folder, _, number = sequence.name.partition(".")
        by_folder.setdefault(folder, {})[int(number or 1)] = sequence
    for entry in SETS["otb100"] + SETS["otb2013"]:
        (root / entry.folder).mkdir(parents=True, exist_ok=True)
    for folder, targets in by_folder.items():
        (root / folder / "img").mkdir(parents=True, exist_ok=True)
        paths = next(iter(targets.values())).paths[:frames]
        before = FIRST_FRAMES.get(folder, 1) - 1
        for number, path in enumerate((paths[0],) * before + paths, start=1):
            # The toolkit looks for .jpg alone, and reads a file by what is in it.
            _link(path, root / folder / "img" / f"{number:04d}.jpg")
        for number, sequence in targets.items():
            suffix = "" if len(targets) == 1 else f".{number}"
            with atomic_write(root / folder / f"groundtruth_rect{suffix}.txt", "w") as file:
                for box in sequence.boxes[:frames].tolist():
                    file.write(",".join(map(repr, box)) + "\n")
    names = [(folder, number) for folder, targets in by_folder.items() for number in targets]
    counts = Counter(folder for folder, _ in names)
    return {
        (folder if counts[folder] == 1 else f"{folder}.{number}"): by_folder[folder][number].name
        for folder, number in sorted(names)
    }


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # as where Windows lets administrators alone make links
        shutil.copyfile(source, target)
