"""A tiny network and a short generated video for the tests of the analyses."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from dsiam_net.analysis.videos import GeneratedSequence
from dsiam_net.synthetic import SyntheticVideos
from tiny import tiny_branch

FRAMES = 5


@lru_cache(maxsize=1)
def tiny_net():
    """A SiamFC branch with few channels, in single precision."""
    return tiny_branch(np.random.default_rng(1), np.float32)


@lru_cache(maxsize=1)
def short_video() -> GeneratedSequence:
    """Five small frames."""
    videos = SyntheticVideos(3, (80, 100), photographs=False, occlusion=0, distractors=0)
    return GeneratedSequence("short", *videos.video(0, FRAMES))


def write_otb(sequence, folder):
    """Write a sequence to disk in OTB's layout; returns its folder."""
    directory = folder / sequence.name
    (directory / "img").mkdir(parents=True)
    for index in range(len(sequence)):
        frame = sequence.frame(index)[:, :, ::-1]
        cv2.imwrite(str(directory / "img" / f"{index + 1:04d}.png"), frame)
    np.savetxt(directory / "groundtruth_rect.txt", sequence.boxes, delimiter=",")
    return directory
