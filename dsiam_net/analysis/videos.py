"""Generated videos that can be analysed and tracked as sequences on disk are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..boxes import valid_boxes
from ..synthetic import SyntheticVideos

LENGTH = 60


@dataclass(frozen=True, eq=False)
class GeneratedSequence:
    """A generated video with the members of ``dsiam_net.sequences.Sequence`` but its files.

    Attributes
    ----------
    name : str
    frames : uint8 array (T, H, W, 3), RGB
    boxes : float64 array (T, 4)
        x, y, w, h; frame pixels, 1-based.
    """

    name: str
    frames: np.ndarray
    boxes: np.ndarray
    polygons: ClassVar[None] = None
    fps: ClassVar[float] = 25.0

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> np.ndarray:
        """Frame ``index`` (0-based), (H, W, 3) uint8, RGB."""
        return self.frames[index]

    @property
    def truth(self) -> np.ndarray:
        """The boxes."""
        return self.boxes

    @property
    def present(self) -> np.ndarray:
        """In which frames there is a box with an area, (T,) bool."""
        return valid_boxes(self.boxes)


def generated_sequence(seed: int, index: int = 0, length: int = LENGTH) -> GeneratedSequence:
    """Video ``index`` of the collection that belongs to ``seed``, of ``length`` frames.

    Textures are computed, never photographs, so that it is the same on every machine.

    Raises
    ------
    ValueError
        If the length is less than 1, or a number is negative.
    """
    if length < 1 or seed < 0 or index < 0:
        raise ValueError(
            "a generated video needs a length of at least 1 and a seed and an index of at least "
            f"0, received length {length}, seed {seed}, index {index}"
        )
    frames, boxes = SyntheticVideos(seed, photographs=False).video(index, length)
    return GeneratedSequence(f"generated-{seed}-{index}", frames, boxes)
