"""Tiny networks and clips for tests: SiamFC with channels 12/16/24/24/16, as the goldens' nets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dsiam_net.branches import cast_params, siamfc_branch
from dsiam_net.clips import Clip
from dsiam_net.siamfc import make_siamfc
from dsiam_net.unrolled import UnrolledSettings, build_unrolled

CHANNELS = (12, 16, 24, 24, 16)
# Crops that give a response map of 7x7 at half the work of 255's 17x17.
SEARCH_SIZE = 175
ADJUST_FACTOR = 0.05


def tiny_branch(rng, dtype=np.float64):
    """A branch with random values in every parameter, moments included."""
    branch = siamfc_branch(CHANNELS)
    branch.init_params(rng, dtype)
    for parameter in branch.params:
        shape = parameter.value.shape
        if parameter.name.endswith("x"):
            parameter.value = np.stack(
                [rng.normal(0, 0.1, shape[0]), rng.uniform(0.5, 2, shape[0])], 1
            )
        elif parameter.name.endswith("m"):
            parameter.value = rng.uniform(0.5, 1.5, shape)
        elif parameter.name.endswith("b"):
            parameter.value = rng.normal(0, 0.1, shape)
    cast_params(branch, dtype)
    return branch


def plain_branch(channels=CHANNELS, seed=3):
    """A branch with random filters whose batch norms change nothing in test mode."""
    branch = siamfc_branch(channels)
    branch.init_params(seed)
    for parameter in branch.params:
        if parameter.train_method == "average":
            parameter.value = np.tile(np.float32([0, 1]), (len(parameter.value), 1))
    return branch


def write_siamfc(path: Path) -> Path:
    """Write a SiamFC on a plain branch."""
    make_siamfc(plain_branch()).save(path)
    return path


def tiny_unrolled(rng, dtype=np.float64, **settings):
    """The unrolled network on a tiny branch; its own parameters lie in (0.2, 0.8)."""
    settings = {"frames": 3, "search_size": SEARCH_SIZE, **settings}
    net = build_unrolled(tiny_branch(rng, dtype), UnrolledSettings(**settings))
    for parameter in net.params:
        if parameter.name.endswith(("_lambda", "_lr")) or parameter.name == "sumweights":
            parameter.value = rng.uniform(0.2, 0.8, parameter.value.shape)
        elif parameter.name == "adjust_f":
            # Scores of order one, where the loss is sensitive to them.
            parameter.value = np.full((1, 1, 1, 1), ADJUST_FACTOR)
        elif parameter.name == "adjust_b":
            parameter.value = rng.normal(0, 0.1, parameter.value.shape)
    cast_params(net, dtype)
    return net


def smooth_clip(rng, frames=3, size=(150, 180), dtype=np.float64, white=255.0):
    """A clip of smooth noise with a target that moves; values from 0 to ``white``."""
    noise = rng.uniform(0, white, (size[0] // 6, size[1] // 6, 3)).astype(np.float32)
    scene = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    images = [np.roll(scene, (2 * t, 3 * t), axis=(0, 1)) for t in range(frames)]
    array = np.stack([image.transpose(2, 0, 1) for image in images]).astype(dtype)
    boxes = np.array([[70.0 + 3 * t, 60.0 + 2 * t, 40.0, 31.0] for t in range(frames)])
    return Clip(array + rng.normal(0, 0.02 * white, array.shape), boxes)


def write_clip(folder: Path, clip: Clip) -> None:
    """Write a clip of values up to 255 as a sequence in OTB's layout."""
    (folder / "img").mkdir(parents=True)
    for i, frame in enumerate(clip.frames, start=1):
        image = np.clip(frame, 0, 255).astype(np.uint8).transpose(1, 2, 0)[:, :, ::-1]
        cv2.imwrite(str(folder / "img" / f"{i:04d}.png"), image)
    np.savetxt(folder / "groundtruth_rect.txt", clip.boxes, fmt="%g", delimiter=",")


def write_two_clips(folder: Path) -> Path:
    """Write the sequences First and Second of five frames into a folder."""
    for seed, name in enumerate(("First", "Second"), start=1):
        clip = smooth_clip(np.random.default_rng(seed), frames=5, dtype=np.float32)
        write_clip(folder / name, clip)
    return folder
