"""Sequences and trackers that the tests of the evaluation use, here and in other processes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dsiam_net.sequences import Sequence, read_otb

SIZE = (60, 80)  # height, width of the frames


def true_boxes(frames: int, seed: int = 0) -> np.ndarray:
    """Boxes (T, 4) of a target that wanders, whole pixels, within the frame."""
    rng = np.random.default_rng(seed)
    corner = np.cumsum(rng.integers(-2, 3, (frames, 2)), axis=0) + 25
    return np.column_stack([corner.clip(5, 35), rng.integers(12, 18, (frames, 2))]).astype(float)


def write_sequence(
    folder: Path, frames: int = 6, seed: int = 0, suffix: str = ".png", first: int = 1
) -> Sequence:
    """Write a sequence in OTB's layout: flat frames with a bright target."""
    (folder / "img").mkdir(parents=True)
    boxes = true_boxes(frames, seed)
    for number, (x, y, w, h) in enumerate(boxes.astype(int), start=first):
        image = np.full((*SIZE, 3), 60, np.uint8)
        image[y - 1 : y - 1 + h, x - 1 : x - 1 + w] = (40, 160, 230)
        cv2.imwrite(str(folder / "img" / f"{number:04d}{suffix}"), image)
    rows = [",".join(f"{v:g}" for v in box) for box in boxes]
    (folder / "groundtruth_rect.txt").write_text("\n".join(rows) + "\n")
    return read_otb(folder)


class DriftingTracker:
    """Its box moves a pixel down and 0.25 to the right in each frame."""

    def init(self, image, box):
        self.box = np.array(box, dtype=float)

    def update(self, image):
        self.box = self.box + np.array([0.25, 1, 0, 0])
        return self.box


def drifted(first: np.ndarray, frames: int) -> np.ndarray:
    """What ``DriftingTracker`` answers."""
    return first + np.arange(frames)[:, None] * np.array([0.25, 1, 0, 0])


@dataclass(frozen=True)
class Drifting:
    """A source of trackers that drift, wait, raise or end their process.

    ``marked`` is the brightness of the first pixel by which a tracker knows the frames that it
    fails on; ``end`` says whether it raises or ends.
    """

    name: str = "drifting"
    wait: float = 0.0
    marked: int | None = None
    end: bool = False
    polygon: bool = False

    def create(self):
        source = self

        class Tracker(DriftingTracker):
            def update(self, image):
                time.sleep(source.wait)
                if image[0, 0, 0] == source.marked:
                    if source.end:
                        os._exit(3)
                    raise RuntimeError("the target has gone")
                return super().update(image)

        return Tracker()

    def describe(self):
        return {"tracker": self.name, "size": (1, 2)}


@dataclass(frozen=True)
class Environment:
    """A source whose tracker answers with the number of BLAS threads of its process."""

    name: str = "environment"
    polygon: bool = False

    def create(self):
        class Tracker(DriftingTracker):
            def update(self, image):
                return np.array([1, 1, 1, float(os.environ["OPENBLAS_NUM_THREADS"])])

        return Tracker()

    def describe(self):
        return {}
