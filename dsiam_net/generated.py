"""Generated video on disk: sequences in OTB's layout, made in parallel and once.

::

    FOLDER/recipe.json                       what they were made with
    FOLDER/synthetic_000000/img/0001.jpg, ...
    FOLDER/synthetic_000000/groundtruth_rect.txt
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dagnet import atomic_write, explain_writing

from .pictures import Pictures
from .preparation.parallel import parallel_map
from .results import save_boxes
from .sequences import SequenceError
from .synthetic import SyntheticVideos
from .variety import HARD, Variety

RECIPE = "recipe.json"
# Decimal places of the boxes written, pixels.
DECIMALS = 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that the generated videos follow from.

    Attributes
    ----------
    seed : int
    frames : int
        Of each video.
    size : (height, width)
        Of the frames, pixels.
    photographs : tuple of str
        Folders of photographs; without any textures are made by a program.
    distractors, occlusion, jumpiness
        As of ``SyntheticVideos``.
    variety : Variety
    quality : int
        Of the JPEG files, 1 to 100.
    """

    seed: int = 0
    frames: int = 20
    size: tuple[int, int] = (360, 480)
    photographs: tuple[str, ...] = ()
    distractors: int = 2
    occlusion: float = 0.4
    jumpiness: float = 0.04
    variety: Variety = HARD
    quality: int = 92

    def __post_init__(self):
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, received {self.frames}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must lie in 1 to 100, received {self.quality}")

    def source(self) -> SyntheticVideos:
        """What makes the videos; see ``SyntheticVideos`` and ``Pictures`` for errors."""
        return SyntheticVideos(
            self.seed,
            self.size,
            self.frames,
            photographs=False,
            distractors=self.distractors,
            occlusion=self.occlusion,
            jumpiness=self.jumpiness,
            pictures=Pictures(self.photographs) if self.photographs else None,
            variety=self.variety,
        )

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def video_name(index: int) -> str:
    """The name of the folder of video ``index``, from 0."""
    return f"synthetic_{index:06d}"


def write_videos(
    folder: str | os.PathLike, recipe: Recipe, count: int, jobs: int | None = None
) -> Iterator[Path]:
    """Write the first ``count`` videos of a recipe; gives their folders in order, as they come.

    A video appears under its name only when it is whole, and is not made again: a run that was
    stopped goes on, and a greater count adds videos.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    recipe : Recipe
    count : int
    jobs : int, optional
        Processes; see ``dsiam_net.preparation.parallel.parallel_map``.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    SequenceError
        If the folder has videos of another recipe, or a photograph cannot be read.
    """
    if count < 1:
        raise ValueError(f"at least 1 video is to be made, received {count}")
    folder = Path(folder)
    recipe.source()  # refuses settings and folders before any process starts
    _claim(folder, recipe)
    return parallel_map(partial(_write_video, recipe, folder), range(count), jobs)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Note in a folder what its videos are made with, or see that it is the same."""
    path, record = folder / RECIPE, recipe.record()
    if not path.is_file():
        with atomic_write(path, "w") as file:
            json.dump(record, file, indent=1)
            file.write("\n")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise SequenceError(f"{path}: expected the recipe of generated videos ({exc})") from exc
    if not isinstance(known, dict):
        raise SequenceError(f"{path}: expected the recipe of generated videos, received {known!r}")
    if known != record:
        differing = [n for n in sorted({*known, *record}) if known.get(n) != record.get(n)]
        raise SequenceError(
            f"{folder} has videos that were made with other settings ({', '.join(differing)}); "
            "give the same ones or another folder"
        )


@lru_cache(maxsize=1)
def _source(recipe: Recipe) -> SyntheticVideos:
    """A process makes many videos of one recipe, and lists the photographs once."""
    if multiprocessing.parent_process() is not None:
        cv2.setNumThreads(1)  # the videos are the parallel work
    return recipe.source()


def _write_video(recipe: Recipe, folder: Path, index: int) -> Path:
    target = folder / video_name(index)
    if target.is_dir():
        return target
    # One level deeper than a sequence is looked for, so that no half of one is found.
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    whole = part / target.name
    with explain_writing(whole):
        (whole / "img").mkdir(parents=True)
    frames, boxes = _source(recipe).video(index, recipe.frames)
    flags = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality]
    for number, frame in enumerate(frames, start=1):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), flags)
        path = whole / "img" / f"{number:04d}.jpg"
        with explain_writing(path):
            path.write_bytes(data.tobytes())
    save_boxes(whole / "groundtruth_rect.txt", np.round(boxes, DECIMALS))
    whole.rename(target)
    part.rmdir()
    return target
