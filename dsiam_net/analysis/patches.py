"""Where the target is in each frame, and the patches that V and W are learned from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from layers import background_mask

from ..patches import ExactPatches
from ..settings import TrackerSettings
from ..sources import can_be_scored
from ..target import Target, exemplar_side, search_side, tall_rate
from ..tracker import Tracker
from .following import follow
from .recordings import frame_or_none, starting_region

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
    tracker: Tracker,
    sequence,
    positions: str = "truth",
    progress: bool = False,
    region: Sequence[float] | None = None,
) -> list[Target | None]:
    """The target's place and size in each frame of a sequence.

    Parameters
    ----------
    tracker : Tracker
        Follows the target where ``positions`` is 'tracker'.
    sequence : Sequence, DecodedVideo or GeneratedSequence
    positions : 'truth' or 'tracker'
        The boxes of the ground truth, None in frames without; or those that the tracker finds.
    progress : bool
        Show the tracker's progress on standard error.
    region : 4 or 8 numbers, optional
        Where the tracker starts; by default in the first true region.

    Raises
    ------
    ValueError
        For other positions; if the first frame has no target; or if true positions are asked
        for of a sequence that has none, or with a ``region``.
    """
    if positions not in POSITIONS:
        raise ValueError(f"positions must be one of {', '.join(POSITIONS)}; received {positions!r}")
    if positions == "truth":
        if region is not None:
            raise ValueError(
                "a region to start from (--init) is of use to a tracker, and not where positions "
                "are those of the ground truth"
            )
        if not can_be_scored(sequence.present):
            raise ValueError(
                f"{sequence.name}: there is no ground truth to take positions from; let the "
                "tracker find them (--positions tracker)"
            )
        starting_region(sequence)
        boxes = zip(sequence.boxes, sequence.present)
        return [_target(box) if there else None for box, there in boxes]
    bar = sequence.name if progress else None
    boxes = follow(tracker, sequence, progress=bar, region=region)
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
    sequence : Sequence, DecodedVideo or GeneratedSequence
    targets : sequence of Target or None
        From ``find_targets``; a frame without gives None, and so does one that cannot be read.
    settings : TrackerSettings
    average_image : array (3, h, w), optional
        The network's.
    """
    patches = ExactPatches()
    mask = background_mask(settings.instance_size, settings.exemplar_size)
    colour = factor = None
    for index, target in enumerate(targets):
        frame = sequence.frame(0) if index == 0 else frame_or_none(sequence, index)
        if frame is None:
            yield None
            continue
        image = patches.image(frame)
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
