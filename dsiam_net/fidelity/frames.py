"""The frames of a folder: single ones by their average colour, videos by name or first frame."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..patches import ExactPatches
from .files import Case, GoldenError, GoldenFile, GoldenFolder

FRAME = "imread"
# Two frames are the same where their average colours are, to this relative difference.
SAME_COLOUR = 1e-5


@dataclass
class Video:
    """Frames of one video by number, and where each stands: file and case."""

    name: str
    places: dict[int, tuple[GoldenFile, str]] = field(default_factory=dict)

    def frame(self, number: int, by: GoldenFile) -> np.ndarray:
        """Frame ``number`` (from 1), uint8 (H, W, 3), used by a case of ``by``."""
        try:
            golden, name = self.places[number]
        except KeyError:
            raise GoldenError(
                f"the frames of {self.name} have no number {number}; there are "
                f"{sorted(self.places)}"
            ) from None
        golden.folder.mark_used(golden.path, by)
        return golden.case(name).matlab("im")[:, :, :, 0]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def videos(folder: GoldenFolder) -> list[Video]:
    """The folder's videos: frames with one note, from files that are parts of one.

    A frame's number is that at the end of its case's name, 1 where there is none.
    """
    found: dict[tuple[str, ...], Video] = {}
    for golden in folder.goldens():
        whole = re.sub(r"([_-]?\d+)+$", "", golden.name)
        for entry in golden.meta:
            if entry["func"] != FRAME:
                continue
            prefix, number = re.fullmatch(r"(.*?)(\d*)", entry["name"]).groups()
            note = entry.get("note") or ""
            name = " ".join((whole, prefix, note))
            video = found.setdefault((whole, prefix, note), Video(name))
            video.places[int(number or 1)] = (golden, entry["name"])
    return list(found.values())


def colour_of(frame: np.ndarray) -> np.ndarray:
    """The average colour (3,) that the trackers have of a frame."""
    patches = ExactPatches()
    return patches.average_colour(patches.image(frame))


def _colours(folder: GoldenFolder) -> list[tuple[np.ndarray, GoldenFile, str, int, Video]]:
    """Average colour and place of every frame; kept with the folder."""
    if folder.colours is None:
        folder.colours = [
            (colour_of(golden.case(name).matlab("im")[:, :, :, 0]), golden, name, number, video)
            for video in videos(folder)
            for number, (golden, name) in video.places.items()
        ]
    return folder.colours


def _matching(folder: GoldenFolder, colour: Any) -> list[tuple[GoldenFile, str, int, Video]]:
    """Frames with this average colour, the nearest first."""
    colour = np.asarray(colour, np.float64).reshape(-1)
    found = []
    for mean, *place in _colours(folder):
        off = np.abs(mean - colour).max() if mean.shape == colour.shape else np.inf
        if off <= SAME_COLOUR * np.abs(colour).max():
            found.append((off, place))
    return [tuple(place) for _, place in sorted(found, key=lambda f: f[0])]


def image_of_colour(case: Case, colour: np.ndarray) -> np.ndarray:
    """The frame (3, H, W), uint8, whose average colour a case gives."""
    for golden, name, _, _ in _matching(case.folder, colour)[:1]:
        case.folder.mark_used(golden.path, case.golden)
        frame = golden.case(name).matlab("im")[:, :, :, 0]
        return ExactPatches().image(frame)
    raise GoldenError(
        f"no file of the folder holds a frame (func {FRAME}) of average colour "
        f"{np.round(colour, 3).tolist()}"
    )


def video_of(
    case: Case, frames: int, name: str | None = None, colour: np.ndarray | None = None
) -> Video:
    """The video of at least ``frames`` frames that a run was made on.

    Parameters
    ----------
    case : Case
        Of the run.
    name : str, optional
        The video's, to be found in notes or names of the files of frames.
    colour : array (3,), optional
        Average colour of the first frame, where there is no name.
    """
    if name is not None:
        found = [v for v in videos(case.folder) if _plain(name) in _plain(v.name)]
        what = f"the video {name!r}"
    else:
        found = [video for _, _, number, video in _matching(case.folder, colour) if number == 1]
        what = f"a video with a first frame of average colour {np.round(colour, 3).tolist()}"
    for video in found:
        if set(range(1, frames + 1)) <= set(video.places):
            return video
    raise GoldenError(f"no files of the folder hold the {frames} frames (func {FRAME}) of {what}")
