"""What the sides of a benchmark do, what they are given of it, and the works of ``cpu.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from problems import (
    FULL,
    SMALL,
    Size,
    make_clip,
    make_net,
    step_problem,
    step_work,
    track_problem,
    track_work,
)


@dataclass(frozen=True)
class Work:
    """Something that both sides can do.

    Attributes
    ----------
    title : str
    targets : pair of float or None
        Wanted ratios, as the command says: ``cpu.py`` to PyTorch NCHW and channels_last.
    repeats : int
        Runs a round, of which the median counts: short works take several.
    size : Size
    seed : int
        Of the parameters.
    known_crops, numba, tracking, memory : bool
        Crops at the true centres; our compiled kernels on; a tracked frame in place of a training
        step; peak memory in place of time.
    device : 'cpu' or 'gpu'
    tf32 : bool
        On the GPU, matrix products of single precision in TF32.
    followed : int
        Targets of a tracked frame, in one batch.
    on_card : bool
        Patches of a tracked frame are on the GPU from the start, not in main memory.
    """

    title: str
    targets: tuple[float | None, float | None]
    repeats: int = 1
    size: Size = FULL
    seed: int = 0
    known_crops: bool = False
    numba: bool = True
    tracking: bool = False
    memory: bool = False
    device: str = "cpu"
    tf32: bool = False
    followed: int = 1
    on_card: bool = False


WORKS = {
    "step": Work("training step, frame after frame", (0.50, 0.55)),
    "step-ground-truth": Work(
        "training step, crops at the true boxes", (0.40, 0.45), known_crops=True
    ),
    "step-numpy": Work("training step, NumPy alone", (0.80, 0.90), numba=False, seed=2),
    "step-ground-truth-numpy": Work(
        "training step, crops at the true boxes, NumPy alone",
        (0.80, 0.90),
        known_crops=True,
        numba=False,
        seed=2,
    ),
    "track": Work("tracked frame, DSiamM", (0.45, 0.75), repeats=4, tracking=True),
    # With the parameters of seed 0 decisions of ReLU and pooling are so close that they fall in
    # single precision as rounding has it, and which side's do says nothing about either.
    "small": Work(
        "training step, few channels: overhead", (0.8, 0.8), repeats=4, size=SMALL, seed=2
    ),
    "memory": Work("peak memory of a training step", (0.7, 0.7), memory=True),
}


def gigaflops(work: Work) -> float:
    """Operations of one run."""
    if work.tracking:
        return work.followed * track_work(work.size)
    return step_work(work.size, work.known_crops)


def make_problem(work: Work, dtype: Any = np.float32) -> dict[str, Any]:
    """What the sides are given of a work."""
    if work.tracking:
        return track_problem(work.size)
    net, clip = make_net(work.size, work.seed), make_clip(work.size.frames)
    return step_problem(net, work.size, clip, dtype)
