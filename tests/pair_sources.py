"""Sources of pairs for tests of pretraining."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Pair(NamedTuple):
    exemplar: np.ndarray
    instance: np.ndarray
    offset: np.ndarray
    positive: bool


class Blobs:
    """Coloured discs on smooth noise; each pair has a colour, a negative one has two.

    Parameters
    ----------
    instance_size : int
    jitter : float
        Offsets are uniform within so many pixels.
    negatives : float
        Share of negative pairs.
    """

    def __init__(self, instance_size, jitter=0.0, negatives=0.0):
        self.instance_size, self.jitter, self.negatives = instance_size, jitter, negatives

    def pair(self, epoch, index, mode):
        rng = np.random.default_rng([epoch, index, mode == "val"])
        positive = bool(rng.random() >= self.negatives)
        color = rng.uniform(0, 255, 3)
        offset = rng.uniform(-self.jitter, self.jitter, 2) if self.jitter else np.zeros(2)
        exemplar = self._image(rng, 127, np.zeros(2), color)
        other = color if positive else 255 - color
        return Pair(exemplar, self._image(rng, self.instance_size, offset, other), offset, positive)

    def tracks(self, mode):
        return [mode]

    @staticmethod
    def _image(rng, size, offset, color):
        noise = rng.uniform(0, 255, (8, 8, 3)).astype(np.float32)
        image = cv2.resize(noise, (size, size))
        rows, columns = np.ogrid[:size, :size]
        row, column = (size - 1) / 2 + offset
        image[(rows - row) ** 2 + (columns - column) ** 2 < 25**2] = color
        return np.ascontiguousarray(image.transpose(2, 0, 1))
