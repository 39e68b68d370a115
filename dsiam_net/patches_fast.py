"""Patches by OpenCV: one warp a patch, from the unrounded square, for speed and without drift."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from layers import imresize

from .peak import Peak, cells_to_pixels
from .settings import TrackerSettings


class FastPatches:
    """Patches of squares that are not rounded, sampled by OpenCV straight from the frame.

    The methods are those of ``ExactPatches``, and mean the same. What differs:

    * A square is not rounded to whole pixels: every patch pixel's middle is mapped to its place in
      the frame, which is sampled bilinearly. Where a square has more than twice as many pixels as
      the patch, the part of the frame that it covers is shrunk by averaging first.
    * Each scale is one warp of the frame; the originals resize twice.
    * The middle of the response map is its middle, and a map without a peak leaves the target
      where it was.

    Nothing is allocated that is greater than the frame, whatever the side.
    """

    def image(self, frame: np.ndarray) -> np.ndarray:
        """A frame (H, W, 3) of uint8 as this class works on it: as it is, in C order."""
        return np.ascontiguousarray(frame)

    def average_colour(self, image: np.ndarray) -> np.ndarray:
        """Mean of each channel, (3,) float32, of ``image`` (H, W, 3)."""
        return np.float32(cv2.mean(image)[:3])

    def side(self, side: float) -> float:
        """The side that a square is cut with: itself."""
        return float(side)

    def crop(
        self,
        image: np.ndarray,
        centre: Sequence[float],
        side: float,
        size: int,
        colour: np.ndarray,
        average_image: np.ndarray | None = None,
    ) -> np.ndarray:
        """One patch (3, size, size), float32; arguments as in ``ExactPatches.crop``.

        Patch pixel ``j`` (from 0) has its middle at ``centre + (j + 0.5 - size / 2) side / size``,
        which is pixel index ``... - 1.5``: pixel 1 of the frame reaches from 1 to 2.
        """
        step = side / size  # frame pixels a patch pixel
        first = [c - 1.5 + (0.5 - size / 2) * step for c in centre]
        region, origin, ratios = _shrunk(image, first, step, size)
        scales = [step / ratio for ratio in ratios]
        y, x = (
            (f - o + 0.5) / ratio - 0.5 for f, o, ratio in zip(first, origin, ratios, strict=True)
        )
        matrix = np.array([[scales[1], 0, x], [0, scales[0], y]])
        patch = cv2.warpAffine(
            region,
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=[float(c) for c in colour],
        )
        patch = np.ascontiguousarray(patch.transpose(2, 0, 1), dtype=np.float32)
        if average_image is not None:
            patch -= imresize(average_image, size=(size, size))
        return patch

    def pyramid(
        self,
        image: np.ndarray,
        centre: Sequence[float],
        sides: Sequence[float],
        size: int,
        colour: np.ndarray,
        average_image: np.ndarray | None = None,
    ) -> np.ndarray:
        """Patches (len(sides), 3, size, size) of several sides around one centre."""
        return np.stack(
            [self.crop(image, centre, side, size, colour, average_image) for side in sides]
        )

    def move(self, peak: Peak, side: float, settings: TrackerSettings) -> np.ndarray:
        """How far the target moved, frame pixels (y, x); see ``ExactPatches.move``."""
        if peak.flat:
            return np.zeros(2)
        middle = [(n + 1) / 2 for n in peak.fine.shape]
        cells = np.array([peak.row - middle[0], peak.column - middle[1]])
        return cells_to_pixels(cells, side, settings)


def _shrunk(
    image: np.ndarray, first: Sequence[float], step: float, size: int
) -> tuple[np.ndarray, list[int], list[float]]:
    """The part of the frame that a square covers, averaged down where it is much greater.

    Returns the part (h, w, 3), the index (y, x) in the frame of its first pixel, and how many
    frame pixels one of its pixels stands for, down and across. Without shrinking it is the frame.
    """
    block = int(step)
    if block < 2:
        return image, [0, 0], [1.0, 1.0]
    margin = 2 * step  # for the interpolation, and so that averages at the rim are whole
    origin, part, sizes = [], [], []
    for start, length in zip(first, image.shape[:2], strict=True):
        low = int(np.clip(np.floor(start - margin), 0, length - 1))
        high = int(np.clip(np.ceil(start + size * step + margin), low + 1, length))
        # OpenCV averages whole blocks far faster; what is left over is less than a patch pixel.
        blocks = (high - low) // block
        high = low + blocks * block if blocks else high
        origin.append(low)
        part.append(slice(low, high))
        sizes.append(max(1, blocks))
    region = image[part[0], part[1]]
    ratios = [n / m for n, m in zip(region.shape[:2], sizes, strict=True)]
    return cv2.resize(region, sizes[::-1], interpolation=cv2.INTER_AREA), origin, ratios
