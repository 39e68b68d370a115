"""Which tracks are fit for training: the selection of DSiam's supplement, with its thresholds.

Of 4417 videos the authors keep the 1130 whose target has no extreme aspect ratio and does not
fill most of the frame. They give no numbers; ``Limits`` has ours (docs/data.md says why those).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dagnet import atomic_write

from .videos import FLAGS, Track, Video

SELECTED = "selected"
# Why a track is left out, in the order in which it is asked.
REASONS = (
    "no box",
    "too few frames in a row",
    "extreme aspect ratio",
    "fills the frame",
    "too small",
    "interrupted",
)


@dataclass(frozen=True)
class Limits:
    """What a target may be.

    Attributes
    ----------
    max_aspect : float
        Greatest ratio of a box's longer side to its shorter one.
    max_area : float
        Greatest part of the frame that a box covers.
    min_side : float
        Least length of a box's shorter side, frame pixels; 0 for any.
    tolerance : float
        Part of a track's boxes that may be beyond each of these. They are not used.
    min_frames : int
        So many consecutive frames with a box within the limits there must be.
    skip : tuple of names of ``FLAGS``
        Boxes that have one of these flags do not count.

    Raises
    ------
    ValueError
        If a number cannot be met by any track, or by every one in vain.
    """

    max_aspect: float = 5.0
    max_area: float = 0.5
    min_side: float = 8.0
    tolerance: float = 0.1
    min_frames: int = 10
    skip: tuple[str, ...] = ()

    def __post_init__(self):
        for name, right, words in (
            ("max_aspect", self.max_aspect >= 1, "at least 1"),
            ("max_area", self.max_area > 0, "above 0"),
            ("min_side", self.min_side >= 0, "at least 0"),
            ("tolerance", 0 <= self.tolerance < 1, "at least 0 and below 1"),
            ("min_frames", self.min_frames >= 1, "at least 1"),
            ("skip", set(self.skip) <= set(FLAGS), f"names of {', '.join(FLAGS)}"),
        ):
            if not right:
                raise ValueError(f"{name} must be {words}, received {getattr(self, name)!r}")


class Measures(NamedTuple):
    """What is measured of a track.

    ``aspect``, ``area`` and ``side`` (see ``Limits``) are those that all but ``tolerance`` of its
    boxes keep to; NaN without any box.
    """

    boxes: int
    longest: int
    aspect: float
    area: float
    side: float


@dataclass(frozen=True, eq=False)
class Choice:
    """A track, why it is selected or not, and the frames in which its box can be used.

    Attributes
    ----------
    video : Video
    track : Track
    verdict : str
        ``SELECTED``, or one of ``REASONS``.
    measures : Measures
    counted : bool array (T,)
        In which frames there is a box that counts: within the frame, without a flag to skip.
    within : bool array (T,)
        Those of ``counted`` within the limits.
    """

    video: Video
    track: Track
    verdict: str
    measures: Measures
    counted: np.ndarray
    within: np.ndarray


def longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of True in a bool array (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def choose(video: Video, track: Track, limits: Limits) -> Choice:
    """Judge a track by limits."""
    counted, aspect, area, side = _shapes(video, track)
    for flag in limits.skip:
        counted &= ~track.flags.get(flag, np.zeros(len(counted), bool))
    within = counted & (aspect <= limits.max_aspect) & (area <= limits.max_area)
    within &= side >= limits.min_side
    keep = 1 - limits.tolerance
    measures = Measures(
        int(counted.sum()),
        longest_run(counted),
        _quantile(aspect[counted], keep),
        _quantile(area[counted], keep),
        -_quantile(-side[counted], keep),
    )
    failed = (
        measures.boxes == 0,
        measures.longest < limits.min_frames,
        measures.aspect > limits.max_aspect,
        measures.area > limits.max_area,
        measures.side < limits.min_side,
        longest_run(within) < limits.min_frames,
    )
    verdict = next((reason for reason, fails in zip(REASONS, failed) if fails), SELECTED)
    return Choice(video, track, verdict, measures, counted, within)


def _shapes(video: Video, track: Track) -> tuple[np.ndarray, ...]:
    """Whether a box has a part in the frame, its aspect ratio, the part of the frame that it
    covers, and its shorter side; (T,) each.
    """
    present = track.present
    boxes = np.where(present[:, None], track.boxes, 1)
    corner, sides = boxes[:, :2] - 1, boxes[:, 2:]
    size = np.array(video.size, dtype=float)
    seen = np.clip(np.minimum(corner + sides, size) - np.maximum(corner, 0), 0, None).prod(axis=1)
    short = sides.min(axis=1)
    area = seen / max(size.prod(), 1)
    return present & (area > 0), sides.max(axis=1) / short, area, short


def _quantile(values: np.ndarray, share: float) -> float:
    """The least of the values that ``share`` of them do not exceed; NaN of none."""
    if not len(values):
        return np.nan
    return float(np.quantile(values, share, method="inverted_cdf"))


def select(videos: Iterable[Video], limits: Limits) -> list[Choice]:
    """Judge every track, in their order."""
    return [choose(video, track, limits) for video in videos for track in video.tracks]


class Counts(NamedTuple):
    """How many tracks, and how many videos, had which verdict; most telling first.

    A video is selected if a track of it is; else it has the reason of the track that failed last
    in the order of ``REASONS``, and without any track "no box".
    """

    tracks: dict[str, int]
    videos: dict[str, int]


def count(videos: Sequence[Video], choices: Iterable[Choice]) -> Counts:
    """Count verdicts."""
    order = (*REASONS, SELECTED)
    tracks: Counter[str] = Counter()
    best = {video.name: 0 for video in videos}
    for choice in choices:
        tracks[choice.verdict] += 1
        name = choice.video.name
        best[name] = max(best[name], order.index(choice.verdict))
    of_videos = Counter(order[place] for place in best.values())
    shown = (SELECTED, *REASONS)
    return Counts({v: tracks[v] for v in shown}, {v: of_videos[v] for v in shown})


def counts_table(counts: Counts) -> str:
    """The counts as text, a verdict a line."""
    width = max(map(len, counts.videos))
    rows = [f"{'':{width}}  {'videos':>7}  {'tracks':>7}"]
    for verdict, videos in counts.videos.items():
        rows.append(f"{verdict:{width}}  {videos:7d}  {counts.tracks[verdict]:7d}")
    total = sum(counts.videos.values()), sum(counts.tracks.values())
    rows.append(f"{'all':{width}}  {total[0]:7d}  {total[1]:7d}")
    return "\n".join(rows)


def write_selection(
    folder: Path, limits: Limits, videos: Sequence[Video], choices: Sequence[Choice]
) -> Counts:
    """Write ``selection.json``, limits and counts, and ``selection.csv``, a line a track."""
    counts = count(videos, choices)
    content: dict[str, Any] = {"limits": asdict(limits), **counts._asdict()}
    with atomic_write(folder / "selection.json", "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    with atomic_write(folder / "selection.csv", "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["video", "track", "label", "frames", *Measures._fields, "verdict"])
        for c in choices:
            boxes, longest, *shape = c.measures
            numbers = [boxes, longest, *(f"{value:.4g}" for value in shape)]
            rows.writerow(
                [c.video.name, c.track.name, c.track.label, len(c.video), *numbers, c.verdict]
            )
    return counts
