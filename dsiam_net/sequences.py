"""Video sequences on disk in OTB's layout: frames, and one box a frame.

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
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from .boxes import polygon_to_box, valid_boxes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# OTB's sequences whose boxes begin later than their images: the number of the first.
FIRST_FRAMES = {"David": 300}

_RECT_FILE = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")


class SequenceError(ValueError):
    """A sequence, image or list of clips is not as it must be; the message names the file."""


class SequenceWarning(UserWarning):
    """A sequence can be used, but not all of it."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image as (H, W, 3) uint8, RGB; a grey one is repeated for the three channels.

    An orientation noted in the file is ignored, as boxes refer to the pixels stored.

    Raises
    ------
    SequenceError
        If the file cannot be read, or is not an image that OpenCV decodes.
    """
    # OpenCV opens no path with other than ASCII characters on every system; NumPy does.
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as exc:
        raise SequenceError(f"cannot read image {path}: {exc.strerror or exc}") from exc
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise SequenceError(
            f"cannot decode image {path} ({content.size} bytes): it is damaged, or of a format "
            "that OpenCV does not read"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_regions(path: str | os.PathLike) -> np.ndarray:
    """Read a text file of one region a line.

    Numbers are separated by commas, tabs, semicolons or spaces. Empty lines may end the file.

    Returns
    -------
    float64 array (T, 4) or (T, 8)
        A row with NaN, for a target that is absent, is NaN throughout.

    Raises
    ------
    SequenceError
        Names file and line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SequenceError(f"cannot read boxes {path}: {exc}") from exc
    rows: list[list[float]] = []
    for number, line in enumerate(text.rstrip().splitlines(), start=1):
        words = re.split(r"[,;\s]+", line.strip().strip(",;"))
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        expected = (len(rows[0]),) if rows else (4, 8)
        if len(row) not in expected:
            raise SequenceError(
                f"{path}, line {number}: expected {' or '.join(map(str, expected))} numbers, "
                f"received {line.strip()!r}"
            )
        rows.append(row)
    if not rows:
        raise SequenceError(f"{path}: expected one region a line, received an empty file")
    regions = np.array(rows)
    regions[~np.isfinite(regions).all(axis=1)] = np.nan
    return regions


@dataclass(frozen=True, eq=False)
class Sequence:
    """A video and the box of one target in each of its frames.

    Attributes
    ----------
    name : str
    paths : tuple of Path
        The frames' image files, in order.
    boxes : float64 array (T, 4)
        x, y, w, h; frame pixels, 1-based. NaN where the target is absent.
    polygons : float64 array (T, 8), or None
        x1, y1, ..., x4, y4 where the truth is given so; ``boxes`` follows from it then, or
        from a file of its own.
    """

    name: str
    paths: tuple[Path, ...]
    boxes: np.ndarray
    polygons: np.ndarray | None = field(default=None)

    def __post_init__(self):
        for what, array, width in (("boxes", self.boxes, 4), ("polygons", self.polygons, 8)):
            if array is not None and array.shape != (len(self.paths), width):
                raise SequenceError(
                    f"sequence {self.name}: {len(self.paths)} frames need {what} of shape "
                    f"({len(self.paths)}, {width}), received {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> np.ndarray:
        """Frame ``index`` (0-based), (H, W, 3) uint8, RGB; errors as in ``read_image``."""
        return read_image(self.paths[index])

    @property
    def present(self) -> np.ndarray:
        """In which frames there is a box with an area, (T,) bool."""
        return valid_boxes(self.boxes)


def _natural(path: Path) -> list:
    """Sort key by which 2.jpg comes before 10.jpg."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdigit() else part for part in parts]


def _images(directory: Path) -> list[Path]:
    folder = directory / "img"
    if not folder.is_dir():
        raise SequenceError(
            f"{directory}: expected a folder img with the frames, and there is none"
        )
    images = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."),
        key=_natural,
    )
    if not images:
        raise SequenceError(
            f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}), received a folder "
            f"without any"
        )
    return images


def _rect_files(directory: Path) -> dict[int, Path]:
    """Files of boxes by the number of their target; without a number it is the first."""
    found = {}
    for path in sorted(directory.glob("groundtruth_rect*.txt")):
        match = _RECT_FILE.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1] or 1), path)
    return found


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
    images = _images(directory)
    rect, poly = _rect_files(directory).get(target), directory / "groundtruth_poly.txt"
    source, polygons = rect, None
    if target == 1 and poly.is_file():
        polygons, source = read_regions(poly), rect or poly
    if source is None:
        which = "groundtruth_rect.txt or groundtruth_poly.txt"
        if target != 1:
            which = f"groundtruth_rect.{target}.txt"
        raise SequenceError(f"{directory}: expected boxes in {which}, and there is no such file")
    boxes = read_regions(source) if rect else polygons
    if boxes.shape[1] == 8:
        polygons, boxes = boxes, polygon_to_box(boxes)
    if polygons is not None and len(polygons) != len(boxes):
        raise SequenceError(
            f"{poly}: expected {len(boxes)} polygons, as {source.name} has boxes, received "
            f"{len(polygons)}"
        )

    name = directory.resolve().name
    first = FIRST_FRAMES.get(name)
    if first is not None and len(images) - len(boxes) >= first - 1:
        images = images[first - 1 :]
    if len(boxes) > len(images):
        raise SequenceError(
            f"{source}: expected at most {len(images)} boxes, one a frame in "
            f"{directory / 'img'}, received {len(boxes)}"
        )
    if len(boxes) < len(images):
        warnings.warn(
            f"{source}: {len(boxes)} boxes for {len(images)} frames; the frames beyond are left "
            "out",
            SequenceWarning,
            stacklevel=2,
        )
    name += f".{target}" if target != 1 else ""
    return Sequence(name, tuple(images[: len(boxes)]), boxes, polygons)


def _targets(directory: Path) -> list[int]:
    """Numbers of the targets that a folder has boxes of; none if it is no sequence."""
    targets = sorted(_rect_files(directory))
    if not targets and (
        (directory / "groundtruth_poly.txt").is_file() or (directory / "img").is_dir()
    ):
        return [1]
    return targets


def find_sequences(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Sequence]:
    """Read all sequences below folders, each target of each.

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
            raise SequenceError(
                f"{path}: expected a sequence (img/ and groundtruth_rect.txt) here or one level "
                "below, and found none"
            )
        found += [read_otb(folder, target) for folder in folders for target in _targets(folder)]
    return found
