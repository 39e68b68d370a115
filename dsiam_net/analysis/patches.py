"""Where the target is in each frame, and the patches that V and W are learned from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from layers import background_mask

from ..patches import ExactPatches
from ..settings import TrackerSettings
from ..target import Target, exemplar_side, search_side, tall_rate
from ..tracker import Tracker
from .following import follow

POSITIONS = ("truth", "tracker")


class FramePatches(NamedTuple):
    """Patches of a frame, float32, 0 to 255 unless an average image was subtracted.

    Attributes
    ----------
    target : (3, exemplar_size, exemplar_size), ``O_t``
    surroundings : (3, instance_size, instance_size), ``G_t``, around the same centre
    masked : like ``surroundings``, ``Gbar_t``: the background darkened
    """

    target: np.ndarray
    surroundings: np.ndarray
    masked: np.ndarray


def _target(box: np.ndarray) -> Target:
    x, y, width, height = box
    return Target(np.array([y + height / 2, x + width / 2]), np.array([height, width]))


def find_targets(
    tracker: Tracker, sequence, positions: str = "truth", progress: bool = False
) -> list[Target | None]:
    """The target's place and size in each frame of a sequence.

    Parameters
    ----------
    tracker : Tracker
        Follows the target where ``positions`` is 'tracker'.
    sequence : Sequence or GeneratedSequence
    positions : 'truth' or 'tracker'
        The boxes of the ground truth, None in frames without; or those that the tracker finds.
    progress : bool
        Show the tracker's progress on standard error.

    Raises
    ------
    ValueError
        For other positions, or if the first frame has no target.
    """
    if positions not in POSITIONS:
        raise ValueError(f"positions must be one of {', '.join(POSITIONS)}; received {positions!r}")
    if not sequence.present[0]:
        raise ValueError(f"sequence {sequence.name}: the first frame has no box to start from")
    if positions == "truth":
        boxes = zip(sequence.boxes, sequence.present)
        return [_target(box) if there else None for box, there in boxes]
    boxes = follow(tracker, sequence, progress=sequence.name if progress else None)
    return [_target(box) for box in boxes]


def cut_patches(
    sequence,
    targets: Sequence[Target | None],
    settings: TrackerSettings,
    average_image: np.ndarray | None = None,
) -> Iterator[FramePatches | None]:
    """Patches of one frame after the other, as the tracker learns from them.

    Their sides belong to the size of the target in the frame: ``s_z``, and ``s_x`` at the same
    magnification. The padding has the mean colour of the first frame. The average image is
    subtracted from ``O_t`` alone, as in the public code.

    Parameters
    ----------
    sequence : Sequence or GeneratedSequence
    targets : sequence of Target or None
        From ``find_targets``; a frame without gives None.
    settings : TrackerSettings
    average_image : array (3, h, w), optional
        The network's.
    """
    patches = ExactPatches()
    mask = background_mask(settings.instance_size, settings.exemplar_size)
    colour = factor = None
    for index, target in enumerate(targets):
        image = patches.image(sequence.frame(index))
        if colour is None:
            colour = patches.average_colour(image)
        if target is None:
            yield None
            continue
        if factor is None:
            factor = tall_rate(target.size, settings)
        side_z = exemplar_side(target.size * factor, settings)
        around = patches.crop(
            image, target.centre, search_side(side_z, settings), settings.instance_size, colour
        )
        at = patches.crop(
            image, target.centre, side_z, settings.exemplar_size, colour, average_image
        )
        yield FramePatches(at, around, around * mask)
