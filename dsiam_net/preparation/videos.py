"""Videos with several tracks of boxes, as the index keeps them: one line of JSON a video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..boxes import valid_boxes

# What a data set may say of a single box; selections can leave such boxes out.
FLAGS = ("occluded", "generated")


@dataclass(frozen=True, eq=False)
class Track:
    """One target in a video.

    Attributes
    ----------
    name : str
        Of all tracks of a data set no two have the same.
    boxes : float64 array (T, 4)
        x, y, w, h, frame pixels, 1-based; NaN where there is none, or no image.
    label : str
        The target's class, where the data set has classes.
    flags : dict from a name of ``FLAGS`` to bool array (T,)
    """

    name: str
    boxes: np.ndarray
    label: str = ""
    flags: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def present(self) -> np.ndarray:
        """In which frames there is a box with an area, (T,) bool."""
        return valid_boxes(self.boxes)


@dataclass(frozen=True, eq=False)
class Video:
    """A video's frames and the tracks in it.

    Attributes
    ----------
    name : str
        Where it stands in the data set.
    group : str
        Videos cut out of one recording have one group: they are alike, and belong together when
        data is divided.
    folder : Path
    frames : sequence of str
        Names of the T image files in ``folder``.
    size : (int, int)
        Width and height of the frames, pixels.
    tracks : tuple of Track
    notes : dict
        What was odd in the files, by kind: a count, or a list of texts.
    """

    name: str
    group: str
    folder: Path
    frames: Sequence[str]
    size: tuple[int, int]
    tracks: tuple[Track, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def paths(self) -> Sequence[Path]:
        """The frames' image files."""
        return _Paths(self.folder, self.frames)


class _Paths(Sequence):
    """Files of a folder; paths are made when they are asked for, as a data set has millions."""

    def __init__(self, folder: Path, names: Sequence[str]):
        self._folder, self._names = folder, names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self._folder / name for name in self._names[index])
        return self._folder / self._names[index]


def track_record(
    name: str,
    boxes: dict[int, Sequence[float]],
    label: str = "",
    flags: dict[str, list[int]] | None = None,
) -> dict[str, Any]:
    """A track for ``json``.

    Parameters
    ----------
    name, label : str
    boxes : dict from a frame's index to x, y, w, h
    flags : dict from a name of ``FLAGS`` to the indices of the frames that have it
    """
    at = sorted(boxes)
    record = {"name": name, "label": label, "at": at}
    record["boxes"] = [_plain(value) for index in at for value in boxes[index]]
    return {**record, **(flags or {})}


def _plain(value: float) -> float | int:
    """A number that JSON writes short, ``12`` for ``12.0``."""
    value = float(value)
    return int(value) if value.is_integer() else value


def video_from_line(line: str, root: Path) -> Video:
    """The video of a line of the index; ``root`` is the data set's folder."""
    record = json.loads(line)
    frames, unread = record["frames"], record["no_image"]
    tracks = tuple(_track(track, len(frames), unread) for track in record["tracks"])
    return Video(
        record["name"],
        record["group"],
        root / record["folder"],
        frames,
        tuple(record["size"]),
        tracks,
        record["notes"],
    )


def _track(record: dict[str, Any], frames: int, unread: list[int]) -> Track:
    boxes = np.full((frames, 4), np.nan)
    boxes[record["at"]] = np.reshape(record["boxes"], (-1, 4))
    boxes[unread] = np.nan
    flags = {}
    for name in FLAGS:
        flags[name] = np.zeros(frames, bool)
        flags[name][record.get(name, [])] = True
    return Track(record["name"], boxes, record["label"], flags)
