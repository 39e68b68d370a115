"""Writing of crop stores: in parallel, and going on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dagnet import atomic_write, explain_writing

from .boxes import valid_boxes
from .crop_store import (
    FORMAT,
    INDEX,
    VERSION,
    ColourStatistics,
    CropError,
    CropStore,
    StoredTrack,
    Track,
)
from .datasets.errors import SequenceError, SequenceWarning
from .datasets.images import read_image
from .published_crops import crop_scale, get_square

# What is written in a video's folder once all of its crops are there.
PART = "crops.json"
# Crops of a video whose colours are counted, and the side of an instance (vid_image_stats.m).
SAMPLES_PER_VIDEO, INSTANCE_SIZE = 16, 255


@dataclass(frozen=True)
class _Settings:
    """How crops are cut, thinned and written."""

    size: int
    exemplar_size: int
    every: int
    max_per_track: int | None
    quality: int


def write_crops(
    tracks: Iterable[Track],
    folder: str | os.PathLike,
    *,
    size: int = 255,
    exemplar_size: int = 127,
    every: int = 1,
    max_per_track: int | None = None,
    quality: int = 90,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CropStore:
    """Write the crops of tracks as a crop store (see ``dsiam_net.crop_store``).

    Crops are cut, filled and resized as ``save_crops.m`` does it (``get_square``). A frame whose
    target is absent or lies outside the frame has no crop. A video's crops are written as a whole;
    a run that was stopped goes on with the videos that are not there, and one with other
    settings, frames or boxes writes the videos anew that this concerns.

    Parameters
    ----------
    tracks : iterable of Track
    folder : path
        Made if it is missing.
    size : int
        Side of the crops, crop pixels, odd. 255 is the published one; greater crops leave a
        margin for shifts and rotations.
    exemplar_size : int
        Side, crop pixels, odd, that the target with its context has.
    every : int
        Take every so manyeth of the frames that have a box.
    max_per_track : int, optional
        Of those, at most so many of a track, evenly spread.
    quality : int
        Of the JPEG files, 1 to 100.
    workers : int, optional
        Threads; by default as many as there are processors.
    progress : callable (done, total), optional
        Called after every video, counted in videos.

    Returns
    -------
    CropStore

    Raises
    ------
    CropError
        For a setting out of its range, two tracks of one name, or if there is no crop at all.

    Warns
    -----
    SequenceWarning
        If frames could not be read; they are left out.
    """
    settings = _Settings(size, exemplar_size, every, max_per_track, quality)
    _check(settings)
    folder = Path(folder)
    videos = _by_video(tracks)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the videos are the parallel work
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        jobs = [
            pool.submit(_write_video, folder, name, of_video, settings)
            for name, of_video in zip(_folders(videos), videos.values(), strict=True)
        ]
        parts = []
        for done, job in enumerate(jobs, start=1):
            parts.append(job.result())
            if progress is not None:
                progress(done, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)
    _warn_of_unread(parts)
    return _write_index(folder, parts, settings)


def _check(settings: _Settings) -> None:
    for name in ("size", "exemplar_size"):
        value = getattr(settings, name)
        if value < 3 or value % 2 == 0:
            raise CropError(
                f"{name} must be odd, so that a pixel is in the middle, and at least 3, "
                f"received {value}"
            )
    if settings.size < settings.exemplar_size:
        raise CropError(
            f"crops of {settings.size} pixels are smaller than an exemplar of "
            f"{settings.exemplar_size}"
        )
    if settings.every < 1 or (settings.max_per_track is not None and settings.max_per_track < 1):
        raise CropError(
            f"every and max_per_track must be at least 1, received {settings.every} and "
            f"{settings.max_per_track}"
        )
    if not 1 <= settings.quality <= 100:
        raise CropError(f"quality must lie in 1 to 100, received {settings.quality}")


def _by_video(tracks: Iterable[Track]) -> dict[str, list[Track]]:
    videos: dict[str, list[Track]] = {}
    for track in tracks:
        videos.setdefault(track.video, []).append(track)
    for video, of_video in videos.items():
        names = [t.name for t in of_video]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise CropError(f"video {video} has two tracks of the name {twice!r}")
    if not videos:
        raise CropError("expected at least one track to cut crops from, received none")
    return videos


def _plain(text: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.+-]", "_", text, flags=re.ASCII).lstrip(".") or "_"


def _folders(videos: Iterable[str]) -> list[str]:
    """A folder for each video; also where names differ only in what file systems do not take."""
    taken: set[str] = set()
    folders = []
    for video in videos:
        name = "/".join(_plain(part) for part in video.split("/") if part) or "_"
        unique, number = name, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{name}~{number}"
        taken.add(unique.lower())
        folders.append(unique)
    return folders


def _chosen(track: Track, settings: _Settings) -> tuple[np.ndarray, np.ndarray]:
    """The frames, from 0, of which crops are cut, and which of those with a box each is."""
    valid = np.flatnonzero(valid_boxes(track.boxes))
    positions = np.arange(0, len(valid), settings.every)
    most = settings.max_per_track
    if most is not None and len(positions) > most:
        positions = positions[np.round(np.linspace(0, len(positions) - 1, most)).astype(int)]
    return valid[positions], positions


def _digest(tracks: Sequence[Track], settings: _Settings) -> str:
    """What a video's crops follow from, in short."""
    content = hashlib.sha256(repr((VERSION, settings)).encode())
    for track in tracks:
        content.update(repr((track.name, [str(p) for p in track.paths])).encode())
        content.update(np.ascontiguousarray(track.boxes).tobytes())
    return content.hexdigest()


def _write_video(
    store: Path, folder: str, tracks: Sequence[Track], settings: _Settings
) -> dict[str, Any]:
    """Write a video's crops unless they are there; what is known of them, as in ``PART``."""
    path = store / folder / PART
    digest = _digest(tracks, settings)
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
        if part["digest"] == digest and part["bytes"] == _sizes(store, part["tracks"]):
            return part
    except (OSError, ValueError, KeyError, TypeError):
        pass  # the part or a crop is not there, or not whole: all are written
    # An index that names crops which are about to change would be wrong until the end.
    with explain_writing(path):
        (store / INDEX).unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    stored, unread = _cut_video(store, folder, tracks, settings)
    entries = [track.as_json() for track in stored]
    part = {
        "digest": digest,
        "tracks": entries,
        "bytes": _sizes(store, entries),
        "unread": unread,
        "moments": _moments(store, stored, settings),
    }
    with atomic_write(path, "w") as file:
        json.dump(part, file, separators=(",", ":"))
    return part


def _sizes(store: Path, entries: Sequence[dict[str, Any]]) -> list[int]:
    """Sizes of the files of tracks, bytes; OSError where one is missing."""
    return [
        os.stat(store / entry["folder"] / file).st_size
        for entry in entries
        for file in entry["files"]
    ]


def _cut_video(
    store: Path, folder: str, tracks: Sequence[Track], settings: _Settings
) -> tuple[list[StoredTrack], list[str]]:
    """Cut and write the crops of a video's tracks, reading each frame once."""
    wanted: dict[str, list[tuple[int, int, int]]] = {}
    for number, track in enumerate(tracks):
        for frame, position in zip(*_chosen(track, settings), strict=True):
            rows = wanted.setdefault(str(track.paths[frame]), [])
            rows.append((number, int(frame), int(position)))
    rows: list[list[tuple]] = [[] for _ in tracks]
    unread = []
    names = [_plain(track.name) for track in tracks]
    if len({name.lower() for name in names}) < len(names):
        names = [f"{number:03d}-{name}" for number, name in enumerate(names)]
    for path, targets in wanted.items():
        try:
            image = read_image(path)
        except SequenceError as exc:
            unread.append(str(exc))
            continue
        for number, frame, position in targets:
            box = tracks[number].boxes[frame]
            if not _overlaps(box, image):
                continue
            crop = get_square(image, box, settings.size, settings.exemplar_size)
            file = f"{names[number]}.{frame + 1:06d}.jpg"
            _write_jpeg(store / folder / file, crop.image, settings.quality)
            size = box[3:1:-1] * crop_scale(box[2], box[3], settings.exemplar_size)
            rows[number].append((file, frame + 1, position, size))
    stored = []
    for track, of_track in zip(tracks, rows, strict=True):
        if of_track:
            files, frames, positions, sizes = zip(*sorted(of_track, key=lambda row: row[1]))
            stored.append(
                StoredTrack(
                    track.name,
                    track.video,
                    folder,
                    files,
                    np.array(frames),
                    np.array(positions),
                    np.array(sizes),
                )
            )
    return stored, unread


def _overlaps(box: np.ndarray, image: np.ndarray) -> bool:
    """Whether any part of a box lies within a frame of at least 3 x 3 pixels."""
    height, width = image.shape[:2]
    x, y, w, h = box
    inside = x + w > 1 and y + h > 1 and x < width + 1 and y < height + 1
    return bool(inside and min(height, width) >= 3)


def _write_jpeg(path: Path, image: np.ndarray, quality: int) -> None:
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    # Not waited for: the sizes in the video's part tell after the machine stopped.
    with atomic_write(path, sync=False) as file:
        file.write(data.tobytes())


def _moments(store: Path, tracks: Sequence[StoredTrack], settings: _Settings) -> dict[str, Any]:
    """First and second moments of the colours of some of a video's crops, as they are read."""
    files = [store / t.folder / name for t in tracks for name in t.files]
    if len(files) > SAMPLES_PER_VIDEO:
        places = np.round(np.linspace(0, len(files) - 1, SAMPLES_PER_VIDEO)).astype(int)
        files = [files[place] for place in places]
    crops = [read_image(file) for file in files]
    sides = {"exemplar": settings.exemplar_size, "instance": min(INSTANCE_SIZE, settings.size)}
    moments = {}
    for kind, side in sides.items():
        first = (settings.size - side) // 2
        inner = slice(first, first + side)
        colours = [c[inner, inner].reshape(-1, 3).astype(np.float64) for c in crops]
        means = [c.mean(axis=0) for c in colours]
        products = [c.T @ c / len(c) for c in colours]
        if crops:
            moments[kind] = [np.mean(means, 0).tolist(), np.mean(products, 0).tolist()]
    return moments


def _statistics(parts: Sequence[dict[str, Any]], kind: str) -> ColourStatistics:
    """Mean and covariance from the videos' moments, every video counting the same."""
    moments = [part["moments"][kind] for part in parts if part["moments"]]
    mean = np.mean([m[0] for m in moments], axis=0)
    return ColourStatistics(mean, np.mean([m[1] for m in moments], axis=0) - np.outer(mean, mean))


def _warn_of_unread(parts: Sequence[dict[str, Any]]) -> None:
    unread = [message for part in parts for message in part["unread"]]
    if unread:
        warnings.warn(
            f"{len(unread)} frames were left out, the first: {unread[0]}",
            SequenceWarning,
            stacklevel=3,
        )


def _write_index(folder: Path, parts: Sequence[dict[str, Any]], settings: _Settings) -> CropStore:
    tracks = [entry for part in parts for entry in part["tracks"]]
    if not tracks:
        raise CropError("no frame of the tracks has a target that a crop could be cut around")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "size": settings.size,
        "exemplar_size": settings.exemplar_size,
        "statistics": {
            kind: _statistics(parts, kind).as_json() for kind in ("exemplar", "instance")
        },
        "tracks": tracks,
    }
    with atomic_write(folder / INDEX, "w") as file:
        json.dump(content, file, separators=(",", ":"))
    return CropStore(folder)
