"""A video of image files and the box of one target in each, and how the two are paired."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..boxes import polygon_to_box, valid_boxes
from .errors import SequenceError, SequenceWarning
from .images import read_image, with_gaps_filled


class Frame(NamedTuple):
    """A frame of a source.

    Attributes
    ----------
    index : int
        Its number in the source, from 0.
    image : uint8 array (H, W, 3), RGB, or None
        None if it cannot be read; then ``error`` says why, and names the frame.
    error : SequenceError or None
    """

    index: int
    image: np.ndarray | None
    error: SequenceError | None = None


@dataclass(frozen=True, eq=False)
class Sequence:
    """A video and the box of one target in each of its frames.

    Attributes
    ----------
    name : str
    paths : tuple of Path
        The frames' image files, in order.
    boxes : float64 array (T, 4)
        x, y, w, h; frame pixels, 1-based. NaN where the target is absent, or nothing is known.
    polygons : float64 array (T, 8), or None
        x1, y1, ..., x4, y4 where the truth is given so; ``boxes`` follows from it then, or
        from a file of its own.
    """

    name: str
    paths: tuple[Path, ...]
    boxes: np.ndarray
    polygons: np.ndarray | None = field(default=None)

    fps = 25.0  # frames a second, where a video is made of them

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

    def frames(self, every: int = 1, limit: int | None = None) -> Iterator[Frame]:
        """Every ``every``-th frame of the first ``limit``, read as they are asked for."""
        for index in range(0, len(self) if limit is None else min(limit, len(self)), every):
            try:
                yield Frame(index, self.frame(index))
            except SequenceError as error:
                yield Frame(index, None, error)

    @property
    def present(self) -> np.ndarray:
        """In which frames there is a box with an area, (T,) bool."""
        return valid_boxes(self.boxes)

    @property
    def truth(self) -> np.ndarray:
        """The regions as they were given: polygons (T, 8), or boxes (T, 4)."""
        return self.boxes if self.polygons is None else self.polygons


def pair(images: list[Path], regions: np.ndarray, source: Path) -> tuple[list[Path], np.ndarray]:
    """Frames and regions, one a frame.

    Where frames are missing among numbered ones, and the regions are as many as there should be,
    the missing ones are listed all the same, without a region: to read one is an error that names
    it. Where there are more frames than regions, those beyond are left out. Both with a
    ``SequenceWarning``.

    Parameters
    ----------
    images : list of Path
    regions : array (T, n)
    source : Path
        The file of the regions, to be named.

    Raises
    ------
    SequenceError
        If there are more regions than frames.
    """
    if len(regions) > len(images):
        filled = with_gaps_filled(images)
        there = np.isin([p.name for p in filled], [p.name for p in images])
        missing = [path.name for path, here in zip(filled, there) if not here]
        if len(filled) != len(regions):
            lacking = f" ({_names(missing)} missing)" if missing else ""
            raise SequenceError(
                f"{source}: expected at most {len(images)} boxes, one a frame in "
                f"{images[0].parent}{lacking}, received {len(regions)}"
            )
        _warn(f"{images[0].parent}: frames {_names(missing)} are missing")
        return filled, np.where(there[:, None], regions, np.nan)
    if len(regions) < len(images):
        _warn(
            f"{source}: {len(regions)} boxes for {len(images)} frames; the frames beyond are left "
            "out"
        )
    return images[: len(regions)], regions


def make_sequence(
    name: str,
    images: list[Path],
    regions: np.ndarray,
    source: Path,
    absent: np.ndarray | None = None,
) -> Sequence:
    """A sequence of frames and the regions (T, 4) or (T, 8) of a file; see ``pair``.

    ``absent`` (T,) tells in which frames there is no target, whatever the region says.
    """
    if absent is not None:
        regions = np.where(absent[:, None], np.nan, regions)
    images, regions = pair(images, regions, source)
    if regions.shape[1] == 8:
        return Sequence(name, tuple(images), polygon_to_box(regions), regions)
    return Sequence(name, tuple(images), regions)


def _names(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _warn(text: str) -> None:
    warnings.warn(text, SequenceWarning, stacklevel=4)
