"""The unrolled network on the first frames of a sequence: what is drawn of it, with any weights."""

from __future__ import annotations

import numpy as np

from dagnet import DagNN

from ..branches import copy_params, extract_branch
from ..clips import Clip, frames_to_array
from ..tracker import known_features
from ..unrolled import UnrolledSettings, build_unrolled


def first_clip(sequence, frames: int = 10) -> Clip:
    """The first frames of a sequence as a clip.

    Raises
    ------
    ValueError
        If there are fewer frames, one has no box, or they differ in size.
    """
    if not 1 <= frames <= len(sequence):
        raise ValueError(
            f"sequence {sequence.name} has {len(sequence)} frames, a clip of {frames} was asked for"
        )
    if not sequence.present[:frames].all():
        missing = int(np.flatnonzero(~sequence.present[:frames])[0]) + 1
        raise ValueError(f"sequence {sequence.name}: frame {missing} has no box")
    images = [sequence.frame(i) for i in range(frames)]
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"sequence {sequence.name}: the frames of a clip must have one size")
    return Clip(frames_to_array(images), sequence.boxes[:frames])


def unrolled_with(source: DagNN, frames: int = 10) -> DagNN:
    """The unrolled network on the branch of ``source``, with all values that ``source`` has.

    Raises
    ------
    ValueError
        If the network's feature layers are not known; see ``known_features``.
    """
    branch, features = extract_branch(source, known_features(source))
    net = build_unrolled(branch, UnrolledSettings(frames=frames, features=tuple(features)))
    copy_params(source, net)
    return net
