"""Random clips and crops of the tracks that were selected."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..clips import ClipFiles, ClipSampler
from ..crops import Track as CropTrack
from ..sequences import Sequence, SequenceError
from .selection import SELECTED, Choice

# A track of a single crop has no pair.
LEAST_CROPS = 2


def draw_clips(choices: Iterable[Choice], number: int, length: int, seed: int) -> list[ClipFiles]:
    """Draw clips: consecutive frames of one selected track, with a box within the limits in each.

    Videos come in random order, and each of them once before any comes again, so that the clips
    are spread over as many as there are; of a video a track, then a start, each with equal
    probability.

    Parameters
    ----------
    choices : iterable of Choice
        Selected with ``min_frames`` of at least ``length``.
    number, length : int
        Clips, and frames of each, at least 1.
    seed : int
        The same choices and seed give the same clips.

    Raises
    ------
    SequenceError
        If no track is selected, or one has no ``length`` consecutive frames.
    ValueError
        If a number is less than 1.
    """
    for name, value in (("number", number), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} of clips must be at least 1, received {value}")
    videos: dict[str, list[Sequence]] = {}
    for choice in choices:
        if choice.verdict == SELECTED:
            boxes = np.where(choice.within[:, None], choice.track.boxes, np.nan)
            sequence = Sequence(choice.track.name, choice.video.paths, boxes)
            videos.setdefault(choice.video.name, []).append(sequence)
    if not videos:
        raise SequenceError(
            "no track is selected, so there is none to draw clips from; selection.csv has the "
            "reasons, and the thresholds are options"
        )
    samplers = [ClipSampler(tracks, length, seed) for tracks in videos.values()]
    rng = np.random.default_rng(seed)
    rounds = -(-number // len(samplers))
    order = np.concatenate([rng.permutation(len(samplers)) for _ in range(rounds)])[:number]
    return [samplers[which].files(0, index) for index, which in enumerate(order)]


def crop_tracks(choices: Iterable[Choice], selected: bool) -> list[CropTrack]:
    """The tracks for ``write_crops``.

    Parameters
    ----------
    choices : iterable of Choice
    selected : bool
        Only the selected ones, and their boxes within the limits; else every track, whatever its
        shape, with all boxes that count. Either way tracks have at least two.
    """
    tracks = []
    for choice in choices:
        if selected and choice.verdict != SELECTED:
            continue
        used = choice.within if selected else choice.counted
        if used.sum() >= LEAST_CROPS:
            boxes = np.where(used[:, None], choice.track.boxes, np.nan)
            tracks.append(
                CropTrack(choice.track.name, choice.video.group, choice.video.paths, boxes)
            )
    return tracks
