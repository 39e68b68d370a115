"""Other starts than the first true box: temporal and spatial robustness evaluation, TRE and SRE.

Wu, Lim, Yang, Online Object Tracking: A Benchmark, CVPR 2013, Section 4; details as in
``split_seq.py`` and ``shift_bbox.py`` of the authors' tracker_benchmark. Their Python shifts down
by widening the box (``r[2]`` for ``r[1]``, an index of their MATLAB code, where it is the corner's
y): here the box moves down.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..patches import matlab_round
from ..sequences import Sequence, SequenceError

# Segments of TRE, and frames that the last of them has at least.
SEGMENTS, LEAST_FRAMES = 20, 20
# SRE: shifts in shares of the target's size, and factors of its size.
SHIFT = 0.1
SCALES = {"scale_8": 0.8, "scale_9": 0.9, "scale_11": 1.1, "scale_12": 1.2}
# Directions (x, y) that the centre moves in, and the corner that moves outwards.
CENTRE_SHIFTS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
CORNER_SHIFTS = {
    "topLeft": (-1, -1),
    "topRight": (1, -1),
    "bottomLeft": (-1, 1),
    "bottomRight": (1, 1),
}
PERTURBATIONS = (*CENTRE_SHIFTS, *CORNER_SHIFTS, *SCALES)
# Frames that no tracker should be started in, a first and a last a row, beside the frames' folder.
OMIT_FILE = "init_omit.txt"


@dataclass(frozen=True, eq=False)
class Start:
    """One run of a tracker over a sequence, or a part of it.

    Attributes
    ----------
    name : str
        ``from_0017`` for the frame (from 1) that it starts in, or one of ``PERTURBATIONS``.
    sequence : Sequence
        The frames that are tracked; its first box is the one that the tracker is given. Its name is
        that of the whole and the start's, with a stroke between.
    truth : float64 array (T, 4)
        The true boxes of these frames.
    """

    name: str
    sequence: Sequence
    truth: np.ndarray


def _part(sequence: Sequence, name: str, index: int) -> Sequence:
    """The sequence from frame ``index`` (0-based) on."""
    polygons = sequence.polygons
    return dataclasses.replace(
        sequence,
        name=f"{sequence.name}/{name}",
        paths=sequence.paths[index:],
        boxes=sequence.boxes[index:].copy(),
        polygons=None if polygons is None else polygons[index:],
    )


def possible_starts(sequence: Sequence) -> np.ndarray:
    """Indices (0-based) of frames to start in: those with a box whose four numbers are above 0.

    Frames that the benchmark's ``init_omit.txt`` names are left out.

    Raises
    ------
    SequenceError
        If that file cannot be read.
    """
    there = np.nan_to_num(sequence.boxes, nan=0).min(axis=1) > 0
    file = sequence.paths[0].parent.parent / OMIT_FILE
    if file.is_file():
        try:
            spans = np.loadtxt(file, dtype=int, ndmin=2).reshape(-1, 2)
        except ValueError as exc:
            raise SequenceError(
                f"{file}: expected rows of a first and a last frame: {exc}"
            ) from exc
        digits = [re.findall(r"\d+", path.stem) for path in sequence.paths]
        numbers = [int(found[-1]) if found else k for k, found in enumerate(digits, start=1)]
        for first, last in spans:
            there &= (np.array(numbers) < first) | (np.array(numbers) > last)
    return np.flatnonzero(there)


def temporal_starts(sequence: Sequence) -> list[Start]:
    """TRE: 20 segments that begin at equal distances and end with the sequence.

    The distances are in frames that a tracker can be started in; the last segment has 20 frames or
    a few more, the first is the whole sequence. Of a short sequence there are fewer segments, since
    no two begin alike.

    Raises
    ------
    ValueError
        If no frame can be started in that has 19 more behind it.
    """
    possible = possible_starts(sequence)
    possible = possible[possible <= len(sequence) - LEAST_FRAMES]
    count = len(possible)
    if not count:
        raise ValueError(
            f"sequence {sequence.name}: expected a frame with a box and {LEAST_FRAMES - 1} more "
            f"frames behind it to start in, found none among {len(sequence)}"
        )
    places = np.floor(np.arange(1, count, count / (SEGMENTS - 1)))
    starts = []
    for index in possible[np.unique([*places, count]).astype(int) - 1]:
        name = f"from_{index + 1:04d}"
        part = _part(sequence, name, index)
        starts.append(Start(name, part, part.boxes))
    return starts


def perturbed_box(box: np.ndarray, name: str, size: tuple[int, int]) -> np.ndarray:
    """SRE: a box moved, with one corner moved, or of another size.

    Centre shifts move it by a tenth of its width or height, half a pixel more, rounded; corner
    shifts move one corner outwards by a tenth of both and leave the opposite one; scales keep the
    centre. What lies outside the frame is cut off, but a box that begins before the frame begins
    with it and keeps its size.

    Parameters
    ----------
    box : array (4,)
        x, y, w, h, 1-based.
    name : one of ``PERTURBATIONS``
    size : (width, height) of the frame

    Returns
    -------
    float64 array (4,)
    """
    corner, side = np.asarray(box[:2], dtype=np.float64), np.asarray(box[2:], dtype=np.float64)
    if name in SCALES:
        scaled = SCALES[name] * side
        corner, side = matlab_round(corner + side / 2 - scaled / 2), matlab_round(scaled)
    elif name in CENTRE_SHIFTS:
        corner = corner + np.array(CENTRE_SHIFTS[name]) * matlab_round(SHIFT * side + 0.5)
    else:
        outwards = np.array(CORNER_SHIFTS[name])
        end = corner + side - 1
        end = np.where(outwards > 0, matlab_round(end + SHIFT * side), end)
        corner = np.where(outwards < 0, matlab_round(corner - SHIFT * side), corner)
        side = end - corner + 1
    corner = np.maximum(corner, 1)
    side = np.minimum(side, np.array(size) - corner + 1)
    return np.concatenate([corner, side])


def spatial_starts(sequence: Sequence) -> list[Start]:
    """SRE: the sequence from its first frame with a box on, with twelve first boxes.

    They are boxes also where the sequence has polygons.

    Raises
    ------
    ValueError
        If no frame has a box.
    """
    possible = possible_starts(sequence)
    if not len(possible):
        raise ValueError(f"sequence {sequence.name}: no frame has a box to start from")
    first = possible[0]
    size = sequence.frame(first).shape[1::-1]
    starts = []
    for name in PERTURBATIONS:
        part = dataclasses.replace(_part(sequence, name, first), polygons=None)
        truth = part.boxes.copy()
        part.boxes[0] = perturbed_box(truth[0], name, size)
        starts.append(Start(name, part, truth))
    return starts


# Evaluations beside OPE, which starts from the first true box alone.
STARTS: dict[str, Callable[[Sequence], list[Start]]] = {
    "tre": temporal_starts,
    "sre": spatial_starts,
}


def make_starts(
    kind: str, sequences: Iterable[Sequence]
) -> tuple[dict[str, list[Start]], dict[str, str]]:
    """The starts of ``kind`` (one of ``STARTS``) by the name of their sequence.

    The second value says why there are none, for sequences that are too short or cannot be read.
    """
    starts, problems = {}, {}
    for sequence in sequences:
        try:
            starts[sequence.name] = STARTS[kind](sequence)
        except (ValueError, OSError) as exc:
            problems[sequence.name] = str(exc)
    return starts, problems
