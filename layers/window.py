"""Windows: MATLAB's symmetric ``hann(n)`` and ``hamming(n)``, and the plane that RLR uses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

WINDOWS = ("hann", "none")


def hann(size: int) -> np.ndarray:
    """Symmetric Hann window: ``0.5 - 0.5 cos(2 pi k / (size - 1))``, ``k = 0 .. size - 1``.

    float64 of shape (size,), zero at both ends; ``hann(1)`` is 1.
    """
    return np.hanning(size)


def hamming(size: int) -> np.ndarray:
    """Symmetric Hamming window: ``0.54 - 0.46 cos(2 pi k / (size - 1))``.

    float64 of shape (size,), 0.08 at both ends; ``hamming(1)`` is 1.
    """
    return np.hamming(size)


@lru_cache(maxsize=32)
def hann_plane(height: int, width: int) -> np.ndarray:
    """``hann(height) hann(width)'``: float64 (height, width), read-only (it is cached)."""
    plane = np.outer(hann(height), hann(width))
    plane.flags.writeable = False
    return plane
