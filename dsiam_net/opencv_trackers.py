"""OpenCV's own trackers behind the interface of ours: ``init(image, box)``, ``update(image)``.

Which ones there are depends on the OpenCV that is installed: MIL is in every one, KCF and CSRT come
with ``opencv-contrib-python-headless``, MOSSE, MedianFlow, TLD and Boosting with that package's
``cv2.legacy``. Those that need a network's file (GOTURN, DaSiamRPN, Nano, Vit) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from .patches import as_frame, matlab_round
from .target import as_region

# Name -> OpenCV's name of the class.
CLASSES = {
    "boosting": "TrackerBoosting",
    "csrt": "TrackerCSRT",
    "kcf": "TrackerKCF",
    "medianflow": "TrackerMedianFlow",
    "mil": "TrackerMIL",
    "mosse": "TrackerMOSSE",
    "tld": "TrackerTLD",
}
PACKAGE = "opencv-contrib-python-headless"


def _maker(name: str) -> Callable[[], Any] | None:
    """What makes a tracker of OpenCV, or None where the installed OpenCV has none of this name."""
    function = f"{CLASSES[name]}_create"
    for place in (cv2, getattr(cv2, "legacy", None)):
        if hasattr(place, function):
            return getattr(place, function)
    return None


def opencv_trackers() -> tuple[str, ...]:
    """Names of OpenCV's trackers that the installed OpenCV has, in order of the alphabet."""
    return tuple(name for name in CLASSES if _maker(name) is not None)


class OpenCVTracker:
    """A tracker of OpenCV.

    The random numbers of MIL and TLD go on from one target to the next and cannot be seeded: the
    same boxes come again only in a new process that does the same.

    Parameters
    ----------
    name : str
        One of ``opencv_trackers()``.

    Raises
    ------
    ValueError
        If there is no such tracker, or the installed OpenCV lacks it.
    """

    def __init__(self, name: str):
        if name not in CLASSES:
            raise ValueError(
                f"a tracker of OpenCV must be one of {', '.join(CLASSES)}; received {name!r}"
            )
        if _maker(name) is None:
            raise ValueError(
                f"the installed OpenCV {cv2.__version__} has no tracker {name!r}, only "
                f"{', '.join(opencv_trackers())}; {PACKAGE} in place of "
                "opencv-python-headless may have it"
            )
        self.name = name
        self._tracker: Any = None

    def init(self, image: Any, box: Sequence[float]) -> None:
        """Take the target in the first frame.

        Parameters
        ----------
        image : uint8 array (H, W, 3), RGB, or (H, W), grey, or a PIL image
        box : 4 numbers (x, y, w, h), 1-based, or 8 (x1, y1, ..., x4, y4)
            A polygon is replaced by the upright box around it. OpenCV gets whole pixels, those
            of the frame alone.

        Raises
        ------
        ValueError
            If the image is not a frame, or nothing of the box lies in it.
        """
        frame = as_frame(image)
        self._tracker = _maker(self.name)()
        self._tracker.init(_bgr(frame), _whole_pixels(box, frame.shape[:2]))

    def update(self, image: Any) -> np.ndarray:
        """Find the target in the next frame.

        Returns
        -------
        float64 array (4,) : the box (x, y, w, h), 1-based; NaN where OpenCV says that it is lost.

        Raises
        ------
        RuntimeError
            If ``init`` was not called.
        ValueError
            If the image is not a frame.
        """
        if self._tracker is None:
            raise RuntimeError("the tracker has no target yet: call init(image, box) first")
        found, box = self._tracker.update(_bgr(as_frame(image)))
        if not found:
            return np.full(4, np.nan)
        x, y, width, height = map(float, box)
        return np.array([x + 1, y + 1, width, height])


def _bgr(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[:, :, ::-1])


def _whole_pixels(region: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A region as OpenCV's ``x, y, w, h``: 0-based, whole pixels, those of a frame (h, w)."""
    values = as_region(region)
    if values.size == 8:
        corners = values.reshape(4, 2)
        low, high = corners.min(axis=0), corners.max(axis=0)
    else:
        low, high = values[:2], values[:2] + values[2:]
    first = np.maximum(matlab_round(low) - 1, 0).astype(int)
    end = np.minimum(matlab_round(high) - 1, size[::-1]).astype(int)
    if (end <= first).any():
        raise ValueError(
            f"region {values.tolist()} covers no whole pixel of a frame of {size[1]} x {size[0]} "
            "pixels"
        )
    return tuple(int(v) for v in (*first, *(end - first)))
