"""Crop stores: folders of square JPEG crops around targets, which pairs for training are made of.

A store is a folder with a file ``index.json`` and, in a folder for each video, the crops. The
index is one JSON object:

``format``, ``version``
    ``"dsiam crops"`` and 1.
``size``, ``exemplar_size``
    Side of the crops and of the exemplar, crop pixels: a crop's central ``exemplar_size`` pixels
    are the target with its context.
``statistics``
    For ``exemplar`` and ``instance`` the ``mean`` (3) and ``covariance`` (3 x 3) of the colours,
    grey levels, R G B.
``tracks``
    A list of objects with ``name`` and ``video``; ``folder``, relative to the store; and, a value
    for each crop, ``files`` in that folder, ``frames`` (number in the video, from 1),
    ``positions`` (which of the frames with a box it was, from 0) and ``sizes`` ([height, width]
    of the target, crop pixels).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from dagnet import DagNNError

from .datasets.errors import SequenceError
from .datasets.images import read_image

FORMAT, VERSION = "dsiam crops", 1
INDEX = "index.json"


class CropError(DagNNError, ValueError):
    """A crop store that cannot be made or read; the message names the file."""


@dataclass(frozen=True, eq=False)
class Track:
    """One target in a video, or in a still image: what crops are cut from.

    Attributes
    ----------
    name : str
        Unique among the tracks of its video.
    video : str
        Training and validation are split by it. ``/`` makes folders within folders.
    paths : sequence of paths
        The frames.
    boxes : float array (T, 4)
        x, y, w, h; frame pixels, 1-based; NaN, or without area, where the target is absent.

    Raises
    ------
    CropError
        If there are not as many boxes as frames.
    """

    name: str
    video: str
    paths: Sequence[str | os.PathLike]
    boxes: np.ndarray

    def __post_init__(self):
        boxes = np.asarray(self.boxes, dtype=np.float64)
        if boxes.shape != (len(self.paths), 4):
            raise CropError(
                f"track {self.name} of {self.video}: expected a box x, y, w, h for each of "
                f"{len(self.paths)} frames, received an array {boxes.shape}"
            )
        object.__setattr__(self, "boxes", boxes)


@dataclass(frozen=True, eq=False)
class StoredTrack:
    """The crops of one track, a row for each.

    Attributes
    ----------
    name, video : str
    folder : str
        Relative to the store.
    files : tuple of str
        In the folder.
    frames : int array (K,)
        Numbers in the video, from 1.
    positions : int array (K,)
        Which of the frames with a box each was, from 0; without thinning 0, 1, 2, ...
    sizes : float array (K, 2)
        Height and width of the target, crop pixels.
    """

    name: str
    video: str
    folder: str
    files: tuple[str, ...]
    frames: np.ndarray
    positions: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the index."""
        return {
            "name": self.name,
            "video": self.video,
            "folder": self.folder,
            "files": list(self.files),
            "frames": self.frames.tolist(),
            "positions": self.positions.tolist(),
            "sizes": [[round(float(v), 2) for v in size] for size in self.sizes],
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> StoredTrack:
        """The inverse of ``as_json``; KeyError, TypeError or ValueError for what is not one."""
        files = tuple(str(f) for f in entry["files"])
        frames = np.asarray(entry["frames"], dtype=np.int64)
        positions = np.asarray(entry["positions"], dtype=np.int64)
        sizes = np.asarray(entry["sizes"], dtype=np.float64).reshape(-1, 2)
        if not files or not len(files) == len(frames) == len(positions) == len(sizes):
            raise ValueError("files, frames, positions and sizes must be lists of one length")
        texts = [str(entry[key]) for key in ("name", "video", "folder")]
        for name in (texts[-1], *files):
            path = PurePath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name!r} lies outside the store")
        return cls(*texts, files, frames, positions, sizes)


@dataclass(frozen=True, eq=False)
class ColourStatistics:
    """Mean (3,) and covariance (3, 3) of the colours of crops, float64 grey levels, R G B."""

    mean: np.ndarray
    covariance: np.ndarray

    def as_json(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "covariance": self.covariance.tolist()}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> ColourStatistics:
        mean = np.asarray(entry["mean"], np.float64).reshape(3)
        return cls(mean, np.asarray(entry["covariance"], np.float64).reshape(3, 3))


@dataclass(frozen=True, eq=False)
class CropStore:
    """A crop store that was written by ``write_crops``.

    Parameters
    ----------
    folder : path

    Attributes
    ----------
    size, exemplar_size : int
        Sides of the crops and of the exemplar at their centre, crop pixels.
    statistics : dict
        ``ColourStatistics`` of ``exemplar`` and ``instance``.
    tracks : tuple of StoredTrack

    Raises
    ------
    CropError
        If there is no index, or it is damaged or of another version.
    """

    folder: Path
    size: int = field(init=False)
    exemplar_size: int = field(init=False)
    statistics: dict[str, ColourStatistics] = field(init=False)
    tracks: tuple[StoredTrack, ...] = field(init=False)

    def __post_init__(self):
        folder = Path(self.folder)
        content = _read_index(folder / INDEX)
        try:
            values = {
                "folder": folder,
                "size": int(content["size"]),
                "exemplar_size": int(content["exemplar_size"]),
                "statistics": {
                    kind: ColourStatistics.from_json(content["statistics"][kind])
                    for kind in ("exemplar", "instance")
                },
                "tracks": tuple(StoredTrack.from_json(entry) for entry in content["tracks"]),
            }
            if not values["tracks"]:
                raise ValueError("it has no tracks")
        except (KeyError, TypeError, ValueError) as exc:
            raise CropError(
                f"{folder / INDEX} is damaged ({type(exc).__name__}: {exc}); remove it and write "
                "the crops again: those that are there are kept"
            ) from exc
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """How many crops there are."""
        return sum(len(track) for track in self.tracks)

    def path(self, track: int, k: int) -> Path:
        """The file of crop ``k`` of a track, both counted from 0."""
        found = self.tracks[track]
        return self.folder / found.folder / found.files[k]

    def read(self, track: int, k: int) -> np.ndarray:
        """Crop ``k`` of a track: uint8 (size, size, 3), RGB.

        Raises
        ------
        CropError
            If its file is missing, damaged or of another size.
        """
        path = self.path(track, k)
        try:
            image = read_image(path)
        except SequenceError as exc:
            raise CropError(f"{exc}; write the crops of {self.folder} again") from exc
        if image.shape != (self.size, self.size, 3):
            raise CropError(
                f"{path}: expected a crop of {self.size}x{self.size} pixels, received "
                f"{image.shape[0]}x{image.shape[1]}; write the crops of {self.folder} again"
            )
        return image


def _read_index(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CropError(
            f"{path.parent} has no {INDEX}: it is no crop store, or was not written to its end "
            "(the same command goes on)"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise CropError(
            f"cannot read {path}: {exc}; remove it and write the crops again: those that are "
            "there are kept"
        ) from exc
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CropError(f"{path} is not the index of a crop store (no format {FORMAT!r})")
    if content.get("version") != VERSION:
        raise CropError(
            f"{path}: expected version {VERSION}, received {content.get('version')!r}; write the "
            "crops again"
        )
    return content
